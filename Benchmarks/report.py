"""Turns results into docs/performance.md, its charts, and docs/performance.json."""

import json
import os
import shlex
import statistics
from pathlib import Path

import front
from charts import curve_chart, ratio_chart
from contenders import PEERS, REPOSITORY, SCRIMS
from lines import GOALS, SPACE_GOAL

DOCS = Path(os.environ.get("OUT", REPOSITORY / "docs"))
TEMPLATE = REPOSITORY / "Benchmarks/performance.md.template"
IN_CHARTS = ("bare", *SCRIMS, *PEERS)


def best(values, higher):
    return max(values) if higher else min(values)


def number(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


class Results:
    """results[place][line][contender] = values of the rounds."""

    def __init__(self, machine, groups, data=None):
        self.machine = machine
        self.groups = groups
        self.lines = {line.name: line for group in groups for line in group.lines}
        self.data = data or {}
        self.skipped = []
        self.space = {}
        self.scale = {}
        self.runs = []

    def keep(self, path):
        """Takes over what a written report has and this run did not measure."""
        if not path.exists():
            return
        old = json.loads(path.read_text(encoding="utf-8"))
        for place, lines in old["results"].items():
            self.data[place] = {**lines, **self.data.get(place, {})}
        self.space = self.space or old["space"]
        for kind, found in old["scale"].items():
            counts = {who: {int(n): figures for n, figures in curve.items()}
                      for who, curve in found.items()}
            self.scale[kind] = self.scale.get(kind) or counts
        self.runs = old.get("runs", []) + self.runs

    def add(self, place, line, contender, value):
        places = self.data.setdefault(place, {})
        places.setdefault(line.name, {}).setdefault(contender, []).append(value)

    def skip(self, place, contender, what, reason):
        entry = {"place": place, "contender": contender, "what": what, "reason": reason}
        if entry not in self.skipped:
            self.skipped.append(entry)

    def best(self, place, name, contender):
        values = self.data.get(place, {}).get(name, {}).get(contender)
        return best(values, self.lines[name].higher_is_better) if values else None

    def best_peer(self, place, name):
        found = [(self.best(place, name, peer), peer) for peer in PEERS]
        found = [(value, peer) for value, peer in found if value is not None]
        if not found:
            return None
        return best(found, self.lines[name].higher_is_better)

    def ratio(self, place, name, contender, rival):
        """How many times faster; None where either is missing."""
        ours = self.best(place, name, contender)
        theirs = (self.best_peer(place, name) or (None,))[0] if rival == "peer" else self.best(
            place, name, rival)
        if not ours or not theirs:
            return None
        return ours / theirs if self.lines[name].higher_is_better else theirs / ours

    def contenders(self, place):
        order = ("bare", "passthrough_ll", "bindfs", *PEERS, *SCRIMS)
        present = {name for line in self.data.get(place, {}).values() for name in line}
        return [name for name in order if name in present]

    def as_json(self):
        lines = {name: {"title": line.title, "unit": line.unit, "command": line.command,
                        "higherIsBetter": line.higher_is_better}
                 for name, line in self.lines.items()}
        return {"machine": self.machine, "runs": self.runs, "lines": lines, "results": self.data,
                "space": self.space, "scale": self.scale, "skipped": self.skipped}


def table(header, rows):
    cells = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in cells)


def value_table(results, place, group):
    names = results.contenders(place)
    rows = []
    for line in group.lines:
        row = [f"{line.title} ({line.unit})"]
        for name in names:
            values = results.data.get(place, {}).get(line.name, {}).get(name)
            if not values:
                row.append("–")
                continue
            text = number(best(values, line.higher_is_better))
            row.append(f"{text} ({number(statistics.median(values))})" if len(values) > 1 else text)
        rows.append(row)
    return table(["best (median)", *names], rows)


def ratio_table(results, place, group):
    names = [name for name in results.contenders(place) if name in SCRIMS]
    rows = []
    for line in group.lines:
        rival = results.best_peer(place, line.name)
        row = [line.title, rival[1] if rival else "–"]
        for name in names:
            pair = (results.ratio(place, line.name, name, "peer"),
                    results.ratio(place, line.name, name, "bare"))
            row.append(" / ".join("–" if ratio is None else f"{ratio:.2f}" for ratio in pair))
        rows.append(row)
    return table(["times the best peer / the bare folder", "best peer", *names], rows)


def chart(results, place, group):
    """Writes the group's chart; returns its markdown, or nothing where no peer took part."""
    rows = []
    for line in group.lines:
        bars = []
        for name in IN_CHARTS:
            ratio = results.ratio(place, line.name, name, "peer")
            if ratio is not None:
                value = number(results.best(place, line.name, name))
                bars.append((name, ratio, f"{value} {line.unit}"))
        if bars:
            rows.append((line.title, bars))
    if not rows:
        return ""
    slug = group.section.lower().replace(" ", "-")
    folder = DOCS / "performance"
    folder.mkdir(exist_ok=True)
    path = folder / f"{place}-{slug}.svg"
    path.write_text(ratio_chart(f"{group.section} on {place}", rows), encoding="utf-8")
    return f"![{group.section} on {place}](performance/{path.name})\n\n"


def verdict(is_met, distance):
    return "met" if is_met else f"missed by {100 * distance:.0f} %"


def goal_table(results):
    rows = []
    for text, lines, contender, rival, wanted, place in GOALS:
        for name in lines:
            ratio = results.ratio(place, name, contender, rival)
            row = [text, f"{results.lines[name].title} ({place})", f"≥ {wanted}"]
            rows.append(row + (["not measured", ""] if ratio is None else [
                f"{ratio:.2f}", verdict(ratio >= wanted, 1 - ratio / wanted)]))
    contender, rival, wanted = SPACE_GOAL
    if contender in results.space and rival in results.space:
        ratio = results.space[contender] / results.space[rival]
        rows.append([f"{contender} beside {rival}", "space of the text tree", f"≤ {wanted}",
                     f"{ratio:.2f}", verdict(ratio <= wanted, ratio / wanted - 1)])
    return table(["goal", "line", "ratio wanted", "measured", ""], rows)


def space_table(results):
    if not results.space:
        return "Not measured in this run."
    rows = [[name, number(size / 2**20)] for name, size in results.space.items()]
    return table(["the text tree takes", "MiB"], rows)


def size_name(size):
    return f"{size >> 30} GiB" if size >= 1 << 30 else f"{size >> 20} MiB"


SCALES = (
    ("files", "create", "Creating a file among n files", "µs", "{:,}".format),
    ("files", "stat", "A cold stat among n files", "µs", "{:,}".format),
    ("files", "bytes an inode", "Memory of the server for a cached inode", "bytes", "{:,}".format),
    ("sizes", "open", "Opening a cold file of n and reading from it", "µs", size_name),
    ("sizes", "read", "A cold 4 KiB read in a file of n", "µs", size_name),
)


def scale_sections(results):
    """Curves and tables of what depends on the number of files and on a file's size."""
    if not any(results.scale.values()):
        return "Not measured in this run."
    parts = []
    for number_of, (kind, figure, title, unit, label) in enumerate(SCALES):
        curves = {}
        for name, found in results.scale[kind].items():
            points = [(label(key), figures[figure]) for key, figures in sorted(found.items())
                      if figures.get(figure)]
            if points:
                curves[name] = points
        if not curves:
            continue
        folder = DOCS / "performance"
        folder.mkdir(exist_ok=True)
        path = folder / f"scale-{number_of}.svg"
        path.write_text(curve_chart(title, unit, curves), encoding="utf-8")
        steps = [text for text, _ in max(curves.values(), key=len)]
        rows = [[name, *[number(dict(points)[step]) if step in dict(points) else "–"
                         for step in steps]] for name, points in curves.items()]
        parts.append(f"### {title}\n\n![{title}](performance/{path.name})\n\n"
                     + table([unit, *steps], rows))
    return "\n\n".join(parts)


def place_sections(results):
    parts = []
    for place in results.data:
        parts.append(f"## On {place}\n")
        for group in results.groups:
            if not any(line.name in results.data[place] for line in group.lines):
                continue
            parts.append(f"### {group.section} ({place})\n")
            parts.append(chart(results, place, group) + value_table(results, place, group) + "\n")
            parts.append(ratio_table(results, place, group) + "\n")
    return "\n".join(parts).rstrip()


def commands(results):
    rows = []
    for group in results.groups:
        for command in group.once:
            rows.append(f"# {group.section}, once before: {command}")
        for line in group.lines:
            cold = "; caches dropped before" if line.cold else ""
            before = "".join(f"{command} && " for command in line.prepare)
            rows.append(f"# {group.section}: {line.title} ({line.name}{cold})")
            rows.append(before + line.command)
    return "```sh\n" + "\n".join(rows) + "\n```"


def machine_text(machine):
    return "\n".join(f"- {key}: {value}" for key, value in machine.items())


def skipped_text(results):
    if not results.skipped:
        return "Nothing was left out."
    return "\n".join(f"- {entry['contender']} on {entry['place']}, {entry['what']}: "
                     f"{entry['reason']}" for entry in results.skipped)


def write(results, arguments, is_partial):
    """Writes the page. The figures that a run of chosen lines did not measure stay in it."""
    how = "make bench" + "".join(f" {shlex.quote(word)}" for word in arguments)
    results.runs.append(how)
    if is_partial:
        results.keep(DOCS / "performance.json")
    parts = {
        "machine": machine_text(results.machine), "goals": goal_table(results),
        "space": space_table(results), "places": place_sections(results),
        "scale": scale_sections(results),
        "commands": commands(results), "skipped": skipped_text(results),
        "how": ", then ".join(f"`{run}`" for run in results.runs),
    }
    text = TEMPLATE.read_text(encoding="utf-8")
    for key, value in parts.items():
        text = text.replace("{{" + key + "}}", value)
    (DOCS / "performance.md").write_text(text, encoding="utf-8")
    (DOCS / "performance.json").write_text(json.dumps(results.as_json(), indent=1) + "\n",
                                           encoding="utf-8")
    front.write(DOCS)

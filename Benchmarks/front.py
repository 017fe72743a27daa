#!/usr/bin/env python3
"""The chart of the front page, from docs/performance.json: a handful of lines that stand for the rest."""

import json
import os
from pathlib import Path

from charts import ratio_chart

DOCS = Path(os.environ.get("OUT", Path(__file__).resolve().parents[1] / "docs"))
LINES = ["write-128k", "read-cold-128k", "randread-1", "randwrite-1", "create", "clone"]
SHOWN = ["bare", "plain", "sealed", "sealed-compressed", "gocryptfs", "securefs"]
PEERS = ["gocryptfs", "securefs", "encfs", "cryfs"]


def text(value, unit):
    figure = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{figure} {unit}"


def row(line, values):
    """How often as good as the best peer each contender is."""
    best = max if line["higherIsBetter"] else min
    peer = best(best(values[name]) for name in PEERS if values.get(name))
    bars = []
    for name in SHOWN:
        if values.get(name):
            value = best(values[name])
            ratio = value / peer if line["higherIsBetter"] else peer / value
            bars.append((name, ratio, text(value, line["unit"])))
    return line["title"], bars


def write(docs):
    data = json.loads((docs / "performance.json").read_text())
    if not data["results"]:
        return
    place, results = next(iter(data["results"].items()))
    rows = [row(data["lines"][name], results[name]) for name in LINES if name in results]
    title = f"Beside the best of {', '.join(PEERS)}, on {place} ({data['machine']['processor']})"
    (docs / "performance/front.svg").write_text(ratio_chart(title, rows))


if __name__ == "__main__":
    write(DOCS)

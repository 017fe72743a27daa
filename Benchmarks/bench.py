"""Runs the lines on every contender, round after round, and writes the report.

Environment: QUICK=1; ROUNDS; PLACES, CONTENDERS, LINES (comma lists; lines by name, section,
"space" or "scale"); FILES, the most files that "scale" makes; OUT, a folder to write to instead of docs; DRY=1 prints the JSON and writes nothing.
"""

import itertools
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report
import scale
from contenders import REPOSITORY, Skip, call, everyone
from lines import FULL, QUICK, every_group

DISK_RESERVE = 1 << 30


def chosen(name):
    value = os.environ.get(name, "").strip()
    return set(value.split(",")) if value else None


def machine(contenders, quick, rounds):
    with open("/proc/cpuinfo", encoding="utf-8") as table:
        models = [line.split(":")[1].strip() for line in table if line.startswith("model name")]
    versions = []
    for contender in contenders:
        try:
            version = contender.version()
        except (Skip, IndexError, OSError):
            continue
        if version and contender.family != "scrim":
            versions.append(f"{contender.name} {version}")
    return {
        "processor": f"{len(models)} × {models[0] if models else platform.machine()}",
        "kernel": platform.release(), "peers": ", ".join(versions),
        "run": f"{'quick' if quick else 'full'}, {rounds} rounds, best and median kept",
    }


class Place:
    """Where backing folders lie: tmpfs, or ext4 in an image on the disk of /var/tmp."""

    def __init__(self, name):
        self.name = name
        base = "/dev/shm" if name == "tmpfs" else "/var/tmp"
        self.top = Path(tempfile.mkdtemp(prefix=f"scrim-bench-{os.getpid()}-", dir=base))
        self.scratch = self.top
        if name == "ext4":
            image, self.scratch = self.top / "image", self.top / "ext4"
            self.scratch.mkdir()
            size = min(24 << 30, shutil.disk_usage(base).free - DISK_RESERVE)
            call(["truncate", "-s", str(size), str(image)])
            call(["mkfs.ext4", "-q", "-F", "-N", "3000000", "-E", "lazy_itable_init=0", str(image)],
                 timeout=300)
            call(["mount", "-o", "loop", str(image), str(self.scratch)])
        self.sources = self.top / "sources"

    def close(self):
        if os.path.ismount(self.scratch):
            call(["umount", str(self.scratch)], timeout=300)
        shutil.rmtree(self.top, ignore_errors=True)


def prepare_sources(folder, quick):
    """A tree of real text, as a tar archive and as a git repository."""
    folder.mkdir()
    tree = folder / "tree"
    wanted = ["/usr/lib/python3.11"] if quick else ["/usr/lib/python3.11", "/usr/include"]
    tree.mkdir()
    for source in wanted:
        if not os.path.isdir(source):
            source = os.path.dirname(os.__file__)
        shutil.copytree(source, tree / os.path.basename(source), symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__", "*.so", "*.a"))
    call(["tar", "-C", str(folder), "-cf", str(folder / "tree.tar"), "tree"])
    repository = folder / "repository"
    shutil.move(tree, repository)
    git = ["git", "-C", str(repository), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    call(["git", "init", "-q", str(repository)])
    call([*git, "add", "-A"], timeout=300)
    call([*git, "commit", "-q", "-m", "tree"], timeout=300)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as control:
        control.write("3")


class Runner:
    def __init__(self, results, place, quick):
        self.results = results
        self.place = place
        self.timeout = 30 if quick else 180
        self.lost = set()

    def shell(self, contender, command, timeout=None):
        environment = {**os.environ, "D": str(contender.folder), "S": str(self.place.sources),
                       "GIT_OPTIONAL_LOCKS": "0"}
        with subprocess.Popen(command, shell=True, executable="/bin/bash", env=environment,
                              cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
            try:
                output, errors = child.communicate(timeout=timeout or self.timeout)
            except subprocess.TimeoutExpired as expired:
                os.killpg(child.pid, signal.SIGKILL)
                raise Skip(f"took more than {expired.timeout:.0f} s") from expired
        if child.returncode != 0:
            last = (errors.strip() or output.strip() or "no output").splitlines()[-1]
            raise Skip(f"exit {child.returncode}: {last[:160]}")
        return output

    def measure(self, contender, line):
        for command in line.prepare:
            self.shell(contender, command)
        if line.cold:
            drop_caches()
        command = line.command
        if line.measure == "fio":
            command += " --output-format=json"
        begin = time.perf_counter()
        output = self.shell(contender, command)
        seconds = time.perf_counter() - begin
        for cleaning in line.cleanup:
            self.shell(contender, cleaning)
        if line.measure == "fio":
            return fio_rate(output, line.unit)
        if line.measure == "inside":
            seconds = float(output)
        return line.count / seconds if line.unit == "ops/s" else seconds

    def run_group(self, contender, group, lines):
        for line in lines:
            if (contender.name, group.section) in self.lost:
                return
            try:
                value = self.measure(contender, line)
            except Skip as reason:
                self.results.skip(self.place.name, contender.name, line.title, str(reason))
                # Later lines of the group build on this one.
                self.lost.add((contender.name, group.section))
                print(f"  {contender.name:18} {line.title}: left out, {reason}", flush=True)
                return
            self.results.add(self.place.name, line, contender.name, value)
            print(f"  {contender.name:18} {line.title:32} {report.number(value):>10} {line.unit}",
                  flush=True)

    def prepare_group(self, contender, group):
        for command in group.once:
            try:
                self.shell(contender, command, timeout=4 * self.timeout)
            except Skip as reason:
                self.results.skip(self.place.name, contender.name, group.section, str(reason))
                self.lost.add((contender.name, group.section))


def fio_rate(output, unit):
    job = json.loads(output[output.index("{"):])["jobs"][0]
    side = job["read"] if job["read"]["total_ios"] else job["write"]
    seconds = max(side["runtime"], 1) / 1000
    amount = side["total_ios"] if unit == "ops/s" else side["io_bytes"] / 2**20
    return amount / seconds


def measure_space(results, place, contenders):
    """What the text tree takes in each backing folder, and on btrfs with zstd:3."""
    def used(path):
        os.sync()
        return int(call(["du", "-s", "-B1", str(path)]).split()[0])

    tar = ["tar", "-xf", str(place.sources / "tree.tar"), "-C"]
    for contender in contenders:
        before = used(contender.backing)
        try:
            call([*tar, str(contender.folder)], timeout=300)
        except Skip as reason:
            results.skip(place.name, contender.name, "space", str(reason))
            continue
        results.space[contender.name] = used(contender.backing) - before
        shutil.rmtree(contender.folder / "tree", ignore_errors=True)
    try:
        results.space["btrfs zstd:3"] = btrfs_space(place, tar)
    except Skip as reason:
        results.skip(place.name, "btrfs", "space", str(reason))


def btrfs_space(place, tar):
    image, point = place.top / "btrfs.image", place.top / "btrfs"
    point.mkdir(exist_ok=True)
    if not shutil.which("mkfs.btrfs"):
        raise Skip("mkfs.btrfs is not installed")
    call(["truncate", "-s", "2G", str(image)])
    call(["mkfs.btrfs", "-q", "-m", "single", str(image)])
    call(["mount", "-o", "loop,compress=zstd:3", str(image), str(point)])
    try:
        before = os.statvfs(point)
        call([*tar, str(point)], timeout=300)
        os.sync()
        after = os.statvfs(point)
        return (before.f_bfree - after.f_bfree) * before.f_frsize
    finally:
        call(["umount", str(point)])
        image.unlink()


def run_place(results, name, contenders, groups, rounds, quick):
    place = Place(name)
    present = []
    try:
        prepare_sources(place.sources, quick)
        for contender in contenders:
            try:
                contender.setup(place.scratch)
                present.append(contender)
            except (Skip, subprocess.TimeoutExpired, OSError) as reason:
                results.skip(name, contender.name, "everything", str(reason))
                print(f"  {contender.name}: left out, {reason}", flush=True)
                contender.teardown()
        runner = Runner(results, place, quick)
        only = chosen("LINES")
        for group in groups:
            lines = [line for line in group.lines
                     if not only or line.name in only or group.section in only]
            if not lines:
                continue
            print(f"{name}: {group.section}", flush=True)
            for contender in present:
                runner.prepare_group(contender, group)
            for round_number in range(rounds):
                # Each round begins with another one, so that none always follows the slowest.
                shift = round_number % max(len(present), 1)
                for contender in itertools.chain(present[shift:], present[:shift]):
                    runner.run_group(contender, group, lines)
        if not only or "space" in only:
            measure_space(results, place, present)
        if name == "tmpfs" and (not only or "scale" in only):
            print(f"{name}: scale", flush=True)
            results.scale = scale.measure(
                runner, present, quick, drop_caches,
                lambda who, what, why: results.skip(name, who, what, why))
    finally:
        for contender in present:
            contender.teardown()
        place.close()


def main():
    quick = os.environ.get("QUICK", "") not in ("", "0")
    rounds = int(os.environ.get("ROUNDS", "1" if quick else "5"))
    places = sorted(chosen("PLACES") or ({"tmpfs"} if quick else {"tmpfs", "ext4"}), reverse=True)
    names = chosen("CONTENDERS")
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        sys.exit("bench: needs root (caches are dropped, images mounted) and /dev/fuse")
    groups = every_group(QUICK if quick else FULL)
    contenders = [one for one in everyone() if not names or one.name in names]
    results = report.Results(machine(contenders, quick, rounds), groups)
    for name in places:
        fresh = [one for one in everyone() if not names or one.name in names]
        run_place(results, name, fresh, groups, rounds, quick)
    words = [f"{key}={os.environ[key]}" for key in
             ("QUICK", "ROUNDS", "PLACES", "CONTENDERS", "LINES", "FILES") if os.environ.get(key)]
    if os.environ.get("DRY") == "1":
        print(json.dumps(results.as_json(), indent=1))
        return
    report.write(results, words, is_partial=bool(os.environ.get("LINES")))
    print(f"bench: wrote {report.DOCS / 'performance.md'}")
    for entry in results.skipped:
        print(f"bench: left out {entry['contender']} ({entry['place']}, {entry['what']}): "
              f"{entry['reason']}")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Migrating trees: adoption beside mv, small files beside cp -a into gocryptfs, one large file beside `scrim bench`, memory.

Usage: trees.py [FOLDER] [FILES] [adoption|small|large|memory]… FOLDER is where vaults and sources go (default /dev/shm), FILES
how many small ones (20000; memory goes up to 50 times as many). SCRIM is the program (default .build/release/scrim).
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SCRIM = os.environ.get("SCRIM", str(Path(__file__).parent.parent / ".build/release/scrim"))
PASSWORD = b"benchmark\n"


def run(*command, **options):
    """Seconds and peak memory in KiB of a command."""
    start = time.monotonic()
    process = subprocess.Popen([os.fspath(a) for a in command], stdout=subprocess.DEVNULL, **options)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, command
    return time.monotonic() - start, usage.ru_maxrss


def tree(folder, files, size, suffix="", in_each=500):
    rng = random.Random(1)
    data = rng.randbytes(size + 4096)
    for i in range(files):
        place = folder / f"{i // in_each}"
        if i % in_each == 0:
            place.mkdir(parents=True)
        (place / f"{i}{suffix}").write_bytes(data[i % 4096 : i % 4096 + size])


class Place:
    def __init__(self, base):
        self.folder = Path(tempfile.mkdtemp(prefix="trees.", dir=base))
        self.password = self.folder / "password"
        self.password.write_bytes(PASSWORD)
        self.count = 0

    def vault(self, *options):
        self.count += 1
        vault = self.folder / f"vault {self.count}"
        secret = ("--passphrase-file", self.password)
        run(SCRIM, "init", vault, *secret, "--recovery-file", f"{vault}.recovery", "--kdf-cost", "low", *options)
        return vault

    def migrate(self, source, vault, *options):
        return run(SCRIM, "migrate", source, vault, *options, "--passphrase-file", self.password)


def adoption(place, files):
    source = place.folder / "films"
    tree(source, files, 4096, ".mp4")
    target = place.folder / "moved"
    names = [p for p in source.rglob("*.mp4")]
    target.mkdir()
    script = 'for f in "$@"; do mv -- "$f" "$0"; done'
    start = time.monotonic()
    # As a user would: mv of one file after another.
    for part in range(0, len(names), 1000):
        subprocess.run(["sh", "-c", script, target, *names[part : part + 1000]], check=True)
    one_by_one = time.monotonic() - start
    shutil.rmtree(source)
    source.mkdir()
    for i, name in enumerate(sorted(target.iterdir())):
        (source / f"{i // 500}").mkdir(exist_ok=True)
        name.rename(source / f"{i // 500}" / name.name)
    seconds, _ = place.migrate(source, place.vault(), "--move", "--plain", "*.mp4")
    print(f"adopting {files} plain files: {seconds:.2f} s; mv one by one: {one_by_one:.2f} s; {seconds / one_by_one:.2f} of it")


def small_files(place, files):
    source = place.folder / "small"
    tree(source, files, 3000)
    copied, memory = place.migrate(source, place.vault())
    print(f"copying {files} files of 3000 bytes: {copied:.2f} s, {files / copied:.0f} a second, {memory >> 10} MiB")
    if shutil.which("gocryptfs"):
        other, point = place.folder / "other", place.folder / "point"
        other.mkdir()
        point.mkdir()
        run("gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", place.password, other)
        run("gocryptfs", "-q", "-passfile", place.password, other, point)
        try:
            seconds, _ = run("cp", "-a", source, point)
            run("sync", "-f", point)
        finally:
            subprocess.run(["fusermount3", "-u", "-z", point], check=False)
        print(f"  cp -a into gocryptfs: {seconds:.2f} s; Scrim takes {copied / seconds:.2f} of it")
    moved, memory = place.migrate(source, place.vault(), "--move")
    print(f"moving them: {moved:.2f} s, {files / moved:.0f} a second, {memory >> 10} MiB")


def sealed_writing():
    """Bytes a second that `scrim bench` writes to a container in memory."""
    sections = json.loads(subprocess.run([SCRIM, "bench", "--json", "--milliseconds", "1000"], stdout=subprocess.PIPE, check=True).stdout)
    return next(f["mibPerSecond"] for s in sections for f in s["figures"] if f["name"] == "sealed, writing") * (1 << 20)


def large_file(place, gibibytes=2, rounds=5):
    source = place.folder / "large"
    source.mkdir()
    block = random.Random(2).randbytes(64 << 20)
    with open(source / "large", "wb") as f:
        for _ in range(gibibytes * 16):
            f.write(block)
    size = gibibytes << 30
    copied, measured, vault = 0, 0, None
    for _ in range(rounds):
        if vault:
            shutil.rmtree(vault)
        vault = place.vault()
        measured = max(measured, sealed_writing())
        seconds, memory = place.migrate(source, vault)
        copied = max(copied, size / seconds)
    print(f"sealing one file of {gibibytes} GiB by copy: {copied / 1e6:.0f} MB/s, {memory >> 10} MiB")
    print(f"  scrim bench, sealed writing: {measured / 1e6:.0f} MB/s; migrating reaches {copied / measured:.2f} of it (best of {rounds} each)")
    seconds, _ = run(SCRIM, "convert", vault, "--content", "plain", "--recursive", "--passphrase-file", place.password)
    print(f"converting it to plain, verified: {size / seconds / 1e6:.0f} MB/s")
    seconds, _ = place.migrate(source, place.vault(), "--move")
    print(f"sealing it by move, read back and compared: {size / seconds / 1e6:.0f} MB/s")


def memory_growth(place, files):
    for in_each in (500, files):
        for count in (count for count in (1_000, 100_000, 1_000_000) if count <= files):
            source = place.folder / f"memory {in_each} {count}"
            tree(source, count, 10, in_each=in_each)
            vault = place.vault()
            peaks = [place.migrate(source, vault)[1] >> 10]
            shutil.rmtree(vault)
            vault = place.vault()
            peaks.append(place.migrate(source, vault, "--move", "--plain", "*")[1] >> 10)
            shutil.rmtree(vault)
            places = "one directory" if in_each >= count else f"directories of {in_each}"
            print(f"memory for {count} files in {places}: copying {peaks[0]} MiB, adopting {peaks[1]} MiB", flush=True)


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "/dev/shm"
    files = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    jobs = {
        "adoption": lambda place: adoption(place, files // 2),
        "small": lambda place: small_files(place, files),
        "large": large_file,
        "memory": lambda place: memory_growth(place, files * 50),
    }
    for name in sys.argv[3:] or jobs:
        place = Place(base)
        try:
            jobs[name](place)
        finally:
            shutil.rmtree(place.folder, ignore_errors=True)


if __name__ == "__main__":
    main()

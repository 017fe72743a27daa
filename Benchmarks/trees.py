#!/usr/bin/env python3
"""Migrating trees: adoption beside mv, small files beside cp -a into gocryptfs, one large file, memory.

Usage: trees.py [FOLDER] [FILES]. FOLDER is where vaults and sources go (default /dev/shm), FILES how many small ones (20000).
SCRIM is the program (default .build/release/scrim).
"""

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


def tree(folder, files, size, suffix=""):
    rng = random.Random(1)
    data = rng.randbytes(size + 4096)
    for i in range(files):
        place = folder / f"{i // 500}"
        if i % 500 == 0:
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


def large_file(place, gibibytes):
    source = place.folder / "large"
    source.mkdir()
    block = random.Random(2).randbytes(64 << 20)
    with open(source / "large", "wb") as f:
        for _ in range(gibibytes * 16):
            f.write(block)
    size = gibibytes << 30
    vault = place.vault()
    seconds, memory = place.migrate(source, vault)
    print(f"sealing one file of {gibibytes} GiB by copy: {size / seconds / 1e6:.0f} MB/s, {memory >> 10} MiB")
    seconds, _ = run(SCRIM, "convert", vault, "--content", "plain", "--recursive", "--passphrase-file", place.password)
    print(f"converting it to plain, verified: {size / seconds / 1e6:.0f} MB/s")
    seconds, _ = place.migrate(source, place.vault(), "--move")
    print(f"sealing it by move, read back and compared: {size / seconds / 1e6:.0f} MB/s")


def memory_growth(place, files):
    peaks = []
    for count in (files // 20, files):
        source = place.folder / f"memory {count}"
        tree(source, count, 10)
        peaks.append(place.migrate(source, place.vault())[1] >> 10)
        shutil.rmtree(source)
    print(f"memory of copying {files // 20} files: {peaks[0]} MiB, {files} files: {peaks[1]} MiB")


def main():
    base = sys.argv[1] if len(sys.argv) > 1 else "/dev/shm"
    files = int(sys.argv[2]) if len(sys.argv) > 2 else 20_000
    for job in (lambda p: adoption(p, files // 2), lambda p: small_files(p, files), lambda p: large_file(p, 2), lambda p: memory_growth(p, files)):
        place = Place(base)
        try:
            job(place)
        finally:
            shutil.rmtree(place.folder, ignore_errors=True)


if __name__ == "__main__":
    main()

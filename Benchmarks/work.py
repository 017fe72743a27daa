"""Small-file and listing work, timed from inside so that the interpreter's start does not count.

Usage: work.py ACTION FOLDER COUNT; prints the seconds that the action took.
"""

import os
import sqlite3
import sys
import time

PER_FOLDER = 100


def paths(folder, count, suffix=""):
    for number in range(count):
        yield f"{folder}/{number // PER_FOLDER}/file{number}{suffix}"


def create(folder, count):
    """Files of 1 to 8 KiB, a hundred to a directory."""
    block = (b"The quick brown fox jumps over the lazy dog. " * 200)[:8192]
    for number, path in enumerate(paths(folder, count)):
        if number % PER_FOLDER == 0:
            os.mkdir(os.path.dirname(path))
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(fd, block[:1024 + number * 37 % 7168])
        os.close(fd)


def stat(folder, count):
    for path in paths(folder, count):
        os.stat(path)


def read(folder, count):
    for path in paths(folder, count):
        fd = os.open(path, os.O_RDONLY)
        os.read(fd, 8192)
        os.close(fd)


def rename(folder, count):
    for path in paths(folder, count):
        os.rename(path, path + ".new")


def delete(folder, count):
    for number, path in enumerate(paths(folder, count, ".new")):
        os.unlink(path)
        if number % PER_FOLDER == PER_FOLDER - 1:
            os.rmdir(os.path.dirname(path))


def populate(folder, count):
    """Empty files, all in one directory."""
    os.makedirs(folder, exist_ok=True)
    for number in range(count):
        os.close(os.open(f"{folder}/entry{number:06d}", os.O_CREAT | os.O_WRONLY, 0o644))


def listing(folder, count):
    with os.scandir(folder) as entries:
        found = sum(1 for _ in entries)
    if found != count:
        sys.exit(f"{folder} lists {found} entries, not {count}")


def sqlite(folder, count):
    """One transaction after another, each synced before the next."""
    path = folder + "/bench.sqlite"
    if os.path.exists(path):
        os.unlink(path)
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("pragma synchronous=full")
    base.execute("create table entry (number integer primary key, text)")
    for number in range(count):
        base.execute("insert into entry values (?, ?)", (number, "x" * 200))
    base.close()


ACTIONS = {function.__name__: function for function in
           (create, stat, read, rename, delete, populate, listing, sqlite)}

if __name__ == "__main__":
    _, action, top, amount = sys.argv
    begin = time.perf_counter()
    ACTIONS[action](top, int(amount))
    print(f"{time.perf_counter() - begin:.6f}")

"""Programs at work on a mount, and how to tell afterwards that what they were told is stored is there.

A load runs as a process of its own and prints a line for each thing that is done. It ends at the first error: the mount may go
away at any moment.
"""

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from harness import run

# Writes files until it is stopped. After each close it reports the name, the seed of the content and its length.
FILES = """
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
for i in range(100000):
    name, key = 'file %d' % rng.randrange(60), rng.randrange(1 << 30)
    size = rng.choice((10, 3000, 5000, 50000, 300000))
    print('begin', name, flush=True)
    with open(os.path.join(folder, name), 'wb') as f:
        f.write(random.Random(key).randbytes(size))
        if i % 3 == 0:
            f.flush(); os.fsync(f.fileno())
    print('closed', name, key, size, flush=True)
"""

TAR = """
for round in $(seq 100); do
  mkdir "$1/$round" && tar -xf "$2" -C "$1/$round" && echo "$round" || exit
done
"""

GIT = """
cd "$1" || exit
export GIT_CONFIG_GLOBAL=/dev/null GIT_AUTHOR_NAME=n GIT_AUTHOR_EMAIL=e GIT_COMMITTER_NAME=n GIT_COMMITTER_EMAIL=e
for round in $(seq 1000); do
  for number in 1 2 3; do
    head -c $((RANDOM * 4)) /dev/urandom >"file $((RANDOM % 20))" || exit
  done
  git add -A && git commit -qm "$2 $round" && git rev-parse HEAD || exit
done
"""

SQLITE = """
import random, sqlite3, sys
path, seed, journal = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rng = random.Random(seed)
database = sqlite3.connect(path, isolation_level=None)
database.execute(f'pragma journal_mode={journal}')
database.execute('pragma synchronous=full')
database.execute('create table if not exists rows (key integer primary key, content blob)')
for i in range(100000):
    keys = [rng.randrange(1 << 40) for _ in range(rng.randrange(1, 20))]
    database.execute('begin')
    for key in keys:
        database.execute('insert into rows values (?, ?)', (key, random.Random(key).randbytes(key % 9000)))
    database.execute('commit')
    print(*keys, flush=True)
"""

FIO = ["fio", "--name=job", "--size=2M", "--bsrange=512-16k", "--rw=randwrite", "--verify=crc32c"]
FIO += ["--ioengine=psync", "--verify_state_save=0"]


class Load:
    """`folder` is the load's own on the mount; `aside` is one beside it, where nothing is lost."""

    def __init__(self, folder: Path, aside: Path, rng: random.Random):
        self.folder, self.aside, self.rng = folder, aside, rng

    def command(self):
        raise NotImplementedError

    def check(self, lines):
        """Asserts that what `lines` say is there, whole, and puts right what was under way."""
        raise NotImplementedError

    def begin(self):
        return subprocess.Popen(
            [str(a) for a in self.command()], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )


class Files(Load):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.known = {}

    def command(self):
        return [sys.executable, "-c", FILES, self.folder, self.rng.randrange(1 << 30)]

    def check(self, lines):
        uncertain = set()
        for line in lines:
            word, rest = line.split(" ", 1)
            if word == "begin":
                uncertain.add(rest.strip())
            else:
                _, number, key, size = line.rsplit(" ", 3)
                self.known["file " + number] = (int(key), int(size))
                uncertain.discard("file " + number)
        present = set(os.listdir(self.folder))
        assert set(self.known) - uncertain <= present <= set(self.known) | uncertain
        for name in sorted(present):
            data = (self.folder / name).read_bytes()
            if name not in uncertain:
                key, size = self.known[name]
                assert data == random.Random(key).randbytes(size), name
        # What was in flight has some committed state; it is written anew, so that it is known again.
        for name in sorted(uncertain):
            (self.folder / name).write_bytes(b"")
            self.known[name] = (0, 0)


class Tar(Load):
    """One file is unpacked at a time, so one at most is not whole."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.content = {}
        for number in range(300):
            name = f"folder {number % 17}/" * (number % 4) + f"file {number}" + "n" * (number % 200)
            path = self.aside / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            self.content[name] = self.rng.randbytes(self.rng.choice((0, 10, 3000, 20000, 200000)))
            path.write_bytes(self.content[name])
        run("tar", "-cf", self.aside / "archive", "-C", self.aside / "source", ".")

    def command(self):
        return ["bash", "-c", TAR, "bash", self.folder, self.aside / "archive"]

    def check(self, lines):
        done = {line.strip() for line in lines}
        for root in sorted(os.listdir(self.folder)):
            partial = [name for name, content in self.content.items() if not self.is_whole(root, name, content)]
            found = sum(len(names) for _, _, names in os.walk(self.folder / root))
            if root in done:
                assert not partial and found == len(self.content), partial
            else:
                present = [name for name in partial if (self.folder / root / name).exists()]
                assert len(present) <= 1, present
                assert found == len(self.content) - len(partial) + len(present)
            shutil.rmtree(self.folder / root)

    def is_whole(self, root, name, content):
        try:
            return (self.folder / root / name).read_bytes() == content
        except FileNotFoundError:
            return False


class Git(Load):
    def __init__(self, *arguments):
        super().__init__(*arguments)
        run("git", "init", "-q", self.folder)

    def command(self):
        return ["bash", "-c", GIT, "bash", self.folder, self.rng.randrange(1 << 30)]

    def check(self, lines):
        for lock in self.folder.glob(".git/**/*.lock"):
            lock.unlink()
        self.git("fsck", "--strict", "--full")
        if lines:
            self.git("merge-base", "--is-ancestor", lines[-1].strip(), "HEAD")
            self.git("reset", "-q", "--hard")
            assert self.git("status", "--porcelain", "--untracked-files=no").stdout == b""

    def git(self, *arguments):
        return run("git", "-c", "safe.directory=*", "-C", self.folder, *arguments)


class SQLite(Load):
    journal = "delete"

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.keys = set()

    def command(self):
        return [sys.executable, "-c", SQLITE, self.folder / "database", self.rng.randrange(1 << 30), self.journal]

    def check(self, lines):
        # The last line may be cut short with the process.
        self.keys |= {int(key) for line in lines if line.endswith("\n") for key in line.split()}
        database = sqlite3.connect(self.folder / "database")
        try:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            stored = dict(database.execute("select key, content from rows")) if self.keys else {}
        finally:
            database.close()
        assert self.keys <= set(stored)
        assert all(content == random.Random(key).randbytes(key % 9000) for key, content in stored.items())


class SQLiteLog(SQLite):
    journal = "wal"


class Fio(Load):
    """Files of blocks that each carry a checksum of their own."""

    def command(self):
        job = " ".join(FIO)
        seed = self.rng.randrange(1 << 30)
        return [
            "bash", "-c",
            f'for n in $(seq 1000); do {job} --filename="$1/f$n" --randseed={seed} --do_verify=0 --fsync=32 >/dev/null'
            f' || exit; echo "$n {seed}"; done',
            "bash", self.folder,
        ]  # fmt: skip

    def check(self, lines):
        done = dict(line.split() for line in lines)
        for path in sorted(self.folder.iterdir()):
            path.read_bytes()
            seed = done.get(path.name[1:])
            if seed is not None:
                assert path.stat().st_size == 2 << 20
                run(*FIO, f"--filename={path}", f"--randseed={seed}", "--verify_only")
            path.unlink()


ALL = {"files": Files, "tar": Tar, "git": Git, "sqlite": SQLite, "sqlite-log": SQLiteLog, "fio": Fio}

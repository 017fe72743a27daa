"""Programs that people run on files: git, SQLite, Python, tar, make."""

import hashlib
import os
import sqlite3
import sys

import pytest
from harness import REPOSITORY, run, seeded

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
}


def git(folder, *arguments):
    return run("git", "-c", "safe.directory=*", "-C", folder, *arguments, env=ENVIRONMENT, timeout=300)


def a_repository(folder, rng):
    """A repository with history, made outside the mount."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for commit in range(8):
        for _ in range(40):
            path = folder / f"d{rng.randrange(9)}" / f"f{rng.randrange(60)}.txt"
            path.parent.mkdir(exist_ok=True)
            path.write_text("".join(f"line {rng.randrange(10**6)}\n" for _ in range(rng.randrange(300))))
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", f"commit {commit}")
    return folder


@pytest.mark.limit(300)
def test_git_clones_checks_and_sees_no_changes(workspace, mount):
    origin = a_repository(workspace.path / "origin", seeded("git"))
    run("git", "-c", "safe.directory=*", "clone", "-q", "--no-local", origin, mount / "clone", env=ENVIRONMENT, timeout=300)
    clone = mount / "clone"
    git(clone, "fsck", "--strict", "--full")
    assert git(clone, "status", "--porcelain").stdout == b""
    (clone / "new.txt").write_text("new\n")
    git(clone, "add", "new.txt")
    git(clone, "commit", "-q", "-m", "new")
    git(clone, "gc", "-q")
    mount.remount()
    git(clone, "fsck", "--strict", "--full")
    assert git(clone, "status", "--porcelain").stdout == b""
    assert git(clone, "rev-list", "--count", "HEAD").stdout == b"9\n"


@pytest.mark.parametrize("journal", ["wal", "delete", "truncate"])
def test_sqlite_keeps_its_integrity(mount, journal):
    rng = seeded("sqlite")
    path = mount / "data.db"
    base = sqlite3.connect(path, timeout=60)
    assert base.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
    base.execute("pragma synchronous=full")
    base.execute("create table t (k integer primary key, v blob)")
    for _ in range(20):
        with base:
            for _ in range(40):
                base.execute("insert or replace into t values (?, ?)", (rng.randrange(400), rng.randbytes(rng.randrange(3000))))
    with base:
        base.execute("delete from t where k % 3 = 0")
    try:
        with base:
            base.execute("update t set v = x'00'")
            raise InterruptedError
    except InterruptedError:
        pass
    rows = base.execute("select * from t order by k").fetchall()
    # A second connection while the first is open: locks and shared memory work.
    other = sqlite3.connect(path, timeout=60)
    assert other.execute("select count(*) from t").fetchone() == (len(rows),)
    other.close()
    base.execute("vacuum")
    base.close()
    mount.remount()
    base = sqlite3.connect(path)
    assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    assert base.execute("select * from t order by k").fetchall() == rows
    base.close()


@pytest.mark.limit(300)
def test_a_python_environment_runs(mount):
    run("/usr/bin/python3", "-m", "venv", "--without-pip", mount / "venv", timeout=300)
    (mount / "venv" / "lib").rename(mount / "venv" / "moved")
    (mount / "venv" / "moved").rename(mount / "venv" / "lib")
    code = "import sys, json, sqlite3; print(sys.prefix)"
    told = run(mount / "venv" / "bin" / "python", "-c", code)
    assert told.stdout.strip() == os.fsencode(mount / "venv")


@pytest.mark.limit(300)
def test_tar_packs_and_unpacks(workspace, mount):
    sources = [p for p in ("Sources", "docs", "Tests") if (REPOSITORY / p).exists()]
    run("tar", "-C", REPOSITORY, "--exclude=__pycache__", "-cf", workspace.path / "in.tar", *sources)
    run("tar", "-C", mount.point, "-xpf", workspace.path / "in.tar")
    mount.remount()
    run("tar", "-C", mount.point, "-df", workspace.path / "in.tar")
    run("tar", "-C", mount.point, "-czf", mount / "out.tar.gz", *sources)
    names = run("tar", "-tzf", mount / "out.tar.gz").stdout.splitlines()
    assert sorted(names) == sorted(run("tar", "-tf", workspace.path / "in.tar").stdout.splitlines())


@pytest.mark.limit(300)
def test_make_builds_a_c_project(mount):
    (mount / "main.c").write_text('#include "sum.h"\n#include <stdio.h>\nint main(void) { printf("%d\\n", sum(40, 2)); return 0; }\n')
    (mount / "sum.c").write_text('#include "sum.h"\nint sum(int a, int b) { return a + b; }\n')
    (mount / "sum.h").write_text("int sum(int a, int b);\n")
    (mount / "Makefile").write_text("prog: main.o sum.o\n\t$(CC) -o $@ $^\nmain.o sum.o: sum.h\n")
    run("make", "-C", mount.point, "-j2", "CC=gcc", env=ENVIRONMENT)
    assert run(mount / "prog").stdout == b"42\n"
    again = run("make", "-C", mount.point, "CC=gcc", env=ENVIRONMENT)
    assert b"up to date" in again.stdout


def test_memory_maps_write_and_read(mount):
    script = (
        "import mmap, sys\n"
        "f = open(sys.argv[1], 'r+b'); f.truncate(300000)\n"
        "m = mmap.mmap(f.fileno(), 0)\n"
        "m[5:10] = b'hello'; m[200000:200005] = b'world'; m.flush(); m.close(); f.close()\n"
    )
    (mount / "mapped").write_bytes(b"")
    run(sys.executable, "-c", script, mount / "mapped")
    mount.remount()
    data = (mount / "mapped").read_bytes()
    wanted = bytearray(300000)
    wanted[5:10], wanted[200000:200005] = b"hello", b"world"
    assert hashlib.sha256(data).digest() == hashlib.sha256(wanted).digest()

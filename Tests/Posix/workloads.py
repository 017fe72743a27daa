"""Programs that check what they wrote; short in `make test`, long in `make soak`."""

import sqlite3
import subprocess

from .users import Task


def run(*command, cwd=None, timeout=1500, **options):
    done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, text=True, timeout=timeout,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, **options)
    assert done.returncode == 0, (
        f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    return done.stdout


def verify_with_fio(folder, size):
    """Eight jobs of `size` each write at once, in three ways, and read back what they wrote."""
    for pattern, engine, blocks in (("randrw", "psync", "512-64k"), ("write", "libaio", "512-64k"),
                                    ("randwrite", "mmap", "4k-64k")):
        run("fio", f"--name={engine}", f"--directory={folder}", f"--rw={pattern}", f"--size={size}",
            f"--bsrange={blocks}", f"--ioengine={engine}", "--numjobs=8", "--verify=crc32c",
            "--verify_fatal=1", "--do_verify=1", "--verify_state_save=0", "--fsync=64",
            "--group_reporting", "--randseed=7", "--output-format=terse", cwd="/")


def _write(path, letter, count):
    with sqlite3.connect(path, timeout=600, isolation_level=None) as base:
        base.execute("pragma synchronous=full")
        for number in range(count):
            base.execute("begin immediate")
            base.execute("insert into entry values (?, ?, ?)", (letter, number, letter * 300))
            base.execute("update total set count = count + 1")
            base.execute("commit")


def two_sqlite_writers(path, journal, count):
    """Two processes commit `count` transactions each to one database; none may be missing."""
    with sqlite3.connect(path, isolation_level=None) as base:
        assert base.execute(f"pragma journal_mode={journal}").fetchone() == (journal,)
        base.execute("create table entry (letter, number, text, primary key (letter, number))")
        base.execute("create table total (count)")
        base.execute("insert into total values (0)")
    base.close()
    for task in [Task(_write, path, letter, count) for letter in "ab"]:
        task.result(timeout=600)
    with sqlite3.connect(path) as base:
        assert base.execute("select count(*) from entry").fetchone() == (2 * count,)
        assert base.execute("select count from total").fetchone() == (2 * count,)
        assert base.execute("pragma integrity_check").fetchone() == ("ok",)
    base.close()

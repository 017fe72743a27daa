"""SIGKILL in the middle of work: what was closed or synced is there, and nothing is unreadable."""

import os
import random
import subprocess
import sys
import time

import pytest
from harness import scrim, seeded

ROUNDS = 5 * int(os.environ.get("SCRIM_ROUNDS", "1"))

# Writes files until it is stopped. After each close it reports the name, the seed of the content and its length.
WRITER = """
import os, random, sys
folder, seed = sys.argv[1], int(sys.argv[2])
rng = random.Random(seed)
try:
    for i in range(100000):
        name, key = 'file %d' % rng.randrange(60), rng.randrange(1 << 30)
        size = rng.choice((10, 3000, 5000, 50000, 300000))
        print('begin', name, flush=True)
        with open(os.path.join(folder, name), 'wb') as f:
            f.write(random.Random(key).randbytes(size))
            if i % 3 == 0:
                f.flush(); os.fsync(f.fileno())
        print('closed', name, key, size, flush=True)
except OSError:
    pass
"""


def test_closed_files_survive_a_kill_with_the_write_back_cache(vault):
    mount = vault.mount("writeback")
    assert mount.status()["passthrough"]["state"] == "userspace"
    expected = random.Random(1).randbytes(300_000)
    with open(mount / "file", "wb", buffering=0) as file:
        for start in range(0, 200_000, 1000):
            file.write(expected[start : start + 1000])
    with open(mount / "file", "ab", buffering=0) as file:
        for start in range(200_000, 300_000, 1000):
            file.write(expected[start : start + 1000])
    (mount / "copy").write_bytes(b"old")
    os.utime(mount / "copy", ns=(10**18, 10**18))
    times = {name: os.stat(mount / name).st_mtime_ns for name in ("file", "copy")}
    mount.kill()
    scrim("umount", mount.point)
    with vault.mount() as again:
        assert (again / "file").read_bytes() == expected
        assert (again / "copy").read_bytes() == b"old"
        assert {name: os.stat(again / name).st_mtime_ns for name in times} == times


@pytest.mark.limit(200 + 60 * ROUNDS)
def test_closed_files_survive_kills(vault):
    rng = seeded("kill")
    mount = vault.mount()
    known, uncertain = {}, set()
    for round_number in range(ROUNDS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, mount.point, str(rng.randrange(1 << 30))], stdout=subprocess.PIPE, text=True
        ) as writer:
            lines = []
            for line in writer.stdout:
                lines.append(line)
                if len(lines) == 40 + 20 * round_number:
                    break
            time.sleep(rng.random() * 0.2)
            mount.kill()
            lines += writer.stdout.readlines()
            writer.wait(60)
        for line in lines:
            word, rest = line.split(" ", 1)
            if word == "begin":
                uncertain.add(rest.strip())
            else:
                _, number, key, size = line.rsplit(" ", 3)
                name = "file " + number
                known[name] = (int(key), int(size))
                uncertain.discard(name)
        scrim("umount", mount.point)
        mount.start()
        check(mount, known, uncertain)
        # What was in flight has some committed state; it is written anew, so that it is known again.
        for name in sorted(uncertain):
            (mount / name).write_bytes(b"")
            known[name] = (0, 0)
        uncertain.clear()
    mount.stop()
    with vault.mount() as mount:
        check(mount, known, set())


def check(mount, known, uncertain):
    present = set(os.listdir(mount.point))
    assert set(known) - uncertain <= present <= set(known) | uncertain
    for name in sorted(present):
        data = (mount / name).read_bytes()
        if name not in uncertain:
            key, size = known[name]
            assert data == random.Random(key).randbytes(size), name

"""SIGKILL in the middle of work: what was closed or synced is there, and nothing is unreadable."""

import os
import random
import threading
import time

import harness
import loads
import pytest
from harness import scrim, seeded

# Of each load.
ROUNDS = 2 * int(os.environ.get("SCRIM_ROUNDS", "1"))
POLICIES = ("sealed", "sealed-compressed", "compressed")


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
@pytest.mark.parametrize("name", loads.ALL)
def test_work_survives_kills(workspace, name):
    vault = workspace.vault()
    rng = seeded(f"kill {name}")
    mount = vault.mount()
    # One directory of each policy takes the load in turn.
    for policy in POLICIES:
        (mount / policy).mkdir()
        os.setxattr(mount / policy, "user.scrim.policy", policy.encode())
    aside = workspace.path / "aside"
    aside.mkdir()
    running = {}
    first = list(loads.ALL).index(name)
    for number in range(first, first + ROUNDS):
        policy = POLICIES[number % len(POLICIES)]
        if policy not in running:
            (mount / policy / "work").mkdir()
            (aside / policy).mkdir()
            running[policy] = loads.ALL[name](mount / policy / "work", aside / policy, rng)
        load = running[policy]
        lines = []
        with load.begin() as process:
            reader = threading.Thread(target=lambda: lines.extend(process.stdout))
            reader.start()
            # Once something is done, so that there is something to lose.
            harness.wait_for(lambda: lines or process.poll() is not None, f"{name} to begin")
            time.sleep(rng.random() * 1.5)
            mount.kill()
            reader.join(60)
            process.wait(60)
        # Clears what the daemon left, too.
        mount.start()
        load.check(lines)
        harness.count("kills survived")
    mount.stop()
    with vault.mount():
        for load in running.values():
            load.check([])
    report = scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file, check=False)
    # Of a file that was under way the kill may have left nothing.
    assert report.returncode in (harness.OK, harness.HARMLESS), report.stdout

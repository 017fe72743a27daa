"""Kernel passthrough for an ordinary user, lent by scrim-broker, and what the broker does not lend itself to."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import harness
import pytest

DONE, SYSTEM_ERROR, NOT_REGULAR, NOT_READ_WRITE, OUTSIDE = 0, 1, 5, 6, 7
BROKER = Path(os.environ.get("SCRIM_BROKER", harness.SCRIM.parent / "scrim-broker"))


@pytest.fixture
def broker(monkeypatch):
    """The broker as it is installed: with its file capability, which a folder in memory may not allow."""
    with tempfile.TemporaryDirectory(prefix="scrim-broker.", dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copy(BROKER, folder)
        subprocess.run(
            ["setcap", "cap_sys_admin+p", copy], check=True, env={"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"}
        )
        monkeypatch.setenv("SCRIM_BROKER", copy)
        yield copy


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        found += Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    return [int(child) for child in found]


def as_user(user, script, *arguments):
    return harness.run("sh", "-ec", script, "sh", *arguments, user=user, group=user, extra_groups=[], cwd="/").stdout


def test_an_ordinary_users_plain_files_are_served_by_the_kernel(workspace, broker, unprivileged):
    mount = workspace.vault(user=unprivileged).mount()
    status = mount.status()
    assert status["passthrough"]["state"] == "kernel", status["passthrough"]
    folder = mount / "media"
    as_user(unprivileged, "mkdir $1", folder)
    harness.scrim("mark", folder, "--content", "plain", user=unprivileged)
    data = as_user(unprivileged, "head -c 3000000 /dev/urandom >$1/film; cat $1/film", folder)
    after = mount.status()
    assert len(data) == 3000000
    assert after["passthrough"]["opens"] > status["passthrough"]["opens"]
    assert (after["plain"]["userspaceReads"], after["plain"]["userspaceWrites"]) == (0, 0)
    lines = dict(line.split(":\t", 1) for line in Path(f"/proc/{mount.pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(lines["CapPrm"], 16) == 0 and int(lines["CapEff"], 16) == 0
    mount.stop()


def test_the_broker_ends_with_the_mount_and_with_a_killed_daemon(workspace, broker, unprivileged):
    vault = workspace.vault(user=unprivileged)
    mount = vault.mount()
    [helper] = children(mount.pid)
    mount.stop()
    harness.wait_for(lambda: not harness.alive(helper), "the broker to end")
    mount.start()
    [helper] = children(mount.pid)
    mount.kill()
    harness.wait_for(lambda: not harness.alive(helper), "the broker to end")
    with pytest.raises(OSError) as caught:
        os.stat(mount.point)
    assert caught.value.errno in (errno.ENOTCONN, errno.EACCES)
    harness.scrim("umount", mount.point, user=unprivileged)


def test_a_compromised_daemon_writes_nothing_its_user_could_not(workspace, broker, unprivileged):
    vault, point = workspace.path / "vault", workspace.path / "mnt"
    for folder in (vault, point):
        folder.mkdir()
        os.chown(folder, unprivileged, unprivileged)
    (vault / "scrim.vault").write_bytes(b"SCRIMVLT and the rest")
    foreign = vault / "foreign"
    foreign.write_bytes(b"root's own words")
    os.chmod(foreign, 0o644)
    script = Path(__file__).with_name("compromised.py").read_bytes()
    result = harness.run(
        sys.executable, "-", broker, vault, point, foreign,
        input=script, user=unprivileged, group=unprivileged, extra_groups=[], cwd="/",
    )  # fmt: skip
    answers = json.loads(result.stdout)
    assert answers.pop("greeting") == [DONE, 0]
    # What it might write it gets, so the refusals are not for want of a working broker.
    kind, backing_id = answers.pop("own")
    assert kind == DONE and backing_id > 0
    assert answers.pop("returned")[0] == DONE
    assert answers == {
        "foreign read-only": [NOT_READ_WRITE, 0],
        "foreign path": [NOT_READ_WRITE, 0],
        "append-only": [NOT_READ_WRITE, 0],
        "elsewhere": [OUTSIDE, 0],
        "directory": [NOT_REGULAR, 0],
        "pipe": [NOT_REGULAR, 0],
        "socket": [NOT_REGULAR, 0],
        "memory": [OUTSIDE, 0],
        "device": [NOT_REGULAR, 0],
        "foreign writable": False,
        "without the broker": errno.EPERM,
        "traced": -1,
        "memory open": errno.EACCES,
        "too many": [30, SYSTEM_ERROR, errno.EMFILE],
        "again": DONE,
        "ran": "nothing",
        "status": 0,
    }
    assert foreign.read_bytes() == b"root's own words"

"""The same with passthrough impossible: as an ordinary user, and switched off by an option."""

import os

import pytest
import trees
from harness import run, scrim, seeded


def exercise(workspace, mount, rng, **options):
    """A tree in sealed and in plain form, written, remounted, compared."""
    script = (
        "mkdir -p sealed plain && setfattr -n user.scrim.policy -v plain plain && "
        "cp -a ../source/. sealed/ && cp -a ../source/. plain/ && "
        "printf more >> plain/size-4097 && truncate -s 5000 plain/size-8191"
    )
    source = workspace.path / "source"
    trees.build(source, rng, files=700)
    if mount.user:
        run("chown", "-R", "-h", f"{mount.user}:{mount.user}", source)

    def shell(words):
        # The shell enters the mount itself: its user may, root perhaps may not.
        run("sh", "-ec", 'cd "$0"; ' + words, mount.point, cwd="/", timeout=300, **options)

    shell(script)
    mount.remount()
    shell("diff -r --no-dereference -x fifo ../source sealed")
    shell("printf more >> ../source/size-4097; truncate -s 5000 ../source/size-8191")
    shell("diff -r --no-dereference -x fifo ../source plain")


@pytest.mark.limit(300)
def test_without_passthrough_by_option(workspace):
    vault = workspace.vault()
    with vault.mount("passthrough=off") as mount:
        exercise(workspace, mount, seeded("fallback"))
        status = mount.status()
        assert status["passthrough"]["state"] == "userspace" and "option" in status["passthrough"]["reason"]
        assert status["passthrough"]["opens"] == 0
        (mount / "plain" / "counted").write_bytes(b"counted")
        assert (mount / "plain" / "counted").read_bytes() == b"counted"
        after = mount.status()["plain"]
        assert after["userspaceWrites"] > status["plain"]["userspaceWrites"]


@pytest.mark.limit(300)
def test_as_an_ordinary_user(workspace, unprivileged):
    os.chmod(workspace.path, 0o777)
    vault = workspace.vault(user=unprivileged)
    with vault.mount() as mount:
        user = {"user": unprivileged, "group": unprivileged, "extra_groups": []}
        exercise(workspace, mount, seeded("unprivileged"), **user)
        state = mount.status()["passthrough"]
        assert state["state"] == "userspace" and state["reason"]
        assert state["reason"] in mount.start_output
        # Not even root sees an ordinary user's mount.
        with pytest.raises(PermissionError):
            os.listdir(mount.point)
    scrim("info", vault.path)

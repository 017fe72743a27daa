"""The backing filesystem fails what is done to directories: the request says so, what was there stays, the daemon goes on."""

import errno
import mmap
import os
import struct
from pathlib import Path

import harness
import pytest
from harness import run, scrim
from test_hostile_directories import refused

LIST, MKDIR, RENAME, SYNC, UNLINK, SYMLINK, LINK, CREATE, LOCK = (1 << bit for bit in range(9))
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENOMEM)


class Failures:
    """Which calls of the daemon fail: the head of failing.c."""

    def __init__(self, folder, monkeypatch):
        library, control = folder / "failing.so", folder / "failures"
        run("gcc", "-O1", "-shared", "-fPIC", "-o", library, Path(__file__).with_name("failing.c"), "-ldl")
        control.write_bytes(bytes(mmap.PAGESIZE))
        with open(control, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        monkeypatch.setenv("SCRIM_TEST_FAILURES", str(control))
        monkeypatch.setenv("LD_PRELOAD", str(library))

    def begin(self, kinds, error=0):
        self.memory[:12] = struct.pack("<IiI", kinds, error, 0)

    def during(self, kinds, error, what, *arguments):
        """What a call fails with while those kinds fail; nothing else may have failed before it."""
        self.begin(kinds, error)
        try:
            return refused(what, *arguments)
        finally:
            failed = struct.unpack("<I", self.memory[8:12])[0]
            self.begin(0)
            harness.count("failing calls on directories", failed)
            assert failed, "nothing has failed"


@pytest.fixture
def failing(vault, workspace, monkeypatch):
    failures = Failures(workspace.path, monkeypatch)
    with vault.mount() as mount:
        for folder in ("dir", "empty"):
            (mount / folder).mkdir()
        for name in ("file", "other", "dir/inner"):
            (mount / name).write_bytes(name.encode() * 1000)
        (mount / "link").symlink_to("target")
        yield mount, failures
    monkeypatch.delenv("LD_PRELOAD")
    assert scrim("check", vault.path, "--deep", "--passphrase-file", vault.passphrase_file).returncode == harness.OK


def state(mount):
    found = {}
    for root, folders, files in os.walk(mount.point):
        for name in folders + files:
            path = Path(root, name)
            key = os.path.relpath(path, mount.point)
            found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
    return found


def sync_folder(path):
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def list_anew(path):
    """A listing that the kernel has not kept."""
    os.close(os.open(path / "passing", os.O_CREAT | os.O_WRONLY))
    os.unlink(path / "passing")
    os.listdir(path)


OPERATIONS = {
    "list": (LIST, lambda at: list_anew(at / "dir")),
    "mkdir": (MKDIR, lambda at: os.mkdir(at / "new")),
    "place a new directory": (RENAME, lambda at: os.mkdir(at / "new")),
    "rename": (RENAME, lambda at: os.rename(at / "file", at / "dir/file")),
    "rename over": (RENAME, lambda at: os.rename(at / "file", at / "other")),
    "rename a directory": (RENAME, lambda at: os.rename(at / "dir", at / "moved")),
    "rename a directory over another": (RENAME, lambda at: os.rename(at / "dir", at / "empty")),
    "rename a link": (RENAME, lambda at: os.rename(at / "link", at / "dir/link")),
    "fsync": (SYNC, lambda at: sync_folder(at / "dir")),
    "create": (CREATE, lambda at: os.close(os.open(at / "new", os.O_CREAT | os.O_WRONLY))),
    "unlink": (UNLINK, lambda at: os.unlink(at / "file")),
    "rmdir": (RENAME, lambda at: os.rmdir(at / "empty")),
    "symlink": (SYMLINK, lambda at: os.symlink("target", at / "new")),
    "link": (LINK, lambda at: os.link(at / "file", at / "new")),
    "mark": (CREATE, lambda at: os.setxattr(at / "dir", "user.scrim.policy", b"compressed")),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failing_call_is_reported_and_changes_nothing(failing, operation):
    mount, failures = failing
    kinds, act = OPERATIONS[operation]
    before = state(mount)
    for error in ERRORS:
        assert failures.during(kinds, error, act, mount.point) == errno.errorcode[error]
        assert state(mount) == before
    assert refused(act, mount.point) is None
    assert mount.status()["pid"] == mount.pid
    after = state(mount)
    mount.remount()
    assert state(mount) == after


def test_a_renamed_link_does_not_wait_for_its_leftovers(vault, workspace, monkeypatch):
    """Once it has its new name, it has lost the old one."""
    failures = Failures(workspace.path, monkeypatch)
    with vault.mount() as mount:
        (mount / "dir").mkdir()
        for name in ("link", "other"):
            (mount / name).symlink_to(f"target of {name}")
        for new in ("new", "dir/new", "other"):
            assert failures.during(UNLINK, errno.EIO, os.rename, mount / "link", mount / new) is None
            assert not (mount / "link").is_symlink() and os.readlink(mount / new) == "target of link"
            os.rename(mount / new, mount / "link")
    monkeypatch.delenv("LD_PRELOAD")
    secret = ["--passphrase-file", vault.passphrase_file]
    assert scrim("check", vault.path, "--repair", *secret, check=False).returncode == harness.HARMLESS
    assert scrim("check", vault.path, *secret).returncode == harness.OK


def test_a_listing_that_fails_half_way_is_no_short_listing(failing):
    """An error in the middle must not look like the end of the directory."""
    mount, failures = failing
    names = [f"{number:04} {'n' * 60}" for number in range(2000)]
    for name in names:
        (mount / "empty" / name).touch()
    with os.scandir(mount / "empty") as listing:
        seen = [next(listing).name for _ in range(10)]

        def rest():
            seen.extend(entry.name for entry in listing)

        assert failures.during(LIST, errno.EIO, rest) == "EIO"
    assert len(seen) < len(names)
    assert sorted(os.listdir(mount / "empty")) == names


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_folder_without_locks_is_used_and_said_to_be_unprotected(vault, workspace, monkeypatch, error):
    Failures(workspace.path, monkeypatch).begin(LOCK, error)
    with vault.mount() as mount:
        assert "no file locks" in mount.start_output
        (mount / "file").write_bytes(b"content")
        assert (mount / "file").read_bytes() == b"content"
    assert vault.cat("file").stdout == b"content"
    with vault.mount() as mount:
        assert (mount / "file").read_bytes() == b"content"

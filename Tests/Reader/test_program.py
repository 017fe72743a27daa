"""Reads vaults that the program has just written, by the format alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from scrim_reader import Vault, WrongSecret, compare_with_mount  # noqa: E402
from scrim_reader.header import recovery_key  # noqa: E402

SCRIM = os.environ.get("SCRIM", str(HERE.parent.parent / ".build/release/scrim"))
PASSPHRASE = b"correct horse battery staple"
SEED = int(os.environ.get("SCRIM_SEED", "20240601"))
TIMEOUT = 120

needs_program = pytest.mark.skipif(not os.access(SCRIM, os.X_OK), reason="no program at " + SCRIM)
needs_mount = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="/dev/fuse cannot be opened"
)


def scrim(*words):
    line = [SCRIM, *map(os.fspath, words)]
    result = subprocess.run(line, capture_output=True, timeout=TIMEOUT, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, (line, result.stderr[-2000:])
    return result.stdout


class Workspace:
    """One vault and its mount point in a folder of their own."""

    def __init__(self, path):
        self.path = Path(path)
        self.vault, self.point = self.path / "vault", self.path / "mount"
        self.passphrase, self.recovery = self.path / "passphrase", self.path / "recovery"
        self.passphrase.write_bytes(PASSPHRASE + b"\n")
        self.point.mkdir()

    def init(self, content, names):
        scrim("init", self.vault, "--passphrase-file", self.passphrase, "--recovery-file",
              self.recovery, "--kdf-cost", "low", "--content", content, "--names", names)

    def __enter__(self):
        scrim("mount", self.vault, self.point, "--passphrase-file", self.passphrase)
        return self.point

    def __exit__(self, *_):
        scrim("umount", self.point)


@pytest.fixture
def workspace():
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    base = os.environ.get("SCRIM_TEST_ROOT", memory)
    made = Workspace(tempfile.mkdtemp(prefix="scrim-program.", dir=base))
    yield made
    if os.path.ismount(made.point):
        subprocess.run(["fusermount3", "-u", "-z", made.point], timeout=TIMEOUT)
    shutil.rmtree(made.path)


def plant(top, rng):
    """A small tree with one of everything that is worth reading back."""
    os.mkdir(top)
    sizes = [0, 1, 3888, 3904, 3905, 4096, 4097, 8192, 131071, 131072, 131073, 400001]
    for size in sizes:
        (top / ("random %d" % size)).write_bytes(rng.randbytes(size))
        (top / ("text %d" % size)).write_bytes((b"some text %d\n" % size * size)[:size])
    with open(top / "holes", "wb") as file:
        for offset in (0, 500_000, 60_000_000):
            file.seek(offset)
            file.write(b"data")
        file.truncate(70_000_001)
    for name in (b"n" * 255, b"o" * 161, b"\xff\xfe\n", b".scrim-x", b"x.scrim-c", b".scrim-x.scrim-c"):
        Path(os.fsdecode(os.path.join(os.fsencode(top), name))).write_bytes(name)
    deep = top / "a" / ("d" * 255) / "c"
    deep.mkdir(parents=True)
    (deep / "deep").write_bytes(b"deep")
    (top / "empty folder").mkdir(mode=0o711)
    os.link(top / "text 4097", deep / "second name")
    os.link(top / "text 1", top / "text one")
    os.symlink("a/../text 1", top / "link")
    os.symlink("/" + "far/" * 1000, top / "far link")
    os.symlink(".scrim-l.not sealed", deep / "odd link")
    os.mkfifo(top / "fifo", 0o640)
    os.chmod(top / "random 1", 0o4711)
    for path in (top / "random 1", top / "random 400001", deep):
        os.setxattr(path, b"user.comment", b"a value of " + os.fsencode(path.name)[:9])
        os.setxattr(path, b"user.empty", b"")
    for folder, folders, files in os.walk(top, topdown=False):
        for name in files + folders + ["."]:
            stamp = rng.randrange(10**18, 17 * 10**17)
            path = os.path.join(folder, name)
            os.utime(path, ns=(stamp, stamp), follow_symlinks=False)


@needs_program
@needs_mount
@pytest.mark.parametrize("names", ["sealed", "plain"])
@pytest.mark.parametrize("content", ["sealed", "compressed", "sealed-compressed"])
def test_reads_what_was_copied_into_a_mount(content, names, workspace):
    print("SCRIM_SEED=%d" % SEED)
    source = workspace.path / "source"
    plant(source, random.Random("%d %s %s" % (SEED, content, names)))
    workspace.init(content, names)
    with workspace as point:
        subprocess.run(["cp", "-a", "%s/." % source, point], check=True, timeout=TIMEOUT)
    compare_with_mount(workspace.vault, PASSPHRASE, source)


@needs_program
@needs_mount
def test_reads_what_was_changed_in_several_sessions(workspace):
    rng = random.Random("%d sessions" % SEED)
    workspace.init("sealed", "sealed")
    source = workspace.path / "source"
    plant(source, rng)
    for _ in range(3):
        with workspace as point:
            subprocess.run(["cp", "-a", "%s/." % source, point], check=True, timeout=TIMEOUT)
            for top in (source, point):
                change(top, random.Random(1))
        # Times are set apart: the two changes did not happen at the same moment.
        with workspace as point:
            copy_times(source, point)
        compare_with_mount(workspace.vault, PASSPHRASE, source)


def copy_times(source, point):
    """Gives everything in a mount the times that it has in the source."""
    for folder, folders, files in os.walk(source, topdown=False):
        for name in files + folders + ["."]:
            path = os.path.join(folder, name)
            stamp = os.lstat(path).st_mtime_ns
            copy = point / os.path.relpath(path, source)
            os.utime(copy, ns=(stamp, stamp), follow_symlinks=False)


def change(top, rng):
    """Writes inside, cuts, and renames; the same in both trees."""
    with open(top / "random 131073", "r+b") as file:
        for _ in range(20):
            file.seek(rng.randrange(140_000))
            file.write(rng.randbytes(rng.randrange(9000)))
    os.truncate(top / "text 400001", 100)
    os.truncate(top / "text 8192", 100_000)
    os.truncate(top / "holes", 600_000)
    os.rename(top / "random 4096", top / "a" / "renamed")
    os.rename(top / "a" / "renamed", top / "random 4096")
    os.rename(top / "a", top / "b")
    os.rename(top / "b", top / "a")
    os.replace(top / "random 1", top / "random 1")


@needs_program
@needs_mount
def test_reads_what_a_killed_daemon_left(workspace):
    source = workspace.path / "source"
    plant(source, random.Random("%d killed" % SEED))
    workspace.init("sealed-compressed", "sealed")
    point = workspace.__enter__()
    subprocess.run(["cp", "-a", "%s/." % source, point], check=True, timeout=TIMEOUT)
    os.kill(json.loads(scrim("status", point, "--json"))["pid"], signal.SIGKILL)
    subprocess.run(["fusermount3", "-u", "-z", point], check=True, timeout=TIMEOUT)
    compare_with_mount(workspace.vault, PASSPHRASE, source)


@needs_program
@needs_mount
def test_reads_directories_of_other_policies(workspace):
    source = workspace.path / "source"
    workspace.init("sealed", "sealed")
    os.mkdir(source)
    with workspace as point:
        for content in ("plain", "sealed", "compressed", "sealed-compressed"):
            for names in ("plain", "sealed"):
                for top in (source, point):
                    os.mkdir(top / (content + names))
                scrim("mark", point / (content + names), "--content", content, "--names", names)
                for top in (source, point):
                    os.mkdir(top / (content + names) / "inner")
                    (top / (content + names) / "inner" / "file").write_bytes(b"in " * 3000)
                    os.symlink("target", top / (content + names) / "link")
        copy_times(source, point)
    compare_with_mount(workspace.vault, PASSPHRASE, source)
    native = workspace.vault / "tree"
    found = subprocess.run(["grep", "-rlaF", "in in in", native], capture_output=True, timeout=TIMEOUT)
    # Plain content under plain and under sealed names: nothing else shows its text.
    assert found.stdout.count(b"\n") == 2


@needs_program
def test_opens_with_the_passphrase_and_the_recovery_key_only(workspace):
    workspace.init("sealed", "sealed")
    assert Vault(workspace.vault, PASSPHRASE).verify() == []
    key = recovery_key(workspace.recovery.read_text().strip().split("\n")[-1])
    assert Vault(workspace.vault, key, kinds=(3,)).verify() == []
    with pytest.raises(WrongSecret):
        Vault(workspace.vault, PASSPHRASE + b"!")

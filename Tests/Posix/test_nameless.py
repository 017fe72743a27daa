"""What lives on without a name, because someone still holds it."""

import errno
import os
import stat

import pytest

from .calls import AT_FDCWD, RENAME_EXCHANGE, futimens, linkat, renameat2
from .place import FILE_TYPES
from .users import ALICE, raises, run_as

# How each type is held without needing what is behind it.
HOLDS = {
    "regular": (os.O_RDONLY, os.O_RDWR), "dir": (os.O_RDONLY, os.O_PATH),
    "fifo": (os.O_RDWR, os.O_RDONLY | os.O_NONBLOCK, os.O_PATH), "socket": (os.O_PATH,),
    "block": (os.O_PATH,), "char": (os.O_PATH,), "symlink": (os.O_PATH,),
}
CASES = [(kind, flags) for kind, ways in HOLDS.items() for flags in ways]


def take_away(kind, path, how, other):
    if how == "remove":
        (os.rmdir if kind == "dir" else os.unlink)(path)
    else:
        os.rename(other, path)


@pytest.mark.parametrize("how", ("remove", "replace"))
@pytest.mark.parametrize("kind,flags", CASES)
def test_an_open_file_without_a_name_has_attributes(fs, kind, flags, how):
    path, other = fs.make(kind, "held", 0o640), fs.make(kind, "other", 0o600)
    fd = os.open(path, flags | os.O_NOFOLLOW)
    before = os.fstat(fd)
    take_away(kind, path, how, other)
    after = os.fstat(fd)
    assert after.st_nlink == 0
    assert (after.st_ino, after.st_mode, after.st_size if kind != "dir" else 0) == (
        before.st_ino, before.st_mode, before.st_size if kind != "dir" else 0)
    if flags & os.O_PATH == 0:
        os.fchmod(fd, 0o751)
        os.fchown(fd, ALICE.uid, ALICE.gid)
        futimens(fd, (5, 6), (7, 8))
        changed = os.fstat(fd)
        assert stat.S_IMODE(changed.st_mode) == 0o751
        assert (changed.st_uid, changed.st_gid) == (ALICE.uid, ALICE.gid)
        assert (changed.st_atime_ns, changed.st_mtime_ns) == (5 * 10**9 + 6, 7 * 10**9 + 8)
        assert changed.st_nlink == 0
    if kind == "symlink":
        assert os.readlink("", dir_fd=fd) == "nowhere"
    os.close(fd)


def test_a_held_fifo_still_carries_data(fs):
    path = fs.make("fifo")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    os.mkfifo(path)
    assert os.fstat(fd).st_nlink == 0 and os.stat(path).st_nlink == 1
    assert os.fstat(fd).st_ino != os.stat(path).st_ino
    os.write(fd, b"data")
    assert os.read(fd, 10) == b"data"
    os.close(fd)


@pytest.mark.smoke
def test_a_working_directory_without_a_name(fs):
    path = fs.mkdir()
    os.chdir(path)
    os.rmdir(path)
    assert os.stat(".").st_nlink == 0
    assert os.listdir(".") == []
    with raises(errno.ENOENT):
        os.getcwd()
    for make in (lambda: os.mkdir("new"), lambda: os.mknod("new"), lambda: os.symlink("x", "new"),
                 lambda: os.close(os.open("new", os.O_CREAT | os.O_WRONLY))):
        with raises(errno.ENOENT):
            make()
    with raises(errno.ENOENT):
        os.stat("missing")
    os.chmod(".", 0o711)
    assert stat.S_IMODE(os.stat(".").st_mode) == 0o711
    os.mkdir(path)
    assert os.stat(path).st_ino != os.stat(".").st_ino
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o755


def test_a_directory_whose_parents_went_too(fs):
    fs.mkdir("a")
    fs.mkdir("a/b")
    fs.make("fifo", "a/b/fifo")
    held = os.open(fs / "a/b", os.O_RDONLY | os.O_DIRECTORY)
    fifo = os.open(fs / "a/b/fifo", os.O_RDWR)
    os.unlink(fs / "a/b/fifo")
    os.rmdir(fs / "a/b")
    os.rmdir(fs / "a")
    assert os.fstat(held).st_nlink == 0 and os.fstat(fifo).st_nlink == 0
    assert stat.S_ISFIFO(os.fstat(fifo).st_mode)
    assert os.listdir(held) == []
    os.close(held)
    os.close(fifo)


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_what_is_held_while_exchanged_keeps_its_name(fs, kind):
    path, other = fs.make(kind, "held"), fs.mkdir("other")
    fd = os.open(path, os.O_PATH | os.O_NOFOLLOW)
    renameat2(path, other, RENAME_EXCHANGE)
    assert os.fstat(fd).st_nlink >= 1
    assert os.fstat(fd).st_ino == os.lstat(other).st_ino
    os.close(fd)


def test_one_name_less_is_not_the_last(fs):
    path = fs.make("fifo", "first")
    os.link(path, fs / "second")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    assert os.fstat(fd).st_nlink == 1
    os.unlink(fs / "second")
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def test_an_unlinked_file_cannot_be_named_again(fs):
    path = fs.file(data=b"content")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    with raises(errno.ENOENT):
        linkat(AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, fs / "again", 0x400)
    os.close(fd)


def test_a_file_larger_than_two_gibibytes(fs):
    path = fs / "large"
    fd = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    for offset in (2**31 - 3, 2**32 - 3, 2**33):
        assert os.pwrite(fd, b"across", offset) == 6
        assert os.pread(fd, 10, offset) == b"across"
        assert os.fstat(fd).st_size == offset + 6
    assert os.lseek(fd, 0, os.SEEK_END) == 2**33 + 6
    os.ftruncate(fd, 2**32)
    assert os.pread(fd, 10, 2**32 - 3) == b"acr"
    os.truncate(path, 2**31 + 1)
    assert os.stat(path).st_size == 2**31 + 1
    assert os.pread(fd, 10, 2**31 - 3) == b"acro"
    os.unlink(path)
    os.close(fd)


def test_changes_of_a_file_without_a_name_by_another_user_are_judged_as_ever(fs):
    fs.file("file", mode=0o600)
    fd = os.open(fs / "file", os.O_RDWR)
    os.unlink(fs / "file")

    def try_as_alice():
        with raises(errno.EPERM):
            os.fchmod(fd, 0o777)
        os.write(fd, b"x")

    run_as(ALICE, try_as_alice)
    assert os.pread(fd, 5, 0) == b"x"
    os.close(fd)

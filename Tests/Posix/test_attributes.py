"""Extended attributes."""

import ctypes
import errno
import os
import struct

import pytest

from .place import moved_times, read, with_fd
from .users import ALICE, BOB, raises, refused, run_as

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE


@pytest.mark.smoke
@pytest.mark.parametrize("kind", ("regular", "dir"))
def test_attributes_are_kept_byte_for_byte(fs, kind):
    path = fs.make(kind)
    values = {"user.empty": b"", "user.one": b"1", "user.binary": bytes(range(256)),
              "user.long": b"v" * 1000, "user.weird name/with=signs": b"x",
              "user." + "n" * 100: b"y",
              "trusted.secret": b"t", "user.grüße": b"utf"}
    for name, value in values.items():
        os.setxattr(path, name, value)
    for name, value in values.items():
        assert os.getxattr(path, name) == value
    assert set(os.listxattr(path)) == set(values)
    os.setxattr(path, "user.one", b"replaced by more")
    assert os.getxattr(path, "user.one") == b"replaced by more"
    for name in values:
        os.removexattr(path, name)
    assert os.listxattr(path) == []


@pytest.mark.smoke
def test_create_and_replace_mean_what_they_say(fs):
    path = fs.file()
    with raises(errno.ENODATA):
        os.setxattr(path, "user.k", b"v", REPLACE)
    os.setxattr(path, "user.k", b"1", CREATE)
    with raises(errno.EEXIST):
        os.setxattr(path, "user.k", b"2", CREATE)
    assert os.getxattr(path, "user.k") == b"1"
    os.setxattr(path, "user.k", b"3", REPLACE)
    assert os.getxattr(path, "user.k") == b"3"


def test_missing_attributes_are_enodata(fs):
    path = fs.file()
    with raises(errno.ENODATA):
        os.getxattr(path, "user.none")
    with raises(errno.ENODATA):
        os.removexattr(path, "user.none")
    with raises(errno.ENODATA):
        os.getxattr(path, "security.capability")


def test_unknown_namespaces_are_refused(fs):
    path = fs.file()
    for name in ("nonsense.x", "plain", "user"):
        with raises(errno.EOPNOTSUPP):
            os.setxattr(path, name, b"v")
    with raises(errno.ERANGE):
        os.setxattr(path, "user." + "n" * 300, b"v")


def sized(path, name, size):
    """getxattr with a buffer of `size` bytes, by the system call itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(max(size, 1))
    got = libc.getxattr(os.fsencode(path), name.encode(), buffer, ctypes.c_size_t(size))
    if got < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return got


def test_a_small_buffer_is_erange_and_none_asks_for_the_size(fs):
    path = fs.file()
    os.setxattr(path, "user.k", b"v" * 100)
    assert sized(path, "user.k", 0) == 100
    assert sized(path, "user.k", 100) == 100
    assert sized(path, "user.k", 200) == 100
    with raises(errno.ERANGE):
        sized(path, "user.k", 99)


def test_an_attribute_that_is_too_big_is_refused(fs):
    path = fs.file()
    with raises(errno.ENOSPC, errno.E2BIG, errno.EDQUOT):
        os.setxattr(path, "user.k", b"v" * 65536)
    with raises(errno.E2BIG):
        os.setxattr(path, "user.k", b"v" * 65537)
    assert os.listxattr(path) == []


def test_many_attributes_fit_until_there_is_no_space(fs):
    path = fs.file()
    kept = 0
    for number in range(200):
        try:
            os.setxattr(path, f"user.attribute{number:03d}", b"v" * 40)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            break
        kept += 1
    assert kept >= 20
    assert len(os.listxattr(path)) == kept
    assert all(os.getxattr(path, f"user.attribute{n:03d}") == b"v" * 40 for n in range(kept))


@pytest.mark.smoke
def test_attributes_follow_the_inode(fs):
    path = fs.file(data=b"x")
    os.setxattr(path, "user.k", b"v")
    os.link(path, fs / "second")
    os.setxattr(fs / "second", "user.l", b"w")
    fs.mkdir("sub")
    os.rename(path, fs / "sub/moved")
    assert os.getxattr(fs / "sub/moved", "user.l") == b"w"
    assert os.getxattr(fs / "second", "user.k") == b"v"
    fd = os.open(fs / "second", os.O_RDWR)
    os.pwrite(fd, b"y" * 10_000, 0)
    os.fsync(fd)
    os.setxattr(fd, "user.m", b"x")
    os.close(fd)
    os.truncate(fs / "second", 5)
    assert sorted(os.listxattr(fs / "sub/moved")) == ["user.k", "user.l", "user.m"]


def test_attributes_survive_a_rename_of_the_directory(fs):
    folder = fs.mkdir()
    os.setxattr(folder, "user.k", b"v")
    fs.file("dir/f")
    os.setxattr(fs / "dir/f", "user.k", b"w")
    os.rename(folder, fs / "renamed")
    assert os.getxattr(fs / "renamed", "user.k") == b"v"
    assert os.getxattr(fs / "renamed/f", "user.k") == b"w"


def test_user_attributes_need_permission_on_the_file(fs):
    path = fs.file(mode=0o640, owner=ALICE)
    os.setxattr(path, "user.k", b"v")
    refused(BOB, errno.EACCES, os.getxattr, path, "user.k")
    refused(BOB, errno.EACCES, os.setxattr, path, "user.k", b"x")
    run_as(ALICE, os.setxattr, path, "user.k", b"x")
    os.chmod(path, 0o644)
    assert run_as(BOB, os.getxattr, path, "user.k") == b"x"
    refused(BOB, errno.EACCES, os.removexattr, path, "user.k")


def test_user_attributes_are_for_files_and_directories_only(fs):
    for kind in ("fifo", "char", "block", "socket"):
        with raises(errno.EPERM):
            os.setxattr(fs.make(kind, kind), "user.k", b"v")
    os.symlink("x", fs / "link")
    with raises(errno.EPERM):
        os.setxattr(fs / "link", "user.k", b"v", follow_symlinks=False)


def test_trusted_attributes_work_on_every_type(fs):
    for kind in ("fifo", "char", "socket", "symlink"):
        path = fs.make(kind, kind)
        os.setxattr(path, "trusted.k", b"v", follow_symlinks=False)
        assert os.getxattr(path, "trusted.k", follow_symlinks=False) == b"v"
        assert os.listxattr(path, follow_symlinks=False) == ["trusted.k"]


def test_trusted_attributes_are_roots_alone(fs):
    path = fs.file(mode=0o666, owner=ALICE)
    os.setxattr(path, "trusted.k", b"v")
    refused(ALICE, errno.EPERM, os.setxattr, path, "trusted.k", b"x")
    refused(ALICE, errno.ENODATA, os.getxattr, path, "trusted.k")
    assert run_as(ALICE, os.listxattr, path) == []


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


@pytest.mark.smoke
def test_file_capabilities_are_kept_and_dropped_by_a_write(fs):
    path = fs.file(data=b"program", mode=0o777)
    os.setxattr(path, "security.capability", CAPABILITY)
    assert os.getxattr(path, "security.capability") == CAPABILITY
    run_as(ALICE, with_fd, path, os.O_WRONLY, _write_one)
    with raises(errno.ENODATA):
        os.getxattr(path, "security.capability")
    assert read(path) == b"Xrogram"


def _write_one(fd):
    os.pwrite(fd, b"X", 0)


@pytest.mark.parametrize("how", ("chown", "truncate"))
def test_file_capabilities_are_dropped_by_chown_and_truncate(fs, how):
    path = fs.file(data=b"program", mode=0o777)
    os.setxattr(path, "security.capability", CAPABILITY)
    if how == "chown":
        os.chown(path, 5, 5)
    else:
        os.truncate(path, 3)
    with raises(errno.ENODATA):
        os.getxattr(path, "security.capability")


def test_setting_an_attribute_moves_ctime_only(fs):
    path = fs.file()
    assert moved_times(path, os.setxattr, path, "user.k", b"v") == {"c"}
    assert moved_times(path, os.getxattr, path, "user.k") == set()
    assert moved_times(path, os.removexattr, path, "user.k") == {"c"}


@pytest.mark.smoke
def test_nothing_of_the_vaults_own_shows(fs):
    fs.mkdir("d")
    os.symlink("x" * 4095, fs / "link")
    for path in (fs.file(data=b"x" * 100), fs.file("n" * 255), fs / "d", fs / "link"):
        names = os.listxattr(path, follow_symlinks=False)
        assert [name for name in names if "scrim" in name] == []

"""chmod, and what happens to the set-ID bits."""

import errno
import mmap
import os
import stat

import pytest

from .calls import KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE, fallocate
from .place import FILE_TYPES, NOT_SYMLINK, mode, moved_times, write
from .users import ALICE, BOB, CAROL, refused, run_as


@pytest.mark.smoke
@pytest.mark.parametrize("kind", NOT_SYMLINK)
def test_chmod_sets_every_permission_bit(fs, kind):
    path = fs.make(kind)
    for bits in (0o000, 0o111, 0o755, 0o4711, 0o2755, 0o1777, 0o6070, 0o7777, 0o640):
        os.chmod(path, bits)
        assert mode(path) == bits


@pytest.mark.parametrize("kind", NOT_SYMLINK)
def test_chmod_moves_ctime_only(fs, kind):
    path = fs.make(kind)
    assert moved_times(path, os.chmod, path, 0o711) == {"c"}


@pytest.mark.parametrize("kind", NOT_SYMLINK)
def test_chmod_to_the_same_mode_moves_ctime(fs, kind):
    path = fs.make(kind, mode=0o644)
    assert moved_times(path, os.chmod, path, 0o644) == {"c"}


@pytest.mark.parametrize("kind", NOT_SYMLINK)
def test_chmod_by_another_user_is_refused_and_moves_nothing(fs, kind):
    path = fs.make(kind, owner=ALICE)
    assert moved_times(path, refused, BOB, errno.EPERM, os.chmod, path, 0o777) == set()
    assert mode(path) == 0o644


def test_chmod_follows_a_symlink(fs):
    target = fs.file()
    os.symlink(target, fs / "link")
    os.chmod(fs / "link", 0o640)
    assert mode(target) == 0o640


def test_fchmod_works_on_a_read_only_descriptor(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDONLY)
    os.fchmod(fd, 0o2604)
    os.close(fd)
    assert mode(path) == 0o2604


@pytest.mark.parametrize("kind", ("regular", "dir", "fifo"))
def test_chmod_by_an_owner_outside_the_group_drops_setgid(fs, kind):
    path = fs.make(kind, owner=ALICE)
    os.chown(path, ALICE.uid, BOB.gid)
    run_as(ALICE, os.chmod, path, 0o2755)
    assert mode(path) == 0o755


@pytest.mark.parametrize("kind", ("regular", "dir", "fifo"))
def test_chmod_by_an_owner_in_a_supplementary_group_keeps_setgid(fs, kind):
    path = fs.make(kind, owner=CAROL)
    os.chown(path, CAROL.uid, ALICE.gid)
    run_as(CAROL, os.chmod, path, 0o2755)
    assert mode(path) == 0o2755


@pytest.mark.parametrize("kind", ("regular", "dir"))
def test_an_owner_may_set_the_sticky_bit(fs, kind):
    path = fs.make(kind, owner=ALICE)
    run_as(ALICE, os.chmod, path, 0o1755)
    assert mode(path) == 0o1755


def overwrite(path):
    write(path, b"x", os.O_WRONLY)


def append(path):
    write(path, b"x", os.O_WRONLY | os.O_APPEND)


def positioned(path):
    write(path, b"x" * 9000, os.O_RDWR, offset=3)


def open_truncating(path):
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))


def truncate(path):
    os.truncate(path, 5)


def ftruncate(path):
    fd = os.open(path, os.O_WRONLY)
    os.ftruncate(fd, 5)
    os.close(fd)


def direct_fallocate(mode_bits):
    def act(path):
        fd = os.open(path, os.O_RDWR)
        fallocate(fd, mode_bits, 0, 4096)
        os.close(fd)
    return act


WAYS_TO_WRITE = {
    "write": overwrite, "append": append, "pwrite": positioned, "O_TRUNC": open_truncating,
    "truncate": truncate, "ftruncate": ftruncate, "fallocate": direct_fallocate(0),
    "punch hole": direct_fallocate(PUNCH_HOLE | KEEP_SIZE),
    "zero range": direct_fallocate(ZERO_RANGE),
}


@pytest.mark.smoke
@pytest.mark.parametrize("how", WAYS_TO_WRITE)
def test_writing_by_another_user_clears_set_id_bits(fs, how):
    path = fs.file(data=b"12345678", mode=0o6777)
    run_as(ALICE, WAYS_TO_WRITE[how], path)
    assert mode(path) == 0o777


@pytest.mark.parametrize("how", WAYS_TO_WRITE)
def test_writing_by_the_owner_clears_set_id_bits(fs, how):
    path = fs.file(data=b"12345678", mode=0o6777, owner=ALICE)
    run_as(ALICE, WAYS_TO_WRITE[how], path)
    assert mode(path) == 0o777


@pytest.mark.parametrize("how", ("write", "append", "pwrite"))
def test_writing_by_root_keeps_set_id_bits(fs, how):
    path = fs.file(data=b"12345678", mode=0o6777, owner=ALICE)
    WAYS_TO_WRITE[how](path)
    assert mode(path) == 0o6777


def test_writing_keeps_setgid_without_group_execute(fs):
    path = fs.file(data=b"1234", mode=0o2666, owner=ALICE)
    run_as(ALICE, overwrite, path)
    assert mode(path) == 0o2666


def test_set_id_bits_go_again_after_they_were_set_again(fs):
    path = fs.file(data=b"12345678", mode=0o6777)
    fd = os.open(path, os.O_RDWR)

    def write_open():
        os.pwrite(fd, b"y", 0)

    for _ in range(3):
        run_as(ALICE, write_open)
        assert mode(path) == 0o777
        os.chmod(path, 0o6777)
    os.close(fd)


def test_storing_through_a_mapping_works_on_a_set_id_file(fs):
    path = fs.file(data=b"a" * 4096, mode=0o4777)

    def store():
        fd = os.open(path, os.O_RDWR)
        with mmap.mmap(fd, 4096) as pages:
            pages[0] = 98
        os.close(fd)

    run_as(ALICE, store)
    with open(path, "rb") as stream:
        assert stream.read(2) == b"ba"


def test_reading_keeps_set_id_bits(fs):
    path = fs.file(data=b"1234", mode=0o6755)

    def read():
        with open(path, "rb") as stream:
            return stream.read()

    assert run_as(ALICE, read) == b"1234"
    assert mode(path) == 0o6755


@pytest.mark.parametrize("kind", FILE_TYPES)
def test_a_new_node_has_its_type(fs, kind):
    kinds = {"regular": stat.S_ISREG, "dir": stat.S_ISDIR, "fifo": stat.S_ISFIFO,
             "block": stat.S_ISBLK, "char": stat.S_ISCHR, "socket": stat.S_ISSOCK,
             "symlink": stat.S_ISLNK}
    path = fs.make(kind)
    assert kinds[kind](os.lstat(path).st_mode)
    (entry,) = os.scandir(fs.dir)
    assert kinds[kind](entry.stat(follow_symlinks=False).st_mode)
    assert entry.is_dir(follow_symlinks=False) == (kind == "dir")
    assert entry.is_file(follow_symlinks=False) == (kind == "regular")
    assert entry.is_symlink() == (kind == "symlink")


def test_device_numbers_are_kept(fs):
    for kind, bits in (("block", stat.S_IFBLK), ("char", stat.S_IFCHR)):
        for major, minor in ((1, 3), (255, 255), (4000, 1000000)):
            path = fs / f"{kind}{major}"
            os.mknod(path, bits | 0o600, os.makedev(major, minor))
            assert os.lstat(path).st_rdev == os.makedev(major, minor)

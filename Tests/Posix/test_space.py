"""Sizes, blocks, holes, fallocate, seeking, statfs, and limits of a file's size."""

import errno
import fcntl
import os
import resource
import signal

import pytest

from .calls import (COLLAPSE, FICLONE, FS_IOC_FIEMAP, INSERT, KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE,
                    fallocate, is_unsupported)
from .place import moved_times, read, with_fd, write
from .test_files import content
from .users import ALICE, in_child, raises, refused

pytestmark = pytest.mark.content

MIB = 1 << 20


@pytest.mark.smoke
@pytest.mark.parametrize("before,after", ((0, 1), (0, 5000), (10, 3), (5000, 100), (5000, 0),
                                          (5000, 200_000), (200_000, 4096), (200_000, 131_072),
                                          (300_000, 299_999), (100, 100), (0, 10 * MIB)))
def test_truncate_cuts_or_fills_with_zeros(fs, before, after):
    path = fs.file(data=content(before))
    os.truncate(path, after)
    assert os.stat(path).st_size == after
    assert read(path) == content(before)[:after] + bytes(max(0, after - before))


@pytest.mark.smoke
@pytest.mark.parametrize("size", (5, 4000, 5000, 140_000))
def test_what_was_cut_off_does_not_come_back(fs, size):
    path = fs.file(data=b"\xaa" * 300_000)
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, size)
    os.ftruncate(fd, 300_000)
    assert os.pread(fd, 300_000, 0) == b"\xaa" * size + bytes(300_000 - size)
    os.close(fd)
    assert read(path) == b"\xaa" * size + bytes(300_000 - size)


def test_truncate_needs_write_permission(fs):
    path = fs.file(data=b"abc", mode=0o644)
    assert moved_times(path, refused, ALICE, errno.EACCES, os.truncate, path, 1) == set()
    with raises(errno.EISDIR):
        os.truncate(fs.dir, 0)
    with raises(errno.EINVAL):
        os.truncate(path, -1)


@pytest.mark.parametrize("kind", ("fifo", "char", "socket"))
def test_only_regular_files_are_truncated(fs, kind):
    path = fs.make(kind)
    with raises(errno.EINVAL):
        os.truncate(path, 1)


def test_an_immense_size_is_taken_or_refused_without_a_trace(fs):
    path = fs.file(data=b"abc")
    try:
        os.truncate(path, 999_999_999_999_999)
    except OSError as error:
        assert error.errno in (errno.EFBIG, errno.EINVAL)
        assert os.stat(path).st_size == 3
    else:
        assert os.stat(path).st_size == 999_999_999_999_999


@pytest.mark.smoke
def test_a_sparse_file_of_a_terabyte_works(fs):
    path = fs.file()
    far = 1 << 40
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"end", far)
    os.pwrite(fd, b"mid", far // 3)
    os.fsync(fd)
    assert os.fstat(fd).st_size == far + 3
    assert os.pread(fd, 5, far - 2) == b"\0\0end"
    assert os.pread(fd, 5, far // 3 - 1) == b"\0mid\0"
    assert os.pread(fd, 4096, far // 2) == bytes(4096)
    os.close(fd)
    assert os.stat(path).st_blocks * 512 < 10 * MIB
    assert with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, 5, far)) == b"end"


@pytest.mark.smoke
def test_blocks_grow_and_shrink_with_the_content(fs):
    path = fs.file(data=content(2 * MIB))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    full = os.fstat(fd).st_blocks * 512
    assert 2 * MIB <= full <= 2.3 * MIB
    os.ftruncate(fd, 100_000)
    os.fsync(fd)
    assert 90_000 <= os.fstat(fd).st_blocks * 512
    if fs.is_plain:
        assert os.fstat(fd).st_blocks * 512 <= 600_000
    os.ftruncate(fd, 0)
    os.fsync(fd)
    # A container gives its end back, once nothing of the commits before lies there.
    for number in range(0 if fs.is_plain else 4):
        os.pwrite(fd, b"%d" % number, 0)
        os.fsync(fd)
    assert os.fstat(fd).st_blocks * 512 <= 64 * 1024
    os.close(fd)


@pytest.mark.contents("compressed", "sealed-compressed")
def test_compressible_content_takes_less_than_its_size(fs):
    path = fs.file(data=b"the same line over and over\n" * 100_000)
    with_fd(path, os.O_RDONLY, os.fsync)
    status = os.stat(path)
    assert status.st_size == 2_800_000
    assert status.st_blocks * 512 < 1_000_000


def data_regions(fd, size):
    """The [start, end) regions that lseek says hold data."""
    regions, at = [], 0
    while at < size:
        try:
            start = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            assert error.errno == errno.ENXIO
            break
        at = os.lseek(fd, start, os.SEEK_HOLE)
        regions.append((start, at))
    return regions


@pytest.mark.smoke
def test_seeking_finds_every_byte_of_data(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    size = 8 * MIB
    os.ftruncate(fd, size)
    written = [0, MIB + 5, 4 * MIB, size - 10]
    for at in written:
        os.pwrite(fd, b"0123456789", at)
    for synced in (False, True):
        if synced:
            os.fsync(fd)
        regions = data_regions(fd, size)
        for at in written:
            assert any(start <= at and at + 10 <= end for start, end in regions)
        assert sum(end - start for start, end in regions) <= 4 * 2 * 131_072
        assert os.lseek(fd, 5 * MIB, os.SEEK_HOLE) == 5 * MIB
    os.close(fd)


def test_seeking_at_the_ends(fs):
    path = fs.file(data=content(10_000))
    fd = os.open(path, os.O_RDONLY)
    assert os.lseek(fd, 0, os.SEEK_DATA) == 0
    assert os.lseek(fd, 9_999, os.SEEK_DATA) == 9_999
    assert os.lseek(fd, 0, os.SEEK_HOLE) == 10_000
    assert os.lseek(fd, 9_999, os.SEEK_HOLE) == 10_000
    for at in (10_000, 20_000):
        for whence in (os.SEEK_DATA, os.SEEK_HOLE):
            with raises(errno.ENXIO):
                os.lseek(fd, at, whence)
    assert os.lseek(fd, -1, os.SEEK_END) == 9_999
    with raises(errno.EINVAL):
        os.lseek(fd, -10_001, os.SEEK_END)
    with raises(errno.EINVAL):
        os.lseek(fd, 0, 99)
    os.close(fd)
    empty = os.open(fs.file("empty"), os.O_RDONLY)
    with raises(errno.ENXIO):
        os.lseek(empty, 0, os.SEEK_DATA)
    os.close(empty)


def test_a_file_of_holes_has_no_data(fs):
    path = fs.file()
    os.truncate(path, 5 * MIB)
    fd = os.open(path, os.O_RDONLY)
    with raises(errno.ENXIO):
        os.lseek(fd, 0, os.SEEK_DATA)
    assert os.lseek(fd, 12345, os.SEEK_HOLE) == 12345
    assert os.pread(fd, 100, 4 * MIB) == bytes(100)
    os.close(fd)


@pytest.mark.smoke
@pytest.mark.parametrize("offset,length", ((0, 4096), (100, 50), (4096, 65536), (5000, 200_000),
                                           (290_000, 50_000), (0, 1_000_000), (131_072, 131_072)))
@pytest.mark.parametrize("how", ("punch", "zero", "zero keep"))
def test_punched_and_zeroed_ranges_read_as_zeros(fs, how, offset, length):
    bits = {"punch": PUNCH_HOLE | KEEP_SIZE, "zero": ZERO_RANGE,
            "zero keep": ZERO_RANGE | KEEP_SIZE}
    model = bytearray(content(300_000))
    path = fs.file(data=model)
    fd = os.open(path, os.O_RDWR)
    fallocate(fd, bits[how], offset, length)
    end = offset + length
    size = max(len(model), end) if how == "zero" else len(model)
    model += bytes(size - len(model))
    stop = min(end, size)
    model[offset:stop] = bytes(stop - offset)
    assert os.fstat(fd).st_size == size
    assert os.pread(fd, size + 10, 0) == bytes(model)
    os.close(fd)
    assert read(path) == bytes(model)


@pytest.mark.contents("ext4", "plain")
def test_a_punched_hole_gives_space_back(fs):
    """A container keeps freed pages for itself, unless they are at its end."""
    path = fs.file(data=content(4 * MIB))
    fd = os.open(path, os.O_RDWR)
    os.fsync(fd)
    before = os.fstat(fd).st_blocks
    fallocate(fd, PUNCH_HOLE | KEEP_SIZE, MIB, 2 * MIB)
    os.fsync(fd)
    assert (before - os.fstat(fd).st_blocks) * 512 >= 1.5 * MIB
    assert os.lseek(fd, MIB, os.SEEK_HOLE) <= MIB + 131_072
    os.close(fd)


@pytest.mark.smoke
def test_allocation_sets_the_size_or_keeps_it(fs):
    path = fs.file(data=b"abc")
    fd = os.open(path, os.O_RDWR)
    fallocate(fd, KEEP_SIZE, 0, 100_000)
    assert os.fstat(fd).st_size == 3
    fallocate(fd, 0, 50_000, 50_000)
    assert os.fstat(fd).st_size == 100_000
    os.posix_fallocate(fd, 0, 10)
    assert os.fstat(fd).st_size == 100_000
    os.close(fd)
    assert read(path) == b"abc" + bytes(99_997)


def test_allocation_moves_the_times(fs):
    path = fs.file(data=b"abc")
    grow = lambda: with_fd(path, os.O_RDWR, lambda fd: fallocate(fd, 0, 0, 50_000))
    assert moved_times(path, grow) == {"m", "c"}
    punch = lambda: with_fd(
        path, os.O_RDWR, lambda fd: fallocate(fd, PUNCH_HOLE | KEEP_SIZE, 0, 50_000))
    assert moved_times(path, punch) == {"m", "c"}


def test_wrong_allocations_are_refused(fs):
    path = fs.file(data=b"abc")
    fd = os.open(path, os.O_RDWR)
    for offset, length in ((0, 0), (-1, 5), (5, -1)):
        with raises(errno.EINVAL):
            fallocate(fd, 0, offset, length)
    with raises(errno.EOPNOTSUPP):
        fallocate(fd, PUNCH_HOLE, 0, 4096)
    with raises(errno.EFBIG):
        fallocate(fd, 0, 2**62, 2**62)
    reader = os.open(path, os.O_RDONLY)
    with raises(errno.EBADF):
        fallocate(reader, 0, 0, 10)
    with raises(errno.ENODEV, errno.EISDIR, errno.EBADF):
        fallocate(os.open(fs.dir, os.O_RDONLY), 0, 0, 10)


@pytest.mark.scrim_only
@pytest.mark.parametrize("bits", (COLLAPSE, INSERT))
def test_shifting_ranges_is_clearly_unsupported(fs, bits):
    """ext4 can; in a container, and through FUSE, no range moves."""
    fd = os.open(fs.file(data=content(100_000)), os.O_RDWR)
    with raises(errno.EOPNOTSUPP):
        fallocate(fd, bits, 4096, 4096)
    os.close(fd)


def test_cloning_is_clearly_unsupported(fs):
    source, target = fs.file("a", data=b"abc"), fs.file("b")
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    with raises(errno.EOPNOTSUPP):
        fcntl.ioctl(writer, FICLONE, reader)
    os.close(reader)
    os.close(writer)


@pytest.mark.scrim_only
def test_extent_maps_are_clearly_unsupported(fs):
    """ext4 answers; the pages of a container are not the file's."""
    fd = os.open(fs.file(data=b"abc"), os.O_RDONLY)
    with raises(errno.EOPNOTSUPP):
        fcntl.ioctl(fd, FS_IOC_FIEMAP, bytearray(32))
    os.close(fd)


def test_an_unknown_ioctl_is_enotty(fs):
    for path in (fs.file(), fs.dir):
        fd = os.open(path, os.O_RDONLY)
        with pytest.raises(OSError) as caught:
            fcntl.ioctl(fd, 0x1234ABCD & 0x7FFFFFFF, bytearray(64))
        assert is_unsupported(caught.value.errno)
        os.close(fd)


def test_the_file_size_limit_of_a_process_holds(fs):
    path = fs.file(data=b"abc")

    def limited():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        fd = os.open(path, os.O_RDWR)
        assert os.pwrite(fd, b"x" * 20_000, 0) == 10_000
        with raises(errno.EFBIG):
            os.pwrite(fd, b"x", 10_000)
        with raises(errno.EFBIG):
            os.ftruncate(fd, 20_000)
        os.close(fd)

    in_child(limited)
    assert os.stat(path).st_size == 10_000


@pytest.mark.smoke
def test_statfs_is_that_of_the_backing_filesystem(fs):
    status = os.statvfs(fs.dir)
    assert status.f_namemax == 255
    assert status.f_blocks > 0 and status.f_bsize >= 512
    assert 0 < status.f_bavail <= status.f_bfree <= status.f_blocks
    assert status.f_ffree <= status.f_files
    bytes_free = status.f_bavail * status.f_frsize
    fd = os.open(fs.file(), os.O_WRONLY)
    os.write(fd, content(20 * MIB))
    os.fsync(fd)
    os.close(fd)
    after = os.statvfs(fs.dir)
    assert bytes_free - after.f_bavail * after.f_frsize >= 19 * MIB


def test_a_size_is_right_straight_after_every_change_of_name(fs):
    for size in (0, 10, 5000, 300_000):
        path = fs.file(data=content(size))
        os.link(path, fs / "linked")
        assert os.stat(fs / "linked").st_size == size
        os.rename(path, fs / "renamed")
        assert os.stat(fs / "renamed").st_size == size
        fs.mkdir("d")
        os.rename(fs / "renamed", fs / "d/moved")
        assert os.stat(fs / "d/moved").st_size == size
        listed = {entry.name: entry.stat().st_size for entry in os.scandir(fs / "d")}
        assert listed == {"moved": size}
        write(fs / "linked", b"x", offset=size)
        assert os.stat(fs / "d/moved").st_size == size + 1
        os.unlink(fs / "d/moved")
        os.rmdir(fs / "d")
        os.unlink(fs / "linked")

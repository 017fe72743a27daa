"""Memory mappings."""

import errno
import mmap
import os
import random

import pytest

from .place import read, with_fd, write
from .test_files import content
from .users import Task, in_child, raises

pytestmark = pytest.mark.content


def mapped(path, size, **options):
    fd = os.open(path, os.O_RDWR)
    pages = mmap.mmap(fd, size, **options)
    os.close(fd)
    return pages


@pytest.mark.smoke
@pytest.mark.parametrize("size", (100, 4096, 5000, 300_000))
def test_a_shared_mapping_shows_and_changes_the_file(fs, size):
    path = fs.file(data=content(size))
    pages = mapped(path, size)
    assert pages[:] == content(size)
    pages[size // 2] = 0xEE
    pages[0:3] = b"abc"
    assert with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, 3, 0)) == b"abc"
    pages.close()
    model = bytearray(content(size))
    model[size // 2] = 0xEE
    model[0:3] = b"abc"
    assert read(path) == bytes(model)


@pytest.mark.smoke
def test_a_mapping_lives_after_close_and_unlink(fs):
    path = fs.file(data=content(20_000))
    os.link(path, fs / "second")
    pages = mapped(path, 20_000)
    os.unlink(path)
    pages[10_000:10_005] = b"hello"
    pages.flush()
    pages.close()
    assert read(fs / "second")[9_999:10_006] == (
        content(20_000)[9_999:10_000] + b"hello" + content(20_000)[10_005:10_006])


@pytest.mark.smoke
def test_a_private_mapping_changes_nothing(fs):
    path = fs.file(data=content(9000))
    fd = os.open(path, os.O_RDONLY)
    pages = mmap.mmap(fd, 9000, access=mmap.ACCESS_COPY)
    pages[5] = 1
    pages[8999] = 2
    pages.close()
    os.close(fd)
    assert read(path) == content(9000)


@pytest.mark.smoke
def test_writes_show_in_a_mapping_and_stores_in_reads(fs):
    path = fs.file(data=bytes(16384))
    fd = os.open(path, os.O_RDWR)
    pages = mmap.mmap(fd, 16384)
    for step in range(50):
        at = step * 311
        os.pwrite(fd, b"write%03d" % step, at)
        assert pages[at:at + 8] == b"write%03d" % step
        pages[at + 8:at + 16] = b"store%03d" % step
        assert os.pread(fd, 16, at) == b"write%03dstore%03d" % (step, step)
    pages.close()
    os.close(fd)
    assert read(path)[311:327] == b"write001store001"


def test_two_processes_share_one_mapping(fs):
    path = fs.file(data=bytes(8192))
    pages = mapped(path, 8192)

    def child():
        own = mapped(path, 8192)
        own[4096:4101] = b"child"
        return own[0:6]

    pages[0:6] = b"parent"
    assert in_child(child) == b"parent"
    assert pages[4096:4101] == b"child"
    pages.close()
    assert read(path)[4096:4101] == b"child"


def test_bytes_beyond_the_end_are_zero_and_stay_out_of_the_file(fs):
    path = fs.file(data=b"x" * 100)
    pages = mapped(path, 100)
    pages.close()
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 4096 if os.fstat(fd).st_size >= 4096 else 0) as window:
        assert len(window) == 100
    os.close(fd)
    os.truncate(path, 5000)
    assert read(path) == b"x" * 100 + bytes(4900)


def test_a_grown_file_shows_zeros_in_the_mapping(fs):
    path = fs.file(data=b"a" * 10_000)
    pages = mapped(path, 10_000)
    os.truncate(path, 3)
    os.truncate(path, 10_000)
    assert pages[:5] == b"aaa\0\0"
    assert pages[9_000:9_005] == bytes(5)
    pages.close()


def test_a_store_beyond_a_truncation_kills(fs):
    path = fs.file(data=b"a" * 20_000)

    def child():
        pages = mapped(path, 20_000)
        os.truncate(path, 100)
        pages[15_000] = 1

    with pytest.raises(ChildProcessError):
        in_child(child)
    assert read(path) == b"a" * 100


def test_a_mapping_needs_the_matching_descriptor(fs):
    path = fs.file(data=b"abc")
    reader = os.open(path, os.O_RDONLY)
    with raises(errno.EACCES):
        mmap.mmap(reader, 3, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    writer = os.open(path, os.O_WRONLY)
    with raises(errno.EACCES):
        mmap.mmap(writer, 3, mmap.MAP_SHARED, mmap.PROT_READ)
    os.close(reader)
    os.close(writer)


@pytest.mark.smoke
def test_stores_in_a_sparse_file_fill_its_holes(fs):
    path = fs.file()
    os.truncate(path, 1 << 20)
    pages = mapped(path, 1 << 20)
    rng = random.Random(3)
    model = bytearray(1 << 20)
    for _ in range(60):
        at = rng.randrange(1 << 20)
        pages[at] = model[at] = rng.randrange(1, 256)
    pages.flush()
    assert read(path) == bytes(model)
    pages.close()
    assert read(path) == bytes(model)


def test_flushed_stores_are_seen_by_direct_reads(fs):
    path = fs.file(data=bytes(8192))
    pages = mapped(path, 8192)
    pages[4096:4100] = b"data"
    pages.flush()
    block = mmap.mmap(-1, 4096)
    with_fd(path, os.O_RDONLY | os.O_DIRECT, lambda fd: os.preadv(fd, [block], 4096))
    assert block[:4] == b"data"
    pages.close()


def test_mapped_stores_of_many_processes_all_arrive(fs):
    path = fs.file(data=bytes(4 * 4096))

    def store(number):
        pages = mapped(path, 4 * 4096)
        for at in range(number, 4 * 4096, 4):
            pages[at] = number + 1
        pages.close()

    for task in [Task(store, number) for number in range(4)]:
        task.result()
    assert read(path) == b"\1\2\3\4" * 4096


def test_a_write_from_a_mapping_of_the_same_file_works(fs):
    path = fs.file(data=content(65536))
    pages = mapped(path, 65536)
    fd = os.open(path, os.O_RDWR)
    assert os.pwrite(fd, memoryview(pages)[0:32768], 32768) == 32768
    os.close(fd)
    assert read(path) == content(65536)[:32768] * 2


def test_writing_after_mapping_and_truncating_keeps_order(fs):
    path = fs.file(data=b"1" * 8192)
    pages = mapped(path, 8192)
    pages[0:2] = b"22"
    os.truncate(path, 4096)
    write(path, b"33", os.O_WRONLY | os.O_APPEND)
    pages.close()
    assert read(path) == b"22" + b"1" * 4094 + b"33"

"""copy_file_range, sendfile, splice, and the tools that copy and move."""

import errno
import os
import shutil
import subprocess

import pytest

from .calls import utimensat
from .place import moved_times, read, with_fd
from .test_files import content
from .users import raises

pytestmark = pytest.mark.content


def copy_range(source, target, length, at=0, to=0):
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    try:
        done = 0
        while done < length:
            count = os.copy_file_range(reader, writer, length - done, at + done, to + done)
            if count == 0:
                break
            done += count
        return done
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.smoke
@pytest.mark.parametrize("size,at,to", ((100, 0, 0), (5000, 0, 4096), (300_000, 4096, 8192),
                                        (300_000, 1, 2), (10, 0, 100_000)))
def test_copy_file_range_copies(fs, size, at, to):
    source, target = fs.file("a", data=content(size)), fs.file("b", data=b"old")
    assert copy_range(source, target, size, at, to) == size - at
    expected = (b"old" + bytes(max(0, to - 3)))[:to] + content(size)[at:]
    assert read(target) == expected
    assert read(source) == content(size)


def test_copy_file_range_within_one_file(fs):
    path = fs.file(data=content(100_000))
    assert copy_range(path, path, 20_000, 0, 150_000) == 20_000
    assert read(path) == content(100_000) + bytes(50_000) + content(100_000)[:20_000]
    with raises(errno.EINVAL):
        copy_range(path, path, 1000, 0, 500)


def test_copy_file_range_stops_at_the_end(fs):
    source, target = fs.file("a", data=b"abc"), fs.file("b")
    assert copy_range(source, target, 100, 1) == 2
    assert copy_range(source, target, 100, 3) == 0
    assert read(target) == b"bc"


def test_copy_file_range_moves_the_times_of_the_target_only(fs):
    source, target = fs.file("a", data=b"abc" * 5000), fs.file("b")
    assert moved_times(target, copy_range, source, target, 15_000) == {"m", "c"}
    assert moved_times(source, copy_range, source, target, 15_000) == set()


def test_copy_file_range_checks_its_descriptors(fs):
    path = fs.file(data=b"abc")
    reader, writer = os.open(path, os.O_RDONLY), os.open(fs.file("b"), os.O_WRONLY | os.O_APPEND)
    with raises(errno.EBADF):
        os.copy_file_range(reader, writer, 3)
    with raises(errno.EBADF):
        os.copy_file_range(reader, reader, 3, 0, 10)
    with raises(errno.EISDIR):
        os.copy_file_range(os.open(fs.dir, os.O_RDONLY), os.open(path, os.O_WRONLY), 3)


@pytest.mark.smoke
@pytest.mark.parametrize("size", (10, 5000, 300_000))
def test_sendfile_reads_and_writes(fs, size):
    source, target = fs.file("a", data=content(size)), fs.file("b")
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    sent = 0
    while sent < size:
        sent += os.sendfile(writer, reader, sent, size - sent)
    os.close(reader)
    os.close(writer)
    assert read(target) == content(size)


@pytest.mark.smoke
def test_splice_goes_in_and_out_through_a_pipe(fs):
    source, target = fs.file("a", data=content(50_000)), fs.file("b")
    reader, writer = os.open(source, os.O_RDONLY), os.open(target, os.O_WRONLY)
    out, into = os.pipe()
    left = 50_000
    while left:
        count = os.splice(reader, into, min(left, 16384))
        assert count > 0
        while count:
            moved = os.splice(out, writer, count)
            count -= moved
            left -= moved
    for number in (reader, writer, out, into):
        os.close(number)
    assert read(target) == content(50_000)


@pytest.mark.smoke
def test_cp_keeps_everything(fs):
    fs.mkdir("tree")
    fs.mkdir("tree/sub", mode=0o750)
    path = fs.file("tree/sub/file", data=content(70_000), mode=0o640)
    os.chown(path, 12, 34)
    os.setxattr(path, "user.note", b"kept")
    os.link(path, fs / "tree/linked")
    os.symlink("sub/file", fs / "tree/link")
    os.mkfifo(fs / "tree/fifo")
    utimensat(path, (5, 6), (7, 8))
    utimensat(fs / "tree/sub", (9, 1), (9, 2))
    subprocess.run(["cp", "-a", fs / "tree", fs / "copy"], check=True)
    copied = os.stat(fs / "copy/sub/file")
    assert (copied.st_uid, copied.st_gid, copied.st_mode & 0o7777) == (12, 34, 0o640)
    assert (copied.st_mtime_ns, copied.st_nlink) == (7 * 10**9 + 8, 2)
    assert os.stat(fs / "copy/sub").st_mtime_ns == 9 * 10**9 + 2
    assert os.getxattr(fs / "copy/sub/file", "user.note") == b"kept"
    assert os.readlink(fs / "copy/link") == "sub/file"
    assert read(fs / "copy/linked") == content(70_000)


def test_cp_of_a_sparse_file_stays_sparse(fs):
    path = fs.file()
    os.truncate(path, 20 << 20)
    with_fd(path, os.O_WRONLY, lambda fd: os.pwrite(fd, b"island", 10 << 20))
    subprocess.run(["cp", "--sparse=auto", path, fs / "copy"], check=True)
    assert os.stat(fs / "copy").st_size == 20 << 20
    assert os.stat(fs / "copy").st_blocks * 512 < 2 << 20
    assert with_fd(fs / "copy", os.O_RDONLY, lambda fd: os.pread(fd, 6, 10 << 20)) == b"island"


def test_mv_and_rsync_like_replacement_work(fs):
    fs.mkdir("a")
    fs.file("a/x", data=content(5000))
    subprocess.run(["mv", fs / "a", fs / "b"], check=True)
    shutil.move(fs / "b/x", "/dev/shm/scrim-posix-moved")
    try:
        shutil.move("/dev/shm/scrim-posix-moved", fs / "back")
        assert read(fs / "back") == content(5000)
    finally:
        if os.path.exists("/dev/shm/scrim-posix-moved"):
            os.unlink("/dev/shm/scrim-posix-moved")


def test_tar_round_trip_gives_the_same_tree(fs):
    fs.mkdir("tree")
    for number in range(30):
        fs.file(f"tree/f{number}", data=content(number * 313), mode=0o600 + number)
    subprocess.run(["tar", "-C", fs.dir, "-cf", fs / "t.tar", "tree"], check=True)
    os.rename(fs / "tree", fs / "original")
    subprocess.run(["tar", "-C", fs.dir, "-xpf", fs / "t.tar"], check=True)
    subprocess.run(["diff", "-r", fs / "original", fs / "tree"], check=True)
    for number in range(30):
        assert os.stat(fs / f"tree/f{number}").st_mode & 0o777 == 0o600 + number

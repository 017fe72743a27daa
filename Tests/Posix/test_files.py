"""The life of open files: flags, unlink and rename while open, temporaries, execution."""

import errno
import fcntl
import mmap
import os
import random
import shutil
import stat
import subprocess

import pytest

from .calls import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, linkat, sync_file_range
from .place import mode, read, with_fd, write
from .users import ALICE, BOB, Task, in_child, raises, refused, run_as

pytestmark = pytest.mark.content

SIZES = (0, 1, 100, 3903, 3904, 3905, 4095, 4096, 4097, 8192, 131071, 131072, 131073, 400_000)


def content(size, seed=1):
    return random.Random(seed * 7919 + size).randbytes(size)


@pytest.mark.smoke
@pytest.mark.parametrize("size", SIZES)
def test_what_was_written_is_read(fs, size):
    data = content(size)
    path = fs.file(data=data)
    assert read(path) == data
    assert os.stat(path).st_size == size
    assert with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, 10, size)) == b""
    assert with_fd(path, os.O_RDONLY, lambda fd: os.pread(fd, 10, max(size - 5, 0))) == data[-5:]


@pytest.mark.smoke
def test_random_overwrites_of_one_file_are_kept(fs):
    rng = random.Random(5)
    path = fs / "file"
    model = bytearray()
    fd = os.open(path, os.O_CREAT | os.O_RDWR)
    for step in range(300):
        offset = rng.randrange(300_000)
        data = rng.randbytes(rng.choice((1, 7, 100, 4096, 5000, 70_000)))
        if rng.random() < 0.15:
            size = rng.randrange(300_000)
            os.ftruncate(fd, size)
            model = model[:size] + bytes(max(0, size - len(model)))
        else:
            if offset > len(model):
                model += bytes(offset - len(model))
            os.pwrite(fd, data, offset)
            model[offset:offset + len(data)] = data
        if step % 50 == 0:
            os.fsync(fd)
        if rng.random() < 0.2:
            at = rng.randrange(300_000)
            assert os.pread(fd, 9000, at) == bytes(model[at:at + 9000])
    os.close(fd)
    assert read(path) == bytes(model)


def test_scattered_and_gathered_io(fs):
    path = fs.file()
    with open(path, "r+b", buffering=0) as stream:
        fd = stream.fileno()
        parts = [content(100), content(5000), content(1), content(40000)]
        assert os.pwritev(fd, parts, 77) == sum(map(len, parts))
        buffers = [bytearray(len(part)) for part in parts]
        assert os.preadv(fd, buffers, 77) == sum(map(len, parts))
        assert [bytes(buffer) for buffer in buffers] == parts
        assert os.pread(fd, 77, 0) == bytes(77)


@pytest.mark.smoke
def test_an_unlinked_file_lives_while_it_is_open(fs):
    path = fs.file(data=b"before")
    fd = os.open(path, os.O_RDWR)
    os.unlink(path)
    assert os.listdir(fs.dir) == []
    assert os.fstat(fd).st_nlink == 0
    os.pwrite(fd, content(50_000), 3)
    os.ftruncate(fd, 40_000)
    os.fsync(fd)
    os.fchmod(fd, 0o640)
    os.fchown(fd, 3, 4)
    os.setxattr(fd, "user.k", b"v")
    status = os.fstat(fd)
    assert (status.st_size, status.st_mode & 0o777, status.st_uid) == (40_000, 0o640, 3)
    assert os.getxattr(fd, "user.k") == b"v"
    assert os.pread(fd, 100_000, 0) == (b"bef" + content(50_000))[:40_000]
    os.close(fd)


def test_an_unlinked_file_is_reached_through_proc(fs):
    path = fs.file(data=b"data")
    fd = os.open(path, os.O_RDONLY)
    os.unlink(path)
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.pwrite(again, b"D", 0)
    os.truncate(f"/proc/self/fd/{fd}", 3)
    assert os.pread(fd, 10, 0) == b"Dat"
    os.close(again)
    os.close(fd)


def test_a_file_replaced_while_open_keeps_its_content(fs):
    path = fs.file(data=b"old")
    fd = os.open(path, os.O_RDWR)
    fs.file("new", data=b"new")
    os.rename(fs / "new", path)
    os.pwrite(fd, b"OLD", 0)
    assert os.pread(fd, 10, 0) == b"OLD"
    assert read(path) == b"new"
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


@pytest.mark.smoke
def test_a_file_renamed_while_open_is_still_the_same(fs):
    path = fs.file(data=b"abc")
    fs.mkdir("sub")
    fd = os.open(path, os.O_RDWR)
    os.rename(path, fs / "sub/moved")
    os.pwrite(fd, content(10_000), 0)
    os.fsync(fd)
    assert read(fs / "sub/moved") == content(10_000)
    os.rename(fs / "sub/moved", path)
    os.pwrite(fd, b"XY", 4)
    os.close(fd)
    assert read(path)[:8] == content(10_000)[:4] + b"XY" + content(10_000)[6:8]


@pytest.mark.smoke
def test_an_open_temporary_has_no_name_until_it_is_linked(fs):
    fd = os.open(fs.dir, os.O_TMPFILE | os.O_RDWR, 0o640)
    assert os.listdir(fs.dir) == []
    status = os.fstat(fd)
    assert (status.st_nlink, stat.S_ISREG(status.st_mode)) == (0, True)
    os.write(fd, content(20_000))
    linkat(AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, fs / "named", AT_SYMLINK_FOLLOW)
    assert os.fstat(fd).st_nlink == 1
    os.pwrite(fd, b"Z", 0)
    os.close(fd)
    assert read(fs / "named") == b"Z" + content(20_000)[1:]
    assert os.listdir(fs.dir) == ["named"]


def test_an_open_temporary_is_linked_by_its_descriptor(fs):
    fd = os.open(fs.dir, os.O_TMPFILE | os.O_WRONLY, 0o600)
    os.write(fd, b"content")
    linkat(fd, "", AT_FDCWD, fs / "named", AT_EMPTY_PATH)
    os.close(fd)
    assert read(fs / "named") == b"content"


def test_an_exclusive_temporary_cannot_be_linked(fs):
    fd = os.open(fs.dir, os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    os.write(fd, b"content")
    with raises(errno.ENOENT):
        linkat(AT_FDCWD, f"/proc/self/fd/{fd}", AT_FDCWD, fs / "named", AT_SYMLINK_FOLLOW)
    assert os.pread(fd, 7, 0) == b"content"
    os.close(fd)


def test_a_temporary_that_is_closed_is_gone(fs):
    for _ in range(20):
        fd = os.open(fs.dir, os.O_TMPFILE | os.O_RDWR, 0o600)
        os.write(fd, content(9000))
        os.close(fd)
    assert os.listdir(fs.dir) == []
    os.rmdir(fs.dir)


def appender(path, letter, count):
    fd = os.open(path, os.O_WRONLY | os.O_APPEND)
    for _ in range(count):
        assert os.write(fd, letter * 64) == 64
    os.close(fd)


@pytest.mark.smoke
def test_appends_of_several_processes_all_arrive(fs):
    path = fs.file()
    tasks = [Task(appender, path, letter, 200) for letter in (b"a", b"b", b"c", b"d")]
    for task in tasks:
        task.result()
    data = read(path)
    assert len(data) == 4 * 200 * 64
    lines = {data[at:at + 64] for at in range(0, len(data), 64)}
    assert lines == {letter * 64 for letter in (b"a", b"b", b"c", b"d")}


def test_append_ignores_the_position(fs):
    path = fs.file(data=b"start")
    fd = os.open(path, os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"1")
    other = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(other, b"2")
    os.write(fd, b"3")
    os.pwrite(fd, b"4", 0)
    assert read(path) == b"start1234"
    os.ftruncate(fd, 2)
    os.write(fd, b"5")
    assert read(path) == b"st5"
    os.close(fd)
    os.close(other)


def test_append_can_be_switched_on_later(fs):
    path = fs.file(data=b"abc")
    fd = os.open(path, os.O_RDWR)
    fcntl.fcntl(fd, fcntl.F_SETFL, os.O_APPEND)
    os.write(fd, b"d")
    fcntl.fcntl(fd, fcntl.F_SETFL, 0)
    os.pwrite(fd, b"A", 0)
    os.close(fd)
    assert read(path) == b"Abcd"


@pytest.mark.smoke
def test_o_trunc_empties_under_open_handles(fs):
    path = fs.file(data=content(50_000))
    fd = os.open(path, os.O_RDWR)
    assert os.pread(fd, 5, 10) == content(50_000)[10:15]
    os.close(os.open(path, os.O_WRONLY | os.O_TRUNC))
    assert os.fstat(fd).st_size == 0
    assert os.pread(fd, 5, 10) == b""
    os.pwrite(fd, b"new", 5)
    os.close(fd)
    assert read(path) == b"\0\0\0\0\0new"


def test_o_trunc_needs_write_permission(fs):
    path = fs.file(data=b"abc", mode=0o444, owner=ALICE)
    refused(ALICE, errno.EACCES, os.open, path, os.O_RDONLY | os.O_TRUNC)
    os.chmod(path, 0o644)
    refused(BOB, errno.EACCES, os.open, path, os.O_RDONLY | os.O_TRUNC)
    assert read(path) == b"abc"
    run_as(ALICE, lambda: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)))
    assert read(path) == b""


def test_opening_with_o_creat_leaves_an_existing_file_as_it_is(fs):
    path = fs.file(data=b"abc", mode=0o640, owner=ALICE)
    before = os.stat(path)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o777))
    after = os.stat(path)
    assert (after.st_mode, after.st_uid, after.st_ctime_ns, after.st_size) == (
        before.st_mode, before.st_uid, before.st_ctime_ns, before.st_size)


@pytest.mark.smoke
def test_o_excl_has_one_winner(fs):
    path = fs / "lock"

    def compete():
        won = 0
        for number in range(50):
            try:
                os.close(os.open(f"{path}{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
                won += 1
            except FileExistsError:
                pass
        return won

    tasks = [Task(compete) for _ in range(4)]
    assert sum(task.result() for task in tasks) == 50


@pytest.mark.parametrize("flags", (os.O_SYNC, os.O_DSYNC, os.O_DIRECT, os.O_DIRECT | os.O_SYNC))
def test_synchronous_and_direct_writes_arrive(fs, flags):
    path = fs.file()
    buffer = mmap.mmap(-1, 65536)
    buffer.write(content(65536))
    fd = os.open(path, os.O_RDWR | flags)
    assert os.pwrite(fd, buffer, 0) == 65536
    assert os.pwrite(fd, memoryview(buffer)[:4096], 65536 * 3) == 4096
    got = mmap.mmap(-1, 65536)
    assert os.preadv(fd, [got], 0) == 65536
    assert got[:] == content(65536)
    assert os.preadv(fd, [got], 65536) == 65536
    assert got[:] == bytes(65536)
    os.close(fd)
    assert read(path)[:65536] == content(65536)
    assert os.stat(path).st_size == 65536 * 3 + 4096


def test_direct_and_buffered_handles_agree(fs):
    path = fs.file(data=content(32768))
    direct = os.open(path, os.O_RDWR | os.O_DIRECT)
    plain = os.open(path, os.O_RDWR)
    block = mmap.mmap(-1, 4096)
    for round_number in range(8):
        block[:] = bytes([round_number]) * 4096
        assert os.pread(plain, 1, 4096 * round_number) == content(32768)[4096 * round_number:][:1]
        os.pwrite(direct, block, 4096 * round_number)
        assert os.pread(plain, 2, 4096 * round_number) == bytes([round_number]) * 2
        os.pwrite(plain, b"P", 4096 * round_number + 7)
        os.preadv(direct, [block], 4096 * round_number)
        assert block[7:8] == b"P"
    os.close(direct)
    os.close(plain)


def test_o_path_gives_no_access_but_a_handle(fs):
    path = fs.file(data=b"x", mode=0)
    fd = run_as(ALICE, lambda: os.stat(path).st_ino)
    handle = os.open(path, os.O_PATH)
    assert os.fstat(handle).st_ino == fd
    with raises(errno.EBADF):
        os.read(handle, 1)
    with raises(errno.EBADF):
        os.ftruncate(handle, 0)
    os.symlink("x", fs / "link")
    link = os.open(fs / "link", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(link).st_mode)
    assert os.readlink("", dir_fd=link) == "x"
    folder = os.open(fs.dir, os.O_PATH)
    assert os.stat("file", dir_fd=folder).st_size == 1
    with raises(errno.EBADF):
        os.listdir(folder)
    for number in (handle, link, folder):
        os.close(number)


CREATE_NEW = os.O_CREAT | os.O_EXCL
WRONG_OPENS = (
    ("dir", os.O_WRONLY, errno.EISDIR), ("dir", os.O_RDWR, errno.EISDIR),
    ("dir", os.O_RDONLY | os.O_CREAT, errno.EISDIR),
    ("dir", os.O_RDONLY | os.O_TRUNC, errno.EISDIR), ("dir", CREATE_NEW, errno.EEXIST),
    ("regular", os.O_RDONLY | os.O_DIRECTORY, errno.ENOTDIR),
    ("regular", CREATE_NEW, errno.EEXIST), ("block", CREATE_NEW, errno.EEXIST),
    ("symlink", CREATE_NEW, errno.EEXIST), ("symlink", os.O_NOFOLLOW, errno.ELOOP),
    ("symlink", os.O_RDONLY, errno.ENOENT),
    ("symlink", os.O_DIRECTORY | os.O_NOFOLLOW, errno.ENOTDIR),
    ("fifo", os.O_WRONLY | os.O_NONBLOCK, errno.ENXIO), ("fifo", CREATE_NEW, errno.EEXIST),
    ("socket", os.O_RDONLY, errno.ENXIO), ("socket", os.O_RDWR, errno.ENXIO),
    ("socket", CREATE_NEW, errno.EEXIST),
)


@pytest.mark.parametrize("kind,flags,code", WRONG_OPENS)
def test_open_says_what_is_wrong(fs, kind, flags, code):
    path = fs.make(kind, mode=0o755)
    with raises(code):
        os.open(path, flags)


def test_descriptors_give_only_what_they_were_opened_for(fs):
    path = fs.file(data=b"abc")
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    with raises(errno.EBADF):
        os.write(reader, b"x")
    with raises(errno.EBADF):
        os.read(writer, 1)
    with raises(errno.EINVAL):
        os.ftruncate(reader, 0)
    with raises(errno.EISDIR):
        os.read(os.open(fs.dir, os.O_RDONLY), 1)


@pytest.mark.smoke
def test_programs_run_from_the_mount(fs):
    program = fs / "program"
    shutil.copy(shutil.which("true"), program)
    assert subprocess.run([program], check=False).returncode == 0
    script = fs.file("script", data=b"#!/bin/sh\necho ran \"$1\"\n", mode=0o755)
    assert subprocess.run([script, "x"], capture_output=True, check=True).stdout == b"ran x\n"
    os.chmod(script, 0o644)
    with raises(errno.EACCES):
        os.execv(script, ["script"])


@pytest.mark.smoke
def test_a_running_program_is_not_written_to(fs):
    program = fs / "sleeper"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as running:
        try:
            # The child has to be past its own exec before the file is busy.
            while os.readlink(f"/proc/{running.pid}/exe") != program:
                pass
            with raises(errno.ETXTBSY):
                os.open(program, os.O_WRONLY)
            with raises(errno.ETXTBSY):
                os.truncate(program, 0)
            os.unlink(program)
        finally:
            running.kill()


def test_a_file_open_for_writing_does_not_run(fs):
    program = fs / "true"
    shutil.copy(shutil.which("true"), program)
    fd = os.open(program, os.O_WRONLY)
    with raises(errno.ETXTBSY):
        in_child(os.execv, program, ["true"])
    os.close(fd)
    assert subprocess.run([program], check=False).returncode == 0


@pytest.mark.smoke
def test_fsync_and_its_relatives_succeed(fs):
    path = fs.file(data=content(30_000))
    fd = os.open(path, os.O_RDWR)
    for sync in (os.fsync, os.fdatasync):
        os.pwrite(fd, b"x" * 5000, 3)
        sync(fd)
    sync_file_range(fd, 0, 0, 7)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED)
    assert os.pread(fd, 2, 3) == b"xx"
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    assert os.pread(fd, 2, 3) == b"xx"
    os.close(fd)
    folder = os.open(fs.dir, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
    reader = os.open(path, os.O_RDONLY)
    os.fsync(reader)
    os.close(reader)


def test_a_descriptor_passes_to_another_process(fs):
    path = fs.file(data=b"0123456789")
    fd = os.open(path, os.O_RDWR)

    def child():
        os.write(fd, b"ab")
        return os.lseek(fd, 0, os.SEEK_CUR)

    assert in_child(child) == 2
    assert os.read(fd, 3) == b"234"
    os.close(fd)
    assert read(path) == b"ab23456789"


def test_many_handles_of_many_files_stay_apart(fs):
    handles = {}
    for number in range(300):
        fd = os.open(fs / f"f{number}", os.O_CREAT | os.O_RDWR)
        os.write(fd, b"%d" % number * 50)
        handles[number] = fd
    for number, fd in handles.items():
        assert os.pread(fd, 1000, 0) == b"%d" % number * 50
        os.close(fd)
    write(fs / "f7", b"seven")
    assert read(fs / "f7").startswith(b"seven")
    assert mode(fs / "f7") & 0o400


def test_a_written_file_is_complete_for_another_process_after_close(fs):
    for number in range(30):
        data = content(number * 1777)
        in_child(lambda number=number: fs.file(f"f{number}", data=content(number * 1777)) and None)
        assert read(fs / f"f{number}") == data

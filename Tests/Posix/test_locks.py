"""flock, POSIX and open-file-description locks, and leases."""

import errno
import fcntl
import os
import signal
import time

import pytest

from .calls import ofd_lock, ofd_query, posix_query
from .users import Task, in_child, raises


def try_flock(path, how):
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


@pytest.mark.smoke
def test_flock_excludes_other_processes(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert not in_child(try_flock, path, fcntl.LOCK_EX)
    assert not in_child(try_flock, path, fcntl.LOCK_SH)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert in_child(try_flock, path, fcntl.LOCK_SH)
    assert not in_child(try_flock, path, fcntl.LOCK_EX)
    fcntl.flock(fd, fcntl.LOCK_UN)
    assert in_child(try_flock, path, fcntl.LOCK_EX)
    os.close(fd)


def test_flock_belongs_to_the_description(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    copy = os.dup(fd)
    fcntl.flock(fd, fcntl.LOCK_EX)
    os.close(fd)
    assert not try_flock(path, fcntl.LOCK_EX)
    os.close(copy)
    assert try_flock(path, fcntl.LOCK_EX)


def try_posix(path, how, start=0, length=0):
    fd = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(fd, how | fcntl.LOCK_NB, length, start)
        return True
    except OSError as error:
        assert error.errno in (errno.EAGAIN, errno.EACCES)
        return False
    finally:
        os.close(fd)


@pytest.mark.smoke
def test_posix_locks_exclude_by_range(fs):
    path = fs.file(data=b"x" * 100)
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10, 20)
    assert not in_child(try_posix, path, fcntl.LOCK_EX, 25, 1)
    assert not in_child(try_posix, path, fcntl.LOCK_SH, 0, 21)
    assert in_child(try_posix, path, fcntl.LOCK_EX, 0, 20)
    assert in_child(try_posix, path, fcntl.LOCK_EX, 30, 0)
    fcntl.lockf(fd, fcntl.LOCK_UN, 5, 20)
    assert in_child(try_posix, path, fcntl.LOCK_EX, 20, 5)
    assert not in_child(try_posix, path, fcntl.LOCK_EX, 25, 1)
    os.close(fd)
    assert in_child(try_posix, path, fcntl.LOCK_EX)


def test_a_posix_lock_names_its_holder(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 10)
    holder = os.getpid()

    def ask():
        other = os.open(path, os.O_RDWR)
        return posix_query(other, fcntl.F_WRLCK, 0, 10), posix_query(other, fcntl.F_WRLCK, 50, 1)[0]

    assert in_child(ask) == ((fcntl.F_WRLCK, holder), fcntl.F_UNLCK)
    os.close(fd)


def test_closing_any_descriptor_drops_the_posix_locks_of_the_process(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.close(os.open(path, os.O_RDONLY))
    assert in_child(try_posix, path, fcntl.LOCK_EX)
    os.close(fd)


@pytest.mark.smoke
def test_a_killed_process_drops_its_locks(fs):
    path = fs.file()
    ready = fs / "ready"

    def hold():
        fd = os.open(path, os.O_RDWR)
        other = os.open(path, os.O_RDWR)
        fcntl.lockf(fd, fcntl.LOCK_EX)
        fcntl.flock(other, fcntl.LOCK_EX)
        os.mkdir(ready)
        signal.pause()

    task = Task(hold)
    while not os.path.exists(ready):
        time.sleep(0.005)
    assert not try_posix(path, fcntl.LOCK_EX)
    assert not try_flock(path, fcntl.LOCK_EX)
    task.kill()
    with pytest.raises(ChildProcessError):
        task.result()
    assert try_posix(path, fcntl.LOCK_EX)
    assert try_flock(path, fcntl.LOCK_EX)


@pytest.mark.parametrize("how", ("posix", "flock", "ofd"))
def test_a_waiting_locker_gets_its_turn(fs, how):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)

    def lock(number, wait):
        if how == "posix":
            fcntl.lockf(number, fcntl.LOCK_EX)
        elif how == "flock":
            fcntl.flock(number, fcntl.LOCK_EX)
        else:
            ofd_lock(number, fcntl.F_WRLCK, wait=wait)

    lock(fd, False)

    def waiter():
        other = os.open(path, os.O_RDWR)
        os.mkdir(fs / "waiting")
        lock(other, True)
        return os.pread(other, 4, 0)

    task = Task(waiter)
    while not os.path.exists(fs / "waiting"):
        time.sleep(0.005)
    time.sleep(0.05)
    os.pwrite(fd, b"done", 0)
    # The child has inherited the description, so closing would not unlock it.
    if how == "posix":
        fcntl.lockf(fd, fcntl.LOCK_UN)
    elif how == "flock":
        fcntl.flock(fd, fcntl.LOCK_UN)
    else:
        ofd_lock(fd, fcntl.F_UNLCK)
    assert task.result() == b"done"


@pytest.mark.smoke
def test_ofd_locks_exclude_handles_of_one_process(fs):
    path = fs.file()
    one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDWR)
    ofd_lock(one, fcntl.F_WRLCK, 0, 10)
    with raises(errno.EAGAIN):
        ofd_lock(two, fcntl.F_WRLCK, 5, 10)
    ofd_lock(two, fcntl.F_WRLCK, 10, 10)
    assert ofd_query(two, fcntl.F_RDLCK, 0, 5) == fcntl.F_WRLCK
    os.close(os.open(path, os.O_RDWR))
    with raises(errno.EAGAIN):
        ofd_lock(two, fcntl.F_RDLCK, 0, 1)
    os.close(one)
    ofd_lock(two, fcntl.F_WRLCK, 0, 1)
    os.close(two)


def test_locks_need_the_matching_descriptor(fs):
    path = fs.file()
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_WRONLY)
    with raises(errno.EBADF):
        fcntl.lockf(reader, fcntl.LOCK_EX)
    with raises(errno.EBADF):
        fcntl.lockf(writer, fcntl.LOCK_SH)
    fcntl.flock(reader, fcntl.LOCK_EX)
    os.close(reader)
    os.close(writer)


def test_a_deadlock_of_posix_locks_is_told(fs):
    path = fs.file()
    fd = os.open(path, os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 1, 0)

    def other():
        mine = os.open(path, os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_EX, 1, 1)
        os.mkdir(fs / "locked")
        fcntl.lockf(mine, fcntl.LOCK_EX, 1, 0)
        return True

    task = Task(other)
    while not os.path.exists(fs / "locked"):
        time.sleep(0.005)
    time.sleep(0.05)
    with raises(errno.EDEADLK):
        fcntl.lockf(fd, fcntl.LOCK_EX, 1, 1)
    os.close(fd)
    assert task.result()


@pytest.mark.smoke
def test_locks_of_a_counter_lose_no_increment(fs):
    path = fs.file(data=b"0")

    def count():
        fd = os.open(path, os.O_RDWR)
        for _ in range(50):
            fcntl.lockf(fd, fcntl.LOCK_EX)
            value = int(os.pread(fd, 20, 0)) + 1
            os.pwrite(fd, b"%d" % value, 0)
            fcntl.lockf(fd, fcntl.LOCK_UN)
        os.close(fd)

    for task in [Task(count) for _ in range(4)]:
        task.result()
    with open(path, "rb") as stream:
        assert int(stream.read()) == 200

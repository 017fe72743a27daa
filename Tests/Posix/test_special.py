"""FIFOs, sockets, devices, and inotify."""

import errno
import os
import select
import socket
import stat

import pytest

from .calls import (IN_ATTRIB, IN_CLOSE_WRITE, IN_CREATE, IN_DELETE, IN_MODIFY, IN_MOVED_FROM,
                    IN_MOVED_TO, inotify, inotify_events)
from .place import read, write
from .users import Task, raises


@pytest.mark.smoke
def test_a_fifo_carries_data_between_processes(fs):
    path = fs / "fifo"
    os.mkfifo(path, 0o600)
    task = Task(write, path, b"through the pipe")
    assert read(path) == b"through the pipe"
    assert task.result() == 16
    assert os.stat(path).st_size == 0
    assert stat.S_ISFIFO(os.stat(path).st_mode)


def test_a_fifo_works_under_its_new_name_and_after_unlink(fs):
    os.mkfifo(fs / "fifo", 0o600)
    fd = os.open(fs / "fifo", os.O_RDWR)
    os.rename(fs / "fifo", fs / "renamed")
    other = os.open(fs / "renamed", os.O_WRONLY)
    os.unlink(fs / "renamed")
    os.write(other, b"x")
    assert os.read(fd, 5) == b"x"
    os.close(fd)
    os.close(other)


@pytest.mark.smoke
def test_a_socket_takes_connections(fs):
    os.chdir(fs.dir)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("listening")
        assert stat.S_ISSOCK(os.stat("listening").st_mode)
        server.listen(1)
        client.connect("listening")
        connection, _ = server.accept()
        client.send(b"hello")
        assert connection.recv(10) == b"hello"
        connection.close()
        with raises(errno.EADDRINUSE), socket.socket(socket.AF_UNIX) as second:
            second.bind("listening")
        os.link("listening", "again")
    with raises(errno.ECONNREFUSED), socket.socket(socket.AF_UNIX) as late:
        late.connect("again")
    os.unlink("listening")
    os.unlink("again")


def test_a_long_name_for_a_socket_and_a_fifo(fs):
    os.chdir(fs.dir)
    name = "s" * 100
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        os.rename(name, "t" * 255)
        assert stat.S_ISSOCK(os.stat("t" * 255).st_mode)


def test_devices_do_not_open_on_a_nodev_mount(fs):
    path = fs / "null"
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with raises(errno.EACCES):
        os.open(path, os.O_WRONLY)
    os.chmod(path, 0o600)
    os.utime(path, (5, 5))
    assert os.stat(path).st_mtime == 5


def events_of(path, mask, action):
    watch = inotify(path, mask)
    action()
    select.select([watch], [], [], 5)
    events = inotify_events(watch)
    os.close(watch)
    return events


@pytest.mark.smoke
def test_inotify_tells_of_entries(fs):
    mask = IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO

    def act():
        fs.file("one")
        os.rename(fs / "one", fs / "two")
        os.unlink(fs / "two")

    assert events_of(fs.dir, mask, act) == [
        (IN_CREATE, b"one"), (IN_MOVED_FROM, b"one"), (IN_MOVED_TO, b"two"), (IN_DELETE, b"two")]


def test_inotify_tells_of_changes(fs):
    path = fs.file()
    fd = os.open(path, os.O_WRONLY)

    def act():
        os.write(fd, b"x")
        os.fchmod(fd, 0o600)
        os.close(fd)

    events = [mask for mask, _ in events_of(path, IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE, act)]
    assert events == [IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE]

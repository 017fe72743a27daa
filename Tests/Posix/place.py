"""The fresh directory each test gets, and what tests commonly make in it."""

import os
import stat
import time

from .users import ROOT

FILE_TYPES = ("regular", "dir", "fifo", "block", "char", "socket", "symlink")
NOT_SYMLINK = FILE_TYPES[:-1]
NOT_DIR = tuple(kind for kind in FILE_TYPES if kind != "dir")
FORMATS = {
    "regular": stat.S_IFREG, "dir": stat.S_IFDIR, "fifo": stat.S_IFIFO, "block": stat.S_IFBLK,
    "char": stat.S_IFCHR, "socket": stat.S_IFSOCK, "symlink": stat.S_IFLNK,
}

# More than the coarsest clock tick that a file's times may be rounded to.
TICK = 0.012


def tick():
    time.sleep(TICK)


class Place:
    """A directory on the filesystem under test.

    `content` and `names` are its policies ("ext4" and "plain" on the oracle).
    """

    def __init__(self, mount, directory):
        self.mount = mount
        self.dir = directory
        self.content = mount.content
        self.names = mount.names
        self.is_scrim = mount.is_scrim

    @property
    def is_plain(self):
        """Whether new files are passed through, so that the backing filesystem shows."""
        return self.content in ("ext4", "plain")

    @property
    def is_passed_through(self):
        """Whether the kernel may read and write the backing file itself."""
        return self.content == "plain"

    def __truediv__(self, name):
        return os.path.join(self.dir, name)

    def file(self, name="file", data=b"", mode=0o644, owner=ROOT):
        path = self / name
        fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]
        finally:
            os.close(fd)
        return self._own(path, mode, owner)

    def mkdir(self, name="dir", mode=0o755, owner=ROOT):
        path = self / name
        os.mkdir(path)
        return self._own(path, mode, owner)

    def make(self, kind, name="node", mode=0o644, owner=ROOT):
        """A file of any type."""
        path = self / name
        if kind == "regular":
            return self.file(name, mode=mode, owner=owner)
        if kind == "dir":
            return self.mkdir(name, mode, owner)
        if kind == "symlink":
            os.symlink("nowhere", path)
            os.lchown(path, owner.uid, owner.gid)
            return path
        device = os.makedev(1, 2) if kind in ("block", "char") else 0
        os.mknod(path, FORMATS[kind] | 0o600, device)
        return self._own(path, mode, owner)

    @staticmethod
    def _own(path, mode, owner):
        if owner != ROOT:
            os.chown(path, owner.uid, owner.gid)
        os.chmod(path, mode)
        return path


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def write(path, data, flags=os.O_WRONLY, offset=None):
    fd = os.open(path, flags)
    try:
        if offset is None:
            return os.write(fd, data)
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


def owner(path):
    status = os.lstat(path)
    return status.st_uid, status.st_gid


def remove(path):
    if stat.S_ISDIR(os.lstat(path).st_mode):
        os.rmdir(path)
    else:
        os.unlink(path)


def times(path):
    status = os.lstat(path)
    return {"a": status.st_atime_ns, "m": status.st_mtime_ns, "c": status.st_ctime_ns}


def moved_times(path, action, *arguments):
    """Which of "m" (mtime) and "c" (ctime) of `path` the action moves forward, as a set."""
    before = times(path)
    tick()
    action(*arguments)
    after = times(path)
    return {which for which in "mc" if after[which] > before[which]}


def with_fd(path, flags, function):
    fd = os.open(path, flags)
    try:
        return function(fd)
    finally:
        os.close(fd)

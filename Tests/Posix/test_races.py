"""Processes that all do everything to the same few names: no surprising error, and a whole tree afterwards."""

import errno
import os
import random
import stat

import pytest

from .calls import RENAME_EXCHANGE, RENAME_NOREPLACE, renameat2
from .users import Task

pytestmark = pytest.mark.smoke
SEED = int(os.environ.get("SCRIM_SEED", "20240302"))
ROUNDS = int(os.environ.get("SCRIM_ROUNDS", "1"))
# What a race between sane processes can give on any filesystem.
FAIR = {errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY, errno.EINVAL,
        errno.ELOOP, errno.EPERM, errno.ENXIO, errno.EXDEV, errno.ETXTBSY, errno.ENODATA,
        errno.EMLINK, errno.EBUSY}


class Racer:
    def __init__(self, top, seed):
        self.rng = random.Random(seed)
        self.top = top

    def path(self):
        names = [f"n{self.rng.randrange(6)}" for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        return os.path.join(self.top, *names)

    def create(self):
        fd = os.open(self.path(), os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o644)
        try:
            if stat.S_ISREG(os.fstat(fd).st_mode):
                os.write(fd, b"raced" * self.rng.randrange(3000))
                os.lseek(fd, 0, os.SEEK_SET)
                data = os.read(fd, 100)
                assert not data.strip(b"raced\0"), data
        finally:
            os.close(fd)

    def remove(self):
        os.unlink(self.path())

    def make_directory(self):
        os.mkdir(self.path())

    def remove_directory(self):
        os.rmdir(self.path())

    def rename(self):
        os.rename(self.path(), self.path())

    def rename_with_flags(self):
        renameat2(self.path(), self.path(), self.rng.choice((RENAME_EXCHANGE, RENAME_NOREPLACE)))

    def link(self):
        os.link(self.path(), self.path(), follow_symlinks=False)

    def symlink(self):
        os.symlink(f"n{self.rng.randrange(6)}", self.path())

    def fifo(self):
        os.mkfifo(self.path())

    def look(self):
        path = self.path()
        os.lstat(path)
        os.stat(path)
        os.listdir(path)

    def change(self):
        path = self.path()
        os.chmod(path, 0o755)
        os.utime(path)
        os.setxattr(path, "user.race", b"value")
        os.truncate(path, self.rng.randrange(20_000))

    def read(self):
        with open(self.path(), "rb", opener=lambda path, flags: os.open(
                path, flags | os.O_NONBLOCK)) as stream:
            data = stream.read() or b""  # None: a FIFO that somebody has open
        assert not data.strip(b"raced\0"), data[:100]

    def readlink(self):
        assert os.readlink(self.path()).startswith("n")

    def run(self, steps):
        actions = (self.create, self.create, self.remove, self.make_directory, self.remove_directory, self.rename,
                   self.rename, self.rename_with_flags, self.link, self.symlink, self.fifo, self.look,
                   self.change, self.read, self.readlink)
        surprises = {}
        for _ in range(steps):
            action = self.rng.choice(actions)
            try:
                action()
            except OSError as error:
                if error.errno not in FAIR:
                    name = f"{action.__name__}: {errno.errorcode.get(error.errno)}"
                    surprises[name] = surprises.get(name, 0) + 1
        return surprises


def look_everywhere(top):
    """Every entry that is listed has attributes, can be read, and has as many names as it says."""
    names, links = {}, {}
    for folder, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(folder, name)
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                os.readlink(path)
                continue
            if stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:
                    assert len(stream.read()) == status.st_size
            if not stat.S_ISDIR(status.st_mode):
                names[status.st_ino] = names.get(status.st_ino, 0) + 1
                links[status.st_ino] = status.st_nlink
    assert names == links


def empty(folder):
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            empty(entry.path)
            os.rmdir(entry.path)
        else:
            os.unlink(entry.path)
    assert os.listdir(folder) == []


def test_processes_that_do_everything_to_the_same_names(fs):
    print(f"SCRIM_SEED={SEED}")
    tasks = [Task(Racer(fs.dir, SEED + number).run, 400 * ROUNDS) for number in range(6)]
    assert [task.result(timeout=110) for task in tasks] == [{}] * 6
    look_everywhere(fs.dir)
    fs.mount.remount()
    look_everywhere(fs.dir)
    empty(fs.dir)

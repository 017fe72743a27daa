"""One random stream of system calls on two directories, compared after every step.

The stream comes from a seed, so a failure is replayed by running it again; the message names the
step, the call, and what each side gave.
"""

import errno
import os
import random
import stat

from .calls import (KEEP_SIZE, PUNCH_HOLE, RENAME_EXCHANGE, RENAME_NOREPLACE, ZERO_RANGE,
                    fallocate, renameat2, utimensat)
from .place import FORMATS

USERS = ((0, 0, ()), (1001, 1001, ()), (1002, 1002, (1001,)))
NAMES = ("a", "b", "c", "d", "e" * 140, "f" * 255, "h.scrim-c", ".scrim-dir", "~t")
FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_WRONLY | os.O_TRUNC,
         os.O_RDWR | os.O_CREAT, os.O_RDWR | os.O_CREAT | os.O_EXCL, os.O_RDWR | os.O_CREAT,
         os.O_RDONLY | os.O_DIRECTORY, os.O_RDONLY | os.O_NOFOLLOW)
SIZES = (0, 1, 10, 700, 4000, 4096, 5000, 70_000)
OFFSETS = (0, 0, 1, 100, 3900, 4096, 10_000, 131_000, 131_072, 400_000)
HANDLES = 12
# Times before this are ones that the stream has set itself.
EXPLICIT_BEFORE = 10**9 * 10**9


class Mismatch(AssertionError):
    pass


class Side:
    """One of the two directories: executes operations and keeps its open descriptors."""

    def __init__(self, top, keeps_set_id=True):
        self.top = top
        self.handles = {}
        self.mask = 0o177777 if keeps_set_id else 0o171777

    def run(self, user, operation, arguments):
        uid, gid, groups = user
        os.setgroups(groups)
        os.setegid(gid)
        os.seteuid(uid)
        try:
            return "ok", getattr(self, operation)(*arguments)
        except OSError as error:
            return "error", errno.errorcode.get(error.errno, error.errno)
        finally:
            os.seteuid(0)
            os.setegid(0)
            os.setgroups(())

    def path(self, parts):
        return os.path.join(self.top, *parts)

    def open(self, slot, parts, flags, bits):
        fd = os.open(self.path(parts), flags | os.O_NONBLOCK, bits)
        self.close(slot)
        self.handles[slot] = fd

    def tmpfile(self, slot, parts, bits):
        fd = os.open(self.path(parts), os.O_TMPFILE | os.O_RDWR, bits)
        self.close(slot)
        self.handles[slot] = fd

    def close(self, slot):
        if slot in self.handles:
            os.close(self.handles.pop(slot))

    def pread(self, slot, size, offset):
        return os.pread(self.handles[slot], size, offset)

    def pwrite(self, slot, data, offset):
        return os.pwrite(self.handles[slot], data, offset)

    def write(self, slot, data):
        return os.write(self.handles[slot], data)

    def ftruncate(self, slot, size):
        os.ftruncate(self.handles[slot], size)

    def fallocate(self, slot, bits, offset, length):
        fallocate(self.handles[slot], bits, offset, length)

    def fsync(self, slot):
        os.fsync(self.handles[slot])

    def fchmod(self, slot, bits):
        os.fchmod(self.handles[slot], bits)

    def copy(self, source, target, size, at, to):
        return os.copy_file_range(self.handles[source], self.handles[target], size, at, to)

    def make(self, kind, parts, bits):
        path = self.path(parts)
        if kind == "dir":
            os.mkdir(path, bits)
        elif kind == "symlink":
            os.symlink("/".join(reversed(parts)), path)
        else:
            os.mknod(path, FORMATS[kind] | bits)

    def unlink(self, parts):
        os.unlink(self.path(parts))

    def rmdir(self, parts):
        os.rmdir(self.path(parts))

    def rename(self, old, new, flags):
        renameat2(self.path(old), self.path(new), flags)

    def link(self, old, new):
        os.link(self.path(old), self.path(new), follow_symlinks=False)

    def chmod(self, parts, bits):
        os.chmod(self.path(parts), bits)

    def chown(self, parts, uid, gid):
        os.lchown(self.path(parts), uid, gid)

    def truncate(self, parts, size):
        os.truncate(self.path(parts), size)

    def utime(self, parts, atime, mtime):
        utimensat(self.path(parts), atime, mtime, follow=False)

    def setxattr(self, parts, key, value, flags):
        os.setxattr(self.path(parts), key, value, flags)

    def getxattr(self, parts, key):
        return os.getxattr(self.path(parts), key)

    def removexattr(self, parts, key):
        os.removexattr(self.path(parts), key)

    def listdir(self, parts):
        return sorted(os.listdir(self.path(parts)))

    def readlink(self, parts):
        return os.readlink(self.path(parts))

    def access(self, parts, bits):
        return os.access(self.path(parts), bits, effective_ids=True)

    def stat(self, parts):
        return self.attributes(os.lstat(self.path(parts)))

    def fstat(self, slot):
        return self.attributes(os.fstat(self.handles[slot]))

    def attributes(self, status):
        """What two filesystems must agree on; recent times are all alike."""
        kind = stat.S_IFMT(status.st_mode)
        explicit = status.st_mtime_ns if status.st_mtime_ns < EXPLICIT_BEFORE else "recent"
        links = 1 if kind == stat.S_IFLNK else status.st_nlink
        size = None if kind == stat.S_IFDIR else status.st_size
        mode = status.st_mode & (self.mask if kind == stat.S_IFREG else 0o177777)
        return mode, status.st_uid, status.st_gid, links, size, explicit

    def tree(self):
        """The whole state: attributes of every entry, and content of every regular file."""
        found = {}
        for folder, directories, files in os.walk(self.top):
            for name in [".", *directories, *files]:
                path = os.path.join(folder, name)
                status = os.lstat(path)
                entry = self.attributes(status)
                if stat.S_ISREG(status.st_mode):
                    with open(path, "rb") as stream:
                        entry += (stream.read(),)
                elif stat.S_ISLNK(status.st_mode):
                    entry += (os.readlink(path),)
                found[os.path.relpath(path, self.top)] = entry
        return found


class Stream:
    """Chooses operations, aiming at what exists on the oracle; both sides get the same ones."""

    def __init__(self, seed, oracle):
        self.rng = random.Random(seed)
        self.oracle = oracle
        self.known = []
        self.folders = []

    def look_around(self):
        self.known, self.folders = [], [()]
        for folder, directories, files in os.walk(self.oracle.top):
            base = os.path.relpath(folder, self.oracle.top)
            parts = () if base == "." else tuple(base.split("/"))
            self.folders += [parts + (name,) for name in directories if len(parts) < 3]
            self.known += [parts + (name,) for name in directories + files]
        self.known.sort()
        self.folders.sort()

    def parts(self):
        rng = self.rng
        chance = rng.random()
        if chance < 0.55 and self.known:
            return rng.choice(self.known)
        if chance < 0.9 and self.folders:
            return (*rng.choice(self.folders), rng.choice(NAMES))
        return tuple(rng.choice(NAMES) for _ in range(rng.randrange(1, 4)))

    def next(self):
        rng = self.rng
        user = rng.choices(USERS, (4, 2, 2))[0]
        operation = rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        return user, operation, getattr(self, "for_" + operation)()

    def slot(self):
        used = sorted(self.oracle.handles)
        return self.rng.choice(used) if used else 0

    def free_slot(self):
        return self.rng.randrange(HANDLES)

    def bits(self):
        return self.rng.choice((0o600, 0o644, 0o666, 0o755, 0o777, 0o640, 0o4755, 0o2775, 0o1777))

    def for_open(self):
        return self.free_slot(), self.parts(), self.rng.choice(FLAGS), self.bits()

    def for_tmpfile(self):
        return self.free_slot(), self.parts()[:1], 0o640

    def for_close(self):
        return (self.slot(),)

    def for_pread(self):
        return self.slot(), self.rng.choice(SIZES), self.rng.choice(OFFSETS)

    def for_pwrite(self):
        return self.slot(), self.data(), self.rng.choice(OFFSETS)

    def data(self):
        size = self.rng.choice(SIZES)
        return self.rng.randbytes(size) if self.rng.random() < 0.5 else b"text " * (size // 5)

    def for_write(self):
        return self.slot(), self.data()

    def for_ftruncate(self):
        return self.slot(), self.rng.choice(OFFSETS)

    def for_fallocate(self):
        bits = self.rng.choice((0, KEEP_SIZE, PUNCH_HOLE | KEEP_SIZE, ZERO_RANGE,
                                ZERO_RANGE | KEEP_SIZE))
        return self.slot(), bits, self.rng.choice(OFFSETS), self.rng.choice(SIZES)

    def for_fsync(self):
        return (self.slot(),)

    def for_fchmod(self):
        return self.slot(), self.bits()

    def for_copy(self):
        choose = self.rng.choice
        return self.slot(), self.slot(), choose(SIZES), choose(OFFSETS), choose(OFFSETS)

    def for_make(self):
        kind = self.rng.choices(("dir", "regular", "symlink", "socket", "char", "fifo"),
                                (6, 3, 2, 1, 1, 1))[0]
        return kind, self.parts(), self.bits()

    def for_unlink(self):
        return (self.parts(),)

    for_rmdir = for_listdir = for_readlink = for_stat = for_unlink

    def for_rename(self):
        flags = self.rng.choices((0, RENAME_NOREPLACE, RENAME_EXCHANGE), (6, 1, 2))[0]
        return self.parts(), self.parts(), flags

    def for_link(self):
        old = self.parts()
        # Links of a sealed symbolic link are copies, see docs/limits.md.
        while os.path.islink(self.oracle.path(old)):
            old = self.parts()
        return old, self.parts()

    def for_chmod(self):
        return self.parts(), self.bits()

    def for_chown(self):
        # Not (-1, -1): by a stranger, on a set-ID file, the kernel refuses that on ext4 only.
        return self.parts(), *self.rng.choice(((0, -1), (1001, -1), (1002, 0), (-1, 0), (-1, 1001),
                                               (1001, 1001)))

    def for_truncate(self):
        return self.parts(), self.rng.choice(OFFSETS)

    def for_utime(self):
        old = (self.rng.randrange(10**8), self.rng.randrange(10**9))
        return self.parts(), *self.rng.choice(((old, old), (old, (0, (1 << 30) - 2)),
                                               ((0, (1 << 30) - 1), old), (None, None)))

    def key(self):
        return self.rng.choice(("user.a", "user.b" * 3, "trusted.t"))

    def for_setxattr(self):
        value = self.rng.randbytes(self.rng.choice((0, 5, 60)))
        return self.parts(), self.key(), value, self.rng.choice((0, 1, 2))

    def for_getxattr(self):
        return self.parts(), self.key()

    for_removexattr = for_getxattr

    def for_access(self):
        return self.parts(), self.rng.randrange(8)

    def for_fstat(self):
        return (self.slot(),)


WEIGHTS = {
    "open": 16, "tmpfile": 1, "close": 4, "pread": 8, "pwrite": 8, "write": 5, "ftruncate": 3,
    "fallocate": 3, "fsync": 1, "fchmod": 1, "copy": 2, "make": 9, "unlink": 4, "rmdir": 2,
    "rename": 8, "link": 3, "chmod": 4, "chown": 4, "truncate": 3, "utime": 4, "setxattr": 3,
    "getxattr": 2, "removexattr": 1, "listdir": 3, "readlink": 1, "access": 2, "stat": 5,
    "fstat": 3,
}


def shown(operation, arguments):
    def short(value):
        text = repr(value)
        return text if len(text) < 60 else f"{text[:40]}… ({len(value)})"
    return f"{operation}({', '.join(map(short, arguments))})"


def compare(oracle_top, subject_top, seed, steps, keeps_set_id=True, check_every=250):
    """Runs the stream on both directories; raises Mismatch at the first difference.

    Without `keeps_set_id` nothing is asked about the set-ID bits of regular files.
    """
    oracle, subject = Side(oracle_top, keeps_set_id), Side(subject_top, keeps_set_id)
    stream = Stream(seed, oracle)
    history = []
    try:
        for step in range(steps):
            if step % 8 == 0:
                stream.look_around()
            user, operation, arguments = stream.next()
            if not all(slot in oracle.handles for slot in _slots(operation, arguments)):
                continue
            wanted = oracle.run(user, operation, arguments)
            got = subject.run(user, operation, arguments)
            history.append(f"{step}: uid {user[0]} {shown(operation, arguments)} = {wanted[0]}")
            if wanted == got:
                wanted, got = _aftermath(oracle, operation, arguments), _aftermath(
                    subject, operation, arguments)
            if wanted != got:
                raise Mismatch(report(seed, step, user, history, wanted, got))
            if (step + 1) % check_every == 0:
                compare_trees(oracle, subject, seed, step, history)
        compare_trees(oracle, subject, seed, steps, history)
    finally:
        for side in (oracle, subject):
            for slot in list(side.handles):
                side.close(slot)


def _slots(operation, arguments):
    """The handle slots that an operation needs open."""
    if operation in ("open", "tmpfile", "close"):
        return ()
    if operation == "copy":
        return arguments[:2]
    return arguments[:1] if isinstance(arguments[0], int) else ()


def _aftermath(side, operation, arguments):
    """Attributes of what the operation named, as they are after it."""
    seen = []
    for argument in arguments:
        if isinstance(argument, tuple) and argument and isinstance(argument[0], str):
            for parts in (argument, argument[:-1]):
                try:
                    seen.append(side.attributes(os.lstat(side.path(parts))))
                except OSError as error:
                    seen.append(errno.errorcode[error.errno])
    for slot in _slots(operation, arguments):
        try:
            seen.append(side.attributes(os.fstat(side.handles[slot])))
        except OSError as error:
            seen.append(errno.errorcode[error.errno])
    return seen


def compare_trees(oracle, subject, seed, step, history):
    wanted, got = oracle.tree(), subject.tree()
    if wanted == got:
        return
    paths = [path for path in {**wanted, **got} if wanted.get(path) != got.get(path)]
    path = sorted(paths)[0]
    raise Mismatch(report(seed, step, None, history, (path, wanted.get(path)),
                          (path, got.get(path))))


def report(seed, step, user, history, wanted, got):
    def cut(value):
        text = repr(value)
        return text if len(text) < 600 else text[:600] + "…"
    return (f"seed {seed}, step {step}, user {user}\n  ext4 gave {cut(wanted)}\n"
            f"  here     {cut(got)}\nlast calls:\n  " + "\n  ".join(history[-12:]))

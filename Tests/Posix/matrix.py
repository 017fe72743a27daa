"""Many small cells, each one situation and one call, run on two filesystems and compared.

A cell has a directory of its own. All of them are laid out first, then every call is made, then every
directory is looked at, so that times need one pause for all instead of one for each.
"""

import ctypes
import errno
import os
import stat

from .place import FORMATS, tick
from .users import ALICE, BOB, CAROL, ROOT

USERS = {"root": ROOT, "alice": ALICE, "bob": BOB, "carol": CAROL}


class Cell:
    """One call in one situation: `lay` makes what it finds, `call` is made as `user`."""

    def __init__(self, title, lay, call, user=ROOT, umask=0o022):
        self.title, self.lay, self.call, self.user, self.umask = title, lay, call, user, umask


class as_user:
    """Context: this thread with the rights of a user, as the kernel sees them."""

    def __init__(self, user, umask=0o022):
        self.user, self.umask = user, umask

    def __enter__(self):
        self.before = os.umask(self.umask)
        os.setgroups(self.user.groups)
        os.setegid(self.user.gid)
        os.seteuid(self.user.uid)

    def __exit__(self, *_):
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(())
        os.umask(self.before)


def outcome(function, *arguments):
    """What a call gave, comparable: its value where that is plain data, or the name of its error."""
    try:
        value = function(*arguments)
    except OSError as error:
        return errno.errorcode.get(error.errno, error.errno)
    return value if isinstance(value, (str, bytes, bool, tuple, list)) else "ok"


def make(kind, path, mode=0o644, owner=ROOT, target="nowhere"):
    """A file of any type, with exactly this mode and owner."""
    if kind == "dir":
        os.mkdir(path)
    elif kind == "symlink":
        os.symlink(target, path)
        os.lchown(path, owner.uid, owner.gid)
        return path
    else:
        os.mknod(path, FORMATS[kind] | 0o600,
                 os.makedev(1, 3) if kind in ("block", "char") else 0)
    if owner != ROOT:
        os.chown(path, owner.uid, owner.gid)
    if os.lstat(path).st_mode & 0o7777 != mode:
        os.chmod(path, mode)
    return path


def entries():
    """Every path below the working directory, and itself, with its attributes."""
    found = {}
    pending = ["."]
    while pending:
        path = pending.pop()
        status = found[path] = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            pending += [entry.path for entry in os.scandir(path)]
    return found


def look(before, after):
    """The state after a call in terms of the one before: what is there, which inode it is, what moved."""
    known = {}
    for path, status in sorted(before.items()):
        known.setdefault(status.st_ino, (path, status))
    state = {}
    for path, status in after.items():
        origin, old = known.get(status.st_ino, (None, None))
        is_link = stat.S_ISLNK(status.st_mode)
        if old is not None and stat.S_IFMT(old.st_mode) != stat.S_IFMT(status.st_mode):
            origin, old = None, None  # the inode number of something that is gone
        moved = "" if old is None else "".join(
            letter for letter, was, now in (("m", old.st_mtime_ns, status.st_mtime_ns),
                                            ("c", old.st_ctime_ns, status.st_ctime_ns))
            if was != now)
        size = None if stat.S_ISDIR(status.st_mode) else status.st_size
        if is_link:
            # A sealed link is made anew by a rename, and shows it once the kernel has forgotten the old one.
            origin, moved = "link", ""
        state[path] = (
            origin or "new", oct(status.st_mode), status.st_uid, status.st_gid,
            1 if is_link else status.st_nlink, size, status.st_rdev, moved)
    return state


def run(cells, top):
    """Runs the cells in a new directory: [(title, what the call gave, the state after it)]."""
    os.mkdir(top)
    os.chmod(top, 0o755)
    laid = []
    for number, cell in enumerate(cells):
        folder = os.path.join(top, str(number))
        os.mkdir(folder)
        os.chmod(folder, 0o777)
        os.chdir(folder)
        cell.lay()
        laid.append((cell, folder, entries()))
    tick()
    given = []
    for cell, folder, _ in laid:
        os.chdir(folder)
        with as_user(cell.user, cell.umask):
            given.append(outcome(cell.call))
    found = []
    for (cell, folder, before), result in zip(laid, given):
        os.chdir(folder)
        found.append((cell.title, result, look(before, entries())))
    os.chdir("/")
    return found


def differences(wanted, got, limit=25):
    """Where two runs of the same cells differ, as text; empty where nowhere."""
    lines = []
    for (title, result, state), (_, here, now) in zip(wanted, got, strict=True):
        if result != here:
            lines.append(f"{title}: ext4 gives {result}, here {here}")
        for path in sorted({**state, **now}):
            if state.get(path) != now.get(path):
                lines.append(f"{title} ({result}): {path}: ext4 {state.get(path)}, here {now.get(path)}")
    more = [f"… and {len(lines) - limit} more"] if len(lines) > limit else []
    return "\n".join(lines[:limit] + more)


_libc = ctypes.CDLL(None, use_errno=True)


def with_bad_pointer(name, *arguments):
    """A call whose path or buffer is an address that is not mapped."""
    function = getattr(_libc, name)
    function.restype = ctypes.c_int
    if function(*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))

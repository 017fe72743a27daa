"""System calls and structures that Python's `os` does not offer."""

import ctypes
import ctypes.util
import errno
import fcntl
import os
import struct

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_REMOVEDIR = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000

STATX_BTIME = 0x800

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT = 1, 2, 4

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

KEEP_SIZE, PUNCH_HOLE, COLLAPSE, ZERO_RANGE, INSERT = 0x01, 0x02, 0x08, 0x10, 0x20

F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW = 36, 37, 38

FICLONE = 0x40049409
FS_IOC_FIEMAP = 0xC020660B

IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_OPEN = 0x2, 0x4, 0x8, 0x20
IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE = 0x40, 0x80, 0x100, 0x200

_libc = ctypes.CDLL(None, use_errno=True)
_off = ctypes.c_int64


def _call(name, *arguments, types=None):
    function = getattr(_libc, name)
    if types:
        function.argtypes = types
    result = function(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def path_bytes(path):
    return os.fsencode(path)


def renameat2(old, new, flags):
    path = ctypes.c_char_p
    return _call("renameat2", AT_FDCWD, path_bytes(old), AT_FDCWD, path_bytes(new), flags,
                 types=[ctypes.c_int, path, ctypes.c_int, path, ctypes.c_uint])


def linkat(old_fd, old, new_fd, new, flags):
    path = ctypes.c_char_p
    return _call("linkat", old_fd, path_bytes(old), new_fd, path_bytes(new), flags,
                 types=[ctypes.c_int, path, ctypes.c_int, path, ctypes.c_int])


def utimensat(path, atime, mtime, follow=True):
    """Sets times given as (seconds, nanoseconds); None means the null pointer (now)."""
    times = None
    if atime is not None:
        times = (ctypes.c_int64 * 4)(*atime, *mtime)
    return _call("utimensat", AT_FDCWD, path_bytes(path), times,
                 0 if follow else AT_SYMLINK_NOFOLLOW,
                 types=[ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int])


def futimens(fd, atime, mtime):
    times = (ctypes.c_int64 * 4)(*atime, *mtime)
    return _call("futimens", fd, times, types=[ctypes.c_int, ctypes.c_void_p])


def fallocate(fd, mode, offset, length):
    return _call("fallocate", fd, mode, offset, length,
                 types=[ctypes.c_int, ctypes.c_int, _off, _off])


def mknod(path, mode, device=0):
    os.mknod(path, mode, device)


def sync_file_range(fd, offset, length, flags):
    return _call("sync_file_range", fd, offset, length, flags,
                 types=[ctypes.c_int, _off, _off, ctypes.c_uint])


def inotify(path, mask):
    fd = _call("inotify_init1", os.O_NONBLOCK)
    _call("inotify_add_watch", fd, path_bytes(path), mask,
          types=[ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32])
    return fd


def inotify_events(fd):
    """The (mask, name) pairs that wait in an inotify descriptor."""
    events = []
    try:
        data = os.read(fd, 65536)
    except BlockingIOError:
        return events
    while data:
        _, mask, _, length = struct.unpack_from("iIII", data)
        events.append((mask, data[16:16 + length].rstrip(b"\0")))
        data = data[16 + length:]
    return events


def statx(path, mask=0xFFF, flags=AT_SYMLINK_NOFOLLOW):
    """(mask, attributes, blocks, birth time in ns) of statx(2)."""
    buffer = ctypes.create_string_buffer(256)
    _call("statx", AT_FDCWD, path_bytes(path), flags, mask, buffer,
          types=[ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p])
    got, _, attributes = struct.unpack_from("IIQ", buffer.raw, 0)
    blocks = struct.unpack_from("Q", buffer.raw, 48)[0]
    seconds, nanoseconds = struct.unpack_from("qI", buffer.raw, 80)
    return got, attributes, blocks, seconds * 10**9 + nanoseconds


def getdents(fd, size=32768):
    """One getdents64 call: a list of (inode, next offset, type, name)."""
    buffer = ctypes.create_string_buffer(size)
    syscall = _libc.syscall
    syscall.restype = ctypes.c_long
    count = syscall(ctypes.c_long(217), ctypes.c_int(fd), buffer, ctypes.c_uint(size))
    if count < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    entries, at = [], 0
    while at < count:
        inode, offset, length, kind = struct.unpack_from("QqHB", buffer.raw, at)
        name = buffer.raw[at + 19:at + length].split(b"\0", 1)[0]
        entries.append((inode, offset, kind, name))
        at += length
    return entries


def ofd_lock(fd, kind, start=0, length=0, wait=False):
    lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    fcntl.fcntl(fd, F_OFD_SETLKW if wait else F_OFD_SETLK, lock)


def ofd_query(fd, kind, start=0, length=0):
    lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    return struct.unpack("hhqqi4x", fcntl.fcntl(fd, F_OFD_GETLK, lock))[0]


def posix_query(fd, kind, start=0, length=0):
    """(kind, pid) of the lock that would stand in the way; F_UNLCK if none."""
    lock = struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)
    got = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, lock))
    return got[0], got[4]


# POSIX ACLs in their xattr form: u32 version 2, then (u16 tag, u16 permission, u32 id).
ACL_USER_OBJ, ACL_USER, ACL_GROUP_OBJ, ACL_GROUP, ACL_MASK, ACL_OTHER = 1, 2, 4, 8, 16, 32
ACL_ACCESS, ACL_DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_NO_ID = 0xFFFFFFFF


def acl(user=7, group=5, other=5, mask=None, users=(), groups=()):
    """An ACL as xattr bytes; `users` and `groups` are (id, permission) pairs."""
    entries = [(ACL_USER_OBJ, user, _NO_ID)]
    entries += [(ACL_USER, permission, who) for who, permission in users]
    entries.append((ACL_GROUP_OBJ, group, _NO_ID))
    entries += [(ACL_GROUP, permission, who) for who, permission in groups]
    if mask is not None:
        entries.append((ACL_MASK, mask, _NO_ID))
    entries.append((ACL_OTHER, other, _NO_ID))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def acl_entries(data):
    """[(tag, permission, id or None)] of an ACL's xattr bytes."""
    entries = struct.iter_unpack("<HHI", data[4:])
    return [(tag, perm, None if who == _NO_ID else who) for tag, perm, who in entries]


def setgroups_and_user(uid, gid, groups):
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def is_unsupported(code):
    return code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOTTY)

"""Session state (format.md section 10)."""

import struct
from collections import namedtuple

from .primitives import PAGE, Damaged, aead_open, aead_seal, i64, is_zero, require, u64

MAGIC = b"SCRIMSES"
CLEAN, OPEN = 0, 1
GRACE = 2_000_000_000


class Session(namedtuple("Session", "serial number state start windows")):
    """`windows` is a list of (start, end) in Unix nanoseconds."""

    __slots__ = ()

    def body(self):
        out = struct.pack("<QQBB6xq", self.serial, self.number, self.state, len(self.windows),
                          self.start)
        out += b"".join(struct.pack("<qq", *window) for window in self.windows)
        return out + bytes(PAGE - 36 - len(out))

    def excuses(self, ctime, now):
        """Whether torn commits are excused for a backing inode with this ctime."""
        windows = list(self.windows)
        if self.state == OPEN:
            windows.append((min(self.start, now), max(self.start, now)))
        return any(start - GRACE <= ctime <= end for start, end in windows)


def seal_page(keys, body, nonce):
    cipher, tag = aead_seal(keys.suite, keys.sessions, nonce, body, MAGIC + keys.vault_id)
    return MAGIC + nonce + tag + cipher


def open_page(keys, page):
    require(len(page) == PAGE and page[:8] == MAGIC, "session: not a session page")
    ad = MAGIC + keys.vault_id
    body = aead_open(keys.suite, keys.sessions, page[8:20], page[36:], page[20:36], ad, "session")
    state, count = body[16], body[17]
    require(state in (CLEAN, OPEN), "session: unknown state")
    require(count <= 64, "session: number of windows")
    require(is_zero(body[18:24]) and is_zero(body[32 + 16 * count :]), "session: zero field")
    windows = [(i64(body, at), i64(body, at + 8)) for at in range(32, 32 + 16 * count, 16)]
    return Session(u64(body, 0), u64(body, 8), state, i64(body, 24), windows)


def open_sessions(keys, data):
    """The page that counts of a whole `scrim.session`."""
    require(len(data) == 2 * PAGE, "session: the file is not two pages")
    pages = []
    for page in (data[:PAGE], data[PAGE:]):
        try:
            pages.append(open_page(keys, page))
        except Damaged:
            continue
    require(pages, "session: no page is valid")
    return max(pages, key=lambda session: session.serial)

"""Session state (format.md section 10)."""

import struct
from collections import namedtuple

from .primitives import PAGE, Damaged, aead_open, aead_seal, i64, is_zero, require, u64

MAGIC = b"SCRIMSES"
CLEAN, OPEN = 0, 1
GRACE = 2_000_000_000


class Session(namedtuple("Session", "serial number state start windows")):
    """`windows` is a list of (start, end, first session, last session), times in Unix nanoseconds."""

    __slots__ = ()

    def body(self):
        out = struct.pack("<QQBB6xq", self.serial, self.number, self.state, len(self.windows),
                          self.start)
        out += b"".join(struct.pack("<qqQQ", *window) for window in self.windows)
        return out + bytes(PAGE - 36 - len(out))

    def all_windows(self, now):
        if self.state == CLEAN:
            return list(self.windows)
        return [*self.windows, (min(self.start, now), max(self.start, now), self.number, self.number)]

    def excuses(self, ctime, now):
        """Whether torn commits are excused for a backing inode with this ctime."""
        return any(start - GRACE <= ctime <= end for start, end, _, _ in self.all_windows(now))

    def unclean(self, now):
        """The ranges of sessions that ended uncleanly."""
        return [window[2:] for window in self.all_windows(now)]


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
    require(is_zero(body[18:24]) and is_zero(body[32 + 32 * count :]), "session: zero field")
    windows = [(i64(body, at), i64(body, at + 8), u64(body, at + 16), u64(body, at + 24))
               for at in range(32, 32 + 32 * count, 32)]
    require(all(first <= last for _, _, first, last in windows), "session: sessions of a window")
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

"""Vectors of size hints, extended attributes and session pages."""

from scrim_reader import attributes, sessions
from scrim_reader.primitives import PAGE, b64, siv_seal

from .cases_keys import given, keys_for
from .containers import flip, sparse
from .seeded import Seeded


def hints():
    cases = []
    for suite in (1, 2):
        keys, rng = keys_for("hints", suite), Seeded("hints %d" % suite)
        for values in ((0, 4096, 1), (2**57, 2**58, 2**64 - 1)):
            hint = attributes.Hint(*values)
            inode = values[2] + 11 & 2**64 - 1
            data = attributes.seal_hint(keys, hint, inode, rng.take(12))
            cases.append({"name": "size %d" % values[0], **given(keys), "inode": inode, "hint": data.hex(),
                          "expect": hint._asdict()})
    for name, bad in (
        ("flipped nonce", flip(data, 0)), ("flipped body", flip(data, 100)),
        ("flipped tag", flip(data, 8 * 51)), ("one byte short", data[:-1]),
        ("one byte more", data + b"\0"), ("empty", b""),
        ("of another vault",
         attributes.seal_hint(keys_for("another vault", 2), hint, inode, rng.take(12))),
        ("of another inode", attributes.seal_hint(keys, hint, inode + 1, rng.take(12))),
    ):
        cases.append({"name": name, **given(keys), "inode": inode, "hint": bad.hex(), "reject": name})
    return cases


def xattrs():
    cases = []
    for suite in (1, 2):
        keys, rng = keys_for("attributes", suite), Seeded("attributes %d" % suite)
        for name, owner, value in (
            (b"user.comment", rng.take(16), b"a value"),
            (b"user.x", rng.take(16), b""),
            (b"trusted.overlay.opaque", b"", b"y"),
            (b"security.capability", rng.take(16), rng.take(300)),
            ("user.Ä".encode() + b"\xff", rng.take(16), b"\0\1"),
        ):
            stored = attributes.sealed_attribute_name(keys, name)
            data = attributes.seal_attribute_value(keys, stored, owner, value, rng.take(12))
            cases.append({"name": repr(name), **given(keys), "object": owner.hex(),
                          "plain": name.hex(), "stored_name": stored.decode(),
                          "stored_value": data.hex(), "value": value.hex()})
    owner, name = rng.take(16), b"user.comment"
    stored = attributes.sealed_attribute_name(keys, name)

    def sealed(of=stored, who=owner):
        return attributes.seal_attribute_value(keys, of, who, b"a value", rng.take(12))

    text = stored.rpartition(b".")[2]
    bad_name = b"user.scrim.x." + b64(flip(siv_seal(keys.attribute_names, b"comment", []), 3))
    trusted = attributes.sealed_attribute_name(keys, b"trusted.comment")
    other_name = attributes.sealed_attribute_name(keys, b"user.other")
    padded = b"user.scrim.x." + text + b"=" * (-len(text) % 4)
    for title, stored_name, value in (
        ("value of another attribute", stored, sealed(of=other_name)),
        ("value of another prefix", trusted, sealed()),
        ("value of another object", stored, sealed(who=rng.take(16))),
        ("value flipped", stored, flip(sealed(), 100)),
        ("value truncated", stored, sealed()[:27]),
        ("value empty", stored, b""),
        ("name flipped", bad_name, sealed(of=bad_name)),
        ("name with base64 padding", padded, sealed(of=padded)),
        ("name empty", b"user.scrim.x.", sealed(of=b"user.scrim.x.")),
        ("name not base64", b"user.scrim.x.a.b", sealed(of=b"user.scrim.x.a.b")),
    ):
        cases.append({"name": title, **given(keys), "object": owner.hex(),
                      "stored_name": stored_name.decode(), "stored_value": value.hex(),
                      "reject": title})
    return cases


def _base(keys, one, two, length=2 * PAGE):
    pages = {i: p for i, p in ((0, one), (1, two)) if p}
    return {**given(keys), "file": sparse(pages, length)}


def session_files():
    keys, rng = keys_for("sessions"), Seeded("sessions")
    start = 1_700_000_000_000_000_000

    def session(serial, **fields):
        fields = {"number": 1_700_000_000 + serial, "state": 0, "start": start, "windows": [], **fields}
        return sessions.Session(serial, **fields)

    def page(of, body=None):
        return sessions.seal_page(keys, body or of.body(), rng.take(12))

    first, second = session(4), session(5, state=1, windows=[(start - 10**12, start - 10**9, 1_699_999_000, 1_699_999_002)])
    many = session(9, windows=[(i * 10, i * 10 + 5, i, i) for i in range(63)] + [(-(2**63), 2**63 - 1, 0, 2**63 - 1)])
    cases = []
    for name, one, two, best in (
        ("first page only, never opened", page(first), b"", first),
        ("second page is newer", page(first), page(second), second),
        ("newer page is torn", page(first), flip(page(second), 8 * 600), first),
        ("64 windows, the first page alone", page(many), b"", many),
    ):
        expect = {**best._asdict(), "windows": [list(w) for w in best.windows]}
        cases.append({"name": name, **_base(keys, one, two), "expect": expect})
    body = second.body()
    stranger = keys_for("another vault")
    for name, one, length in (
        ("no page is valid", flip(page(second), 8 * 21), None),
        ("all zero", b"", None),
        ("empty file", b"", 0),
        ("truncated", page(second)[:4000], 4000),
        ("of another vault", sessions.seal_page(stranger, body, rng.take(12)), None),
        ("state 2", page(None, body[:16] + b"\2" + body[17:]), None),
        ("65 windows", page(None, body[:17] + b"\x41" + body[18:]), None),
        ("zero field", page(None, body[:20] + b"\1" + body[21:]), None),
        ("sessions of a window in the wrong order", page(None, body[:48] + body[56:64] + body[48:56] + body[64:]), None),
        ("bytes after the windows", page(None, body[:-1] + b"\1"), None),
    ):
        given_file = _base(keys, one, b"", 2 * PAGE if length is None else length)
        cases.append({"name": name, **given_file, "reject": name})
    return cases


def excuses():
    """Whether a change time lies in an unclean window."""
    second = 10**9
    windows = [(100 * second, 200 * second, 100, 100), (400 * second, 400 * second, 400, 400)]
    cases = []
    for name, ctime, state in (
        ("before", 97 * second, 0), ("just before the grace", 98 * second - 1, 0),
        ("first of the grace", 98 * second, 0), ("inside", 150 * second, 0),
        ("last", 200 * second, 0), ("just after", 200 * second + 1, 0),
        ("between", 300 * second, 0), ("in a window of no length", 400 * second, 0),
        ("after all, clean", 650 * second, 0), ("after all, open", 650 * second, 1),
        ("open, later than now", 701 * second, 1), ("open, before its start", 597 * second, 1),
    ):
        session = sessions.Session(1, 1, state, 600 * second, windows)
        now = 700 * second
        cases.append({"name": name, "state": state, "start": session.start, "now": now,
                      "windows": [list(w) for w in windows], "ctime": ctime,
                      "excused": session.excuses(ctime, now)})
    return cases


def files():
    return {
        "hint/hint.json": ("Size hints", hints()),
        "xattr/xattr.json": ("Sealed extended attributes", xattrs()),
        "session/session.json": ("Whole scrim.session files", session_files()),
        "session/excuses.json": ("Times against unclean windows", excuses()),
    }

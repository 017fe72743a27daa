"""Vectors of names, link targets and directory records."""

from scrim_reader import names, records
from scrim_reader.primitives import b64, sha256, siv_seal

from .cases_keys import given, keys_for
from .containers import flip
from .seeded import Seeded

_LENGTHS = (1, 15, 16, 17, 160, 161, 176, 177, 255)


def _sidecar(pair):
    return None if pair is None else {"name": pair[0].decode(), "content": pair[1].hex()}


def sealed_names():
    keys, rng = keys_for("sealed names"), Seeded("sealed names")
    directory = rng.take(16)
    base = {**given(keys), "directory": directory.hex()}
    plain = [(b"a" * n, names.PRIMARY) for n in _LENGTHS]
    plain += [(b"kind", kind) for kind in names.SEALED_SUFFIX]
    plain += [(b"k" * 200, kind) for kind in names.SEALED_SUFFIX]
    plain += [("Grüße.txt".encode(), 0), (b"\xff\xfe\x01 \n", 2), (b"...", 0), (b".scrim-dir", 0)]
    cases = []
    for name, kind in plain:
        backing, sidecar = names.sealed_name(keys, directory, kind, name)
        cases.append({"name": "%s of %d bytes: %.8r" % (names.KIND_NAMES[kind], len(name), name),
                      **base, "kind": kind, "plain": name.hex(), "backing": backing.decode(),
                      "sidecar": _sidecar(sidecar)})
    for name, backing, sidecar in _bad_sealed(keys, directory, rng):
        cases.append({"name": name, **base, "backing": backing.decode(),
                      "sidecar": _sidecar(sidecar), "reject": name})
    return cases


def _bad_sealed(keys, directory, rng):
    def stem(padded, kind=0, owner=directory):
        return b64(siv_seal(keys.names, padded, [owner, bytes([kind])]))

    good = names.seal_stem(keys, directory, 0, b"a name")
    yield "flipped ciphertext", b64(flip(names.unb64(good), 130)), None
    yield "flipped synthetic IV", b64(flip(names.unb64(good), 0)), None
    yield "of another directory", names.seal_stem(keys, rng.take(16), 0, b"a name"), None
    yield "kind: a container called plain", good + b".p", None
    yield "kind: a plain file called container", names.seal_stem(keys, directory, 2, b"a"), None
    yield "unknown suffix", good + b".q", None
    yield "suffix of a sidecar", good + b".n", None
    yield "two suffixes", names.seal_stem(keys, directory, 2, b"a name") + b".p.p", None
    yield "padded to one block too many", stem(b"a name".ljust(32, b"\0")), None
    yield "not padded", stem(b"a name"), None
    yield "padding only", stem(bytes(16)), None
    yield "nothing sealed", b64(rng.take(16)), None
    yield "NUL inside", stem(b"a\0name".ljust(16, b"\0")), None
    yield "slash", stem(b"a/name".ljust(16, b"\0")), None
    yield "dot", stem(b".".ljust(16, b"\0")), None
    yield "dot-dot", stem(b"..".ljust(16, b"\0")), None
    yield "256 bytes", *_hashed(stem(b"x" * 256))
    short = names.unb64(stem(b"16 bytes of name"))
    yield "non-zero trailing bits", b64(short)[:-1] + _next(b64(short)[-1:]), None
    yield "base64 padding", good + b"=" * (-len(good) % 4), None
    yield "not base64", b"plain.txt", None
    yield "hashed without need", *_hashed(good)
    long = stem((b"n" * 200).ljust(208, b"\0"))
    backing, (sidecar, content) = _hashed(long)
    yield "sidecar missing", backing, None
    yield "sidecar of another name", backing, (sidecar, stem((b"m" * 200).ljust(208, b"\0")))
    yield "sidecar with a line end", backing, (sidecar, content + b"\n")
    yield "sidecar empty", backing, (sidecar, b"")
    yield "not the hash's length", b"~" + b64(bytes(31)), None


def _hashed(stem):
    short = b"~" + b64(sha256(stem))
    return short, (short + b".n", stem)


def _next(character):
    """The character one up in the alphabet: only unused bits differ if it had them zero."""
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    at = alphabet.index(character)
    return alphabet[at + 1 : at + 2]


def plain_names():
    cases = []
    plain = [(b"a" * n, names.PRIMARY) for n in (1, 254, 255)]
    plain += [(b"a" * n, names.CONTAINER) for n in (1, 247, 248, 255)]
    plain += [(b"a" * n, names.LONG_LINK) for n in (247, 248)]
    for name in (b".scrim-dir", b".scrim-", b"a.scrim-c", b"a.scrim-l", b".scrim-n.x", b".scrim-x.scrim-c",
                 b"a.scrim-n", b"\xff\n\x01", b"x" * 247 + b".scrim-c", b".scrim-" + b"y" * 248):
        plain += [(name, names.PRIMARY), (name, names.CONTAINER)]
    for name, kind in plain:
        backing, sidecar = names.plain_name(kind, name)
        cases.append({"name": "%s of %d bytes: %.20r" % (names.KIND_NAMES[kind], len(name), name),
                      "kind": kind, "plain": name.hex(), "backing": backing.hex(),
                      "sidecar": _sidecar(sidecar)})
    for name, backing, sidecar in _bad_plain():
        cases.append({"name": name, "backing": backing.hex(), "sidecar": _sidecar(sidecar),
                      "reject": name})
    return cases


def _bad_plain():
    yield "escaped without need", b".scrim-n.ordinary_", None
    yield "escape without its end", b".scrim-n.a.scrim-c", None
    yield "escaped nothing", b".scrim-n._", None
    yield "not escaped: two suffixes", b"a.scrim-c.scrim-c", None
    yield "not escaped: suffix of a link in a container", b"a.scrim-l.scrim-c", None
    yield "hashed without need", *_hashed_plain(b"short")
    yield "hashed, not escaped", *_hashed_plain(b"x" * 248 + b".scrim-c")
    yield "hashed, escaped without need", *_hashed_plain(b".scrim-n." + b"x" * 250 + b"_")
    yield "hashed name of 256 bytes", *_hashed_plain(b"x" * 256)
    backing, (sidecar, content) = names.plain_name(names.CONTAINER, b"z" * 255)
    yield "sidecar missing", backing, None
    yield "sidecar of another name", backing, (sidecar, b"y" + content[1:])
    yield "not a hash", b".scrim-h.name", None


def _hashed_plain(full):
    short = b".scrim-h." + b64(sha256(full))
    return short, (short + b".n", full)


def links():
    keys, rng = keys_for("links"), Seeded("links")
    directory, name = rng.take(16), b"a link"
    base = {**given(keys), "directory": directory.hex(), "plain": name.hex()}
    cases = []

    def add(title, stored, allowed=False, target=None):
        outcome = {"reject": title} if target is None else {"target": target.hex()}
        cases.append({"name": title, **base, "plain_allowed": allowed,
                      "stored": stored.decode(errors="surrogateescape"), **outcome})

    def sealed(padded, owner=directory, of=name):
        return names.LINK_PREFIX + b64(siv_seal(keys.links, padded, [owner, of]))

    for target in (b"x", b"16 bytes target.", b"../a/b", "zu Bär".encode(), b"/" + b"l" * 3000):
        add("sealed target of %d bytes" % len(target),
            names.seal_target(keys, directory, name, target), target=target)
    odd = b".scrim-l.looks sealed"
    add("a target that looks sealed", names.seal_target(keys, directory, name, odd), True, odd)
    add("plain target, allowed", b"../plain", True, b"../plain")
    add("plain target, not allowed", b"../plain")
    stored = names.seal_target(keys, directory, name, b"target")
    add("flipped", names.LINK_PREFIX + b64(flip(names.unb64(stored[9:]), 140)))
    add("of another directory", sealed(b"target".ljust(16, b"\0"), owner=rng.take(16)))
    add("of another name", sealed(b"target".ljust(16, b"\0"), of=b"b link"))
    add("looks sealed and is not, where plain is allowed", odd, True)
    add("padded too much", sealed(b"target".ljust(32, b"\0")))
    add("not padded", sealed(b"target"))
    add("empty", sealed(bytes(16)))
    add("NUL inside", sealed(b"tar\0get".ljust(16, b"\0")))
    add("nothing sealed", names.LINK_PREFIX)
    return cases


def directory_records():
    cases = []
    for suite in (1, 2):
        keys, rng = keys_for("records", suite), Seeded("records %d" % suite)
        base = {**given(keys)}
        parent, name = rng.take(16), b"a directory"
        bound, other = keys.binding(parent, name), rng.take(16)
        place = {"parent": parent.hex(), "plain": name.hex()}
        root = keys.binding(bytes(16), b"")
        rules = [(0, b"*.mp4"), (3, b"log-????"), (2, b"\xff*"), (1, b"x" * 255)]

        def make(**fields):
            fields = {"id": rng.take(16), "serial": 1, "content": 1, "names": 1, "flags": 0,
                      "bindings": [bound], "rules": [], **fields}
            return records.Record(**fields)

        good = [
            ("plainest", make(), place),
            ("the root's", make(bindings=[root]), {"parent": bytes(16).hex(), "plain": ""}),
            ("two bindings", make(bindings=[other, bound], serial=2**64 - 1), place),
            ("plain content and plain names", make(content=0, names=0), place),
            ("every policy and flag", make(content=3, names=0, flags=0x1F), place),
            ("rules", make(content=2, rules=rules), place),
            ("32 rules", make(content=0, rules=[(0, b"%d" % i) for i in range(32)]), place),
        ]
        for title, record, where in good:
            data = records.seal_record(keys, record, rng.take(12))
            cases.append({"name": title, **base, **where, "record": data.hex(),
                          "expect": _shown(record)})
        if suite == 1:
            for title, data in _bad_records(keys, rng, make):
                cases.append({"name": title, **base, **place, "record": data.hex(), "reject": title})
    return cases


def _shown(record):
    shown = record._asdict()
    shown["id"], shown["bindings"] = record.id.hex(), [b.hex() for b in record.bindings]
    shown["rules"] = [{"content": p, "pattern": t.hex()} for p, t in record.rules]
    return {**shown, "allowed": record.allowed()}


def _bad_records(keys, rng, make):
    record = make(rules=[(0, b"*.mp4")])
    data = records.seal_record(keys, record, rng.take(12))
    body = record.body()

    def sealed(changed):
        return records.seal_body(keys, changed, rng.take(12))

    def patched(at, new):
        return sealed(body[:at] + new + body[at + len(new) :])

    yield "flipped tag", flip(data, 8 * 20)
    yield "flipped nonce", flip(data, 8 * 8)
    yield "flipped body", flip(data, 8 * 60)
    yield "magic", flip(data, 0)
    yield "truncated by a byte", data[:-1]
    yield "a byte after it", data + b"\0"
    yield "empty", b""
    yield "header only", data[:36]
    stranger = keys_for("another vault")
    yield "of another vault", records.seal_record(stranger, record, rng.take(12))
    yield "bound to another name", records.seal_record(keys, make(bindings=[rng.take(16)]), rng.take(12))
    yield "zero directory ID", patched(0, bytes(16))
    yield "content policy 4", patched(24, b"\4")
    yield "name policy 2", patched(25, b"\2")
    yield "unknown flag", patched(26, b"\x20")
    yield "unknown flag in the upper byte", patched(27, b"\1")
    yield "no binding", sealed(body[:28] + b"\0" + body[29:32] + body[48:])
    yield "three bindings", sealed(body[:28] + b"\3" + body[29:48] + bytes(32) + body[48:])
    yield "33 rules", records.seal_record(keys, make(rules=[(0, b"x")] * 33), rng.take(12))
    yield "more rules claimed than there are", patched(29, b"\2")
    yield "fewer rules claimed than there are", patched(29, b"\0")
    yield "zero field", patched(30, b"\1")
    yield "rule: content policy 4", patched(48, b"\4")
    yield "rule: empty pattern", sealed(body[:49] + b"\0")
    yield "rule: pattern beyond the end", patched(49, b"\6")
    yield "body too short", sealed(body[:31])


def rule_matches():
    cases = []
    for pattern, name, matches in (
        (b"*", b"x", True), (b"*.mp4", b"a.mp4", True), (b"*.mp4", b".mp4", True),
        (b"*.mp4", b"a.mp4x", False), (b"*.mp4", b"a.MP4", False), (b"?", b"\xff", True),
        (b"?", b"ab", False), (b"a*b*c", b"aXbYc", True), (b"a*b*c", b"abcb", False),
        (b"**", b"a\nb", True), (b"[ab]", b"a", False), (b"[ab]", b"[ab]", True),
        (b"a\\*", b"a*", False), (b"*a*a*a*a*a*a*b", b"a" * 255, False), (b"??*", b"a", False),
    ):
        cases.append({"name": "%r on %.8r" % (pattern, name), "pattern": pattern.hex(),
                      "plain": name.hex(), "matches": matches})
    return cases


def files():
    return {
        "names/sealed.json": ("Sealed names", sealed_names()),
        "names/plain.json": ("Plain names and their escapes", plain_names()),
        "link/target.json": ("Targets of symbolic links", links()),
        "record/record.json": ("Directory records at one place", directory_records()),
        "record/rules.json": ("Whether a rule's pattern matches a name", rule_matches()),
    }

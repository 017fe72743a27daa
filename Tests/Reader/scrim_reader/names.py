"""Backing names, both policies, and sealed link targets (format.md sections 6 and 7)."""

from .primitives import Damaged, b64, pad16, require, sha256, siv_open, siv_seal, unb64, unpad16

PRIMARY, CONTAINER, PLAIN_FILE, SPECIAL, LONG_LINK = 0, 1, 2, 3, 4
KIND_NAMES = ("primary", "container", "plain", "special", "long link")
SEALED_SUFFIX = {PRIMARY: b"", PLAIN_FILE: b".p", SPECIAL: b".s", LONG_LINK: b".l"}
PLAIN_SUFFIX = {PRIMARY: b"", CONTAINER: b".scrim-c", LONG_LINK: b".scrim-l"}
LINK_PREFIX = b".scrim-l."
NAME_MAX = 255
TARGET_MAX = 4095


class NoSidecar(Damaged):
    """A hashed name that cannot be listed."""


def check_name(name):
    require(1 <= len(name) <= NAME_MAX, "name: length")
    require(0 not in name and 0x2F not in name, "name: holds NUL or a slash")
    require(name not in (b".", b".."), "name: dot or dot-dot")
    return name


def seal_stem(keys, directory_id, kind, name):
    return b64(siv_seal(keys.names, pad16(name), [directory_id, bytes([kind])]))


def sealed_name(keys, directory_id, kind, name):
    """Returns (backing name, (sidecar name, its content) or None)."""
    stem, suffix = seal_stem(keys, directory_id, kind, name), SEALED_SUFFIX[kind]
    if len(stem + suffix) <= NAME_MAX:
        return stem + suffix, None
    short = b"~" + b64(sha256(stem))
    return short + suffix, (short + b".n", stem)


def open_sealed_name(keys, directory_id, backing, sidecar):
    """Returns (name, kind). `sidecar(name)` gives a file's content, or None."""
    stem, suffix = backing, b""
    if backing[-2:-1] == b".":
        stem, suffix = backing[:-2], backing[-2:]
    kinds = [k for k, s in SEALED_SUFFIX.items() if s == suffix]
    require(kinds, "name: unknown suffix")
    if stem[:1] == b"~":
        stem = _from_sidecar(stem, stem[1:], suffix, sidecar)
    kind = kinds[0]
    sealed = unb64(stem, "name")
    padded = siv_open(keys.names, sealed, [directory_id, bytes([kind])], "name")
    return check_name(unpad16(padded, "name")), kind


def _from_sidecar(short, digest, suffix, sidecar):
    require(len(unb64(digest, "name")) == 32, "name: not a hash")
    full = sidecar(short + b".n")
    if full is None:
        raise NoSidecar("name: its sidecar is missing")
    require(b64(sha256(full)) == digest, "name: sidecar of another name")
    require(len(full + suffix) > NAME_MAX, "name: hashed without need")
    return full


def escape(name):
    needed = name.startswith(b".scrim-") or name.endswith((b".scrim-c", b".scrim-l"))
    return b".scrim-n." + name + b"_" if needed else name


def plain_name(kind, name):
    """Returns (backing name, (sidecar name, its content) or None)."""
    full, suffix = escape(name), PLAIN_SUFFIX[kind]
    if len(full + suffix) <= NAME_MAX:
        return full + suffix, None
    short = b".scrim-h." + b64(sha256(full))
    return short + suffix, (short + b".n", full)


def open_plain_name(backing, sidecar):
    """Returns (name, kind)."""
    kind = PRIMARY
    full = backing
    for k in (CONTAINER, LONG_LINK):
        if backing.endswith(PLAIN_SUFFIX[k]):
            kind, full = k, backing[:-8]
    if full.startswith(b".scrim-h."):
        full = _from_sidecar(full, full[9:], PLAIN_SUFFIX[kind], sidecar)
    name = full[9:-1] if full.startswith(b".scrim-n.") else full
    require(escape(name) == full, "name: not the encoding of a name")
    return check_name(name), kind


def is_reserved(backing, sealed):
    """Names that are not entries: records, sidecars, temporaries, and what is not known."""
    if sealed:
        return backing.startswith(b".scrim-") or (backing[:1] == b"~" and backing[-2:] == b".n")
    if backing.startswith((b".scrim-n.", b".scrim-h.")):
        return backing.startswith(b".scrim-h.") and backing[-2:] == b".n"
    return backing.startswith(b".scrim-")


def seal_target(keys, directory_id, name, target):
    return LINK_PREFIX + b64(siv_seal(keys.links, pad16(target), [directory_id, name]))


def check_target(target):
    require(1 <= len(target) <= TARGET_MAX, "link: target length")
    require(0 not in target, "link: target holds a NUL byte")
    return target


def open_target(keys, directory_id, name, stored, plain_allowed):
    if stored.startswith(LINK_PREFIX):
        sealed = unb64(stored[len(LINK_PREFIX) :], "link")
        padded = siv_open(keys.links, sealed, [directory_id, name], "link")
        return check_target(unpad16(padded, "link"))
    require(plain_allowed, "link: plain target is not allowed here")
    return check_target(stored)

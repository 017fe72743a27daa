"""Size hints and extended attributes (format.md sections 8.7 and 9)."""

import struct
from collections import namedtuple

from .primitives import Damaged, aead_open, aead_seal, b64, require, siv_open, siv_seal, unb64

HINT = b"user.scrim.hint"
RECORD = b"user.scrim.dir"
PREFIXES = (b"user", b"trusted", b"security")
Hint = namedtuple("Hint", "size backing_length commit")


def _seal(keys, key, nonce, plain, ad):
    cipher, tag = aead_seal(keys.suite, key, nonce, plain, ad)
    return nonce + cipher + tag


def _open(keys, key, stored, ad, what):
    require(len(stored) >= 28, what + ": truncated")
    return aead_open(keys.suite, key, stored[:12], stored[12:-16], stored[-16:], ad, what)


def seal_hint(keys, hint, inode, nonce):
    ad = b"scrim hint" + struct.pack("<Q", inode)
    return _seal(keys, keys.hints, nonce, struct.pack("<QQQ", *hint), ad)


def open_hint(keys, stored, inode):
    require(len(stored) == 52, "hint: length")
    ad = b"scrim hint" + struct.pack("<Q", inode)
    return Hint(*struct.unpack("<QQQ", _open(keys, keys.hints, stored, ad, "hint")))


def sealed_attribute_name(keys, name):
    prefix, _, rest = name.partition(b".")
    return prefix + b".scrim.x." + b64(siv_seal(keys.attribute_names, rest, []))


def is_sealed_attribute(stored_name):
    return stored_name.startswith(tuple(p + b".scrim.x." for p in PREFIXES))


def is_own_attribute(stored_name):
    """Attributes of the format itself, which a reader never shows."""
    return stored_name.startswith(tuple(p + b".scrim." for p in PREFIXES))


def open_attribute_name(keys, stored_name):
    if not is_sealed_attribute(stored_name):
        raise Damaged("attribute: not sealed")
    prefix, _, _, text = stored_name.split(b".", 3)
    sealed = unb64(text, "attribute")
    name = siv_open(keys.attribute_names, sealed, [], "attribute")
    require(0 not in name, "attribute: name holds a NUL byte")
    return prefix + b"." + name


def seal_attribute_value(keys, stored_name, object_id, value, nonce):
    return _seal(keys, keys.attributes, nonce, value, stored_name + object_id)


def open_attribute_value(keys, stored_name, object_id, stored):
    return _open(keys, keys.attributes, stored, stored_name + object_id, "attribute")

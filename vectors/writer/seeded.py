"""Reproducible "random" bytes, and a zstd encoder whose output never changes."""

import hashlib
from itertools import groupby


class Seeded:
    """A stream of bytes that depends on its label only."""

    def __init__(self, label):
        self._label, self._count = label.encode(), 0

    def take(self, count):
        self._count += 1
        seed = b"scrim vectors\0%s\0%d" % (self._label, self._count)
        return hashlib.shake_256(seed).digest(count)


def zstd_frame(data):
    """One frame of raw and run-length blocks, so that no library version shows."""
    out = b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little")
    blocks, raw = [], b""
    for byte, run in groupby(data):
        count = len(list(run))
        if count < 64:
            raw += bytes([byte]) * count
            continue
        if raw:
            blocks.append((0, len(raw), raw))
        blocks.append((1, count, bytes([byte])))
        raw = b""
    if raw or not blocks:
        blocks.append((0, len(raw), raw))
    for i, (kind, count, body) in enumerate(blocks):
        last = i == len(blocks) - 1
        out += (last | kind << 1 | count << 3).to_bytes(3, "little") + body
    return out


TEXT = b"".join(b"line %d\n" % i for i in range(300))
# What `zstd -19 --no-check` 1.5.4 makes of TEXT: Huffman literals and sequences.
TEXT_FRAME = bytes.fromhex(
    "28b52ffd601e092d0d00d6715811b0a5d0628ee0924089eceede694bc4c1815e004d004d0086e09d5d1ddd9c"
    "5cdce7853b332b231b130bdbb460575655545352519715eac8a888684828689202ddd8d4d0ccc8c43c4e9813"
    "9312921191904509726151413121117118216ebba667397e0f9f66498e62b81a3c2b1a89158401c040804045"
    "1239a490414e4a06f2461b6ba4714619637c740ce389269648e2882286b8a818c40b2dac90c209258cf0d030"
    "84b7b6b5b4b3b2b1af1bf6d4b4947454347455835ed08215a4e0042518c1838671c4c7c621beb7afa79f978f"
    "fffdf0e7e6e5e4e3e2e1bb1efcc216ae3085272ce1081f361cc277da59279d73ca19e7a76738cf34b34c32c7"
    "1433cc4dcd605e696595544e2965949796a13cd2c882bbedae9beeb9e58efbdb3bdc679b5d36d9638b1df6b6"
    "76b0afb6ba6aaaa7963aea6beb501f6d74d1440f2d74d0d3d281bed9e69a699e59e6989f9dc37cb2c925933c"
    "b2c8212f2b07f9628b2ba6786209812ba81130507e0ee1af011124fc01f9ffffeffffffffbfffffffeffff7f"
    "ffffdfcc02218410862484104208218421042184104208afc30000000000e70408a8aa"
)

"""Directory records and their rules (format.md section 5)."""

import struct
from collections import namedtuple

from .primitives import aead_open, aead_seal, is_zero, require, u16, u64

MAGIC = b"SCRIMDIR"
PLAIN, SEALED, COMPRESSED, SEALED_COMPRESSED = 0, 1, 2, 3
POLICY_NAMES = ("plain", "sealed", "compressed", "sealed-compressed")
NAMES_PLAIN, NAMES_SEALED = 0, 1
HAS_PLAIN, HAS_CONTAINERS, HAS_SPECIAL, HAS_LONG_LINKS, HAS_PLAIN_LINKS = 1, 2, 4, 8, 16
ROOT_PARENT = bytes(16)


def _strictness(policy):
    return (PLAIN, COMPRESSED, SEALED, SEALED_COMPRESSED).index(policy)


class Record(namedtuple("Record", "id serial content names flags bindings rules")):
    """`rules` is a list of (content policy, pattern bytes)."""

    __slots__ = ()

    def allowed(self):
        """The presence flags, with those that the policy and the rules imply."""
        flags = self.flags | (HAS_PLAIN | HAS_PLAIN_LINKS if self.content == PLAIN else 2)
        for policy, _ in self.rules:
            flags |= HAS_PLAIN if policy == PLAIN else HAS_CONTAINERS
        native = (self.content, self.names) == (PLAIN, NAMES_PLAIN)
        return flags | (HAS_SPECIAL if native else 0)

    def policy_for(self, name):
        for policy, pattern in self.rules:
            if matches(pattern, name):
                return policy
        return self.content

    def body(self):
        out = struct.pack("<16sQBBHBBH", self.id, self.serial, self.content, self.names,
                          self.flags, len(self.bindings), len(self.rules), 0)
        out += b"".join(self.bindings)
        return out + b"".join(bytes([p, len(t)]) + t for p, t in self.rules)

    def stricter(self, other):
        """This record of the highest serial, united with an alternate of the same ID."""
        return self._replace(
            content=max(self.content, other.content, key=_strictness),
            names=max(self.names, other.names),
            flags=self.flags | other.flags,
        )


def matches(pattern, name):
    """Whether a rule's pattern matches; on a mismatch only the last `*` is tried anew."""
    p = n = 0
    star, resume = None, 0
    while n < len(name):
        if p < len(pattern) and pattern[p] == 0x2A:
            star, resume = p, n
            p += 1
        elif p < len(pattern) and pattern[p] in (0x3F, name[n]):
            p, n = p + 1, n + 1
        elif star is None:
            return False
        else:
            resume += 1
            p, n = star + 1, resume
    return not pattern[p:].strip(b"*")


def seal_record(keys, record, nonce):
    return seal_body(keys, record.body(), nonce)


def seal_body(keys, body, nonce):
    cipher, tag = aead_seal(keys.suite, keys.records, nonce, body, MAGIC + keys.vault_id)
    return MAGIC + nonce + tag + cipher


def open_record(keys, data):
    require(data[:8] == MAGIC and len(data) >= 36, "record: not a directory record")
    ad = MAGIC + keys.vault_id
    body = aead_open(keys.suite, keys.records, data[8:20], data[36:], data[20:36], ad, "record")
    return parse_body(body)


def parse_body(body):
    require(len(body) >= 32, "record: truncated")
    content, names, flags = body[24], body[25], u16(body, 26)
    require(not is_zero(body[:16]), "record: directory ID is zero")
    require(content <= 3, "record: unknown content policy")
    require(names <= 1, "record: unknown name policy")
    require(flags & ~0x1F == 0, "record: unknown flags")
    require(body[28] in (1, 2), "record: number of bindings")
    require(body[29] <= 32, "record: number of rules")
    require(u16(body, 30) == 0, "record: zero field")
    at = 32 + 16 * body[28]
    require(len(body) >= at, "record: truncated")
    bindings = [body[i : i + 16] for i in range(32, at, 16)]
    rules = []
    for _ in range(body[29]):
        require(len(body) >= at + 3, "record: truncated")
        policy, length = body[at], body[at + 1]
        require(policy <= 3, "record: unknown content policy in a rule")
        require(length >= 1, "record: empty pattern")
        require(len(body) >= at + 2 + length, "record: truncated")
        rules.append((policy, body[at + 2 : at + 2 + length]))
        at += 2 + length
    require(at == len(body), "record: trailing bytes")
    return Record(body[:16], u64(body, 16), content, names, flags, bindings, rules)

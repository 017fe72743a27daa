"""The vault header, key slots and the keys they lead to (format.md sections 3 and 4)."""

import base64
import struct
from collections import namedtuple

from .primitives import (
    Damaged,
    NotAVault,
    UnknownVersion,
    WrongSecret,
    aead_open,
    aead_seal,
    hkdf,
    hmac,
    require,
    scrypt,
    sha256,
    u16,
    u32,
)

MAGIC = b"SCRIMVLT"
PASSPHRASE, KEY_FILE, RECOVERY, COMMAND = 1, 2, 3, 4
SCRYPT, ARGON2ID, HKDF_SHA256 = 1, 2, 3


class MasterKeys:
    """Everything derived from the master key and the vault ID."""

    def __init__(self, master, vault_id, suite):
        self.master, self.vault_id, self.suite = master, vault_id, suite
        self.header_mac = self._derive("scrim header mac", 32)
        self.names = self._derive("scrim names", 64)
        self.records = self._derive("scrim records", 32)
        self.bindings = self._derive("scrim bindings", 32)
        self.links = self._derive("scrim links", 64)
        self.content = self._derive("scrim content", 32)
        self.hints = self._derive("scrim hints", 32)
        self.attributes = self._derive("scrim attributes", 32)
        self.attribute_names = self._derive("scrim attribute names", 64)
        self.sessions = self._derive("scrim sessions", 32)

    def _derive(self, label, count):
        return hkdf(self.master, self.vault_id, label.encode(), count)

    def binding(self, directory_id, name):
        return hmac(self.bindings, directory_id + name)[:16]


def container_key(content_root, file_id, epoch):
    return hkdf(content_root, file_id, b"scrim container" + struct.pack("<H", epoch), 32)


class Slot(namedtuple("Slot", "kind kdf cost1 cost2 cost3 salt nonce wrapped tag label")):
    __slots__ = ()

    def head(self):
        """Bytes 2 to 47, which the wrapped key authenticates."""
        return struct.pack(
            "<BBIII32s", self.kind, self.kdf, self.cost1, self.cost2, self.cost3, self.salt
        )

    def encode(self):
        body = self.head() + self.nonce + self.wrapped + self.tag
        body += bytes([len(self.label)]) + self.label
        return struct.pack("<H", len(body) + 2) + body

    def associated_data(self, vault_id):
        return b"scrim slot" + vault_id + self.head() + self.label

    def slot_key(self, secret):
        if self.kdf == SCRYPT:
            return scrypt(secret, self.salt, self.cost1, self.cost2, self.cost3)
        if self.kdf == HKDF_SHA256:
            return hkdf(secret, self.salt, b"scrim slot", 32)
        return None

    def unwrap(self, secret, vault_id):
        """The master key, or None if the secret is another's or the KDF is not offered here."""
        key = self.slot_key(secret)
        if key is None:
            return None
        ad = self.associated_data(vault_id)
        try:
            return aead_open(1, key, self.nonce, self.wrapped, self.tag, ad, "slot")
        except Damaged:
            return None


def wrap(kind, kdf, costs, salt, nonce, label, secret, master, vault_id):
    """A slot that holds `master`."""
    slot = Slot(kind, kdf, *costs, salt, nonce, bytes(32), bytes(16), label)
    ad = slot.associated_data(vault_id)
    wrapped, tag = aead_seal(1, slot.slot_key(secret), nonce, master, ad)
    return slot._replace(wrapped=wrapped, tag=tag)


def _check_costs(slot):
    if slot.kdf == SCRYPT:
        fits = 10 <= slot.cost1 <= 24 and 1 <= slot.cost2 <= 32 and 1 <= slot.cost3 <= 16
        require(fits and 128 * slot.cost2 << slot.cost1 <= 1 << 32, "slot: scrypt cost")
    elif slot.kdf == ARGON2ID:
        fits = 1 <= slot.cost2 <= 64 and 1 <= slot.cost3 <= 16
        require(fits and 8 * slot.cost3 <= slot.cost1 <= 1 << 22, "slot: Argon2id cost")
    else:
        require(slot.cost1 == slot.cost2 == slot.cost3 == 0, "slot: HKDF cost")


def parse_slot(data):
    """Decodes the slot at the start of `data`; returns (slot, rest)."""
    require(len(data) >= 109, "slot: truncated")
    length, label_length = u16(data, 0), data[108]
    require(label_length <= 64, "slot: label too long")
    require(length == 109 + label_length and length <= len(data), "slot: length")
    kind, kdf = data[2], data[3]
    require(1 <= kind <= 4, "slot: unknown kind")
    require(1 <= kdf <= 3, "slot: unknown KDF")
    require((kdf == HKDF_SHA256) == (kind in (KEY_FILE, RECOVERY)), "slot: KDF unfit for kind")
    label = data[109:length]
    try:
        label.decode()
    except UnicodeDecodeError:
        raise Damaged("slot: label is not UTF-8") from None
    costs = (u32(data, 4), u32(data, 8), u32(data, 12))
    slot = Slot(kind, kdf, *costs, data[16:48], data[48:60], data[60:92], data[92:108], label)
    _check_costs(slot)
    return slot, data[length:]


class VaultHeader(namedtuple("VaultHeader", "suite vault_id slots mac signed")):
    __slots__ = ()

    @staticmethod
    def parse(data):
        require(len(data) >= 8, "header: truncated")
        if data[:8] != MAGIC:
            raise NotAVault("no Scrim header")
        require(len(data) >= 64, "header: truncated")
        if u16(data, 8) != 1:
            raise UnknownVersion("header: format version %d is not known" % u16(data, 8))
        require(data[10] in (1, 2), "header: unknown suite")
        require(data[11] == 0 and u16(data, 30) == 0, "header: zero field")
        count = u16(data, 28)
        require(1 <= count <= 64, "header: number of slots")
        slots, rest = [], data[32:]
        for _ in range(count):
            slot, rest = parse_slot(rest)
            slots.append(slot)
        require(len(rest) == 32, "header: length")
        return VaultHeader(data[10], data[12:28], slots, rest, data[:-32])

    def unlock(self, secret, kinds=(PASSPHRASE, COMMAND)):
        for slot in self.slots:
            if slot.kind not in kinds:
                continue
            master = slot.unwrap(secret, self.vault_id)
            if master is not None:
                keys = MasterKeys(master, self.vault_id, self.suite)
                require(hmac(keys.header_mac, self.signed) == self.mac, "header: wrong MAC")
                return keys
        raise WrongSecret("no key slot opens with this secret")


def encode_header(keys, slots):
    data = MAGIC + struct.pack("<HBB16sHH", 1, keys.suite, 0, keys.vault_id, len(slots), 0)
    data += b"".join(slot.encode() for slot in slots)
    return data + hmac(keys.header_mac, data)


def successor(old, new):
    """What shows that who began to replace one master key by another had both."""
    return hmac(old.header_mac, b"scrim rekey" + new.header_mac)


def recovery_text(key):
    text = base64.b32encode(key + sha256(key)[:2]).decode().rstrip("=")
    return "-".join(text[i : i + 5] for i in range(0, 55, 5))


def recovery_key(text):
    """Decodes what `recovery_text` shows, as people type it."""
    fixed = text.upper().translate(str.maketrans("018", "OIB", " \t\r\n-"))
    require(len(fixed) == 55, "recovery key: needs 55 letters and digits")
    require(set(fixed) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"), "recovery key: not base32")
    data = base64.b32decode(fixed + "=")
    require(base64.b32encode(data).decode().rstrip("=") == fixed, "recovery key: trailing bits")
    require(sha256(data[:32])[:2] == data[32:], "recovery key: wrong check sum")
    return data[:32]

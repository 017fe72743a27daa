"""Vectors of keys, slots, the vault header, recovery keys and base64."""

from scrim_reader import header as fmt
from scrim_reader.primitives import b64, hmac

from .containers import flip
from .seeded import Seeded

_KEYS = ("header_mac", "names", "records", "bindings", "links", "content", "hints", "attributes",
         "attribute_names", "sessions")


def keys_for(label, suite=1):
    rng = Seeded("keys " + label)
    return fmt.MasterKeys(rng.take(32), rng.take(16), suite)


def given(keys):
    """What a case says about its vault."""
    return {"master": keys.master.hex(), "vault_id": keys.vault_id.hex(), "suite": keys.suite}


def derived_keys():
    cases = []
    for label in ("first", "second"):
        keys, rng = keys_for(label), Seeded("derived " + label)
        case = {"name": label, **given(keys)}
        case["keys"] = {name: getattr(keys, name).hex() for name in _KEYS}
        case["containers"], case["bindings"] = [], []
        for epoch in (1, 2, 258):
            file_id = rng.take(16)
            key = fmt.container_key(keys.content, file_id, epoch)
            case["containers"].append({"file_id": file_id.hex(), "epoch": epoch, "key": key.hex()})
        for directory, name in ((bytes(16), b""), (rng.take(16), b"a"), (rng.take(16), b"\xff" * 255)):
            binding = keys.binding(directory, name)
            case["bindings"].append(
                {"directory": directory.hex(), "plain": name.hex(), "binding": binding.hex()}
            )
        cases.append(case)
    return cases


def slot_keys():
    rng = Seeded("slot keys")
    cases = []
    for name, kdf, costs, secret in (
        ("scrypt r 8", fmt.SCRYPT, (10, 8, 1), b"correct horse"),
        ("scrypt p 3", fmt.SCRYPT, (11, 2, 3), "pässwörd".encode()),
        ("scrypt of arbitrary bytes", fmt.SCRYPT, (10, 1, 1), bytes(range(256))),
        ("HKDF of a key file", fmt.HKDF_SHA256, (0, 0, 0), rng.take(1000)),
        ("HKDF of a recovery key", fmt.HKDF_SHA256, (0, 0, 0), rng.take(32)),
    ):
        salt = rng.take(32)
        slot = fmt.Slot(1, kdf, *costs, salt, b"", b"", b"", b"")
        cases.append({"name": name, "kdf": kdf, "costs": list(costs), "salt": salt.hex(),
                      "secret": secret.hex(), "key": slot.slot_key(secret).hex()})
    return cases


def recovery_keys():
    key = Seeded("recovery").take(32)
    text = fmt.recovery_text(key)
    wrong = "B" if text[0] != "B" else "C"
    last = chr(ord(text[-1]) + 1)
    good = {
        "as shown": text,
        "lower case": text.lower(),
        "blanks for hyphens": text.replace("-", " "),
        "no groups, line end": text.replace("-", "") + "\n",
        "digits that look like letters": text.translate(str.maketrans("OIB", "018")),
    }
    bad = {
        "one letter changed": (wrong + text[1:], "check sum"),
        "one letter missing": (text[:-1], "length"),
        "one letter too many": (text + "A", "length"),
        "non-zero bits after the end": (text[:-1] + last, "trailing bits"),
        "a character outside the alphabet": ("9" + text[1:], "alphabet"),
        "empty": ("", "length"),
    }
    cases = [{"name": n, "text": t, "key": key.hex()} for n, t in good.items()]
    return cases + [{"name": n, "text": t, "reject": why} for n, (t, why) in bad.items()]


def base64_cases():
    cases = []
    for data in (b"", b"\0", b"\xff\xfe", b"\xfb\xff\xbf", bytes(range(17))):
        cases.append({"name": "%d bytes" % len(data), "text": b64(data).decode(), "data": data.hex()})
    for name, text in (
        ("non-zero trailing bits of two characters", "AB"),
        ("non-zero trailing bits of three characters", "AAB"),
        ("one character over", "AAAAA"),
        ("padding", "AA=="),
        ("the other alphabet", "+/+/"),
        ("a line end", "AAAA\n"),
        ("a blank", "AA AA"),
    ):
        cases.append({"name": name, "text": text, "reject": name})
    return cases


class _Headers:
    """Vault headers around two good slots."""

    def __init__(self):
        rng = Seeded("vault header")
        self.keys = keys_for("vault header")
        self.secret, self.recovery = b"a passphrase", rng.take(32)
        k = self.keys
        self.slots = [
            fmt.wrap(1, fmt.SCRYPT, (10, 8, 1), rng.take(32), rng.take(12), "Büro".encode(),
                     self.secret, k.master, k.vault_id),
            fmt.wrap(3, fmt.HKDF_SHA256, (0, 0, 0), rng.take(32), rng.take(12), b"",
                     self.recovery, k.master, k.vault_id),
        ]
        self.good = fmt.encode_header(self.keys, self.slots)

    def signed(self, data):
        """A header with its MAC made anew."""
        return data + hmac(self.keys.header_mac, data)

    def with_slots(self, *slots):
        return fmt.encode_header(self.keys, list(slots))

    def patched(self, at, new):
        return self.signed(self.good[:at] + new + self.good[at + len(new) : -32])

    def case(self, name, data, secret=None, kind=1, **outcome):
        secret = self.secret if secret is None else secret
        return {"name": name, "header": data.hex(), "kind": kind, "secret": secret.hex(), **outcome}


def vault_headers():
    h, rng = _Headers(), Seeded("more slots")
    k, good = h.keys, h.good
    master = {"master": k.master.hex()}
    key_file = rng.take(200)
    third = fmt.wrap(2, fmt.HKDF_SHA256, (0, 0, 0), rng.take(32), rng.take(12), b"key file",
                     key_file, k.master, k.vault_id)
    argon = h.slots[0]._replace(kdf=fmt.ARGON2ID, cost1=65536, cost2=3, cost3=4)
    stranger = fmt.wrap(1, fmt.SCRYPT, (10, 1, 1), rng.take(32), rng.take(12), b"x" * 64,
                        b"another", k.master, k.vault_id)
    many = [stranger] * 63 + [h.slots[0]]
    chacha = fmt.MasterKeys(k.master, k.vault_id, 2)
    cases = [
        h.case("passphrase", good, **master),
        h.case("recovery key", good, h.recovery, 3, **master),
        h.case("key file, the third slot", h.with_slots(*h.slots, third), key_file, 2, **master),
        h.case("second passphrase slot opens", h.with_slots(stranger, *h.slots), **master),
        h.case("ChaCha20-Poly1305 suite", fmt.encode_header(chacha, h.slots), **master),
        h.case("a slot with Argon2id beside", h.with_slots(argon, *h.slots), **master),
        h.case("64 slots", h.with_slots(*many[1:], third), key_file, 2, **master),
        h.case("wrong passphrase", good, b"a passphrase\n", fails="wrong secret"),
        h.case("empty passphrase", good, b"", fails="wrong secret"),
        h.case("right secret of another kind", good, h.secret, 2, fails="wrong secret"),
    ]
    return cases + _slot_faults(h) + _header_faults(h)


def _slot_faults(h):
    """Faults of the slot are ones of a secret that does not open it."""
    first, other = h.slots
    damaged = {"fails": "damaged"}

    def slot(**fields):
        return h.with_slots(first._replace(**fields), other)

    return [
        h.case("slot: flipped tag", slot(tag=flip(first.tag, 3)), fails="wrong secret"),
        h.case("slot: flipped nonce", slot(nonce=flip(first.nonce, 3)), fails="wrong secret"),
        h.case("slot: flipped wrapped key", slot(wrapped=flip(first.wrapped, 77)), fails="wrong secret"),
        h.case("slot: another label", slot(label=b"Buero"), fails="wrong secret"),
        h.case("slot: another salt", slot(salt=flip(first.salt, 0)), fails="wrong secret"),
        h.case("slot: kind changed", slot(kind=4), kind=4, fails="wrong secret"),
        h.case("slot: kind 0", slot(kind=0), **damaged),
        h.case("slot: kind 5", slot(kind=5), **damaged),
        h.case("slot: KDF 0", slot(kdf=0), **damaged),
        h.case("slot: KDF 4", slot(kdf=4), **damaged),
        h.case("slot: passphrase with HKDF", slot(kdf=3, cost1=0, cost2=0, cost3=0), **damaged),
        h.case("slot: scrypt log2 N 9", slot(cost1=9), **damaged),
        h.case("slot: scrypt log2 N 25", slot(cost1=25), **damaged),
        h.case("slot: scrypt r 0", slot(cost2=0), **damaged),
        h.case("slot: scrypt r 33", slot(cost2=33), **damaged),
        h.case("slot: scrypt p 0", slot(cost3=0), **damaged),
        h.case("slot: scrypt p 17", slot(cost3=17), **damaged),
        h.case("slot: scrypt over 4 GiB", slot(cost1=24, cost2=3), **damaged),
        h.case("slot: Argon2id over 4 GiB", slot(kdf=2, cost1=2**22 + 1, cost2=1, cost3=1), **damaged),
        h.case("slot: Argon2id too little memory", slot(kdf=2, cost1=31, cost2=1, cost3=4), **damaged),
        h.case("slot: HKDF with a cost", h.with_slots(first, other._replace(cost2=1)), **damaged),
        h.case("slot: label of 65 bytes", slot(label=b"x" * 65), **damaged),
        h.case("slot: label not UTF-8", slot(label=b"\xff\xfe"), **damaged),
        h.case("slot: length too small", h.patched(32, b"\x6c\x00"), **damaged),
        h.case("slot: length beyond the header", h.patched(32, b"\xff\x0f"), **damaged),
        h.case("slot: a byte after its label", h.signed(_longer_slot(h)), **damaged),
    ]


def _longer_slot(h):
    first = h.slots[0].encode()
    longer = (len(first) + 1).to_bytes(2, "little") + first[2:] + b"\0"
    return h.good[:32] + longer + h.slots[1].encode()


def _header_faults(h):
    good, damaged = h.good, {"fails": "damaged"}
    return [
        h.case("magic", flip(good, 0), fails="not a vault"),
        h.case("empty file", b"", **damaged),
        h.case("version 2", h.patched(8, b"\2\0"), fails="unknown version"),
        h.case("suite 0", h.patched(10, b"\0"), **damaged),
        h.case("suite 3", h.patched(10, b"\3"), **damaged),
        h.case("suite changed, MAC kept", good[:10] + b"\2" + good[11:], **damaged),
        h.case("zero field at 11", h.patched(11, b"\1"), **damaged),
        h.case("zero field at 30", h.patched(30, b"\1"), **damaged),
        h.case("no slots", h.signed(good[:28] + b"\0\0\0\0"), **damaged),
        h.case("65 slots", h.with_slots(*[h.slots[0]] * 65), **damaged),
        h.case("more slots claimed than there are", h.patched(28, b"\3"), **damaged),
        h.case("fewer slots claimed than there are", h.patched(28, b"\1"), **damaged),
        h.case("vault ID changed", h.patched(12, b"\0"), fails="wrong secret"),
        h.case("MAC flipped", flip(good, 8 * len(good) - 1), **damaged),
        h.case("MAC missing", good[:-32], **damaged),
        h.case("one byte short", good[:-1], **damaged),
        h.case("one byte after the MAC", good + b"\0", **damaged),
        h.case("truncated in a slot", good[:100], **damaged),
        h.case("slots in the other order, MAC kept",
               good[:32] + h.slots[1].encode() + h.slots[0].encode() + good[-32:], **damaged),
    ]


def files():
    return {
        "kdf/keys.json": ("Keys derived from a master key; container keys; bindings", derived_keys()),
        "kdf/slot-keys.json": ("Key of a slot from a secret", slot_keys()),
        "kdf/recovery.json": ("Recovery keys as people type them", recovery_keys()),
        "kdf/base64.json": ("base64url without padding, canonical", base64_cases()),
        "slot/vault-header.json": ("Whole scrim.vault files, unlocked", vault_headers()),
    }

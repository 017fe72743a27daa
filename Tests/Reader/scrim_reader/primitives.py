"""Cryptographic and coding primitives (format.md section 1), on python3-cryptography and libzstd."""

import base64
import ctypes
import ctypes.util
import hashlib
import hmac as _hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

PAGE = 4096


class Damaged(Exception):
    """What format.md calls rejected; the text says why."""


class UnknownVersion(Damaged):
    """A vault of a later version of the format."""


class WrongSecret(Exception):
    """No key slot opens with the secret that was given."""


class NotAVault(Exception):
    """There is no header of a Scrim vault."""


def require(condition, why):
    if not condition:
        raise Damaged(why)


def sha256(data):
    return hashlib.sha256(data).digest()


def hmac(key, message):
    return _hmac.new(key, message, hashlib.sha256).digest()


def hkdf(secret, salt, info, count):
    return HKDF(algorithm=hashes.SHA256(), length=count, salt=salt, info=info).derive(secret)


def scrypt(secret, salt, log_n, r, p):
    return Scrypt(salt=salt, length=32, n=1 << log_n, r=r, p=p).derive(secret)


def aead(suite, key):
    return AESGCM(key) if suite == 1 else ChaCha20Poly1305(key)


def aead_seal(suite, key, nonce, plain, ad):
    """Returns (cipher bytes, tag)."""
    out = aead(suite, key).encrypt(nonce, plain, ad)
    return out[: len(plain)], out[len(plain) :]


def aead_open(suite, key, nonce, cipher, tag, ad, what):
    try:
        return aead(suite, key).decrypt(nonce, cipher + tag, ad)
    except InvalidTag:
        raise Damaged(what + ": authentication failed") from None


def siv_seal(key, plain, ad):
    return AESSIV(key).encrypt(plain, ad)


def siv_open(key, sealed, ad, what):
    require(len(sealed) > 16, what + ": too short")
    try:
        return AESSIV(key).decrypt(sealed, ad)
    except InvalidTag:
        raise Damaged(what + ": authentication failed") from None


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


_ALPHABET = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def unb64(text, what="base64"):
    require(_ALPHABET.issuperset(text) and len(text) % 4 != 1, what + ": not base64url")
    data = base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    require(b64(data) == text, what + ": trailing bits are not zero")
    return data


def pad16(data):
    return data + bytes(-len(data) % 16)


def unpad16(data, what):
    text = data.rstrip(b"\0")
    require(len(pad16(text)) == len(data), what + ": padding is not canonical")
    require(0 not in text, what + ": holds a NUL byte")
    return text


def u16(data, at):
    return struct.unpack_from("<H", data, at)[0]


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def i64(data, at):
    return struct.unpack_from("<q", data, at)[0]


def is_zero(data):
    return not any(data)


_zstd = None


def _libzstd():
    global _zstd
    if _zstd is None:
        lib = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
        lib.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
        lib.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        lib.ZSTD_decompress.restype = ctypes.c_size_t
        lib.ZSTD_decompress.argtypes = [
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_char_p,
            ctypes.c_size_t,
        ]
        lib.ZSTD_getFrameContentSize.restype = ctypes.c_ulonglong
        lib.ZSTD_getFrameContentSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        lib.ZSTD_isError.restype = ctypes.c_uint
        lib.ZSTD_isError.argtypes = [ctypes.c_size_t]
        lib.ZSTD_getDictID_fromFrame.restype = ctypes.c_uint
        lib.ZSTD_getDictID_fromFrame.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
        _zstd = lib
    return _zstd


def zstd_decompress(frame, limit):
    """Decompresses exactly one frame of at most `limit` bytes of output."""
    lib = _libzstd()
    require(frame[:4] == b"\x28\xb5\x2f\xfd", "zstd: not a frame")
    size = lib.ZSTD_findFrameCompressedSize(frame, len(frame))
    require(not lib.ZSTD_isError(size) and size == len(frame), "zstd: not exactly one frame")
    # The two largest values stand for "unknown" and "error".
    require(lib.ZSTD_getFrameContentSize(frame, len(frame)) <= limit, "zstd: content size")
    require(lib.ZSTD_getDictID_fromFrame(frame, len(frame)) == 0, "zstd: needs a dictionary")
    out = ctypes.create_string_buffer(limit)
    count = lib.ZSTD_decompress(out, limit, frame, len(frame))
    require(not lib.ZSTD_isError(count), "zstd: broken, or longer than a block")
    return out.raw[:count]

"""A second implementation of Scrim's on-disk format, written from docs/format.md alone."""

from .primitives import Damaged, NotAVault, UnknownVersion, WrongSecret
from .tree import compare_with_mount
from .vault import Vault

__all__ = ["Damaged", "NotAVault", "UnknownVersion", "Vault", "WrongSecret", "compare_with_mount"]

# SPDX-License-Identifier: Apache-2.0
"""Keys of owners; files encrypted and signed with them."""

from .encrypted import decrypt, encrypt, file_key, is_encrypted
from .keys import FileKey, Key, KeyDerivation, KeyRing, OwnerKey, load_key, secret_seed

__all__ = [
    "FileKey",
    "Key",
    "KeyDerivation",
    "KeyRing",
    "OwnerKey",
    "decrypt",
    "encrypt",
    "file_key",
    "is_encrypted",
    "load_key",
    "secret_seed",
]

# SPDX-License-Identifier: Apache-2.0
"""Keys of owners; files encrypted and signed with them."""

from .encrypted import load_key, secret_seed
from .keys import FileKey, KeyDerivation, KeyRing, OwnerKey
from .sealing import file_key, is_sealed, seal, unseal

__all__ = [
    "FileKey",
    "KeyDerivation",
    "KeyRing",
    "OwnerKey",
    "file_key",
    "is_sealed",
    "load_key",
    "seal",
    "secret_seed",
    "unseal",
]

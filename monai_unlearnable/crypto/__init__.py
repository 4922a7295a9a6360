# SPDX-License-Identifier: Apache-2.0
"""Keys of owners; files encrypted and signed with them."""

from .keys import FileKey, Key, KeyDerivation, KeyRing, OwnerKey, load_key, secret_seed

__all__ = ["FileKey", "Key", "KeyDerivation", "KeyRing", "OwnerKey", "load_key", "secret_seed"]

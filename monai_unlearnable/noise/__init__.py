# SPDX-License-Identifier: Apache-2.0
"""Noise on disk, and the record of where it belongs."""

from .entry import NoiseEntry
from .manifest import Manifest, fingerprint, package_versions
from .owner import FileKey, KeyDerivation, KeyRing, OwnerKey
from .sealing import file_key, is_sealed, seal, unseal
from .store import NoiseStore
from .vault import load_key, secret_seed

__all__ = [
    "FileKey",
    "KeyDerivation",
    "KeyRing",
    "Manifest",
    "NoiseEntry",
    "NoiseStore",
    "OwnerKey",
    "file_key",
    "fingerprint",
    "is_sealed",
    "load_key",
    "package_versions",
    "seal",
    "secret_seed",
    "unseal",
]

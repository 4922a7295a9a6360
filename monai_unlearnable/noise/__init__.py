# SPDX-License-Identifier: Apache-2.0
"""Noise on disk, and the record of where it belongs."""

from .entry import NoiseEntry
from .manifest import Manifest, fingerprint, package_versions
from .store import NoiseStore

__all__ = ["Manifest", "NoiseEntry", "NoiseStore", "fingerprint", "package_versions"]

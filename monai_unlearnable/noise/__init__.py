# SPDX-License-Identifier: Apache-2.0
"""Noise on disk, and the record of where it belongs."""

from .records import Manifest, NoiseEntry, package_versions
from .store import NoiseStore

__all__ = ["Manifest", "NoiseEntry", "NoiseStore", "package_versions"]

# SPDX-License-Identifier: Apache-2.0
"""Noise on disk, and the record of the voxels that it belongs to."""

from .records import DECIDED, Manifest, NoiseEntry, package_versions, run_fingerprint
from .store import NoiseStore

__all__ = ["DECIDED", "Manifest", "NoiseEntry", "NoiseStore", "package_versions", "run_fingerprint"]

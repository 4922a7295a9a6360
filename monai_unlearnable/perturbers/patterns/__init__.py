# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: patterns that tell the class."""

from .base import ClassPatterns
from .filters import AutoregressiveNoise, ClassConvolution
from .fixed import FixedVoxels, SymmetricLattice
from .linear import LinearPatterns, LinearSurrogate

__all__ = [
    "AutoregressiveNoise",
    "ClassConvolution",
    "ClassPatterns",
    "FixedVoxels",
    "LinearPatterns",
    "LinearSurrogate",
    "SymmetricLattice",
]

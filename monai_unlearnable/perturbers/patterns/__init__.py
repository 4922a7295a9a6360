# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: patterns that tell the class."""

from .base import ClassPatterns
from .filters import AutoregressiveNoise, ClassConvolution
from .fixed import FixedSites, SymmetricLattice
from .linear import LinearPatterns, LinearSurrogate

__all__ = [
    "AutoregressiveNoise",
    "ClassConvolution",
    "ClassPatterns",
    "FixedSites",
    "LinearPatterns",
    "LinearSurrogate",
    "SymmetricLattice",
]

# SPDX-License-Identifier: Apache-2.0
"""Noise without a surrogate network: patterns that tell the class."""

from .autoregressive import AutoregressiveNoise
from .base import ClassPatterns
from .class_convolution import ClassConvolution
from .fixed_sites import FixedSites
from .linear_patterns import LinearPatterns
from .linear_surrogate import LinearSurrogate
from .symmetric_lattice import SymmetricLattice

__all__ = [
    "AutoregressiveNoise",
    "ClassConvolution",
    "ClassPatterns",
    "FixedSites",
    "LinearPatterns",
    "LinearSurrogate",
    "SymmetricLattice",
]

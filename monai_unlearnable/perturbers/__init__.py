# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .augmentation import View, standardize
from .base import InputSettings, Perturber, load_input_settings, load_perturber, round_to_lattice, save_perturber
from .classwise import SharedNoise
from .generators import UMed, VoxShield
from .gradient import GradientNoise, SalientSites, load_surrogate
from .patterns import (
    AutoregressiveNoise,
    ClassConvolution,
    ClassPatterns,
    FixedSites,
    LinearPatterns,
    LinearSurrogate,
    SymmetricLattice,
)
from .random_noise import RandomNoise
from .surrogate import Objective, Surrogate

__all__ = [
    "AutoregressiveNoise",
    "ClassConvolution",
    "ClassPatterns",
    "FixedSites",
    "GradientNoise",
    "InputSettings",
    "LinearPatterns",
    "LinearSurrogate",
    "Objective",
    "Perturber",
    "RandomNoise",
    "SalientSites",
    "SharedNoise",
    "Surrogate",
    "SymmetricLattice",
    "UMed",
    "View",
    "VoxShield",
    "load_input_settings",
    "load_perturber",
    "load_surrogate",
    "round_to_lattice",
    "save_perturber",
    "standardize",
]

# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .base import InputSettings, Perturber, load_input_settings, load_perturber, save_perturber
from .gradient import GradientNoise, load_surrogate
from .lattice import round_to_lattice
from .objectives import Objective
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
from .salience import SalientSites
from .surrogate import Surrogate
from .tiles import SharedNoise
from .umed import UMed
from .views import View, standardize
from .voxshield import VoxShield

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

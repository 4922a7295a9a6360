# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .base import InputSettings, Perturber, load_input_settings, load_perturber, save_perturber
from .lattice import round_to_lattice
from .random_noise import RandomNoise
from .umed import UMed

__all__ = [
    "InputSettings",
    "Perturber",
    "RandomNoise",
    "UMed",
    "load_input_settings",
    "load_perturber",
    "round_to_lattice",
    "save_perturber",
]

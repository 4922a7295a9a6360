# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .base import Perturber, load_perturber, save_perturber
from .lattice import round_to_lattice
from .random_noise import RandomNoise
from .umed import UMed

__all__ = ["Perturber", "RandomNoise", "UMed", "load_perturber", "round_to_lattice", "save_perturber"]

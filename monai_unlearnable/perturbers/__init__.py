# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .augmentation import Augmentation, standardize
from .base import (
    InputSettings,
    Perturber,
    load_input_settings,
    load_mark_digest,
    load_perturber,
    round_to_quantization,
    save_perturber,
)
from .carriers import NyquistCarriers
from .classwise import ClasswiseNoise
from .drawn_patterns import AutoregressiveNoise, ClassConvolution, FixedVoxels, LinearPatterns
from .generators import UMed, VoxShield
from .gradient import GradientNoise, SalientVoxels, load_surrogate
from .hiding import DeepHiding
from .invertible import HidingNetwork
from .lattice import SymmetricLattice
from .linear_surrogate import LinearSurrogate
from .patterns import ClassPatterns
from .planned import PlannedGrid
from .random_noise import RandomNoise
from .surrogate import Objective, Surrogate
from .tasks import MultiTaskNoise, TaskPatterns

# SPDX-License-Identifier: Apache-2.0
"""Methods of making noise."""

from .augmentation import Augmentation, standardize
from .base import InputSettings, Perturber, load_input_settings, load_perturber, round_to_quantization, save_perturber
from .carriers import NyquistCarriers
from .classwise import ClasswiseNoise
from .generators import UMed, VoxShield
from .gradient import GradientNoise, SalientVoxels, load_surrogate
from .hiding import DeepHiding
from .image_patterns import ClassConvolution, LinearSurrogate
from .invertible import HidingNetwork
from .patterns import AutoregressiveNoise, ClassPatterns, FixedVoxels, LinearPatterns, SymmetricLattice
from .planned import PlannedGrid
from .random_noise import RandomNoise
from .surrogate import Objective, Surrogate
from .tasks import MultiTaskNoise, TaskPatterns

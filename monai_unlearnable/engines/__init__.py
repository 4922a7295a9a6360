# SPDX-License-Identifier: Apache-2.0
"""Ignite engines that train perturbers."""

from .descent import SignDescent
from .loading import EpochLoader, training_transforms
from .protection import ProtectionTrainer
from .surrogates import SurrogatePool

__all__ = ["EpochLoader", "ProtectionTrainer", "SignDescent", "SurrogatePool", "training_transforms"]

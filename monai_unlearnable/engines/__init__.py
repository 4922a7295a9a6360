# SPDX-License-Identifier: Apache-2.0
"""Ignite engines that train perturbers."""

from .descent import SignDescent
from .foresight import ForesightTrainer
from .loading import EpochLoader, training_transforms
from .penalties import LogitDivergence, Penalty, SliceContrast
from .protection import ProtectionTrainer
from .surrogates import SurrogatePool
from .unrolling import Lookahead

__all__ = [
    "EpochLoader",
    "ForesightTrainer",
    "LogitDivergence",
    "Lookahead",
    "Penalty",
    "ProtectionTrainer",
    "SignDescent",
    "SliceContrast",
    "SurrogatePool",
    "training_transforms",
]

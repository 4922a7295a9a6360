# SPDX-License-Identifier: Apache-2.0
"""Ignite engines and handlers that train perturbers."""

from .data import EpochLoader, training_transforms
from .descent import SignDescent
from .handlers import BudgetAudit, ProgressBar, ResumableCheckpoint, Snapshots, StopAtError, TensorBoardCurves
from .losses import LogitDivergence, Penalty, SliceContrast
from .surrogates import SurrogatePool, UnrolledTraining
from .trainer import ProtectionTrainer
from .unrolled import ForesightTrainer

__all__ = [
    "BudgetAudit",
    "EpochLoader",
    "ForesightTrainer",
    "LogitDivergence",
    "UnrolledTraining",
    "Penalty",
    "ProgressBar",
    "ProtectionTrainer",
    "ResumableCheckpoint",
    "SignDescent",
    "SliceContrast",
    "Snapshots",
    "StopAtError",
    "SurrogatePool",
    "TensorBoardCurves",
    "training_transforms",
]

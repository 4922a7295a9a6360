# SPDX-License-Identifier: Apache-2.0
"""How perturbers are trained: an Ignite engine with its strategies, surrogates, losses and handlers."""

from .data import EpochLoader, training_transforms
from .descent import EmbeddingContrast, LogitDivergence, Penalty, SignDescent, SliceContrast
from .handlers import BudgetAudit, ResumableCheckpoint, Snapshots, StopAtError, TensorBoardCurves, TrainingProgress
from .revealing import Revealing
from .surrogates import SurrogatePool, UnrolledTraining
from .trainer import Alternating, Batch, ExchangedLabels, ProtectionTrainer, Strategy, Unrolled

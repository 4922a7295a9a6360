# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of protection runs."""

from .checkpoint import ResumableCheckpoint
from .snapshots import Snapshots
from .stopping import StopAtError
from .watch import BudgetAudit, ProgressBar, TensorBoardCurves

__all__ = ["BudgetAudit", "ProgressBar", "ResumableCheckpoint", "Snapshots", "StopAtError", "TensorBoardCurves"]

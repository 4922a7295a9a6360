# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of protection runs."""

from .checkpoint import ResumableCheckpoint
from .stopping import StopAtError
from .watch import BudgetAudit, ProgressBar, TensorBoardCurves

__all__ = ["BudgetAudit", "ProgressBar", "ResumableCheckpoint", "StopAtError", "TensorBoardCurves"]

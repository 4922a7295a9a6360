# SPDX-License-Identifier: Apache-2.0
"""What a victim reached, at the end of training and on its way; without torch, so that reports can read it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from monai_unlearnable.errors import InputError

__all__ = ["TASK", "Scores", "task_name"]

TASK = "task "  # begins the names of the scores of single tasks among the extras


def task_name(task: str) -> str:
    """The name of the score of a task among the extras of :class:`Scores`."""
    return TASK + task


@dataclass(frozen=True)
class Scores:
    """Scores of one victim, in percent (0 to 100).

    :func:`~monai_unlearnable.metrics.segmentation_scores` and
    :func:`~monai_unlearnable.metrics.classification_scores` fill in what follows from predictions; whoever trained the
    victim adds curves, loss and time with ``dataclasses.replace``.

    Args:
        metric: name of the score, ``"Dice"`` or ``"balanced accuracy"``.
        value: score at the end of training.
        interval: 95% bootstrap interval of ``value`` over test cases.
        per_class: Dice of each class without background, or recall of each class; NaN where a class is absent from the
            test set.
        by_case: score of each test case in their order: mean Dice over the classes present, NaN without any, or
            100 for right and 0 for wrong.
        extras: further figures by name, such as ``"hd95"`` (mm) or ``"auc"`` (percent), and the score of each of
            several tasks, see :func:`task_name`; NaN where one is undefined.
        curve: ``value`` on the way, the last at the end of training.
        validation_curve: the same at the same moments, on cases that were held out of the victim's own training data.
        final_loss: training loss of the last step.
        seconds: wall time of training, scoring on the way included.
        iterations: training steps taken; 0 where it is not known.
        curve_iterations: training steps taken at each moment of the curve; empty where they are evenly spaced.

    Raises:
        InputError: when there is a validation curve of another length than ``curve``.
    """

    metric: str
    value: float
    interval: tuple[float, float]
    per_class: tuple[float, ...]
    by_case: tuple[float, ...]
    extras: dict[str, float] = field(default_factory=dict)
    curve: tuple[float, ...] = ()
    validation_curve: tuple[float, ...] = ()
    final_loss: float = math.nan
    seconds: float = 0.0
    iterations: int = 0
    curve_iterations: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        own, other = len(self.curve), len(self.validation_curve)
        if other not in (0, own):
            raise InputError(f"the validation curve has {other} moments, the curve {own}")

    @property
    def peak(self) -> float:
        """Best value on the way, as early stopping with an oracle finds it; ``value`` where there is no curve."""
        return max((value for value in self.curve or (self.value,) if not math.isnan(value)), default=math.nan)

    @property
    def selected(self) -> float:
        """Value at the first maximum of the validation curve, which an exploiter can find; NaN without one."""
        known = [moment for moment, value in enumerate(self.validation_curve) if not math.isnan(value)]
        return self.curve[max(known, key=lambda moment: self.validation_curve[moment])] if known else math.nan

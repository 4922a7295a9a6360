# SPDX-License-Identifier: Apache-2.0
"""What an answer of a model says: how well it fits the true label of a probe."""

from __future__ import annotations

import math

import numpy as np
from monai.utils.enums import StrEnum
from numpy.typing import NDArray

from monai_unlearnable.errors import InputError

__all__ = ["WORST", "Answer", "Statistic", "check_answer", "score", "usual_statistic"]

Answer = NDArray  # whole numbers: classes; others: probabilities, classes first
FLOOR = 1e-6  # of probabilities: one that is zero must not outweigh all others


class Statistic(StrEnum):
    """How an answer is scored; larger is better."""

    DICE = "dice"  # of masks: mean over the classes that the label holds
    LOG_PROBABILITY = "log_probability"  # of the true class: of the image, or mean over the labeled voxels
    ACCURACY = "accuracy"  # of classes of whole images


WORST: dict[str, float] = {Statistic.DICE: 0.0, Statistic.LOG_PROBABILITY: math.log(FLOOR), Statistic.ACCURACY: 0.0}


def usual_statistic(is_map: bool) -> Statistic:
    """The statistic where none is named: of label maps, or of classes of whole images."""
    return Statistic.DICE if is_map else Statistic.LOG_PROBABILITY


def check_answer(answer: Answer, label: NDArray | int, num_classes: int, statistic: str) -> None:
    """Refuse an answer that cannot be scored.

    Args:
        answer: class indices of voxels, (spatial...) or (1, spatial...), or of the whole image, (); probabilities,
            (classes, spatial...) or (classes,).
        label: true class indices, (1, spatial...), or the class of the whole image.
        num_classes: number of classes.
        statistic: how answers are scored.

    Raises:
        InputError: when it has another shape, holds other classes, or is of another kind than the statistic needs.
    """
    spatial = np.shape(label)[1:]
    is_classes = answer.dtype.kind in "iub"
    if is_classes and statistic == Statistic.LOG_PROBABILITY:
        raise InputError("the answer holds classes, and the statistic needs probabilities")
    known = [spatial, (1, *spatial)] if is_classes else [(num_classes, *spatial)]
    if answer.shape not in known:
        expected = " or ".join(map(str, known))
        raise InputError(f"the answer has shape {answer.shape}; expected is {expected}")
    if is_classes and answer.size and not (answer.min() >= 0 and answer.max() < num_classes):
        raise InputError(f"the answer holds classes {answer.min()} to {answer.max()}", limit=num_classes - 1)
    if not is_classes and not (np.isfinite(answer).all() and answer.min() >= 0 and answer.max() <= 1 + 1e-3):
        raise InputError("the probabilities of the answer are not within 0 and 1")


def score(answer: Answer, label: NDArray | int, statistic: str) -> float:
    """The score of an answer that :func:`check_answer` takes."""
    is_classes, is_map = answer.dtype.kind in "iub", np.ndim(label) > 0
    if statistic == Statistic.LOG_PROBABILITY:
        return _log_probability(answer, label)
    if not is_classes:
        answer = answer.argmax(axis=0)
    if not is_map:
        return float(answer.item() == label)
    return _dice(np.squeeze(answer, 0) if answer.ndim == np.ndim(label) else answer, np.asarray(label)[0])


def _dice(found: NDArray, truth: NDArray) -> float:
    present = [kind for kind in np.unique(truth).tolist() if kind]
    if not present:
        return 1 - float((found != 0).mean())  # of a scan without the organ: how much of it is left as background
    overlaps = []
    for kind in present:
        own, other = found == kind, truth == kind
        overlaps.append(2 * np.count_nonzero(own & other) / (np.count_nonzero(own) + np.count_nonzero(other)))
    return float(np.mean(overlaps))


def _log_probability(answer: NDArray, label: NDArray | int) -> float:
    if np.ndim(label) == 0:
        return float(np.log(max(float(answer[int(label)]), FLOOR)))
    truth = np.asarray(label)
    of_truth = np.take_along_axis(answer, truth.astype(np.int64), 0)[0]
    region = truth[0] > 0
    chosen = of_truth[region] if region.any() else of_truth
    return float(np.log(np.maximum(chosen, FLOOR)).mean())

# SPDX-License-Identifier: Apache-2.0
"""Scores of classifiers."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.metrics import compute_roc_auc
from monai.utils import convert_to_numpy
from numpy.typing import NDArray

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.protection import Scores
from monai_unlearnable.metrics.statistics import bootstrap_interval

__all__ = ["chance_level", "classification_scores"]


def classification_scores(probabilities: NdarrayOrTensor, targets: NdarrayOrTensor, seed: int = 0) -> Scores:
    """Scores of predicted class probabilities against true classes.

    ``value`` is the balanced accuracy: the mean recall over the classes that the test set holds. ``per_class`` is the
    recall of each. ``extras`` hold ``accuracy`` and ``auc``, the area under the ROC curve in percent: of class 1 where
    there are two, else the mean over classes present of one against the rest; NaN where only one class is present.

    Args:
        probabilities: (cases, classes); any scores that rank cases will do.
        targets: (cases,), class indices.
        seed: of the bootstrap.

    Raises:
        InputError: when there is no case, shapes do not fit, a score is not finite or a target out of range.
    """
    scores = np.asarray(convert_to_numpy(probabilities), np.float64)
    truth = np.asarray(convert_to_numpy(targets)).astype(np.int64)
    _check(scores, truth)
    classes, right = scores.shape[1], scores.argmax(axis=1) == truth
    recall = _recalls(truth[None], right[None], classes)[0]
    balanced = partial(_balanced, classes=classes)
    low, high = bootstrap_interval(truth, right, statistic=balanced, seed=seed)
    return Scores(
        metric="balanced accuracy",
        value=100 * float(np.nanmean(recall)),
        interval=(100 * low, 100 * high),
        per_class=tuple((100 * recall).tolist()),
        by_case=tuple((100.0 * right).tolist()),
        extras={"accuracy": 100 * float(right.mean()), "auc": 100 * _area(scores, truth)},
    )


def chance_level(classes: int) -> float:
    """Balanced accuracy, in percent, of guessing without looking, at random or always the same.

    Args:
        classes: how many classes the test set holds.

    Raises:
        InputError: when there is none.
    """
    if classes < 1:
        raise InputError("there is no chance level without classes")
    return 100 / classes


def _check(scores: NDArray, truth: NDArray) -> None:
    if not truth.size:
        raise InputError("the test set is empty")
    if scores.ndim != 2 or scores.shape[1] < 2 or truth.shape != scores.shape[:1]:
        raise InputError(
            f"expected probabilities (cases, classes) and targets (cases,), not {scores.shape} and {truth.shape}"
        )
    if not np.isfinite(scores).all():
        number = int(np.flatnonzero(~np.isfinite(scores).all(axis=1))[0]) + 1
        raise InputError("the predicted probabilities are not finite", case=f"test case {number}")
    if truth.min() < 0 or truth.max() >= scores.shape[1]:
        raise InputError(f"targets {truth.min()} to {truth.max()} are not within 0 to {scores.shape[1] - 1}")


def _recalls(truth: NDArray, right: NDArray, classes: int) -> NDArray:
    """Recall of each class in each row: (rows, cases) to (rows, classes), NaN where a class is absent."""
    rows = len(truth)
    codes = (np.arange(rows)[:, None] * classes + truth) * 2 + right
    counts = np.bincount(codes.ravel(), minlength=rows * classes * 2).reshape(rows, classes, 2)
    with np.errstate(invalid="ignore"):
        return counts[..., 1] / counts.sum(axis=-1)  # type: ignore[no-any-return]


def _balanced(truth: NDArray, right: NDArray, classes: int) -> NDArray:
    return np.nanmean(_recalls(truth, right, classes), axis=1)  # type: ignore[no-any-return]


def _area(scores: NDArray, truth: NDArray) -> float:
    present = np.unique(truth).tolist()
    if len(present) < 2:
        return math.nan
    chosen = [1] if scores.shape[1] == 2 else present
    pairs = [(torch.from_numpy(scores[:, index]), torch.from_numpy(truth == index).double()) for index in chosen]
    return float(np.mean([compute_roc_auc(score, hit) for score, hit in pairs]))

# SPDX-License-Identifier: Apache-2.0
"""Victims scored on segmentation and classification."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import torch
from monai.config import NdarrayOrTensor
from monai.metrics import compute_dice, compute_roc_auc
from monai.metrics.utils import get_mask_edges, get_surface_distance
from monai.utils import convert_to_numpy, convert_to_tensor
from numpy.typing import NDArray

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.scores import Scores, task_name
from monai_unlearnable.metrics.statistics import bootstrap_interval
from monai_unlearnable.utils.arrays import without_channel

__all__ = ["chance_level", "classification_scores", "multitask_scores", "segmentation_scores"]

_MISSING = object()


def segmentation_scores(
    predictions: Iterable[NdarrayOrTensor],
    labels: Iterable[NdarrayOrTensor],
    num_classes: int,
    spacings: Iterable[Sequence[float] | None] | None = None,
    distances: bool = True,
    seed: int = 0,
) -> Scores:
    """Scores of predicted class indices against reference labels.

    Dice of a case is the mean over the classes that its reference holds, and ``value`` the mean over cases, as MONAI's
    ``DiceMetric`` reduces. A class that is predicted but absent from the reference does not count. ``extras`` hold

    - ``hd95``: 95% Hausdorff distance in mm, mean over the cases and classes where reference and prediction both have
      the class; NaN if there are none;
    - ``hd95_missing``: percent of the cases and classes of the references that have no such distance, because nothing
      was predicted. A low distance beside a high fraction here is no success.

    Args:
        predictions: class indices of each case, (spatial...) or (1, spatial...); cases may come one at a time.
        labels: references in the same shapes and order.
        num_classes: classes, background (index 0) included.
        spacings: voxel size of each case in mm, one number a spatial axis; without it, distances are in voxels.
        distances: whether to compute distances, which take most of the time.
        seed: random seed of the bootstrap.

    Raises:
        InputError: when there is no case, no reference holds any class, counts or shapes differ, or an index is out of
            range.
    """
    if num_classes < 2:
        raise InputError(f"{num_classes} class(es), background included, leave nothing to score")
    dice, hd95 = [], []
    columns = (predictions, labels) if spacings is None else (predictions, labels, spacings)
    for number, case in enumerate(zip_longest(*columns, fillvalue=_MISSING), start=1):
        if any(part is _MISSING for part in case):
            raise InputError("predictions, labels and spacings differ in number", case=f"test case {number}")
        prediction, label, spacing = (*case, None)[:3]
        size = None if spacing is None else [float(extent) for extent in spacing]
        found, truth = (_indices(array, size, num_classes, number) for array in (prediction, label))
        if found.shape != truth.shape:
            reason = f"prediction {tuple(found.shape)} and label {tuple(truth.shape)} differ in shape"
            raise InputError(reason, case=f"test case {number}")
        overlap = compute_dice(found[None, None], truth[None, None], include_background=False, num_classes=num_classes)
        dice.append(overlap[0].double().numpy())
        if distances:
            hd95.append([_distance(found, truth, index, size) for index in range(1, num_classes)])
    return _summary(np.array(dice), np.array(hd95), seed)


def _indices(array: NdarrayOrTensor, spacing: list[float] | None, num_classes: int, number: int) -> torch.Tensor:
    tensor = without_channel(convert_to_tensor(array, device="cpu"), None if spacing is None else len(spacing))
    tensor = tensor.as_subclass(torch.Tensor)
    if spacing is not None and len(spacing) != tensor.ndim:
        raise InputError(f"a spacing of {len(spacing)} numbers for {tensor.ndim} axes", case=f"test case {number}")
    if tensor.numel() and not (tensor.min() >= 0 and tensor.max() < num_classes):
        found = f"{tensor.min().item()} to {tensor.max().item()}"
        raise InputError(f"class indices {found} are not within 0 to {num_classes - 1}", case=f"test case {number}")
    return tensor


def _distance(prediction: torch.Tensor, label: torch.Tensor, index: int, spacing: list[float] | None) -> float:
    """``compute_hausdorff_distance(percentile=95)`` from its parts: as a whole, MONAI 1.6 warns of its own argument."""
    masks = prediction == index, label == index
    if not all(mask.any() for mask in masks):
        return math.nan
    found, truth = get_mask_edges(*masks)
    ways = ((found, truth), (truth, found))
    return max(float(np.percentile(get_surface_distance(*way, spacing=spacing), 95)) for way in ways)


def _summary(dice: NDArray, hd95: NDArray, seed: int) -> Scores:
    """Scores of (cases, classes) tables."""
    if not len(dice):
        raise InputError("the test set is empty")
    if np.isnan(dice).all():
        raise InputError("the labels of all cases are background: there is nothing to score")
    by_case = _means(100 * dice)
    extras = {}
    if len(hd95):
        known = ~np.isnan(hd95)
        extras["hd95"] = float(hd95[known].mean()) if known.any() else math.nan
        extras["hd95_missing"] = 100 * float(1 - known.sum() / (~np.isnan(dice)).sum())
    return Scores(
        metric="Dice",
        value=float(np.nanmean(by_case)),
        interval=bootstrap_interval(by_case, seed=seed),
        per_class=tuple(_means(100 * dice.T).tolist()),
        by_case=tuple(by_case.tolist()),
        extras=extras,
    )


def _means(table: NDArray) -> NDArray:
    """Mean of the known values of each row, NaN where none is known (without numpy's warning)."""
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.where(known, table, 0).sum(axis=1) / known.sum(axis=1)  # type: ignore[no-any-return]


def classification_scores(probabilities: NdarrayOrTensor, targets: NdarrayOrTensor, seed: int = 0) -> Scores:
    """Scores of predicted class probabilities against true classes.

    ``value`` is the balanced accuracy: the mean recall over the classes that the test set holds. ``per_class`` is the
    recall of each. ``extras`` hold ``accuracy`` and ``auc``, the area under the ROC curve in percent: of class 1 where
    there are two, else the mean over classes present of one against the rest; NaN where only one class is present.

    Args:
        probabilities: scores that rank cases, such as probabilities, (cases, classes).
        targets: class indices, (cases,).
        seed: random seed of the bootstrap.

    Raises:
        InputError: when there is no case, shapes do not fit, a score is not finite or a target out of range.
    """
    scores = np.asarray(convert_to_numpy(probabilities), np.float64)
    truth = np.asarray(convert_to_numpy(targets)).astype(np.int64)
    _check(scores, truth)
    classes, right = scores.shape[1], scores.argmax(axis=1) == truth
    recall = _recalls(truth[None], right[None], classes)[0]

    def balanced(truth: NDArray, right: NDArray) -> NDArray:
        return np.nanmean(_recalls(truth, right, classes), axis=1)  # type: ignore[no-any-return]

    low, high = bootstrap_interval(truth, right, statistic=balanced, seed=seed)
    return Scores(
        metric="balanced accuracy",
        value=100 * float(np.nanmean(recall)),
        interval=(100 * low, 100 * high),
        per_class=tuple((100 * recall).tolist()),
        by_case=tuple((100.0 * right).tolist()),
        extras={"accuracy": 100 * float(right.mean()), "auc": 100 * _area(scores, truth)},
    )


def multitask_scores(
    probabilities: Mapping[str, NdarrayOrTensor], targets: Mapping[str, NdarrayOrTensor], seed: int = 0
) -> Scores:
    """Scores of several classification tasks on the same cases.

    ``value`` is the mean over the tasks of their balanced accuracy, ``by_case`` the percentage of a case's tasks that
    are right. ``extras`` hold the balanced accuracy of each task under :func:`task_name`, and the means over the tasks
    of ``accuracy`` and ``auc``. There is nothing in ``per_class``: classes of different tasks make no list.

    Args:
        probabilities: scores that rank cases, by name of the task, (cases, classes).
        targets: class indices, by name of the task, (cases,).
        seed: random seed of the bootstrap.

    Raises:
        InputError: naming the task, when :func:`classification_scores` raises it; when the tasks differ in cases.
    """
    scores, columns, rights, each = list[NDArray](), list[NDArray](), list[NDArray](), list[float]()
    for task, ranks in probabilities.items():
        score = np.asarray(convert_to_numpy(ranks), np.float64)
        truth = np.asarray(convert_to_numpy(targets[task])).astype(np.int64)
        try:
            _check(score, truth)
        except InputError as error:
            raise InputError(f"task {task}: {error.reason}", case=error.case) from error
        right = score.argmax(axis=1) == truth
        scores.append(score)
        rights.append(right)
        columns += [truth, right]
        each.append(100 * float(np.nanmean(_recalls(truth[None], right[None], score.shape[1]))))
    classes = [score.shape[1] for score in scores]

    def balanced(*arrays: NDArray) -> NDArray:
        pairs = zip(arrays[::2], arrays[1::2], classes, strict=True)
        return np.mean([np.nanmean(_recalls(*pair), axis=1) for pair in pairs], axis=0)  # type: ignore[no-any-return]

    low, high = bootstrap_interval(*columns, statistic=balanced, seed=seed)
    extras = {task_name(task): value for task, value in zip(probabilities, each, strict=True)}
    extras["accuracy"] = 100 * float(np.mean(rights))
    extras["auc"] = 100 * float(np.mean([_area(*pair) for pair in zip(scores, columns[::2], strict=True)]))
    return Scores(
        metric="balanced accuracy",
        value=float(np.mean(each)),
        interval=(100 * low, 100 * high),
        per_class=(),
        by_case=tuple((100 * np.mean(rights, axis=0)).tolist()),
        extras=extras,
    )


def chance_level(classes: int) -> float:
    """Balanced accuracy, in percent, of guessing, at random or always the same.

    Args:
        classes: number of classes that the test set holds.

    Raises:
        InputError: when there are no classes.
    """
    if classes < 1:
        raise InputError("there is no chance level without classes")
    return 100 / classes


def _check(scores: NDArray, truth: NDArray) -> None:
    if not truth.size:
        raise InputError("the test set is empty")
    if scores.ndim != 2 or scores.shape[1] < 2 or truth.shape != scores.shape[:1]:
        reason = f"expected probabilities (cases, classes) and targets (cases,), not {scores.shape} and {truth.shape}"
        raise InputError(reason)
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


def _area(scores: NDArray, truth: NDArray) -> float:
    present = np.unique(truth).tolist()
    if len(present) < 2:
        return math.nan
    chosen = [1] if scores.shape[1] == 2 else present
    pairs = [(torch.from_numpy(scores[:, index]), torch.from_numpy(truth == index).double()) for index in chosen]
    return float(np.mean([compute_roc_auc(score, hit) for score, hit in pairs]))

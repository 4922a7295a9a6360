# SPDX-License-Identifier: Apache-2.0
"""Can protection be told from clean scans, and labels be read from noise?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.countermeasures.classifiers import FEATURES, blocks, fit_classifier, labeled_vectors, residual
from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import area_under_curve
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.utils.tensors import fit_extent

__all__ = ["AreaUnderCurve", "Separability", "label_separability", "scan_statistics", "separability"]

BANDS = 8
PERIODS = (2, 3, 4, 8)
FLOOR = 1e-10  # energy of nothing, so that it has a logarithm
RESAMPLES = 1000
HIDDEN = 16


@dataclass(frozen=True)
class AreaUnderCurve:
    """Area under the ROC curve.

    Args:
        value: area, 0 to 1; 0.5 is chance.
        interval: 95% bootstrap interval over cases.
    """

    value: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Separability:
    """The performance of two simple classifiers on cases that they did not learn from.

    Args:
        linear: logistic regression.
        two_layer: a network with one hidden layer.
        cases: number of cases.
    """

    linear: AreaUnderCurve
    two_layer: AreaUnderCurve
    cases: int


def separability(
    protected: Sequence[Tensor],
    clean: Sequence[Tensor],
    case_ids: tuple[Sequence[str], Sequence[str]] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Separability:
    """How well an exploiter who has examples of both can tell protected from clean scans.

    The classifiers see :func:`scan_statistics`. Versions of one scan are never on both sides of a fold: the anatomy
    could be recognized.

    Args:
        protected: images (C, spatial...) in [0, 1]; read once.
        clean: other images, or the originals of the protected ones.
        case_ids: ids of the cases of both; by default the i-th of both is the same case where there are as many,
            and else all differ.
        folds: number of folds of the cross-validation.
        seed: random seed of folds, weights and bootstrap.

    Raises:
        InputError: when there are fewer than two cases of either.
    """
    if case_ids is None:
        same = len(protected) == len(clean)
        case_ids = ([f"p{i}" for i in range(len(protected))], [f"{'p' if same else 'c'}{i}" for i in range(len(clean))])
    statistics = [scan_statistics(image) for part in (protected, clean) for image in track(part, "measuring scan")]
    names = [*case_ids[0], *case_ids[1]]
    known = {name: index for index, name in enumerate(dict.fromkeys(names))}
    cases = np.array([known[name] for name in names])
    truth = np.array([True] * len(protected) + [False] * len(clean))
    if min(len(protected), len(clean), len(known)) < 2:
        raise InputError(f"there are {len(protected)} protected and {len(clean)} clean scans; at least 2 are needed")
    targets = torch.nn.functional.one_hot(torch.from_numpy(truth).long(), 2).float()
    strata = np.zeros(len(known), int)
    np.bitwise_or.at(strata, cases, truth + 1)  # what a case has: 1 for clean and 2 for protected versions, 3 for both
    return _judge(torch.stack(statistics), targets, [1], truth[:, None], cases, strata, folds, seed, by_feature=True)


def label_separability(
    samples: Sequence[Mapping[str, Any]],
    block: int | None = None,
    rows: int = 256,
    folds: int = 5,
    seed: int = 0,
) -> Separability:
    """How much of the labels simple classifiers read from the noise-like residual of the images alone.

    The noise of availability attacks is almost linearly separable by label (Yu et al., Availability Attacks Create
    Shortcuts, KDD 2022; there the noise itself is classified, and on the data that the classifier learned from). An
    exploiter does not have the noise; here the image less its local mean stands for it, and the cases judged are others
    than those learned from. Anatomy leaves a residual too, so compare with the same figure of clean scans. Where labels
    are maps, blocks are classified instead of images.

    Args:
        samples: loaded cases with ``image`` (C, spatial...) in [0, 1] and ``label``; read once.
        block: voxels an axis of a block; by default 8 in 2D and 4 in 3D.
        rows: blocks a case, drawn by the seed, half of them with foreground where there is enough.
        folds: number of folds of the cross-validation.
        seed: random seed of draw, folds, weights and bootstrap.

    Returns:
        Areas of one class against the rest, averaged over the classes; of label maps without background. A block is of
        a class when more than half of its voxels are.

    Raises:
        InputError: when labels are missing or all the same, or a class is in a single case.
    """
    vectors = labeled_vectors(
        track(samples, "loading case"), residual, block, rows, FEATURES, derive_seed(seed, "rows")
    )
    truth = (vectors.targets > 0.5).numpy()
    cases = vectors.cases.numpy()
    strata = truth.argmax(1) if vectors.whole else np.zeros(len(samples), int)
    judged = [column for column in range(0 if vectors.whole else 1, truth.shape[1]) if truth[:, column].any()]
    if not judged:
        raise InputError("no block is of one class; blocks are too large for the structures")
    for column in judged:
        if len(np.unique(cases[truth[:, column]])) < 2:
            raise InputError("a class is in a single case; it cannot be learned on some and judged on others")
    truth = truth[:, judged]
    return _judge(vectors.values, vectors.targets, judged, truth, cases, strata, folds, seed, by_feature=False)


def scan_statistics(image: Tensor) -> Tensor:
    """Numbers that tell noise from none, and little of the anatomy, as logarithms of energies.

    Of each channel: the power spectrum along each axis, averaged over the others, in eight bands of equal width; the
    energy of the image less its local mean and, robustly, the median of its magnitude; and for periods of 2, 3, 4
    and 8 voxels the energy of what remains of it when blocks of that side are averaged, which is noise that is locked
    to the grid.

    Args:
        image: normalized intensity, (C, spatial...).

    Returns:
        (C * (8 * dims + 6),)
    """
    return torch.cat([_channel_statistics(channel[None].float()) for channel in image])


def _channel_statistics(image: Tensor) -> Tensor:
    rest = residual(image)
    numbers = [energy for axis in range(1, image.ndim) for energy in _bands(image, axis)]
    numbers += [(rest**2).mean(), rest.abs().median() ** 2]
    for period in PERIODS:
        # Whole blocks only; padding would look like a pattern.
        whole = fit_extent(rest, [max(period, voxels // period * period) for voxels in rest.shape[1:]])
        numbers.append((blocks(whole, period).mean(0) ** 2).mean())
    return (torch.stack(numbers) + FLOOR).log()


def _bands(image: Tensor, axis: int) -> Tensor:
    voxels = image.shape[axis]
    window = torch.hann_window(voxels, periodic=False).view(-1, *[1] * (image.ndim - 1 - axis)) + 1e-3
    power = torch.fft.rfft((image - image.mean()) * window, dim=axis).abs() ** 2 / voxels
    power = power.mean([other for other in range(image.ndim) if other != axis])
    # Half a step less, so that the highest frequency falls into the last band.
    band = (torch.arange(len(power)) * BANDS / (len(power) - 0.5)).long().clamp(max=BANDS - 1)
    count = torch.bincount(band, minlength=BANDS).clamp(min=1)
    return torch.zeros(BANDS).index_add(0, band, power) / count


def _judge(
    values: Tensor,
    targets: Tensor,
    judged: Sequence[int],
    truth: NDArray,
    cases: NDArray,
    strata: NDArray,
    folds: int,
    seed: int,
    by_feature: bool,
) -> Separability:
    """Areas of both classifiers by cross-validation; all rows of a case are in one fold.

    ``truth`` (rows, judged) says whether a row is of each of the ``judged`` classes; each fold holds the ``strata``
    (cases,) evenly, which scikit-learn refuses where they have fewer cases than folds.
    """
    fold = _folds(strata, folds, derive_seed(seed, "folds"))[cases]
    areas = []
    for hidden in (0, HIDDEN):
        scores = np.zeros(targets.shape)
        for part in np.unique(fold):
            learn, judge = torch.from_numpy(fold != part), fold == part
            drawn = derive_seed(seed, "model", hidden, part)
            model = fit_classifier(values[learn], targets[learn], hidden, by_feature, seed=drawn)
            scores[judge] = model.log_probabilities(values[~learn])
        areas.append(_area(scores[:, judged], truth, cases, derive_seed(seed, "bootstrap")))
    return Separability(areas[0], areas[1], len(strata))


def _folds(strata: NDArray, folds: int, seed: int) -> NDArray:
    """The fold of each case, evenly in each stratum."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    fold = np.zeros(len(strata), int)
    fold[order] = np.arange(len(strata)) % min(folds, len(strata))
    return fold


def _area(scores: NDArray, truth: NDArray, cases: NDArray, seed: int) -> AreaUnderCurve:
    def mean(weights: NDArray | None) -> float:
        areas = [area_under_curve(column, true, weights) for column, true in zip(scores.T, truth.T, strict=True)]
        areas = [area for area in areas if not math.isnan(area)]
        return float(np.mean(areas)) if areas else math.nan

    rng, count = np.random.default_rng(seed), cases.max() + 1
    drawn = [np.bincount(rng.integers(count, size=count), minlength=count)[cases] for _ in range(RESAMPLES)]
    value, areas = mean(None), np.array([mean(weights) for weights in drawn])
    known = areas[~np.isnan(areas)]
    low, high = np.percentile(known, [2.5, 97.5]) if known.size else (math.nan, math.nan)
    return AreaUnderCurve(value, (float(low), float(high)))

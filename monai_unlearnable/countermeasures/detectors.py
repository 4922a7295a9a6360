# SPDX-License-Identifier: Apache-2.0
"""Can protection be told from clean scans, and labels be read from noise?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import derive_seed, seeded
from monai_unlearnable.utils.tensors import fit_extent, pad_to_multiple

__all__ = ["AreaUnderCurve", "Separability", "area_under_curve"]
__all__ += ["label_separability", "scan_statistics", "separability"]

BLOCK = {2: 8, 3: 4}  # voxels an axis: periods of noise up to this are seen, thin organs still hold whole blocks
FEATURES = 2**14  # values that are enough to judge a whole image by
BANDS = 8
PERIODS = (2, 3, 4, 8)
FLOOR = 1e-10  # energy of nothing and probability of what was never seen, so that they have a logarithm
RESAMPLES = 1000
HIDDEN = 16


@dataclass(frozen=True)
class LabeledVectors:
    """The data of a simple classifier.

    Args:
        values: features of each row, (rows, features).
        targets: fraction of each class, (rows, classes); rows sum to 1.
        cases: index of the case that a row is from, (rows,).
        extent: spatial size of the whole images that the rows are, or of the blocks.
        whole: whether a row is a whole image.
    """

    values: Tensor
    targets: Tensor
    cases: Tensor
    extent: tuple[int, ...]
    whole: bool

    @property
    def channels(self) -> int:
        """Image channels."""
        return self.values.shape[1] // math.prod(self.extent)


def labeled_vectors(
    samples: Iterable[Mapping[str, Any]],
    view: Callable[[Tensor], Tensor] = lambda image: image,
    block: int | None = None,
    rows: int = 1024,
    features: int | None = None,
    seed: int = 0,
) -> LabeledVectors:
    """Vectors of loaded cases with what their labels say.

    Where the label is a class number, a row is a whole image, brought to the size of the first one at its far ends.
    Where it is a label map, a row is a block of voxels and its target the fraction of each class in it. Blocks lie on
    one grid that starts at the first voxel, since noise can be locked to the grid of the file.

    Args:
        samples: ``image`` (C, spatial...) in [0, 1] and ``label``: a class number, or class indices (1, spatial...);
            read once, one after the other.
        view: function that is applied to each image first, such as :func:`residual`.
        block: voxels an axis of a block; by default 8 in 2D and 4 in 3D.
        rows: largest number of blocks a case, drawn by the seed, half of them with foreground where there is enough.
        features: largest number of values of a whole image, the same of each, drawn by the seed; None for all.
        seed: random seed of these draws.

    Raises:
        InputError: when there is no sample, a label is missing, or all labels say the same.
    """
    draw = seeded(seed)
    values, targets, whole = [], [], None
    extent: tuple[int, ...] = ()
    kept: Tensor | slice = slice(None)
    for sample in samples:
        image, label = image_of(sample), _label_of(sample)
        if whole is None:
            whole = label.ndim == 0
            extent = tuple(image.shape[1:]) if whole else (block or BLOCK[image.ndim - 1],) * (image.ndim - 1)
            if whole and features is not None and features < image.numel():
                kept = torch.randperm(image.numel(), generator=draw)[:features].sort().values
        if whole != (label.ndim == 0):
            raise InputError("some labels are class numbers, others are label maps", case=sample.get(CaseKeys.CASE_ID))
        if whole:
            values.append(fit_extent(view(image), extent).flatten()[kept][None])
            targets.append(label.view(1, 1))
        else:
            chosen, counts = _drawn(image, label, extent[0], rows, draw)
            values.append(blocks(view(image), extent[0])[chosen])
            targets.append(counts)
    if whole is None:
        raise InputError("there is no case to learn from")
    fractions = _fractions(targets)
    if int((fractions.sum(0) > 0).sum()) < 2:
        raise InputError("the labels of all cases are the same; there is nothing to tell apart")
    cases = torch.arange(len(values)).repeat_interleave(torch.tensor([len(part) for part in values]))
    return LabeledVectors(torch.cat(values), fractions, cases, extent, whole)


def blocks(image: Tensor, side: int) -> Tensor:
    """The blocks of an image (C, spatial...) as rows (blocks, C * side**dims), padded at the far ends."""
    folded = pixelunshuffle(pad_to_multiple(image, side)[None], image.ndim - 1, side)[0]
    return folded.flatten(1).T


def unblocks(rows: Tensor, shape: Sequence[int], side: int) -> Tensor:
    """The image of a shape (C, spatial...) whose :func:`blocks` are given."""
    grid = [-(-voxels // side) for voxels in shape[1:]]
    return fit_extent(pixelshuffle(rows.T.reshape(1, -1, *grid), len(grid), side)[0], shape[1:])


def residual(image: Tensor) -> Tensor:
    """An image (C, spatial...) less its mean over the 3**dims voxels around, where noise-like changes show."""
    dims = image.ndim - 1
    pool = torch.nn.functional.avg_pool2d if dims == 2 else torch.nn.functional.avg_pool3d
    padded = torch.nn.functional.pad(image[None], [1] * 2 * dims, mode="replicate")
    return image - pool(padded, 3, 1)[0]


def image_of(sample: Mapping[str, Any]) -> Tensor:
    """The image of a loaded case as a plain float32 tensor (C, spatial...) on the CPU."""
    return torch.as_tensor(sample[CaseKeys.IMAGE]).detach().as_subclass(Tensor).to("cpu", torch.float32)


def _label_of(sample: Mapping[str, Any]) -> Tensor:
    if sample.get(CaseKeys.LABEL) is None:
        raise InputError("there is no label to learn from", case=sample.get(CaseKeys.CASE_ID))
    label = torch.as_tensor(sample[CaseKeys.LABEL]).detach().as_subclass(Tensor).to("cpu", torch.long)
    return label.reshape(()) if label.numel() == 1 else label


def _drawn(image: Tensor, label: Tensor, side: int, rows: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which blocks are drawn, and the number of voxels of each class in each, (rows, classes)."""
    if label.shape[1:] != image.shape[1:]:
        raise InputError(f"the label has shape {tuple(label.shape)}, the image {tuple(image.shape)}")
    dims = image.ndim - 1
    classes = torch.arange(int(label.max()) + 1).view(-1, *[1] * dims)
    counts = blocks((label == classes).float(), side).view(-1, len(classes), side**dims).sum(-1)
    order = torch.randperm(len(counts), generator=draw)
    foreground = counts[order, 1:].sum(-1) > 0
    inside, outside = order[foreground], order[~foreground]
    inside = inside[: max(rows // 2, rows - len(outside))]
    chosen = torch.cat([inside, outside[: rows - len(inside)]])
    return chosen, counts[chosen]


def _fractions(targets: Sequence[Tensor]) -> Tensor:
    if targets[0].dtype == torch.long:
        return torch.nn.functional.one_hot(torch.cat(list(targets)).flatten()).float()
    classes = max(target.shape[1] for target in targets)
    counts = torch.cat([torch.nn.functional.pad(target, (0, classes - target.shape[1])) for target in targets])
    return counts / counts.sum(1, keepdim=True)


@dataclass(frozen=True)
class Classifier:
    """A fitted classifier of vectors.

    Args:
        scaler: scikit-learn's scaler of the features.
        model: scikit-learn's classifier of scaled features.
        classes: number of classes, those that it never saw included.
    """

    scaler: Any
    model: Any
    classes: int

    @property
    def weights(self) -> Tensor:
        """Directions (directions, features) that a linear classifier uses."""
        return torch.as_tensor(self.model.coef_, dtype=torch.float32)

    def log_probabilities(self, values: Tensor) -> Tensor:
        """Logarithms of the probability of each class, (rows, classes); very low for those that it never saw."""
        found = np.zeros((len(values), self.classes))
        found[:, self.model.classes_] = self.model.predict_proba(self.scaler.transform(values.numpy()))
        return torch.from_numpy(np.log(found.clip(min=FLOOR)))


def fit_classifier(
    values: Tensor,
    targets: Tensor,
    hidden: int = 0,
    by_feature: bool = False,
    penalty: float = 1.0,
    iterations: int = 50,
    seed: int = 0,
) -> Classifier:
    """Fit scikit-learn's logistic regression, or its network with one hidden layer, to all rows by L-BFGS.

    Classes count alike, however many rows they have. A row that is of several classes is given once for each.

    Args:
        values: features of each row, (rows, features).
        targets: fraction of each class, (rows, classes).
        hidden: units of the hidden layer; 0 for logistic regression.
        by_feature: whether each feature has its own scale; else all have one, which keeps directions.
        penalty: factor of half the squared weights of all classes.
        iterations: largest number of steps.
        seed: random seed of the first weights, where there is a hidden layer.
    """
    from sklearn.dummy import DummyClassifier
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import StandardScaler

    fractions = targets.numpy().astype(np.float64)
    present = fractions.sum(0) > 0
    scaler = StandardScaler().fit(values.numpy())
    if not by_feature:
        scaler.scale_ = np.full_like(scaler.scale_, max(math.sqrt(scaler.var_.mean()), 1e-6))
    rows, classes = np.nonzero(fractions)
    balance = len(values) / (present.sum() * fractions.sum(0).clip(min=1e-9))
    model: Any
    if present.sum() < 2:
        model = DummyClassifier(strategy="prior")
    elif hidden:
        model = MLPClassifier((hidden,), solver="lbfgs", alpha=penalty, max_iter=iterations, random_state=seed % 2**32)
    else:  # of two classes scikit-learn keeps the difference of their weights, whose square counts half
        model = LogisticRegression(C=(2 if present.sum() == 2 else 1) / penalty, tol=1e-6, max_iter=iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps are wanted
        scaled, weights = scaler.transform(values.numpy())[rows], (fractions * balance)[rows, classes]
        model.fit(scaled, classes, sample_weight=weights)
    return Classifier(scaler, model, fractions.shape[1])


def area_under_curve(scores: NDArray, positive: NDArray, weights: NDArray | None = None) -> float:
    """Probability that a positive scores higher than a negative, ties counting half (Mann and Whitney).

    It equals scikit-learn's ``roc_auc_score`` in a tenth of its time, which a bootstrap needs a thousand times.

    Args:
        scores: scores, (n,).
        positive: truth, (n,).
        weights: number of times that each counts, (n,); by default once.

    Returns:
        0 to 1; NaN where one of the groups is empty.
    """
    weights = np.ones(len(scores)) if weights is None else weights
    ranks = np.unique(scores, return_inverse=True)[1]
    above = np.bincount(ranks, np.where(positive, weights, 0))
    below = np.bincount(ranks, np.where(positive, 0, weights))
    pairs = above.sum() * below.sum()
    return float((above * (np.cumsum(below) - below / 2)).sum() / pairs) if pairs else math.nan


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
    statistics = [scan_statistics(image) for part in (protected, clean) for image in track(part, "statistics of scans")]
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
    vectors = labeled_vectors(track(samples, "loading"), residual, block, rows, FEATURES, derive_seed(seed, "rows"))
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
    low, high = np.nanpercentile([mean(weights) for weights in drawn], [2.5, 97.5])
    return AreaUnderCurve(mean(None), (float(low), float(high)))

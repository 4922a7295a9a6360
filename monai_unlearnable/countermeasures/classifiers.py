# SPDX-License-Identifier: Apache-2.0
"""Simple classifiers, by scikit-learn, of images as rows of a table: whole, or as blocks of voxels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor

from monai_unlearnable.countermeasures.base import image_of, label_of
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import fit_extent, pad_to_multiple

__all__ = ["FEATURES", "Classifier", "LabeledVectors", "blocks", "fit_classifier", "labeled_vectors", "residual"]
__all__ += ["unblocks"]

BLOCK = {2: 8, 3: 4}  # voxels an axis: periods of noise up to this are seen, thin organs still hold whole blocks
FEATURES = 2**14  # values that are enough to judge a whole image by
RAREST = 1e-10  # probability of what was never seen, so that it has a logarithm


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
        image, label = image_of(sample), label_of(sample)
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
        return torch.from_numpy(np.log(found.clip(min=RAREST)))


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

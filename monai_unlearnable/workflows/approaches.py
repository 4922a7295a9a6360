# SPDX-License-Identifier: Apache-2.0
"""What the ``anti_learning`` bundle chooses by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai.data import DataLoader, Dataset

from monai_unlearnable.errors import InputError
from monai_unlearnable.keys import CaseKeys
from monai_unlearnable.masks import Everywhere, MaskProvider, OfClasses, Roi
from monai_unlearnable.perturbers import LinearSurrogate, Perturber
from monai_unlearnable.scans import DatasetSummary

__all__ = ["APPROACHES", "GRANULARITIES", "choose_perturber", "choose_support", "fit_linear"]

APPROACHES = ("error_minimizing", "error_maximizing", "synthetic")
GRANULARITIES = ("case", "class", "universal")
LARGEST = "largest"


def choose_support(summary: DatasetSummary, spared: int | str | None = LARGEST) -> MaskProvider:
    """Where noise goes by default: the exact regions of class maps; all images but those of one class.

    A class that carries no noise takes all clean images, since models learn the absence of noise as evidence for it:
    the background of class maps, and among classes of whole images the spared one. Without one, models that know a
    pattern for each class find none in a clean image, and fall back on what else they have learned.

    Args:
        summary: of the dataset.
        spared: the class of whole images without noise, ``"largest"`` for the one that most images have, None for none.

    Raises:
        InputError: when there is no such class.
    """
    if summary.is_segmentation:
        return Roi()
    if spared is None:
        return Everywhere()
    kind = summary.largest_target if spared == LARGEST else spared
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind < summary.num_classes:
        raise InputError(f"class {spared!r} cannot be spared; give {LARGEST!r}, null or 0 to {summary.num_classes - 1}")
    return Everywhere() & ~OfClasses([kind])


def choose_perturber(
    approach: str,
    granularity: str,
    pattern: str,
    case_noise: Perturber,
    shared_noise: Perturber,
    patterns: Mapping[str, Perturber],
) -> Perturber:
    """The perturber of an approach.

    Args:
        approach: ``"error_minimizing"``, ``"error_maximizing"`` or ``"synthetic"``.
        granularity: ``"case"``, ``"class"`` or ``"universal"``.
        pattern: name of one of ``patterns``, for the synthetic approach.
        case_noise: of the first two approaches, a case at a time.
        shared_noise: of the first two approaches, for classes or for all.
        patterns: those of the synthetic approach.

    Raises:
        InputError: listing the names, when one is unknown.
    """
    for kind, name, known in (
        ("approach", approach, APPROACHES),
        ("granularity", granularity, GRANULARITIES),
        ("pattern", pattern, tuple(patterns)),
    ):
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}; known are {', '.join(known)}")
    if approach == "synthetic":
        return patterns[pattern]
    return case_noise if granularity == "case" else shared_noise


def fit_linear(perturber: LinearSurrogate, dataset: Dataset, batch_size: int) -> None:
    """Fit a linear surrogate to a dataset of unit intensity, in one pass."""
    loader: Any = DataLoader(dataset, batch_size=batch_size)
    perturber.fit((batch[CaseKeys.IMAGE], batch[CaseKeys.LABEL]) for batch in loader)

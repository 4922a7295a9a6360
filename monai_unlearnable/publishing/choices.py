# SPDX-License-Identifier: Apache-2.0
"""What the bundles ``anti_learning`` and ``salm`` choose by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from monai.data import DataLoader, Dataset

from monai_unlearnable.data import Case, DatasetSummary, choose_window
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, MaskProvider, OfClasses, Roi, Sparsity
from monai_unlearnable.perturbers import LinearSurrogate, Objective, Perturber
from monai_unlearnable.utils.enums import CaseKeys

__all__ = [
    "APPROACHES",
    "GRANULARITIES",
    "balance",
    "choose_objective",
    "choose_perturber",
    "choose_support",
    "choose_window",
    "fit_linear",
    "pick",
    "fraction_of",
]

APPROACHES = ("error_minimizing", "error_maximizing", "synthetic")
GRANULARITIES = ("case", "class", "universal")
MAXIMIZING = ("target", "maximize")
LARGEST, NOBODY = "largest", "none"


def choose_support(summary: DatasetSummary, unperturbed: int | str | None = LARGEST) -> MaskProvider:
    """Where noise goes by default: the exact regions of class maps; all images but those of one class.

    A class that carries no noise takes all clean images, since models learn the absence of noise as evidence for it:
    the background of class maps, and among classes of whole images the unperturbed one. Without one, models that know a
    pattern for each class find none in a clean image, and fall back on what else they have learned.

    Args:
        summary: of the dataset.
        unperturbed: the class of whole images without noise, ``"largest"`` for the one that most images have,
            ``"none"`` or None for no class.

    Raises:
        InputError: when there is no such class.
    """
    if summary.is_segmentation:
        return Roi()
    if unperturbed in (None, NOBODY):
        return Everywhere()
    kind = summary.largest_target if unperturbed == LARGEST else unperturbed
    if isinstance(kind, bool) or not isinstance(kind, int) or not 0 <= kind < summary.num_classes:
        known = f"{LARGEST!r}, {NOBODY!r} or 0 to {summary.num_classes - 1}"
        raise InputError(f"class {unperturbed!r} cannot be unperturbed; give {known}")
    return Everywhere() & ~OfClasses([kind])


def choose_perturber(
    approach: str,
    granularity: str,
    pattern: str,
    case_noise: Perturber,
    classwise_noise: Perturber,
    patterns: Mapping[str, Perturber],
) -> Perturber:
    """The perturber of an approach.

    Args:
        approach: ``"error_minimizing"``, ``"error_maximizing"`` or ``"synthetic"``.
        granularity: ``"case"``, ``"class"`` or ``"universal"``.
        pattern: name of one of ``patterns``, for the synthetic approach.
        case_noise: of the first two approaches, a case at a time.
        classwise_noise: of the first two approaches, for classes or for all.
        patterns: those of the synthetic approach.

    Raises:
        InputError: listing the names, when one is unknown; when voxels are to be selected for noise that has no case.
    """
    for kind, name, known in (("approach", approach, APPROACHES), ("granularity", granularity, GRANULARITIES)):
        if name not in known:
            raise InputError(f"unknown {kind} {name!r}; known are {', '.join(known)}")
    chosen: Perturber = pick("pattern", pattern, patterns)
    if approach != "synthetic":
        chosen = case_noise if granularity == "case" else classwise_noise
    if getattr(case_noise, "sparsity", None) is not None and chosen is not case_noise:
        raise InputError("sparsity selects voxels for noise of granularity 'case', not for patterns that cases share")
    return chosen


def choose_objective(approach: str, goal: str, targets: Sequence[int] | None, num_classes: int) -> Objective:
    """What noise by gradients goes down.

    Args:
        approach: of the bundle.
        goal: of the error-maximizing approach, ``"target"`` or ``"maximize"``.
        targets: the class that stands for each class, by default the next one.
        num_classes: of the dataset.

    Raises:
        InputError: when the goal is unknown, or targets do not fit the classes.
    """
    if approach != "error_maximizing":
        return Objective()
    if goal not in MAXIMIZING:
        raise InputError(f"unknown goal {goal!r} of error-maximizing noise; known are {', '.join(MAXIMIZING)}")
    if targets is not None and len(targets) != num_classes:
        raise InputError("the number of targets is not that of the classes", value=len(targets), limit=num_classes)
    return Objective(goal, targets)


def pick(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    """An entry of a table by its name.

    Raises:
        InputError: listing the names, when there is none of that name.
    """
    if name not in options:
        raise InputError(f"unknown {kind} {name!r}; known are {', '.join(options)}")
    return options[name]


def fraction_of(sparsity: Sparsity | None) -> float:
    """The fraction of voxels that a budget has to grant for a selection of voxels; 1 without one."""
    return 1.0 if sparsity is None else sparsity.fraction


def balance(cases: Sequence[Case]) -> list[float] | None:
    """Weights with which all classes of whole images are drawn equally often; None where labels are maps."""
    counts = Counter(case.target for case in cases)
    return None if None in counts else [1 / counts[case.target] for case in cases]


def fit_linear(perturber: LinearSurrogate, dataset: Dataset, batch_size: int) -> None:
    """Fit a linear surrogate to a dataset of normalized intensity, in one pass."""
    loader: Any = DataLoader(dataset, batch_size=batch_size)
    perturber.fit((batch[CaseKeys.IMAGE], batch[CaseKeys.LABEL]) for batch in loader)

# SPDX-License-Identifier: Apache-2.0
"""What bundles choose by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import Any

from monai.data import DataLoader, Dataset
from monai.transforms import Compose, EnsureTyped, Orientationd
from torch import Tensor

from monai_unlearnable.data import RAS, Crop, DatasetSummary, median_spacing, nnunet_spacing
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, MaskProvider, OfClasses, Roi, Sparsity
from monai_unlearnable.perturbers import (
    ClassPatterns,
    LinearSurrogate,
    NyquistCarriers,
    Objective,
    Perturber,
    TaskPatterns,
)
from monai_unlearnable.perturbers.carriers import KEYED, STRENGTH, carrier_codes, check_mixture
from monai_unlearnable.perturbers.planned import PlannedGrid, ResamplingRule
from monai_unlearnable.publishing.protect import Protection
from monai_unlearnable.suited import not_for_maps
from monai_unlearnable.training.data import native_transforms
from monai_unlearnable.utils.enums import CaseKeys, look_up
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.seeding import derive_seed

__all__ = ["approach", "check_whole_images", "fit_carriers", "fit_linear", "for_tasks", "granularity", "look_up"]
__all__ += ["mixture", "objective", "planned_grid", "support", "unperturbed_classes"]

APPROACHES = ("error_minimizing", "error_maximizing")
GRANULARITIES = ("case", "class", "universal")
GOALS = {"targeted": "target", "untargeted": "maximize"}  # of the bundle, and as an objective calls them
LARGEST, NOBODY = "largest", "none"
USUAL = "usual"  # the crop of a pipeline
SURVEYED = 32  # cases by which carriers are chosen
MIXTURES = ([1.0], [0.6, 0.4])  # of carriers that are drawn, the first that gives enough marks
ENOUGH = 20  # marks, so that a trace can find 0.05: one in so many other keys has the owner's mark

logger = logging.getLogger(__name__)


def support(summary: DatasetSummary, unperturbed: int | str | None = LARGEST) -> MaskProvider:
    """Where noise goes by default: the exact regions of class maps; all images but those of one class.

    Models learn the absence of noise as evidence for a class that carries none, and take clean images for it: the
    background of class maps, and among classes of whole images the unperturbed one. Without one, models that know
    a pattern for each class find none in a clean image, and fall back on what else they have learned.

    Args:
        summary: summary of the dataset.
        unperturbed: class of whole images without noise, ``"largest"`` for the one that most images have, ``"none"`` or
            None for no class.

    Raises:
        InputError: when :func:`unperturbed_classes` raises it.
    """
    if summary.is_segmentation:
        if not (unperturbed in (None, NOBODY, LARGEST) or isinstance(unperturbed, int)):
            raise InputError(f"unperturbed is {unperturbed!r}; give {LARGEST!r}, {NOBODY!r} or the number of a class")
        return Roi()
    if summary.tasks:
        return Everywhere()  # an image may be of the unperturbed class of one task alone
    (kind,) = unperturbed_classes(summary, unperturbed)
    return Everywhere() if kind is None else Everywhere() & ~OfClasses([kind])


def unperturbed_classes(summary: DatasetSummary, unperturbed: int | str | None = LARGEST) -> list[int | None]:
    """The class of each task that carries no noise, None where there is none.

    Args:
        summary: summary of a dataset with classes of whole images.
        unperturbed: see :func:`support`; a number only where images have one label.

    Raises:
        InputError: when there is no such class, or no image is of another one.
        LabelError: when labels are maps.
    """
    tasks = list(summary.tasks.values()) or [summary.targets]
    if summary.is_segmentation:
        raise not_for_maps("the method")
    if unperturbed in (None, NOBODY):
        return [None] * len(tasks)
    kinds: list[Any] = [counts.index(max(counts)) for counts in tasks]
    if unperturbed != LARGEST:
        if summary.tasks:
            reason = f"images have several labels: none of them tells what class {unperturbed!r} is"
            raise InputError(f"{reason}; set unperturbed to {LARGEST} or {NOBODY}")
        if isinstance(unperturbed, bool) or not isinstance(unperturbed, int) or not 0 <= unperturbed < len(tasks[0]):
            known = f"{LARGEST!r}, {NOBODY!r} or 0 to {len(tasks[0]) - 1}"
            raise InputError(f"class {unperturbed!r} cannot be left unperturbed; give {known}")
        kinds = [unperturbed]
    if all(counts[kind] == sum(counts) for counts, kind in zip(tasks, kinds, strict=True)):
        reason = f"all images are of class {kinds[0]}, which is left unperturbed: nothing would be changed"
        raise InputError(f"{reason}; set unperturbed to none")
    return kinds


def for_tasks(pattern: ClassPatterns, summary: DatasetSummary, unperturbed: int | str | None = LARGEST) -> Perturber:
    """Patterns for all labels of images: those of each task are drawn from a seed of its own.

    Args:
        pattern: patterns for one label.
        summary: summary of the dataset.
        unperturbed: class without a pattern in each task, see :func:`support`.

    Returns:
        The patterns of all tasks together. Where images have one label, or patterns are not drawn, which would make
        those of all tasks alike, ``pattern`` itself.

    Raises:
        InputError: when :func:`unperturbed_classes` raises it.
    """
    arguments = pattern.arguments()
    if not summary.tasks or not pattern.is_drawn:
        return pattern
    parts = []
    for task, kind in zip(summary.tasks, unperturbed_classes(summary, unperturbed), strict=True):
        support = arguments["support"] if kind is None else arguments["support"] & ~OfClasses([kind])
        seed = derive_seed(arguments["seed"], "task", task)
        parts.append(type(pattern)(**{**arguments, "support": support, "seed": seed}))
    return TaskPatterns(parts, tuple(summary.tasks), pattern.epsilon)


def approach(name: str) -> str:
    """The name of an approach of the bundle ``anti_learning``.

    Raises:
        InputError: listing the names, when it is none of them.
    """
    if name == "synthetic":
        raise InputError("synthetic patterns are a bundle of their own: protect synthetic --pattern NAME")
    return str(look_up("approach", name, APPROACHES))


def granularity(name: str, sparsity: Sparsity | None = None) -> str:
    """The granularity of gradient noise: ``"case"``, ``"class"`` or ``"universal"``.

    Raises:
        InputError: when it is unknown, or voxels are to be selected for noise that cases share.
    """
    look_up("granularity", name, GRANULARITIES)
    if sparsity is not None and name != "case":
        raise InputError("sparsity selects voxels for noise of granularity 'case', not for patterns that cases share")
    return name


def objective(is_minimizing: bool, goal: str, targets: Sequence[int] | None, num_classes: int) -> Objective:
    """The loss that gradient noise minimizes.

    Args:
        is_minimizing: whether the approach is error-minimizing.
        goal: goal of the error-maximizing approach, ``"targeted"`` or ``"untargeted"``.
        targets: class that stands for each class, by default the next one.
        num_classes: number of classes of the dataset.

    Raises:
        InputError: when the goal is unknown, or targets do not fit the classes.
    """
    if is_minimizing:
        return Objective()
    kind = look_up("goal of error-maximizing noise", goal, GOALS)
    if targets is not None and len(targets) != num_classes:
        raise InputError("the number of targets is not that of the classes", value=len(targets), limit=num_classes)
    return Objective(kind, targets)


def check_whole_images(method: str, protection: Protection) -> None:
    """Refuse label maps for a method that knows classes of whole images alone; nothing is read but the list of cases.

    Raises:
        LabelError: when cases have label maps, naming methods that take them.
    """
    if protection.is_segmentation:
        raise not_for_maps(method)


def fit_carriers(perturber: NyquistCarriers, protection: Protection, max_cases: int = SURVEYED) -> None:
    """Let carriers be chosen by what scans hold of them.

    Args:
        perturber: carriers to choose.
        protection: the run, which knows the cases and how they are read.
        max_cases: number of cases that are looked at; more where there are more classes of whole images.
    """
    kinds = grouped(protection.cases, lambda case: case.target).values()
    each = max(1, max_cases // len(kinds))
    cases = [case for members in kinds for case in members[:: -(-len(members) // each)]]
    keys = (CaseKeys.IMAGE, *([CaseKeys.LABEL] if protection.is_segmentation else []))
    is_turned = perturber.grid is not None and perturber.grid.is_of_patient and protection.summary.spatial_dims == 3
    turn = [Orientationd(keys, axcodes="RAS", labels=RAS)] if is_turned else []
    typed = EnsureTyped((CaseKeys.IMAGE, CaseKeys.LABEL), track_meta=False)
    transform = Compose([*native_transforms(protection.summary, protection.window), *turn, typed])
    perturber.fit(_batches(Dataset([case.to_dict() for case in cases], transform), 1))


def mixture(
    weights: Sequence[float] | None, carriers: Any, distinct: bool | None, summary: DatasetSummary
) -> Sequence[float]:
    """The weights of the carriers of each class.

    Warns when carriers are drawn and so few marks are possible that the set cannot be traced.

    Args:
        weights: weights that are given, or None.
        carriers: the carriers, ``"keyed"`` when they are drawn.
        distinct: whether each class gets carriers of its own; not if it is False.
        summary: summary of the dataset.

    Returns:
        The weights that are given; by default one carrier, or as many as give enough marks where they are drawn.

    Raises:
        InputError: when :func:`~monai_unlearnable.perturbers.carriers.check_mixture` raises it, or several weights are
            given and carriers are not drawn.
    """
    given = MIXTURES if weights is None else [check_mixture(weights, summary.spatial_dims)]
    if carriers != KEYED:
        if len(given[0]) > 1:
            raise InputError(
                f"mixture is {weights!r}, which changes nothing where carriers are not drawn; set them to keyed"
            )
        return given[0]
    classes = 1 if distinct is False else summary.num_classes - 1  # one carries no noise, of maps and by default
    for shares in given:
        codes = len(carrier_codes(summary.spatial_dims, shares))
        marks = math.perm(codes, min(classes, codes))
        if marks >= ENOUGH:
            return shares
    logger.warning("only %d marks can be drawn: no trace can find a p much below %.2g", marks, 1 / marks)
    return shares


def planned_grid(name: str | Sequence[float], summary: DatasetSummary, crop: str = USUAL) -> PlannedGrid | None:
    """The grid that an exploiter is expected to resample scans to.

    Warns when scans are too coarse for it along all axes, so that little or nothing of a carrier is left in them.

    Args:
        name: ``"native"`` for that of the files, ``"median"`` for the median spacing along the axes of the patient,
            ``"nnunet"`` for the spacing and the voxels of nnU-Net, or a spacing along the axes of the patient in mm.
        summary: summary of the dataset.
        crop: what he cuts off before: one of :class:`~monai_unlearnable.data.Crop`, or ``"usual"`` for ``"nonzero"``
            with nnU-Net and ``"foreground"`` with the others, as MONAI's tutorials do.

    Returns:
        The grid, or None for that of the files.

    Raises:
        InputError: when it is none of these, or a crop is given for the grid of the files.
    """
    if name == "native":
        if crop not in (USUAL, Crop.NONE):
            raise InputError(f"crop is {crop!r}, which changes nothing where scans are not resampled; give a grid too")
        return None
    is_nnunet = name == "nnunet"
    if crop == USUAL:
        crop = Crop.NONZERO if is_nnunet else Crop.FOREGROUND
    look_up("crop", crop, (USUAL, *Crop))
    if name == "median":
        return _reachable(
            PlannedGrid(median_spacing([grid.oriented for grid in summary.grids]), crop=str(crop)), summary
        )
    if is_nnunet:
        return _reachable(PlannedGrid(nnunet_spacing(summary.grids), ResamplingRule.EDGES, str(crop)), summary)
    given = isinstance(name, Sequence) and not isinstance(name, str) and len(name) == summary.spatial_dims
    if not given or not all(isinstance(distance, (int, float)) for distance in name):
        known = f"native, median, nnunet, or {summary.spatial_dims} distances in mm"
        raise InputError(f"unknown grid {name!r}; give {known}")
    return _reachable(PlannedGrid(tuple(float(distance) for distance in name), crop=str(crop)), summary)


def _reachable(planned: PlannedGrid, summary: DatasetSummary) -> PlannedGrid:
    """The planned grid, with a warning where scans cannot hold what alternates on it."""
    faint = sum(all(line.strength < STRENGTH for line in planned.lines(grid)) for grid in summary.grids)
    if faint:
        spacing = " x ".join(f"{distance:g}" for distance in planned.spacing)
        logger.warning(
            "%d of %d scans are too coarse along all axes for the planned grid of %s mm: carriers in them are faint or "
            "none; plan a coarser grid",
            faint,
            len(summary.grids),
            spacing,
        )
    return planned


def fit_linear(perturber: LinearSurrogate, dataset: Dataset, batch_size: int) -> None:
    """Fit a linear surrogate to a dataset of normalized intensity, in one pass."""
    perturber.fit(_batches(dataset, batch_size))


def _batches(dataset: Dataset, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Images and labels, in the order of the dataset."""
    for batch in DataLoader(dataset, batch_size=batch_size):
        yield batch[CaseKeys.IMAGE], batch[CaseKeys.LABEL]

# SPDX-License-Identifier: Apache-2.0
"""The inspection of a dataset before anything is computed: its content, and whether all of it can be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.data.cases import read_case
from monai_unlearnable.data.datalist import Case
from monai_unlearnable.errors import DatalistError, LabelError, ScanError, UnlearnableError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.arrays import fits_channels, pieces

__all__ = ["DatasetSummary", "inspect_cases"]

MAX_CLASSES = 64  # more distinct values than this is an image given as a label, or a label saved as JPEG


@dataclass(frozen=True)
class DatasetSummary:
    """The facts that a network needs about a dataset: dimensions, channels, classes and typical size.

    Args:
        spatial_dims: 2 or 3.
        channels: number of channels of an image.
        label_values: stored label value of each class, background first; empty where labels are no maps.
        median_shape: median shape of the images.
        roughness: root mean square of the second difference along each spatial axis.
        targets: number of cases of each class of whole images; empty where labels are maps.
    """

    spatial_dims: int
    channels: int
    label_values: tuple[int, ...]
    median_shape: tuple[int, ...]
    roughness: tuple[float, ...] = ()
    targets: tuple[int, ...] = ()

    @property
    def is_segmentation(self) -> bool:
        """Whether each voxel has a class, rather than each image."""
        return bool(self.label_values)

    @property
    def smoothest_axis(self) -> int:
        """The spatial axis along which neighboring voxels differ least: the axis of their emptiest spectrum."""
        return int(np.argmin(self.roughness))

    @property
    def largest_target(self) -> int | None:
        """The class that most images have; None where labels are maps."""
        return int(np.argmax(self.targets)) if self.targets else None

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.label_values) or len(self.targets)

    def cases_within(self, gib: float) -> int:
        """The number of cases of typical size that fit into ``gib`` GiB, with float32 images and int64 label maps."""
        size = math.prod(self.median_shape) * (4 * self.channels + 8 * self.is_segmentation)
        return int(gib * 2**30 / size)

    def patch_size(self, divisor: int = 8, limit: int = 2**18) -> tuple[int, ...]:
        """A patch to train on: the median shape, rounded up to ``divisor``, long axes halved to ``limit`` voxels."""
        size = [-(-extent // divisor) * divisor for extent in self.median_shape]
        while np.prod(size) > limit and max(size) > divisor:
            axis = int(np.argmax(size))
            size[axis] = max(divisor, size[axis] // 2 // divisor * divisor)
        return tuple(size)


@dataclass(frozen=True)
class _Facts:
    """The part of one case in the summary."""

    channels: int
    shape: tuple[int, ...]
    roughness: tuple[float, ...]
    values: tuple[int, ...]


def inspect_cases(
    cases: Sequence[Case],
    window: WindowRule,
    label_values: Sequence[int] | None = None,
    channels: int | None = None,
    budget: Budget | None = None,
    roughness: bool = True,
) -> DatasetSummary:
    """Read every case once, so that bad input is found before anything is computed or written.

    Among several processes each reads its share, and all know the results of all.

    Args:
        cases: the dataset.
        window: rule for the intensity windows.
        label_values: stored label value of each class; by default all values found, in ascending order.
        channels: number expected; by default that of the first case, of gray and color pictures that of the latter. Use
            1 to refuse 4D files.
        budget: budget that the files of all cases must be able to hold.
        roughness: whether to measure the roughness; else it is left empty.

    Raises:
        UnlearnableError: a subclass that says what is wrong, naming the first bad case and file.
    """
    if not cases:
        raise DatalistError("no cases given")
    unlike = next((case for case in cases if (case.target is None) != (cases[0].target is None)), None)
    if unlike is not None:
        raise LabelError("some cases have a label map and others a class", case=unlike.case_id)
    found, wanted = set[int](), channels
    all_facts: list[_Facts] = []
    facts_of = partial(_facts, window=window, label_values=label_values, budget=budget, roughness=roughness)
    for case, facts in zip(cases, _each(cases, facts_of), strict=True):
        all_facts.append(facts)
        dims = len(all_facts[0].shape)
        if wanted is None and fits_channels(channels or facts.channels, facts.channels, dims):
            channels = facts.channels  # the first case, or color after gray
        if not fits_channels(facts.channels, channels or 0, dims) or len(facts.shape) != dims:
            reason = f"{facts.channels} channel(s) of shape {facts.shape}, where {channels} channel(s) of {dims}D"
            raise ScanError(f"{reason} are expected", case=case.case_id, file=case.root / case.images[0])
        found.update(facts.values)
        if len(found) > MAX_CLASSES:
            reason = f"more than {MAX_CLASSES} label values: is this a label?"
            raise LabelError(reason, case=case.case_id, file=case.root / str(case.label))
    values = tuple(sorted(found)) if label_values is None else tuple(label_values)
    shapes = [facts.shape for facts in all_facts]
    median = tuple(int(extent) for extent in np.median(shapes, axis=0))
    mean_roughness = tuple(np.mean([facts.roughness for facts in all_facts], axis=0).tolist()) if roughness else ()
    targets = tuple(np.bincount([case.target for case in cases if case.target is not None]).tolist())
    return DatasetSummary(len(shapes[0]), int(channels or 0), values, median, mean_roughness, targets)


def _each(cases: Sequence[Case], facts_of: Callable[[Case], _Facts]) -> Iterator[_Facts]:
    """The facts of each case in their order; errors as well, in all processes the same one."""

    def found(case: Case) -> _Facts | UnlearnableError:
        try:
            return facts_of(case)
        except UnlearnableError as error:
            return error

    shared = distributed.count() > 1
    for facts in distributed.gather_shares(list(map(found, distributed.share(cases)))) if shared else map(found, cases):
        if isinstance(facts, UnlearnableError):
            raise facts
        yield facts


def _facts(
    case: Case, window: WindowRule, label_values: Sequence[int] | None, budget: Budget | None, roughness: bool
) -> _Facts:
    loaded = read_case(case, window, label_values)
    count, shape = sum(len(scan.voxels) for scan in loaded.scans), loaded.scans[0].spatial_shape
    if budget is not None:
        pairs = zip(loaded.scans, loaded.windows, strict=True)
        finest = min(window.finest_step(scan.quantization) for scan, window in pairs)
        voxels = (
            min(scan.quantization.count_data(scan.voxels) for scan in loaded.scans) if budget.fraction < 1 else None
        )
        budget.check_storage(finest, voxels, case=case.case_id)
    found: set[int] = set()
    if loaded.label is not None and label_values is None:
        for piece in pieces(loaded.label):
            found.update(np.unique(piece).tolist())
    return _Facts(count, shape, _roughness(loaded.image) if roughness else (), tuple(sorted(found)))


def _roughness(image: NDArray) -> tuple[float, ...]:
    """Root mean square of the second difference along each spatial axis of an image (C, spatial...)."""
    return tuple(
        float(np.sqrt(np.mean(np.square(np.diff(image, 2, axis=axis))))) if image.shape[axis] > 2 else np.inf
        for axis in range(1, image.ndim)
    )

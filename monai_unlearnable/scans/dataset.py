# SPDX-License-Identifier: Apache-2.0
"""Cases read from disk as methods see them: unit intensity, class indices, storage steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.errors import DatalistError, LabelError, ScanError, UnlearnableError
from monai_unlearnable.intensity import IntensityWindow, WindowRule
from monai_unlearnable.scans.datalist import Case
from monai_unlearnable.scans.formats import read_scan
from monai_unlearnable.scans.labels import encode_label, read_label
from monai_unlearnable.scans.scan import Scan

__all__ = ["LoadedCase", "DatasetSummary", "read_case", "inspect_cases"]

MAX_CLASSES = 64  # more distinct values than this is an image given as a label, or a label saved as JPEG


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        case: where it came from.
        scans: one per image file.
        windows: one per scan.
        label: class indices (1, spatial...), or None.
    """

    case: Case
    scans: tuple[Scan, ...]
    windows: tuple[IntensityWindow, ...]
    label: NDArray | None

    @property
    def image(self) -> NDArray:
        """Unit intensity of all files, clipped to the window, channels stacked (C, spatial...), float32."""
        units = [window.to_unit(scan.physical()) for scan, window in zip(self.scans, self.windows, strict=True)]
        return np.concatenate(units)

    @property
    def target(self) -> NDArray | int | None:
        """What a model is to say: class indices of sites, or else the class of the whole image."""
        return self.case.target if self.label is None else self.label

    @property
    def step(self) -> tuple[float, ...]:
        """Unit intensity of one storage step, a channel at a time; 0 for float storage."""
        return sum((window.step(scan.lattice) for scan, window in zip(self.scans, self.windows, strict=True)), ())


@dataclass(frozen=True)
class DatasetSummary:
    """What a network must know of a dataset: dimensions, channels, classes and typical size.

    Args:
        spatial_dims: 2 or 3.
        channels: of an image.
        label_values: stored label value of each class, background first; empty where labels are no maps.
        median_shape: of the images.
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
        """Whether each site has a class, rather than each image."""
        return bool(self.label_values)

    @property
    def smoothest_axis(self) -> int:
        """The spatial axis along which neighboring sites differ least: the axis of their emptiest spectrum."""
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
        """How many cases of typical size fit into so many GiB, with images in float32 and label maps in int64."""
        size = math.prod(self.median_shape) * (4 * self.channels + 8 * self.is_segmentation)
        return int(gib * 2**30 / size)

    def patch_size(self, divisor: int = 8, limit: int = 2**18) -> tuple[int, ...]:
        """A training patch: the median shape rounded up to ``divisor``, longest axes halved down to ``limit`` sites."""
        size = [-(-extent // divisor) * divisor for extent in self.median_shape]
        while np.prod(size) > limit and max(size) > divisor:
            axis = int(np.argmax(size))
            size[axis] = max(divisor, size[axis] // 2 // divisor * divisor)
        return tuple(size)


def read_case(case: Case, window: WindowRule, label_values: Sequence[int] | None = None) -> LoadedCase:
    """Read the files of a case.

    Args:
        case: what to read.
        window: rule for the intensity window of each file.
        label_values: stored label value of each class; None leaves the stored values as they are.

    Raises:
        UnlearnableError: of a class that says what is wrong, naming case and file.
    """
    scans: list[Scan] = []
    windows: list[IntensityWindow] = []
    for name in case.images:
        path = case.root / name
        try:
            scan = read_scan(path)
            windows.append(scan.window(window))
        except UnlearnableError as error:
            raise type(error)(error.reason, case=case.case_id, file=path, value=error.value) from error
        if scans and scan.spatial_shape != scans[0].spatial_shape:
            reason = f"shape {scan.spatial_shape} differs from {scans[0].spatial_shape} of {case.images[0]}"
            raise ScanError(reason, case=case.case_id, file=path)
        scans.append(scan)
    label = None
    if case.label is not None:
        path = case.root / case.label
        label = read_label(path, scans, case.case_id)
        if label_values is not None:
            label = encode_label(label, label_values, case.case_id, path)
    return LoadedCase(case, tuple(scans), tuple(windows), label)


def inspect_cases(
    cases: Sequence[Case],
    window: WindowRule,
    label_values: Sequence[int] | None = None,
    channels: int | None = None,
    budget: Budget | None = None,
) -> DatasetSummary:
    """Read every case once, so that bad input is found before anything is computed or written.

    Args:
        cases: the dataset.
        window: rule for the intensity windows.
        label_values: stored label value of each class; by default all values found, in ascending order.
        channels: number expected; by default that of the first case. Use 1 to refuse 4D files.
        budget: refuse cases whose files cannot hold noise that small.

    Raises:
        UnlearnableError: of a class that says what is wrong, naming the first bad case and file.
    """
    if not cases:
        raise DatalistError("no cases given")
    unlike = next((case for case in cases if (case.target is None) != (cases[0].target is None)), None)
    if unlike is not None:
        raise LabelError("some cases have a label map and others a class", case=unlike.case_id)
    found: set[int] = set()
    shapes: list[tuple[int, ...]] = []
    roughness: list[list[float]] = []
    for case in cases:
        loaded = read_case(case, window, label_values)
        count, shape = sum(len(scan.voxels) for scan in loaded.scans), loaded.scans[0].spatial_shape
        if budget is not None:
            budget.check_storage(min(loaded.step), math.prod(shape), case=case.case_id)
        channels = count if channels is None else channels
        if count != channels or (shapes and len(shape) != len(shapes[0])):
            reason = (
                f"{count} channel(s) of shape {shape}, where {channels} channel(s) of {len((shapes or [shape])[0])}D"
            )
            raise ScanError(f"{reason} are expected", case=case.case_id, file=case.root / case.images[0])
        shapes.append(shape)
        roughness.append(_roughness(loaded.image))
        if loaded.label is not None and label_values is None:
            found.update(np.unique(loaded.label).tolist())
            if len(found) > MAX_CLASSES:
                raise LabelError(
                    f"more than {MAX_CLASSES} label values: is this a label?",
                    case=case.case_id,
                    file=case.root / str(case.label),
                )
    values = tuple(sorted(found)) if label_values is None else tuple(label_values)
    median = tuple(int(extent) for extent in np.median(shapes, axis=0))
    mean_roughness = tuple(np.mean(roughness, axis=0).tolist())
    targets = tuple(np.bincount([case.target for case in cases if case.target is not None]).tolist())
    return DatasetSummary(len(shapes[0]), int(channels or 0), values, median, mean_roughness, targets)


def _roughness(image: NDArray) -> list[float]:
    """Root mean square of the second difference along each spatial axis of an image (C, spatial...)."""
    return [
        float(np.sqrt(np.mean(np.square(np.diff(image, 2, axis=axis))))) if image.shape[axis] > 2 else np.inf
        for axis in range(1, image.ndim)
    ]

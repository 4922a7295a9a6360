# SPDX-License-Identifier: Apache-2.0
"""Cases read from disk: scans, windows, and the label map that belongs to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget, VoxelChange, apply_noise
from monai_unlearnable.data.formats import read_scan
from monai_unlearnable.data.grids import Crop, Grid
from monai_unlearnable.data.labels import LabelGeometry, encode_label, ignored_voxels, read_label_map
from monai_unlearnable.data.listing.datalist import Case
from monai_unlearnable.data.scan import Scan, check_same_shape
from monai_unlearnable.errors import ScanError, UnlearnableError
from monai_unlearnable.intensity import IntensityWindow, WindowRule
from monai_unlearnable.utils.files import reading

__all__ = ["LoadedCase", "check_alike", "kept_voxels", "read_case"]


@dataclass(frozen=True)
class LoadedCase:
    """A case in memory.

    Args:
        case: the case as it was listed.
        scans: scans, one per image file.
        windows: intensity windows, one per scan.
        label: class indices (1, spatial...), or None; background where voxels are to be ignored.
        ignored: voxels that belong to no class and get no noise, (1, spatial...); None where there are none.
        remarks: notes on the files for the owner.
        value_names: names of the stored label values, where the file has them.
    """

    case: Case
    scans: tuple[Scan, ...]
    windows: tuple[IntensityWindow, ...]
    label: NDArray | None
    ignored: NDArray | None = None
    remarks: tuple[str, ...] = ()
    value_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def image(self) -> NDArray:
        """Normalized intensity of all files, clipped to the window, channels stacked (C, spatial...), float32."""
        units = [scan.unit(window) for scan, window in zip(self.scans, self.windows, strict=True)]
        return units[0] if len(units) == 1 else np.concatenate(units)

    @property
    def grid(self) -> Grid:
        """Where its voxels lie."""
        return Grid.of(self.scans[0].spatial_shape, self.scans[0].affine)

    def grid_after(self, crop: str) -> Grid:
        """Where its voxels lie, and which of them an exploiter's crop leaves.

        Args:
            crop: one of :class:`~monai_unlearnable.data.grids.Crop`.
        """
        return self.grid if crop == Crop.NONE else self.grid.cropped(kept_voxels(crop, self.scans, self.image))

    @property
    def target(self) -> NDArray | int | tuple[int, ...] | None:
        """The target of a model: class indices of voxels, or else the class of the whole image, or of each task."""
        return self.case.target if self.label is None else self.label

    def with_noise(self, noise: NDArray, budget: Budget) -> list[tuple[NDArray, VoxelChange]]:
        """The voxels of each scan with noise, and what undoes it; voxels that belong to no class get none.

        Args:
            noise: normalized intensity, (C, spatial...), the channels of all scans one after the other.
            budget: budget of each scan.

        Raises:
            BudgetError: naming the case, see :func:`~monai_unlearnable.budget.apply_noise`.
        """
        if self.ignored is not None:
            noise = np.where(self.ignored, 0, noise)
        parts = np.split(noise, np.cumsum([len(scan.voxels) for scan in self.scans])[:-1])
        case = self.case.case_id
        return [
            apply_noise(scan.voxels, part, budget=budget, window=window, quantization=scan.quantization, case=case)
            for scan, window, part in zip(self.scans, self.windows, parts, strict=True)
        ]

    @property
    def step(self) -> tuple[float, ...]:
        """Normalized intensity of the largest storage step, a channel at a time; 0 for float storage."""
        return sum((window.step(scan.quantization) for scan, window in zip(self.scans, self.windows, strict=True)), ())


def kept_voxels(crop: str, scans: Sequence[Scan], image: NDArray) -> NDArray:
    """The voxels whose box a crop leaves, (C, spatial...), bool.

    Args:
        crop: ``"nonzero"`` or ``"foreground"``, see :class:`~monai_unlearnable.data.grids.Crop`.
        scans: the scans of one image.
        image: its normalized intensity, (C, spatial...).
    """
    if crop == Crop.FOREGROUND:
        return image > 0
    return np.concatenate([scan.physical() != 0 for scan in scans])


def read_case(
    case: Case,
    window: WindowRule,
    label_values: Sequence[int] | None = None,
    label_geometry: str = LabelGeometry.MATCH,
) -> LoadedCase:
    """Read the files of a case.

    Args:
        case: the case to read.
        window: rule for the intensity window of each file.
        label_values: stored label value of each class; None leaves the stored values as they are.
        label_geometry: whether the label must lie where the image lies, see
            :func:`~monai_unlearnable.data.labels.read_label`.

    Raises:
        UnlearnableError: a subclass that says what is wrong, naming case and file.
    """
    scans: list[Scan] = []
    windows: list[IntensityWindow] = []
    for name in case.images:
        path = case.root / name
        with _naming(case, path):
            scans.append(read_scan(path))
            windows.append(scans[-1].window(window))
            check_same_shape(scans)
    label = ignored = None
    names: Mapping[int, str] = {}
    remarks = sum((scan.remarks for scan in scans), ())
    if case.label is not None:
        path = case.root / case.label
        with _naming(case, path):
            read = read_label_map(path, scans, case.case_id, label_geometry)
        label, remarks, names = read.voxels, remarks + read.remarks, read.value_names
        ignored = ignored_voxels(label, label_values)
        if label_values is not None:
            label = encode_label(label, label_values, case.case_id, path)
        elif ignored is not None:
            label = np.where(ignored, 0, label)
    return LoadedCase(case, tuple(scans), tuple(windows), label, ignored, remarks, names)


def check_alike(case: Case, shape: Sequence[int], known: Sequence[int], others: str) -> None:
    """Check that a case has the same number of channels and spatial axes as others.

    Args:
        case: the case.
        shape: shape of its image, (C, spatial...).
        known: shape of an image of the others.
        others: what these are, for the error.

    Raises:
        ScanError: naming case and file, when it does not.
    """
    if (shape[0], len(shape)) != (known[0], len(known)):
        found, wanted = (f"{channels} channel(s) in {len(axes)}D" for channels, *axes in (shape, known))
        reason = f"the scan has {found}, where {others} have {wanted}"
        raise ScanError(reason, case=case.case_id, file=case.root / case.images[0])


@contextmanager
def _naming(case: Case, path: Path) -> Iterator[None]:
    """Errors within get the name of the case, and the file if they name none."""
    try:
        with reading(path):
            yield
    except UnlearnableError as error:
        raise type(error)(
            error.reason, case=case.case_id, file=error.file or path, value=error.value, limit=error.limit
        ) from error

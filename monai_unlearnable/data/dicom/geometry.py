# SPDX-License-Identifier: Apache-2.0
"""How the slices of a DICOM series make up one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from monai_unlearnable.data.scan import LPS_TO_RAS
from monai_unlearnable.errors import ScanError

__all__ = ["Grid", "Slice", "affine_of", "check_alike", "in_order"]

SAME = (
    *("SeriesInstanceUID", "Rows", "Columns", "PhotometricInterpretation", "BitsAllocated", "BitsStored"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "PixelPaddingValue", "PixelPaddingRangeLimit"),
)
CLOSE = ("ImageOrientationPatient", "PixelSpacing")
ROUNDING = 1e-4  # of numbers that scanners write as text
SAME_PLACE = 1e-3  # mm
TILT = 0.005  # shift within the plane for each mm along the normal
UNEVEN = 0.1  # of the distance of slices, by which rounded positions may be off


@dataclass(frozen=True)
class Slice:
    """One file of a series.

    Args:
        path: path of the file.
        content: bytes of the file.
        header: elements of the file without the pixels.
        pixels: stored numbers (rows, columns).
    """

    path: Path
    content: bytes
    header: Dataset
    pixels: NDArray

    @property
    def position(self) -> NDArray:
        """The center of the first pixel, in mm of the patient (LPS)."""
        return np.asarray(self.header.get("ImagePositionPatient") or (0, 0, 0), np.float64)

    @property
    def axes(self) -> tuple[NDArray, NDArray, NDArray]:
        """Unit vectors: along a row, along a column, and the normal of the plane."""
        directions = np.asarray(self.header.get("ImageOrientationPatient") or (1, 0, 0, 0, 1, 0), np.float64)
        row, column = directions[:3], directions[3:]
        return row, column, np.cross(row, column)

    @property
    def spacing(self) -> tuple[float, float]:
        """The distance of columns and of rows in mm, 1 where it is unknown."""
        rows, columns = self.header.get("PixelSpacing") or self.header.get("ImagerPixelSpacing") or (1, 1)
        return float(columns), float(rows)


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a series lie, and the UIDs by which others refer to it.

    Args:
        shape: columns, rows, slices.
        affine: matrix from indices to mm in RAS+.
        series: UID of the series.
        instances: UID of each slice, in their order.
        frame_of_reference: UID of the space that positions are in, if it has one.
    """

    shape: tuple[int, int, int]
    affine: NDArray
    series: str
    instances: tuple[str, ...]
    frame_of_reference: str | None = None


def check_alike(slices: Sequence[Slice]) -> None:
    """Refuse files that are not slices of one series.

    Raises:
        ScanError: naming the first file that differs, and the difference.
    """
    first = slices[0]
    for other in slices[1:]:
        for name in (*SAME, *CLOSE):
            known, found = first.header.get(name), other.header.get(name)
            if not _alike(name, known, found):
                reason = f"{name} is {found}, but {known} in {first.path.name}; a folder must hold one series"
                raise ScanError(reason, file=other.path)


def _alike(name: str, known: Any, found: Any) -> bool:
    if name in CLOSE and known and found:
        return np.allclose(known, found, rtol=0, atol=ROUNDING)
    return bool(known == found)


def in_order(slices: Sequence[Slice]) -> tuple[list[Slice], list[str]]:
    """Slices in the order of their positions along the normal, and remarks on a grid that is not an even one.

    Noise needs no even grid, so a gantry tilt or a gap is no reason to refuse a series; resampled copies are of other
    voxels, though, and who trains on them should know.

    Raises:
        ScanError: naming a file, when positions are missing or the same.
    """
    if len(slices) == 1:
        return list(slices), []
    unplaced = next((s for s in slices if not (s.header.get("ImagePositionPatient") and s.header.get(CLOSE[0]))), None)
    if unplaced is not None:
        reason = "ImagePositionPatient or ImageOrientationPatient is missing, which tell the order of slices"
        raise ScanError(reason, file=unplaced.path)
    normal = slices[0].axes[2]
    ordered = sorted(slices, key=lambda s: float(s.position @ normal))
    offsets = np.stack([s.position - ordered[0].position for s in ordered])
    gaps = np.diff(offsets @ normal)
    if gaps.min() < SAME_PLACE:
        place = int(gaps.argmin())
        reason = f"lies at the same position as {ordered[place].path.name}; put each volume into a folder of its own"
        raise ScanError(reason, file=ordered[place + 1].path)
    return ordered, _unevenness(offsets, normal, [s.path.name for s in ordered])


def _unevenness(offsets: NDArray, normal: NDArray, names: Sequence[str]) -> list[str]:
    """Remarks on slices that are no even grid.

    Args:
        offsets: positions (slices, 3), relative to that of the first one.
        normal: unit vector that slices are ordered along.
        names: what the slices are called.
    """
    remarks, distances = [], offsets @ normal
    gaps, even = np.diff(distances), np.linspace(0, distances[-1], len(names))
    sideways = offsets - np.outer(distances, normal)
    if np.linalg.norm(sideways, axis=1).max() > max(TILT * distances[-1], SAME_PLACE):
        angle = np.degrees(np.arctan2(np.linalg.norm(sideways[-1]), distances[-1]))
        remarks.append(f"slices are shifted in their plane, as by a gantry tilt of {angle:.3g} degrees")
    if np.abs(distances - even).max() > UNEVEN * even[1]:
        place = int(gaps.argmax())
        reason = f"slices lie {gaps.min():.4g} to {gaps.max():.4g} mm apart, farthest between {names[place]} and "
        remarks.append(f"{reason}{names[place + 1]}: check that none is missing")
    return remarks


def affine_of(slices: Sequence[Slice]) -> NDArray:
    """The matrix from indices of column, row and slice to mm in RAS+, as NIfTI has it.

    It shears where the gantry was tilted, and has the mean distance of slices that are not evenly apart.
    """
    first, count = slices[0], len(slices)
    row, column, normal = first.axes
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.spacing[0], column * first.spacing[1]
    thickness = float(first.header.get("SpacingBetweenSlices") or first.header.get("SliceThickness") or 1)
    affine[:3, 2] = normal * thickness if count == 1 else (slices[-1].position - first.position) / (count - 1)
    affine[:3, 3] = first.position
    return LPS_TO_RAS @ affine

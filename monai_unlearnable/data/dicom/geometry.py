# SPDX-License-Identifier: Apache-2.0
"""How the frames of DICOM files make up one volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.scan import LPS_TO_RAS
from monai_unlearnable.errors import ScanError

__all__ = ["Frame", "SeriesGrid", "affine_of", "arrange"]

ROUNDING = 1e-3  # of directions that scanners write as text
SAME_PLACE = 1e-3  # mm
TILT = 0.005  # shift within the plane for each mm along the normal
UNEVEN = 0.1  # of the distance of slices, by which rounded positions may be off


@dataclass(frozen=True)
class Frame:
    """One plane of pixels: where it lies, and what its numbers mean.

    Args:
        name: what errors and remarks call it.
        position: center of the first pixel, in mm of the patient (LPS), if it is known.
        directions: unit vectors along a row and along a column, one after the other, if they are known.
        spacing: distance of columns and of rows in mm, 1 where it is unknown.
        thickness: distance of slices in mm, for a frame that is the only one.
        slope: physical units a stored step.
        inter: physical value of a stored 0.
        turn: what tells the order of frames at one position: time, echo, diffusion weighting, number.
    """

    name: str
    position: tuple[float, ...] | None = None
    directions: tuple[float, ...] | None = None
    spacing: tuple[float, float] = (1.0, 1.0)
    thickness: float = 1.0
    slope: float = 1.0
    inter: float = 0.0
    turn: tuple[float, ...] = ()

    @cached_property
    def origin(self) -> NDArray:
        """The position, 0 where it is unknown."""
        return np.asarray(self.position or (0, 0, 0), np.float64)

    @cached_property
    def axes(self) -> tuple[NDArray, NDArray, NDArray]:
        """Unit vectors: along a row, along a column, and the normal of the plane."""
        directions = np.asarray(self.directions or (1, 0, 0, 0, 1, 0), np.float64)
        row, column = directions[:3], directions[3:]
        return row, column, np.cross(row, column)


@dataclass(frozen=True)
class SeriesGrid:
    """Where the pixels of a series lie, and the UIDs by which others refer to it.

    Args:
        shape: columns, rows, slices.
        affine: matrix from indices to mm in RAS+.
        series: UID of the series.
        instances: UID of each slice, in their order; that of the file where it holds all of them.
        frame_of_reference: UID of the space that positions are in, if it has one.
        origins: center of the first pixel of each slice (slices, 3) in mm of the patient (LPS), which need be no even
            grid; by default they follow from the matrix.
    """

    shape: tuple[int, int, int]
    affine: NDArray
    series: str
    instances: tuple[str, ...]
    frame_of_reference: str | None = None
    origins: NDArray | None = None

    @cached_property
    def steps(self) -> NDArray:
        """From one column, row and slice to the next, in mm of the patient (LPS), as the columns of a matrix."""
        return (LPS_TO_RAS @ self.affine)[:3, :3]

    @cached_property
    def corners(self) -> NDArray:
        """The center of the first pixel of each slice (slices, 3)."""
        if self.origins is not None:
            return self.origins
        return (LPS_TO_RAS @ self.affine)[:3, 3] + np.arange(self.shape[2])[:, None] * self.steps[:, 2]

    @cached_property
    def normal(self) -> NDArray:
        """The unit vector across slices."""
        normal = np.cross(self.steps[:, 0], self.steps[:, 1])
        return normal / np.linalg.norm(normal)

    def gap(self, index: int) -> float:
        """The distance of a slice from its nearest neighbor in mm."""
        heights = self.corners @ self.normal
        others = np.abs(np.delete(heights, index) - heights[index])
        return float(others.min() if len(others) else abs(self.steps[:, 2] @ self.normal))

    def locate(self, points: NDArray) -> tuple[int, NDArray, NDArray]:
        """The slice that points of a plane are nearest to, and where they lie.

        Args:
            points: in mm of the patient (LPS), (points, 3).

        Returns:
            Number of the slice; column and row of each point, in pixels; distance of each point from the slice in mm.
        """
        heights = points @ self.normal
        index = int(np.abs(self.corners @ self.normal - heights.mean()).argmin())
        offsets = points - self.corners[index]
        places = np.linalg.lstsq(self.steps[:, :2], offsets.T, rcond=None)[0].T
        return index, places, offsets @ self.normal


def arrange(frames: Sequence[Frame]) -> tuple[NDArray, list[str]]:
    """The frames of each slice of a volume, and remarks on a grid that is not an even one.

    Slices are ordered by their position along the normal. Frames at one position, the same number at each, are
    channels: echoes or time points, in their order. Frames without positions, of several orientations, or of one
    position where others are not, are slices in the order that they come in.

    Noise needs no even grid, so a gantry tilt or a gap is no reason to refuse a series; resampled copies are of other
    voxels, though, and who trains on them should know.

    Returns:
        Numbers of frames (channels, slices), counted from 0, and the remarks.

    Raises:
        ScanError: when only some frames have a position.
    """
    in_turn = np.arange(len(frames))[None]
    placed = [frame for frame in frames if frame.position is not None and frame.directions is not None]
    if len(frames) == 1 or not placed:
        return in_turn, []
    if len(placed) < len(frames):
        missing = next(frame.name for frame in frames if frame not in placed)
        raise ScanError(f"{missing} has no position or orientation, and others do")
    directions = np.array([frame.directions for frame in frames])
    if np.abs(directions - directions[0]).max() > ROUNDING or len({frame.spacing for frame in frames}) > 1:
        return in_turn, ["frames are of several orientations or pixel sizes, and taken in their order as slices"]
    normal = frames[0].axes[2]
    offsets = np.stack([frame.origin - frames[0].origin for frame in frames])
    distances = offsets @ normal
    order = np.argsort(distances, kind="stable")
    starts = np.flatnonzero(np.diff(distances[order], prepend=-np.inf) >= SAME_PLACE)
    counts = np.diff(np.append(starts, len(frames)))
    if (counts != counts[0]).any():
        return in_turn, ["more frames lie at some positions than at others; they are taken in their order as slices"]
    parts = np.split(order, starts[1:])
    slices = np.array([sorted(part.tolist(), key=lambda index: (frames[index].turn, index)) for part in parts]).T
    if any(len({(frames[i].slope, frames[i].inter) for i in own}) > 1 for own in slices.T):
        return in_turn, ["frames at one position are scaled differently; they are taken in their order as slices"]
    return slices, _unevenness(offsets[slices[0]], normal, [frames[i].name for i in slices[0]])


def _unevenness(offsets: NDArray, normal: NDArray, names: Sequence[str]) -> list[str]:
    """Remarks on slices that are no even grid.

    Args:
        offsets: positions (slices, 3).
        normal: unit vector that slices are ordered along.
        names: what the slices are called.
    """
    if len(offsets) == 1:
        return []
    offsets = offsets - offsets[0]
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


def affine_of(frames: Sequence[Frame]) -> NDArray:
    """The matrix from indices of column, row and slice to mm in RAS+, as NIfTI has it.

    It shears where the gantry was tilted, and has the mean distance of slices that are not evenly apart.

    Args:
        frames: one of each slice, in their order.
    """
    first, last = frames[0], frames[-1]
    row, column, normal = first.axes
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * first.spacing[0], column * first.spacing[1]
    step = (last.origin - first.origin) / max(len(frames) - 1, 1)
    affine[:3, 2] = step if step @ normal > 0 else normal * first.thickness
    affine[:3, 3] = first.origin
    return LPS_TO_RAS @ affine

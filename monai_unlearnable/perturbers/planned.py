# SPDX-License-Identifier: Apache-2.0
"""The grid on which an exploiter will look at scans, as far as their owner can know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from monai.utils.enums import StrEnum
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from monai_unlearnable.data.grids import Crop, Grid, thick_axis
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.config import Configurable
from monai_unlearnable.utils.enums import look_up

__all__ = ["Line", "PlannedGrid", "ResamplingRule"]

DAMPING = 1e-3  # of the least squares; keeps small what interpolation would remove


class ResamplingRule(StrEnum):
    """Where the voxels of a resampled scan lie."""

    CENTERS = "centers"
    EDGES = "edges"


@dataclass(frozen=True)
class Line:
    """What to write along one axis, so that it alternates from voxel to voxel once the scan is resampled.

    Args:
        values: values of the native voxels, in [-1, 1], float32.
        strength: root mean square of what resampling leaves of them; 1 where nothing is resampled.
    """

    values: Tensor
    strength: float


@dataclass(frozen=True)
class PlannedGrid(Configurable):
    """A spacing that an exploiter resamples all scans to, where he puts the voxels, and what he cuts off before.

    A crop moves the voxels of the resampled scan by fractions of a voxel, since they are counted from its ends.

    Args:
        spacing: distance of voxels along each axis, in mm.
        rule: ``"centers"``, as MONAI's ``Spacing`` does after ``Orientation``: axes are those of the patient, the
            first voxel stays where it is, and values between voxels are interpolated linearly. ``"edges"``, as nnU-Net
            does: axes are those of the file, the ends of the scan stay where they are, and splines are cubic, but
            across thick slices each voxel is the nearest one.
        crop: what he cuts off before, ``"none"``, ``"nonzero"`` or ``"foreground"``, see
            :class:`~monai_unlearnable.data.grids.Crop`.

    Raises:
        InputError: when rule or crop are unknown, or a spacing is not positive.
    """

    spacing: Sequence[float]
    rule: str = ResamplingRule.CENTERS
    crop: str = Crop.NONE

    def __post_init__(self) -> None:
        look_up("rule of resampling", self.rule, ResamplingRule)
        look_up("crop", self.crop, Crop)
        if not all(value > 0 for value in self.spacing):
            raise InputError(f"a spacing is a positive number for each axis, not {list(self.spacing)}")

    @property
    def is_of_patient(self) -> bool:
        """Whether its axes are those of the patient, rather than of the files."""
        return self.rule == ResamplingRule.CENTERS

    def axes_of(self, grid: Grid) -> tuple[int, ...]:
        """For each axis of a scan's file the one of the planned grid."""
        return grid.axes if self.is_of_patient else tuple(range(len(grid.shape)))

    def lines(self, grid: Grid) -> list[Line]:
        """The line of each axis of a scan, along the box that the crop leaves.

        Args:
            grid: where its voxels lie, with that box.

        Raises:
            InputError: when the scan has another number of axes than the planned grid.
        """
        if len(self.spacing) != len(grid.shape):
            raise InputError(f"the planned spacing {list(self.spacing)} does not fit scans of {len(grid.shape)} axes")
        centers, targets = self.is_of_patient, [self.spacing[axis] for axis in self.axes_of(grid)]
        thick = thick_axis(grid.spacing)
        across = thick_axis(targets) if thick is None else thick
        orders = [1 if centers else 0 if axis == across else 3 for axis in range(len(targets))]
        flips = [centers and flip for flip in grid.flips]
        axes = zip(grid.extents, grid.spacing, targets, flips, orders, strict=True)
        return [_line(*axis, centers=centers) for axis in axes]


@cache
def _line(extent: int, spacing: float, target: float, flip: bool, order: int, *, centers: bool) -> Line:
    """The least squares solution, through the interpolation, for values that alternate on the planned grid."""
    if np.isclose(spacing, target, rtol=1e-4):
        return Line(1 - 2 * (torch.arange(extent) % 2).float(), 1.0)
    places = _places(extent, spacing, target, centers)
    matrix = _interpolation(extent, extent - 1 - places if flip else places, order)
    wanted = 1.0 - 2 * (np.arange(len(places)) % 2)
    damped = matrix @ matrix.T + DAMPING * np.eye(len(places))
    values = np.clip(matrix.T @ np.linalg.solve(damped, wanted), -1, 1)
    return Line(torch.as_tensor(values, dtype=torch.float32), float(np.sqrt(np.mean(np.square(matrix @ values)))))


def _places(extent: int, spacing: float, target: float, centers: bool) -> NDArray:
    """Where the voxels of the resampled axis lie, in voxels of the native one."""
    if centers:
        count = round((extent - 1) * spacing / target) + 1
        places = np.arange(count) * target / spacing
    else:
        count = max(1, round(extent * spacing / target))
        places = (np.arange(count) + 0.5) * extent / count - 0.5
    return np.clip(places, 0, extent - 1)


def _interpolation(extent: int, places: NDArray, order: int) -> NDArray:
    """The matrix that interpolates ``extent`` values at places between them by splines, (places, extent)."""
    columns = [map_coordinates(unit, [places], order=order, mode="nearest") for unit in np.eye(extent)]
    return np.stack(columns, axis=1)

# SPDX-License-Identifier: Apache-2.0
"""Where the voxels of images lie: shape, spacing, and how the patient lies along the axes of the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from nibabel.orientations import io_orientation
from numpy.typing import NDArray

from monai_unlearnable.utils.arrays import bounding_box

__all__ = ["RAS", "Crop", "Grid", "median_spacing", "nnunet_spacing", "spatial_affine", "thick_axis"]

RAS = (("L", "R"), ("P", "A"), ("I", "S"))  # the patient's axes; MONAI's default, which it asks to be named
THICK = 3  # ratio of spacings from which on slices are thick
PERCENTILE = 10


def spatial_affine(affine: NDArray, dims: int) -> NDArray:
    """A matrix from voxel indices to millimeters that can be inverted, (dims + 1, dims + 1).

    The axes of a picture span a plane that has no place of its own. The same holds for volumes whose axes do not span
    a space, as broken headers say. Then only the distances between voxels are kept, with 1 where there is none.

    Args:
        affine: 4x4 matrix from voxel indices to millimeters.
        dims: 2 or 3.
    """
    spacing = np.linalg.norm(affine[:3, :dims], axis=0)
    spans = dims == 3 and abs(np.linalg.det(affine[:3, :3])) > 1e-3 * np.prod(spacing) > 0
    return np.array(affine, np.float64) if spans else np.diag([*np.where(spacing > 0, spacing, 1), 1])


class Crop(str, Enum):
    """What pipelines cut off around a scan before they resample it: all beyond the box of certain voxels."""

    NONE = "none"
    NONZERO = "nonzero"  # physical values other than 0 in any channel, as nnU-Net does
    FOREGROUND = "foreground"  # above the low end of the window, as CropForegroundd after ScaleIntensityRanged does

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Grid:
    """The voxels of one image in space.

    Args:
        shape: number of voxels along each axis.
        spacing: distance of neighboring voxels along each axis, in mm.
        axes: for each axis the one of the patient that it runs closest to: 0 right, 1 front, 2 up.
        flips: direction of each axis: True for left, back, down; none by default.
        box: first voxel along each axis that is left after a crop, and the first one behind it; by default all are.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...] = ()
    box: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "flips", self.flips or (False,) * len(self.shape))
        object.__setattr__(self, "box", self.box or tuple((0, extent) for extent in self.shape))

    @classmethod
    def of(cls, shape: Sequence[int], affine: NDArray) -> Grid:
        """The grid of an image.

        Args:
            shape: spatial shape, 2 or 3 axes.
            affine: 4x4 matrix from voxel indices to millimeters.
        """
        dims = len(shape)
        matrix = spatial_affine(affine, dims)
        spacing = np.linalg.norm(matrix[:dims, :dims], axis=0).round(5)  # of float32 in most files
        axes, signs = io_orientation(matrix).T
        flips = tuple((signs < 0).tolist())
        return cls(tuple(shape), tuple(spacing.tolist()), tuple(axes.astype(int).tolist()), flips)

    def cropped(self, kept: NDArray) -> Grid:
        """The same grid with the box of some voxels; of none it is the whole, as pipelines have it.

        Args:
            kept: voxels that the box must hold, (C, spatial...), bool.
        """
        found = bounding_box(np.any(kept, axis=0))
        box = tuple((side.start, side.stop) for side in found)
        return replace(self, box=box if all(start < stop for start, stop in box) else ())

    @property
    def extents(self) -> tuple[int, ...]:
        """Number of voxels of the box along each axis."""
        return tuple(stop - start for start, stop in self.box)

    @property
    def oriented(self) -> Grid:
        """The same voxels with axes in the order right, front, up, all of them."""
        order = np.argsort(self.axes).tolist()
        shape, spacing = (tuple(values[axis] for axis in order) for values in (self.shape, self.spacing))
        return Grid(shape, spacing, tuple(range(len(order))))


def thick_axis(spacing: Sequence[float]) -> int | None:
    """The axis across thick slices, as nnU-Net v2 tells it; None where there is no single one.

    Args:
        spacing: distance of voxels along each axis, in mm.
    """
    if len(spacing) == 2 or max(spacing) / min(spacing) <= THICK:
        return None
    widest = [axis for axis, distance in enumerate(spacing) if distance == max(spacing)]
    return widest[0] if len(widest) == 1 else None


def median_spacing(grids: Sequence[Grid]) -> tuple[float, ...]:
    """The median distance of voxels along each axis, in mm."""
    return tuple(np.median([grid.spacing for grid in grids], axis=0).tolist())


def nnunet_spacing(grids: Sequence[Grid]) -> tuple[float, ...]:
    """The spacing that nnU-Net v2 resamples a dataset to, along the axes of the files, in mm.

    It is the median. Where one axis of a volume has a median spacing more than three times that of the others, and less
    than a third of their voxels, it is the 10th percentile there, but no less than the largest one of the others.

    Args:
        grids: where the voxels of each case lie; those in the box count, which nnU-Net's crop leaves.
    """
    target = np.array(median_spacing(grids))
    if len(target) == 2:
        return tuple(target.tolist())
    counts = np.median([grid.extents for grid in grids], axis=0)
    worst = int(np.argmax(target))
    largest = np.delete(target, worst).max()
    if target[worst] > THICK * largest and counts[worst] * THICK < np.delete(counts, worst).min():
        least = np.percentile([grid.spacing[worst] for grid in grids], PERCENTILE)
        target[worst] = max(least, largest)
    return tuple(target.tolist())

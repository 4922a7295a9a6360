# SPDX-License-Identifier: Apache-2.0
"""Planes of a scan as pictures: the body upright, voxels in proportion, intensities through the window."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow

__all__ = ["Cut", "Plane", "best_cuts", "cut_planes"]

# Name, axis across, and the sides of the body at the left and upper edge (radiological convention).
ORIENTATIONS = (("axial", 2, ("R", "A")), ("coronal", 1, ("R", "S")), ("sagittal", 0, ("A", "S")))


@dataclass(frozen=True)
class Cut:
    """Where a volume is cut, and how the plane is shown; all of a 2D image.

    Args:
        name: orientation, empty for 2D images.
        marks: sides of the body at the left and upper edge, empty for 2D images.
        size: width and height in millimeters, or pixels where the scan has no geometry.
        orientation: of the volume's axes, as nibabel tells it; None for 2D images.
        axis: across the plane, once upright.
        index: along that axis.
    """

    name: str
    marks: tuple[str, ...]
    size: tuple[float, float]
    orientation: NDArray | None = None
    axis: int = 0
    index: int = 0

    def take(self, volume: NDArray) -> NDArray:
        """The plane (C, a, b) of a volume (C, spatial...)."""
        if self.orientation is None:
            return volume
        upright = np.moveaxis(_upright(np.moveaxis(volume, 0, -1), self.orientation), -1, 0)
        return upright.take(self.index, self.axis + 1)

    def turn(self, plane: NDArray) -> NDArray:
        """The picture (rows, columns, ...) of a plane (..., a, b): radiological, the head or the front above."""
        if self.orientation is None:
            return plane.T
        return np.moveaxis(plane[..., ::-1, ::-1], (-1, -2), (0, 1))


@dataclass(frozen=True)
class Plane:
    """One plane as pictures of (rows, columns), channels last where there are three.

    Args:
        name: orientation, empty for 2D images.
        marks: sides of the body at the left and upper edge, empty for 2D images.
        scan: normalized intensity.
        protected: normalized intensity.
        difference: protected minus clean in normalized intensity, of the channel that changed most.
        support: true where a stored voxel differs.
        label: class indices, all 0 where there is no label.
        size: width and height in millimeters, or pixels where the scan has no geometry.
    """

    name: str
    marks: tuple[str, ...]
    scan: NDArray
    protected: NDArray
    difference: NDArray
    support: NDArray
    label: NDArray
    size: tuple[float, float]


def best_cuts(classes: NDArray, affine: NDArray) -> list[Cut]:
    """All of a 2D image, or three planes of a volume where the label has its largest cross-sections.

    Args:
        classes: class indices (spatial...); volumes without any are cut in the middle.
        affine: 4x4 matrix from voxel indices to millimeters.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if classes.ndim == 2:
        columns, rows = np.multiply(classes.shape, np.where(spacing[:2] > 0, spacing[:2], 1))
        return [Cut("", (), (float(columns), float(rows)))]
    orientation = nib.orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        orientation, spacing = nib.orientations.io_orientation(np.eye(4)), np.ones(3)
    extents = (np.multiply(classes.shape, spacing))[np.argsort(orientation[:, 0])]
    upright, cuts = _upright(classes, orientation), []
    for name, axis, marks in ORIENTATIONS:
        width, height = np.delete(extents, axis)
        cuts.append(Cut(name, marks, (float(width), float(height)), orientation, axis, _best_slice(upright, axis)))
    return cuts


def cut_planes(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> list[Plane]:
    """The plane of a 2D image, or three of a volume where the label has its largest cross-sections.

    Args:
        clean: original scan.
        protected: the same scan with noise.
        label: class indices (spatial...) or (1, spatial...); without it volumes are cut in the middle.
        window: what to show as black and as white.
    """
    classes = np.zeros(clean.spatial_shape, np.uint8) if label is None else label.reshape(clean.spatial_shape)
    return [_plane(cut, clean, protected, classes, window) for cut in best_cuts(classes, clean.affine)]


def _upright(volume: NDArray, orientation: NDArray) -> NDArray:
    """Axes turned and flipped so that indices grow to the right, the front and the head."""
    return np.asarray(nib.orientations.apply_orientation(volume, orientation))


def _best_slice(classes: NDArray, axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    areas = np.count_nonzero(classes, axis=others)
    if not areas.any():
        return int(classes.shape[axis] // 2)
    largest = np.flatnonzero(areas == areas.max())
    return int(largest[len(largest) // 2])


def _plane(cut: Cut, scan: Scan, protected: Scan, classes: NDArray, window: IntensityWindow) -> Plane:
    first, second = cut.take(scan.voxels), cut.take(protected.voxels)
    before, after = (window.to_unit(scan.quantization.to_physical(plane, np.float64)) for plane in (first, second))
    steps = second.astype(np.float64) - first.astype(np.float64)
    change = steps * scan.quantization.slope / window.width(first.ndim)
    most = np.take_along_axis(change, np.abs(change).argmax(axis=0, keepdims=True), axis=0)[0]
    colors = slice(0, 3) if len(before) == 3 and not cut.name else 0
    return Plane(
        name=cut.name,
        marks=cut.marks,
        scan=cut.turn(before[colors]),
        protected=cut.turn(after[colors]),
        difference=cut.turn(most),
        support=cut.turn((first != second).any(axis=0)),
        label=cut.turn(cut.take(classes[None])[0]),
        size=cut.size,
    )

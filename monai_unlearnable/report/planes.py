# SPDX-License-Identifier: Apache-2.0
"""Planes of a scan as pictures: the body upright, voxels in proportion, intensities through the window."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.scans.scan import Scan

__all__ = ["Plane", "cut_planes"]

# Name, axis across, and the sides of the body at the left and upper edge (radiological convention).
ORIENTATIONS = (("axial", 2, ("R", "A")), ("coronal", 1, ("R", "S")), ("sagittal", 0, ("A", "S")))


@dataclass(frozen=True)
class Plane:
    """One plane as pictures of (rows, columns), channels last where there are three.

    Args:
        name: orientation, empty for 2D images.
        marks: sides of the body at the left and upper edge, empty for 2D images.
        scan: unit intensity.
        protected: unit intensity.
        difference: protected minus clean in unit intensity, of the channel that changed most.
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


def cut_planes(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> list[Plane]:
    """The plane of a 2D image, or three of a volume where the label has its largest cross-sections.

    Args:
        clean: original scan.
        protected: the same scan with noise.
        label: class indices (spatial...) or (1, spatial...); without it volumes are cut in the middle.
        window: what to show as black and as white.
    """
    classes = np.zeros(clean.spatial_shape, np.uint8) if label is None else label.reshape(clean.spatial_shape)
    spacing = np.linalg.norm(clean.affine[:3, :3], axis=0)
    if len(clean.spatial_shape) == 2:
        columns, rows = np.multiply(clean.spatial_shape, np.where(spacing[:2] > 0, spacing[:2], 1))
        pieces = (clean.voxels, protected.voxels, classes)
        return [_plane(*pieces, clean, window, "", (), (float(columns), float(rows)), lambda picture: picture.T)]
    orientation = nib.orientations.io_orientation(clean.affine)
    if not np.isfinite(orientation).all():
        orientation, spacing = nib.orientations.io_orientation(np.eye(4)), np.ones(3)
    order = np.argsort(orientation[:, 0])
    extents = (np.multiply(clean.spatial_shape, spacing))[order]
    classes = _upright(classes, orientation)
    first, second = (_upright(np.moveaxis(scan.voxels, 0, -1), orientation) for scan in (clean, protected))
    planes = []
    for name, axis, marks in ORIENTATIONS:
        index = _best_slice(classes, axis)
        before, after = (np.moveaxis(volume.take(index, axis), -1, 0) for volume in (first, second))
        labels = np.take(classes, [index], axis).squeeze(axis)
        width, height = np.delete(extents, axis)
        size = (float(width), float(height))
        planes.append(_plane(before, after, labels, clean, window, name, marks, size, _radiological))
    return planes


def _upright(volume: NDArray, orientation: NDArray) -> NDArray:
    """Axes turned and flipped so that indices grow to the right, the front and the head."""
    return np.asarray(nib.orientations.apply_orientation(volume, orientation))


def _radiological(picture: NDArray) -> NDArray:
    return np.moveaxis(picture[..., ::-1, ::-1], (-1, -2), (0, 1))


def _best_slice(classes: NDArray, axis: int) -> int:
    others = tuple(other for other in range(3) if other != axis)
    areas = np.count_nonzero(classes, axis=others)
    if not areas.any():
        return int(classes.shape[axis] // 2)
    largest = np.flatnonzero(areas == areas.max())
    return int(largest[len(largest) // 2])


def _plane(
    first: NDArray,
    second: NDArray,
    classes: NDArray,
    scan: Scan,
    window: IntensityWindow,
    name: str,
    marks: tuple[str, ...],
    size: tuple[float, float],
    turn: Callable[[NDArray], NDArray],
) -> Plane:
    """A plane of stored voxels (C, a, b); ``turn`` brings the last two axes to rows and columns, channels last."""
    clean, protected = (window.to_unit(scan.lattice.to_physical(cut, np.float64)) for cut in (first, second))
    steps = second.astype(np.float64) - first.astype(np.float64)
    change = steps * scan.lattice.slope / window.width(first.ndim)
    most = np.take_along_axis(change, np.abs(change).argmax(axis=0, keepdims=True), axis=0)[0]
    colors = slice(0, 3) if len(clean) == 3 and not name else 0
    return Plane(
        name=name,
        marks=marks,
        scan=turn(clean[colors]),
        protected=turn(protected[colors]),
        difference=turn(most),
        support=turn((first != second).any(axis=0)),
        label=turn(classes),
        size=size,
    )

# SPDX-License-Identifier: Apache-2.0
"""Planes that scans are cut along.

The body is upright. Sides are those of the radiological convention: the patient's right is at the left edge.
"""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.utils.arrays import differ

__all__ = ["Cut", "Plane", "best_cuts", "cut_planes", "upright"]

# Name, axis across, and the sides of the body at the left and upper edge (radiological convention).
ORIENTATIONS = (("axial", 2, ("R", "A")), ("coronal", 1, ("R", "S")), ("sagittal", 0, ("A", "S")))


@dataclass(frozen=True)
class Cut:
    """Where a volume is cut, and how the plane is shown; all of a 2D image.

    Args:
        name: orientation, empty for 2D images.
        marks: sides of the body at the left and upper edge, empty for 2D images and where they are not known.
        size: width and height in millimeters, or pixels where the scan has no geometry.
        orientation: orientation of the volume's axes, as nibabel tells it; None for 2D images.
        axis: axis across the plane, once upright.
        index: index along that axis.
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
        return upright(volume, self.orientation).take(self.index, self.axis + 1)

    def turn(self, plane: NDArray) -> NDArray:
        """The picture (rows, columns, ...) of a plane (..., a, b): radiological, the head or the front above."""
        if self.orientation is None:
            return plane.T
        return np.moveaxis(plane[..., ::-1, ::-1], (-1, -2), (0, 1))


@dataclass(frozen=True)
class Plane:
    """One plane as pictures of (rows, columns), channels last where there are three.

    Args:
        cut: place of the slice.
        scan: normalized intensity.
        protected: normalized intensity.
        difference: protected minus clean in normalized intensity, of the channel that changed most.
        support: true where a stored voxel differs.
        label: class indices, all 0 where there is no label.
    """

    cut: Cut
    scan: NDArray
    protected: NDArray
    difference: NDArray
    support: NDArray
    label: NDArray


def best_cuts(classes: NDArray, affine: NDArray, is_placed: bool = True) -> list[Cut]:
    """All of a 2D image, or three planes of a volume where the label has its largest cross-sections.

    Args:
        classes: class indices (spatial...); volumes without any are cut in the middle.
        affine: 4x4 matrix from voxel indices to millimeters.
        is_placed: whether it tells the sides of the body, so that these are marked.
    """
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if classes.ndim == 2:
        columns, rows = np.multiply(classes.shape, np.where(spacing[:2] > 0, spacing[:2], 1))
        return [Cut("", (), (float(columns), float(rows)))]
    orientation = nib.orientations.io_orientation(affine)
    if not np.isfinite(orientation).all():
        orientation, spacing, is_placed = nib.orientations.io_orientation(np.eye(4)), np.ones(3), False
    extents = (np.multiply(classes.shape, spacing))[np.argsort(orientation[:, 0])]
    turned, cuts = upright(classes[None], orientation)[0], []
    for name, axis, marks in ORIENTATIONS:
        width, height = np.delete(extents, axis)
        size, own = (float(width), float(height)), marks if is_placed else ()
        cuts.append(Cut(name, own, size, orientation, axis, _best_slice(turned, axis)))
    return cuts


def cut_planes(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> list[Plane]:
    """The planes of :func:`best_cuts` as pictures; arguments as for
    :func:`~monai_unlearnable.report.slices.montage`."""
    classes = np.zeros(clean.spatial_shape, np.uint8) if label is None else label.reshape(clean.spatial_shape)
    cuts = best_cuts(classes, clean.affine, clean.has_geometry)
    return [_plane(cut, clean, protected, classes, window) for cut in cuts]


def upright(volume: NDArray, orientation: NDArray | None) -> NDArray:
    """A volume (C, spatial...) whose indices grow to the right, the front and the head; 2D images stay as they are."""
    if orientation is None:
        return volume
    turned = nib.orientations.apply_orientation(np.moveaxis(volume, 0, -1), orientation)
    return np.moveaxis(np.asarray(turned), -1, 0)


def _best_slice(classes: NDArray, axis: int) -> int:
    """The middle of the slices with the largest area, which are all where there is none."""
    areas = np.count_nonzero(classes, axis=tuple({0, 1, 2} - {axis}))
    largest = np.flatnonzero(areas == areas.max())
    return int(largest[len(largest) // 2])


def _plane(cut: Cut, scan: Scan, protected: Scan, classes: NDArray, window: IntensityWindow) -> Plane:
    first, second = cut.take(scan.voxels), cut.take(protected.voxels)
    storage = scan.quantization
    slope, inter = (cut.take(np.broadcast_to(number, scan.voxels.shape)) for number in (storage.slope, storage.inter))
    nodata, support = cut.take(scan.nodata), differ(first, second)
    before, after = (window.to_unit(np.where(nodata, np.nan, plane * slope + inter)) for plane in (first, second))
    steps = np.where(support, second.astype(np.float64) - first, 0)
    change = steps * slope / window.width(first.ndim)
    most = np.take_along_axis(change, np.abs(change).argmax(axis=0, keepdims=True), axis=0)[0]
    colors = slice(0, 3) if len(before) == 3 and not cut.name else 0
    return Plane(
        cut=cut,
        scan=cut.turn(before[colors]),
        protected=cut.turn(after[colors]),
        difference=cut.turn(most),
        support=cut.turn(np.asarray(support.any(axis=0))),
        label=cut.turn(cut.take(classes[None])[0]),
    )

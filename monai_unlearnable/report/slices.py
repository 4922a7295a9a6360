# SPDX-License-Identifier: Apache-2.0
"""Slices of scans as pictures: before and after protection, and what models see.

The body is upright, and voxels are in proportion. Sides are those of the radiological convention: the patient's right
is at the left edge.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nibabel as nib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.report.canvas import draw_scale, new_figure, to_png
from monai_unlearnable.report.fidelity import format_percent
from monai_unlearnable.report.tables import format_digits
from monai_unlearnable.utils.arrays import differ

__all__ = ["CLASSES", "Cut", "Plane", "before_and_after", "best_cuts", "cut_planes", "magnification", "montage"]
__all__ += ["prediction_montage", "upright"]

# Name, axis across, and the sides of the body at the left and upper edge (radiological convention).
ORIENTATIONS = (("axial", 2, ("R", "A")), ("coronal", 1, ("R", "S")), ("sagittal", 0, ("A", "S")))

BACKGROUND, INK, MUTED = "#0b0e12", "#e6edf3", "#9aa4af"  # dark on any page, as on a reading room's screen
COLUMN, GAP, LEFT = 2.2, 0.08, 0.34  # inches
TALLEST = 1.4  # height of a picture over the width of its column
DIFFERENCE = LinearSegmentedColormap.from_list("difference", ["#6ec3ff", "#1f6fb4", "#12161b", "#c2570c", "#ffb27a"])
CHANGED = "#e69f00"
CLASSES = ("#56d4dd", "#f778ba", "#a5d66f", "#f2e35c", "#b392f0", "#ffffff")
LISTED_CLASSES = 3
TRUE, PREDICTED = "#56d4dd", "#ff8c42"
MODELS = 5
LETTERS = 26  # of a title in a column


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
    """The planes of :func:`best_cuts` as pictures; arguments as for :func:`montage`."""
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


class _Sheet:
    """A figure with a row for each cut and a column for each picture of it; sizes are in inches.

    ``top`` and ``bottom`` are the space above and below the pictures; there is room for at least ``widest`` columns.
    """

    def __init__(self, cuts: Sequence[Cut], columns: int, top: float, bottom: float, widest: int = 1) -> None:
        self.scale = min(min(COLUMN / width, COLUMN * TALLEST / height) for width, height in (c.size for c in cuts))
        heights = [self.scale * cut.size[1] for cut in cuts]
        self.top = top
        self.height = top + sum(heights) + GAP * (len(cuts) - 1) + bottom
        self.width = LEFT + max(columns, widest) * (COLUMN + GAP)
        self.figure = new_figure(self.width, self.height, BACKGROUND)
        self.bottoms = self.height - top - np.cumsum(heights) - GAP * np.arange(len(cuts))
        for cut, low, height in zip(cuts, self.bottoms, heights, strict=True):
            self.write(0.12, low + height / 2, cut.name, color=MUTED, fontsize=10, rotation=90)

    def write(self, left: float, bottom: float, text: str, **look: object) -> None:
        """Text around a place, in inches from the lower left corner."""
        style = {"ha": "center", "va": "center", **look}
        self.figure.text(left / self.width, bottom / self.height, text, **style)  # type: ignore[arg-type]

    def add_axes(self, column: int, bottom: float, width: float, height: float) -> Axes:
        """Axes in the middle of a column; arguments in inches."""
        left = LEFT + column * (COLUMN + GAP) + (COLUMN - width) / 2
        box = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(box)

    def picture(self, row: int, column: int, cut: Cut) -> Axes:
        """Axes without frame for one picture."""
        width, height = (self.scale * extent for extent in cut.size)
        axes = self.add_axes(column, self.bottoms[row], width, height)
        axes.set_axis_off()
        return axes

    def titles(self, titles: Sequence[str], size: float) -> None:
        """A title above each column."""
        for column, title in enumerate(titles):
            self.write(_middle(column), self.height - self.top / 2, title, color=INK, fontsize=size)


def _middle(column: int) -> float:
    """Middle of a column, in inches."""
    return LEFT + column * (COLUMN + GAP) + COLUMN / 2


def _show(axes: Axes, picture: NDArray) -> None:
    axes.imshow(np.asarray(picture, float), cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="bicubic")


def _outline(axes: Axes, classes: NDArray, colors: Sequence[str], width: float) -> None:
    for index in np.unique(classes):
        inside = classes == index
        if index > 0 and not inside.all() and min(inside.shape) > 1:
            axes.contour(inside, [0.5], colors=[colors[(int(index) - 1) % len(colors)]], linewidths=width)


def _mark(axes: Axes, marks: Sequence[str]) -> None:
    """Letters of the body's sides at the left and upper edge."""
    edges = ((0.02, 0.5, "left", "center"), (0.5, 0.98, "center", "top"))
    for text, (x, y, across, along) in zip(marks, edges, strict=False):
        axes.text(x, y, text, color=INK, fontsize=8.5, transform=axes.transAxes, ha=across, va=along)


def montage(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> bytes:
    """PNG with one scan before and after protection: a row for 2D, axial, coronal and sagittal rows for 3D.

    Args:
        clean: original scan.
        protected: the same scan with noise.
        label: class indices (spatial...) or (1, spatial...), whose outlines are drawn; None where there is none.
        window: range of intensities from black to white; the difference is in percent of its width.
    """
    planes = cut_planes(clean, protected, label, window)
    sheet = _Sheet([plane.cut for plane in planes], columns=4, top=0.42, bottom=0.62)
    largest = max(float(np.abs(plane.difference).max()) for plane in planes)
    factor = magnification(largest)
    for row, plane in enumerate(planes):
        before, after, difference, changes = (sheet.picture(row, column, plane.cut) for column in range(4))
        _show(before, plane.scan)
        _mark(before, plane.cut.marks)
        _show(after, plane.protected)
        scaled = factor * plane.difference
        difference.imshow(scaled, cmap=DIFFERENCE, vmin=-1, vmax=1, aspect="auto", interpolation="nearest")
        _show(changes, 0.6 * plane.scan)
        veil = np.ma.masked_where(~plane.support, np.ones(plane.support.shape))
        changes.imshow(veil, cmap=ListedColormap([CHANGED]), alpha=0.32, aspect="auto", interpolation="nearest")
        _outline(changes, plane.label, CLASSES, 1.4)
    sheet.titles(("Scan", "Protected scan", f"Difference × {factor:.0f}", "Label and changed voxels"), 11)
    shown = f"shown from {format_digits(window.low[0], 4)} to {format_digits(window.high[0], 4)}"
    change = f"largest change {format_percent(largest)} of the window" if largest else "unchanged here"
    for column, text in enumerate((shown, change)):
        sheet.write(_middle(column), 0.42, text, color=MUTED, fontsize=8.5)
    _color_bar(sheet.add_axes(2, 0.4, 0.75 * COLUMN, 0.07), factor)
    _legend(sheet, [int(index) for index in np.unique(label) if index > 0] if label is not None else [])
    return to_png(sheet.figure)


def before_and_after(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> bytes:
    """PNG with one slice of a scan before and after protection, side by side; arguments as for :func:`montage`."""
    plane = cut_planes(clean, protected, label, window)[0]
    sheet = _Sheet([plane.cut], columns=2, top=0.42, bottom=0.1)
    for column, picture in enumerate((plane.scan, plane.protected)):
        axes = sheet.picture(0, column, plane.cut)
        _show(axes, picture)
        _mark(axes, plane.cut.marks)
    sheet.titles(("Original", "Protected"), 11)
    return to_png(sheet.figure)


def magnification(largest: float) -> float:
    """The greatest of 1, 2, 5, 10, 20, ... that keeps the magnified difference within the window."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(1 / largest))
    return max(1.0, max(step * power for step in (1, 2, 5) if step * power * largest <= 1 + 1e-6))


def _color_bar(axes: Axes, factor: float) -> None:
    percent = format_percent(1 / factor)
    draw_scale(axes, DIFFERENCE, (f"−{percent}", "0 of the window", f"+{percent}"), MUTED, 9)


def _legend(sheet: _Sheet, classes: Sequence[int]) -> None:
    names = [("changed", CHANGED)]
    names += [(f"class {index}", CLASSES[(index - 1) % len(CLASSES)]) for index in classes[:LISTED_CLASSES]]
    names += [("…", MUTED)] if len(classes) > LISTED_CLASSES else []
    place, letters = LEFT + 3 * (COLUMN + GAP), sum(len(name) + 3 for name, _ in names)
    for name, color in names:
        sheet.write(place, 0.42, f"■ {name}", color=color, fontsize=8.5, ha="left")
        place += min(0.09, COLUMN / letters) * (len(name) + 3)


def prediction_montage(
    image: NDArray, truth: NDArray, predictions: Mapping[str, NDArray], affine: NDArray | None = None
) -> bytes:
    """PNG with a test scan, its true outline and each model's: a row for 2D, axial, coronal and sagittal rows for 3D.

    Args:
        image: (spatial...) or (1, spatial...), in [0, 1].
        truth: class indices (spatial...) or (1, spatial...); volumes are cut where they are largest.
        predictions: class indices of each model by its name, a column each; the first five are shown.
        affine: 4x4 matrix from voxel indices to millimeters; without it voxels are cubes, and axes point to the right,
            the front and the head.

    Raises:
        InputError: when shapes differ, are not 2D or 3D, or there is no prediction.
    """
    scan, classes = _spatial(image), _spatial(truth)
    shown = {name: _spatial(prediction) for name, prediction in list(predictions.items())[:MODELS]}
    if not shown or any(array.shape != scan.shape for array in (classes, *shown.values())):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in {"truth": classes, **shown}.items())
        reason = f"predictions need the shape of their image, {scan.shape}; found {shapes if shown else 'none'}"
        raise InputError(reason)
    cuts = best_cuts(classes, np.eye(4) if affine is None else affine, affine is not None)
    sheet = _Sheet(cuts, len(shown), top=0.78, bottom=0.4, widest=2)
    for row, cut in enumerate(cuts):
        for column, prediction in enumerate(shown.values()):
            picture, true, found = (cut.turn(cut.take(array[None])[0]) for array in (scan, classes, prediction))
            axes = sheet.picture(row, column, cut)
            _show(axes, picture)
            _outline(axes, true, [TRUE], 1.5)
            _outline(axes, found, [PREDICTED], 1.5)
            if not (found > 0).any():
                nothing = axes.text(0.5, 0.04, "model finds nothing here", transform=axes.transAxes, fontsize=8.5)
                nothing.set(ha="center", color=PREDICTED)
            _mark(axes, () if column else cut.marks)
    names = [textwrap.wrap(name, LETTERS, max_lines=2, placeholder="…") for name in shown]
    overlaps = [_overlap(classes, prediction) for prediction in shown.values()]
    sheet.titles(["\n".join((*name, overlap)) for name, overlap in zip(names, overlaps, strict=True)], 10.5)
    for place, (words, color) in enumerate((("expert", TRUE), ("model", PREDICTED))):
        sheet.write(LEFT + place, 0.18, f"■ {words}", color=color, fontsize=9, ha="left")
    return to_png(sheet.figure)


def _spatial(array: NDArray) -> NDArray:
    array = np.asarray(array)
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise InputError(f"expected a 2D or 3D image, found shape {array.shape}")
    return array


def _overlap(truth: NDArray, prediction: NDArray) -> str:
    """Mean Dice over the classes of the truth, in words."""
    scores = [
        2 * np.count_nonzero((truth == index) & (prediction == index))
        / (np.count_nonzero(truth == index) + np.count_nonzero(prediction == index))
        for index in np.unique(truth)
        if index > 0
    ]  # fmt: skip
    return f"Dice {100 * np.mean(scores):.1f}" if scores else "no label"

# SPDX-License-Identifier: Apache-2.0
"""Pictures of slices: before and after protection, and what models see; voxels are in proportion."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.report.canvas import draw_scale, new_figure, to_png
from monai_unlearnable.report.fidelity import format_percent
from monai_unlearnable.report.planes import Cut, best_cuts, cut_planes
from monai_unlearnable.report.tables import format_digits

__all__ = ["CLASSES", "before_and_after", "magnification", "montage", "prediction_montage"]

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
    image: NDArray,
    truth: NDArray,
    predictions: Mapping[str, NDArray],
    affine: NDArray | None = None,
    is_placed: bool = True,
) -> bytes:
    """PNG with a test scan, its true outline and each model's: a row for 2D, axial, coronal and sagittal rows for 3D.

    Args:
        image: (spatial...) or (1, spatial...), in [0, 1].
        truth: class indices (spatial...) or (1, spatial...); volumes are cut where they are largest.
        predictions: class indices of each model by its name, a column each; the first five are shown.
        affine: 4x4 matrix from voxel indices to millimeters; without it voxels are cubes, and axes point to the right,
            the front and the head.
        is_placed: whether the matrix tells the sides of the body, so that these are marked.

    Raises:
        InputError: when shapes differ, are not 2D or 3D, or there is no prediction.
    """
    scan, classes = _spatial(image), _spatial(truth)
    shown = {name: _spatial(prediction) for name, prediction in list(predictions.items())[:MODELS]}
    if not shown or any(array.shape != scan.shape for array in (classes, *shown.values())):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in {"truth": classes, **shown}.items())
        reason = f"predictions need the shape of their image, {scan.shape}; found {shapes if shown else 'none'}"
        raise InputError(reason)
    cuts = best_cuts(classes, np.eye(4) if affine is None else affine, is_placed and affine is not None)
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

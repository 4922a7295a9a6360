# SPDX-License-Identifier: Apache-2.0
"""A clean scan beside its protected copy, their difference magnified, and where the label and the changes lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.report.canvas import new_figure, to_png
from monai_unlearnable.report.planes import Plane, cut_planes

__all__ = ["montage"]

BACKGROUND, INK, MUTED = "#0b0e12", "#e6edf3", "#9aa4af"  # dark on any page, as on a reading room's screen
CELL, GAP, LEFT, TOP, BOTTOM = 2.2, 0.08, 0.34, 0.42, 0.62  # inches
TALLEST = 1.4  # height of a picture over the width of its column
DIFFERENCE = LinearSegmentedColormap.from_list("difference", ["#6ec3ff", "#1f6fb4", "#12161b", "#c2570c", "#ffb27a"])
CHANGED = "#e69f00"
CLASSES = ("#56d4dd", "#f778ba", "#a5d66f", "#f2e35c", "#b392f0", "#ffffff")
LISTED_CLASSES = 3


def montage(clean: Scan, protected: Scan, label: NDArray | None, window: IntensityWindow) -> bytes:
    """One scan before and after protection: a row for 2D, axial, coronal and sagittal rows for 3D.

    Args:
        clean: original scan.
        protected: the same scan with noise.
        label: class indices (spatial...) or (1, spatial...), whose outlines are drawn; None where there is none.
        window: shown from black to white; the difference is in percent of its width.

    Returns:
        PNG bytes.
    """
    planes = cut_planes(clean, protected, label, window)
    widest, tallest = (max(plane.size[side] for plane in planes) for side in (0, 1))
    scale = min(CELL / widest, CELL * TALLEST / tallest)
    heights = [scale * plane.size[1] for plane in planes]
    total = TOP + sum(heights) + GAP * (len(planes) - 1) + BOTTOM
    figure = new_figure(LEFT + 4 * (CELL + GAP), total, BACKGROUND)
    factor = _magnification(max(float(np.abs(plane.difference).max()) for plane in planes))
    top = total - TOP
    for plane, height in zip(planes, heights, strict=True):
        _draw_row(figure, plane, top - height, scale, factor)
        top -= height + GAP
    changed = max(float(np.abs(plane.difference).max()) for plane in planes)
    _caption(figure, window, factor, changed, [int(k) for k in np.unique(label) if k > 0] if label is not None else [])
    return to_png(figure)


def _magnification(largest: float) -> float:
    """The greatest of 1, 2, 5, 10, 20, ... that keeps the magnified difference within the window."""
    if largest <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(1 / largest))
    return max(1.0, max(step * power for step in (1, 2, 5) if step * power * largest <= 1 + 1e-6))


def _box(figure: Figure, column: int, bottom: float, width: float, height: float) -> tuple[float, float, float, float]:
    """A box centered in a column, in fractions of the figure; arguments in inches."""
    total_width, total_height = figure.get_size_inches()
    left = LEFT + column * (CELL + GAP) + (CELL - width) / 2
    return left / total_width, bottom / total_height, width / total_width, height / total_height


def _draw_row(figure: Figure, plane: Plane, bottom: float, scale: float, factor: float) -> None:
    width, height = (scale * extent for extent in plane.size)
    cells = [figure.add_axes(_box(figure, column, bottom, width, height)) for column in range(4)]
    for axes in cells:
        axes.set_axis_off()
    _show(cells[0], plane.scan)
    _show(cells[1], plane.protected)
    look = {"cmap": DIFFERENCE, "vmin": -1 / factor, "vmax": 1 / factor, "interpolation": "nearest"}
    cells[2].imshow(plane.difference, aspect="auto", **look)  # type: ignore[arg-type]
    _show(cells[3], 0.6 * plane.scan)
    _overlay(cells[3], plane)
    _mark(cells[0], plane.marks)
    total = figure.get_size_inches()[1]
    figure.text(0.012, (bottom + height / 2) / total, plane.name, color=MUTED, fontsize=10, rotation=90, va="center")


def _show(axes: Axes, picture: NDArray) -> None:
    axes.imshow(picture, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="bicubic")


def _overlay(axes: Axes, plane: Plane) -> None:
    veil = np.ma.masked_where(~plane.support, np.ones(plane.support.shape))
    axes.imshow(veil, cmap=ListedColormap([CHANGED]), alpha=0.32, aspect="auto", interpolation="nearest")
    for index in np.unique(plane.label):
        inside = plane.label == index
        if index > 0 and not inside.all() and min(inside.shape) > 1:
            axes.contour(inside, [0.5], colors=[_class_color(int(index))], linewidths=1.4)


def _class_color(index: int) -> str:
    return CLASSES[(index - 1) % len(CLASSES)]


def _mark(axes: Axes, marks: Sequence[str]) -> None:
    """Letters of the body's sides at the left and upper edge."""
    edges = ((0.02, 0.5, "left", "center"), (0.5, 0.98, "center", "top"))
    for text, (x, y, across, along) in zip(marks, edges, strict=False):
        axes.text(x, y, text, color=INK, fontsize=8.5, transform=axes.transAxes, ha=across, va=along)


def _caption(figure: Figure, window: IntensityWindow, factor: float, changed: float, classes: Sequence[int]) -> None:
    width, height = figure.get_size_inches()
    middles = [(LEFT + column * (CELL + GAP) + CELL / 2) / width for column in range(4)]
    titles = ("Scan", "Protected scan", f"Difference × {factor:g}", "Label and changed voxels")
    for middle, title in zip(middles, titles, strict=True):
        figure.text(middle, 1 - TOP / 2 / height, title, color=INK, fontsize=11, ha="center", va="center")
    line = (BOTTOM - 0.2) / height
    shown = f"shown from {window.low[0]:.4g} to {window.high[0]:.4g}"
    change = f"largest change {100 * changed:.2g}% of the window" if changed else "unchanged here"
    for middle, text in zip(middles, (shown, change), strict=False):
        figure.text(middle, line, text, color=MUTED, fontsize=8.5, ha="center", va="center")
    _color_bar(figure, factor)
    names = [("changed", CHANGED)] + [(f"class {index}", _class_color(index)) for index in classes[:LISTED_CLASSES]]
    if len(classes) > LISTED_CLASSES:
        names.append(("…", MUTED))
    place, letters = LEFT + 3 * (CELL + GAP), sum(len(name) + 3 for name, _ in names)
    for name, color in names:
        figure.text(place / width, line, f"■ {name}", color=color, fontsize=8.5, ha="left", va="center")
        place += min(0.09, CELL / letters) * (len(name) + 3)


def _color_bar(figure: Figure, factor: float) -> None:
    axes = figure.add_axes(_box(figure, 2, BOTTOM - 0.22, 0.75 * CELL, 0.07))
    axes.imshow(np.linspace(-1, 1, 256)[None], cmap=DIFFERENCE, aspect="auto", extent=(-1, 1, 0, 1))
    percent = 100 / factor
    axes.set_xticks((-1, 0, 1), (f"−{percent:g}%", "0 of the window", f"+{percent:g}%"), color=MUTED, fontsize=9)
    axes.set_yticks(())
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)

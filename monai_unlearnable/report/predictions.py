# SPDX-License-Identifier: Apache-2.0
"""What models see in a test scan: their outlines beside the expert's."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from monai_unlearnable.errors import InputError
from monai_unlearnable.report.canvas import new_figure, to_png
from monai_unlearnable.report.montage import BACKGROUND, INK, MUTED
from monai_unlearnable.report.planes import Cut, best_cuts

__all__ = ["prediction_montage"]

TRUE, PREDICTED = "#56d4dd", "#ff8c42"
CELL, GAP, LEFT, TOP, BOTTOM = 2.2, 0.08, 0.34, 0.78, 0.4  # inches
TALLEST = 1.4  # height of a picture over the width of its column
MODELS = 5
LETTERS = 26  # of a title in a column


def prediction_montage(
    image: NDArray, truth: NDArray, predictions: Mapping[str, NDArray], affine: NDArray | None = None
) -> bytes:
    """A test scan with the true outline and that of each model: a row for 2D, axial, coronal and sagittal rows for 3D.

    Args:
        image: (spatial...) or (1, spatial...), in [0, 1].
        truth: class indices (spatial...) or (1, spatial...); volumes are cut where they are largest.
        predictions: class indices of each model by its name, a column each; the first five are shown.
        affine: 4x4 matrix from voxel indices to millimeters; without it voxels are cubes, and axes point to the right,
            the front and the head.

    Returns:
        PNG bytes.

    Raises:
        InputError: when shapes differ, are not 2D or 3D, or there is no prediction.
    """
    scan, classes = _spatial(image), _spatial(truth)
    shown = {name: _spatial(prediction) for name, prediction in list(predictions.items())[:MODELS]}
    if not shown or any(array.shape != scan.shape for array in (classes, *shown.values())):
        raise InputError(f"predictions need the shape of their image, {scan.shape}; found {_shapes(classes, shown)}")
    cuts = best_cuts(classes, np.eye(4) if affine is None else affine)
    scale = min(min(CELL / cut.size[0], CELL * TALLEST / cut.size[1]) for cut in cuts)
    heights = [scale * cut.size[1] for cut in cuts]
    total, width = TOP + sum(heights) + GAP * (len(cuts) - 1) + BOTTOM, LEFT + len(shown) * (CELL + GAP)
    figure, top = new_figure(max(width, LEFT + 2 * CELL), total, BACKGROUND), total - TOP
    width = figure.get_size_inches()[0]
    for cut, height in zip(cuts, heights, strict=True):
        for column, prediction in enumerate(shown.values()):
            left = LEFT + column * (CELL + GAP) + (CELL - scale * cut.size[0]) / 2
            box = (left / width, (top - height) / total, scale * cut.size[0] / width, height / total)
            _draw(figure.add_axes(box), cut, scan, classes, prediction, marked=affine is not None and column == 0)
        middle = (top - height / 2) / total
        figure.text(0.12 / width, middle, cut.name, color=MUTED, fontsize=10, rotation=90, va="center", ha="center")
        top -= height + GAP
    for column, (name, prediction) in enumerate(shown.items()):
        middle = (LEFT + column * (CELL + GAP) + CELL / 2) / width
        title = "\n".join([*textwrap.wrap(name, LETTERS, max_lines=2, placeholder="…"), _overlap(classes, prediction)])
        figure.text(middle, 1 - TOP / 2 / total, title, color=INK, fontsize=10.5, ha="center", va="center")
    for place, (words, color) in enumerate((("expert", TRUE), ("model", PREDICTED))):
        figure.text((LEFT + place) / width, 0.18 / total, f"■ {words}", color=color, fontsize=9, va="center")
    return to_png(figure)


def _spatial(array: NDArray) -> NDArray:
    array = np.asarray(array)
    while array.ndim > 2 and len(array) == 1:
        array = array[0]
    if array.ndim not in (2, 3):
        raise InputError(f"expected a 2D or 3D image, found shape {array.shape}")
    return array


def _shapes(truth: NDArray, predictions: Mapping[str, NDArray]) -> str:
    found = [f"truth {truth.shape}", *(f"{name} {array.shape}" for name, array in predictions.items())]
    return ", ".join(found) if predictions else "none"


def _draw(axes: Axes, cut: Cut, scan: NDArray, truth: NDArray, prediction: NDArray, marked: bool) -> None:
    picture, true, found = (cut.turn(cut.take(array[None])[0]) for array in (scan, truth, prediction))
    axes.imshow(np.asarray(picture, float), cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="bicubic")
    axes.set_axis_off()
    for classes, color in ((true, TRUE), (found, PREDICTED)):
        for index in np.unique(classes):
            inside = classes == index
            if index > 0 and not inside.all() and min(inside.shape) > 1:
                axes.contour(inside, [0.5], colors=[color], linewidths=1.5)
    if not (found > 0).any():
        nothing = axes.text(0.5, 0.04, "model finds nothing here", transform=axes.transAxes, fontsize=8.5)
        nothing.set(ha="center", color=PREDICTED)
    edges = ((0.02, 0.5, "left", "center"), (0.5, 0.98, "center", "top"))
    for mark, (x, y, across, along) in zip(cut.marks if marked else (), edges, strict=False):
        axes.text(x, y, mark, color=INK, fontsize=8.5, transform=axes.transAxes, ha=across, va=along)


def _overlap(truth: NDArray, prediction: NDArray) -> str:
    """Mean Dice over the classes of the truth, in words."""
    scores = [
        2 * np.count_nonzero((truth == index) & (prediction == index))
        / (np.count_nonzero(truth == index) + np.count_nonzero(prediction == index))
        for index in np.unique(truth)
        if index > 0
    ]  # fmt: skip
    return f"Dice {100 * np.mean(scores):.1f}" if scores else "no label"

# SPDX-License-Identifier: Apache-2.0
"""Scans for the slice viewer of the page: voxels before and after protection, small enough to lie in the page itself.

Voxels are upright (see :func:`~monai_unlearnable.report.planes.upright`), so that the script only has to draw. They are
levels of normalized intensity, at most 4096 of them: whole steps of storage wherever these are not finer.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow
from monai_unlearnable.report.planes import Cut, best_cuts, upright
from monai_unlearnable.report.slices import CLASSES, magnification
from monai_unlearnable.utils.arrays import bounding_box

__all__ = ["MOST_SCANS", "ViewedScan", "view_scan"]

MOST_SCANS = 3  # in a page
MOST_LETTERS = 4_000_000  # of a scan, in base64: three scans leave a page below 15 MB
MOST_VOXELS = 3_000_000  # tried first
LEVELS = 4095
DISPLAY = (-1.0, 2.0)  # normalized intensity that can be windowed: the intensity window and as much on both sides
OPPOSITE = {"R": "L", "A": "P", "S": "I"}


@dataclass(frozen=True)
class ViewedScan:
    """A scan as the page holds it.

    Args:
        name: name for the reader.
        header: what the script needs to know, as JSON.
        voxels: original levels, their change and the label: deflated, base64.
        has_original: whether the original is in it.
    """

    name: str
    header: str
    voxels: str
    has_original: bool


def view_scan(
    name: str,
    clean: Scan | None,
    protected: Scan,
    label: NDArray | None,
    window: IntensityWindow,
    most_letters: int = MOST_LETTERS,
) -> ViewedScan:
    """A scan for the viewer. One that is too large is cropped around its label, or else around its middle.

    Args:
        name: name for the reader.
        clean: original scan; None where there is none, so that only the protected one is shown.
        protected: the same scan with noise.
        label: class indices (spatial...) or (1, spatial...); None where there is none.
        window: range of intensities from black to white at first.
        most_letters: largest size in the page, in characters.
    """
    shape = protected.spatial_shape
    classes = np.zeros(shape, np.uint8) if label is None else label.reshape(shape)
    cuts = best_cuts(classes, protected.affine, protected.has_geometry)
    turned = upright(classes[None], cuts[0].orientation)[0]
    most_voxels = MOST_VOXELS
    while True:
        box = _box(turned, most_voxels)
        found = _Levels.of(clean, protected, window, cuts[0], box)
        arrays = {**found.arrays, **({} if label is None else {"label": turned[box][None]})}
        entries, voxels = _pack(arrays)
        if len(voxels) <= most_letters:
            break
        most_voxels = int(0.9 * min(most_voxels, turned.size) * most_letters / len(voxels))
    header = {
        **_geometry(cuts, turned.shape, box),
        **found.scale,
        "name": name,
        "arrays": entries,
        "colors": CLASSES,
        "remark": _remark(turned.shape, box, label is not None),
    }
    return ViewedScan(name, json.dumps(header), voxels, clean is not None)


def _box(classes: NDArray, most_voxels: int) -> tuple[slice, ...]:
    """Where to crop upright classes (spatial...) so that at most so many voxels are left, in equal proportion."""
    if classes.size <= most_voxels:
        return tuple(slice(0, extent) for extent in classes.shape)
    factor, inside = (most_voxels / classes.size) ** (1 / classes.ndim), bounding_box(classes > 0)
    box = []
    for extent, side in zip(classes.shape, inside, strict=True):
        length = max(1, int(factor * extent))
        middle = (side.start + side.stop) // 2 if side.stop > side.start else extent // 2
        start = min(max(middle - length // 2, 0), extent - length)
        box.append(slice(start, start + length))
    return tuple(box)


def _remark(shape: tuple[int, ...], box: tuple[slice, ...], labeled: bool) -> str:
    shown = tuple(side.stop - side.start for side in box)
    if shown == shape:
        return ""
    sizes = (" × ".join(map(str, extents)) for extents in (shown, shape))
    where = "around the label" if labeled else "in the middle"
    return f"For the size of the page, {' of '.join(sizes)} voxels are here, those {where}."


@dataclass(frozen=True)
class _Levels:
    """Voxels as levels: ``scan`` and, where the original is known, ``change``; and what levels mean."""

    arrays: dict[str, NDArray]
    scale: dict[str, Any]

    @classmethod
    def of(
        cls, clean: Scan | None, protected: Scan, window: IntensityWindow, cut: Cut, box: tuple[slice, ...]
    ) -> _Levels:
        is_color = len(protected.voxels) == 3 and not cut.name
        channels = slice(0, 3 if is_color else 1)
        inside = (channels, *box)

        def take(array: NDArray) -> NDArray:
            return upright(array, cut.orientation)[inside]

        def normalized(scan: Scan) -> NDArray:
            storage, shape = scan.quantization, scan.voxels.shape
            slope, inter = (take(np.broadcast_to(number, shape)) for number in (storage.slope, storage.inter))
            physical = take(scan.voxels) * slope + inter
            low = np.asarray(window.low).reshape((-1,) + (1,) * len(box))
            values = (physical - low[channels]) / window.width(physical.ndim)[channels]
            return np.where(take(scan.nodata), np.nan, values)

        first = normalized(protected if clean is None else clean)
        bottom = max(DISPLAY[0], float(np.nanmin(first, initial=DISPLAY[1])))
        top = min(DISPLAY[1], float(np.nanmax(first, initial=bottom)))
        step = _step(top - bottom, window.finest_step(protected.quantization))
        levels = np.rint((np.clip(np.nan_to_num(first, nan=bottom), bottom, top) - bottom) / step)
        arrays, largest = {"scan": levels.astype(np.int64)}, 0.0
        if clean is not None:
            change = np.nan_to_num(normalized(protected) - first)
            largest = float(np.abs(change).max(initial=0.0))
            arrays["change"] = np.rint(change / step).astype(np.int64)
        units = None if is_color else (window.low[0], window.high[0])
        scale = {"channels": 3 if is_color else 1, "bottom": bottom, "top": max(top, bottom + step), "step": step}
        return cls(arrays, {**scale, "units": units, "magnification": magnification(largest)})


def _step(extent: float, stored: float) -> float:
    """Normalized intensity of a level: a whole number of storage steps, where there are such."""
    coarsest = extent / LEVELS
    if stored <= 0:
        return coarsest or 1.0
    return stored * max(1, math.ceil(coarsest / stored - 1e-6))


def _pack(arrays: dict[str, NDArray]) -> tuple[list[dict[str, Any]], str]:
    """Arrays (C, x, y[, z]) of whole numbers in text, and how to read them: above their least, low bytes first."""
    entries, content = [], []
    for name, array in arrays.items():
        least = int(array.min())
        numbers = (array.transpose(0, *reversed(range(1, array.ndim))).ravel() - least).astype(np.int64)  # x is fastest
        width = 1 if numbers.max() < 256 else 2
        content += [(numbers >> 8 * place & 255).astype(np.uint8).tobytes() for place in range(width)]
        entries.append({"name": name, "count": numbers.size, "width": width, "least": least})
    return entries, base64.b64encode(zlib.compress(b"".join(content))).decode()


def _geometry(cuts: list[Cut], shape: tuple[int, ...], box: tuple[slice, ...]) -> dict[str, Any]:
    """Size and spacing along x, y and z, and the planes; 2D images have one slice along z."""
    size = [side.stop - side.start for side in box]
    if len(shape) == 2:
        spacing = [*np.divide(cuts[0].size, shape).tolist(), 1.0]
        plane = {"name": "", "across": 2, "columns": 0, "rows": 1, "flip": False, "index": 0, "letters": {}}
        return {"size": [*size, 1], "spacing": spacing, "planes": [plane]}
    axial, coronal, _ = (cut.size for cut in cuts)
    spacing = np.divide((*axial, coronal[1]), shape).tolist()
    return {"size": size, "spacing": spacing, "planes": [_plane(cut, box[cut.axis]) for cut in cuts]}


def _plane(cut: Cut, side: slice) -> dict[str, Any]:
    """One plane: its axes, its first slice, and the letters of the body's sides."""
    columns, rows = sorted({0, 1, 2} - {cut.axis})
    letters = {}
    if cut.marks:
        left, top = cut.marks
        letters = {"left": left, "right": OPPOSITE[left], "top": top, "bottom": OPPOSITE[top]}
    index = min(max(cut.index, side.start), side.stop - 1) - side.start
    return {
        **{"name": cut.name, "across": cut.axis, "columns": columns, "rows": rows},
        **{"flip": True, "index": index, "letters": letters},
    }

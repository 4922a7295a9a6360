# SPDX-License-Identifier: Apache-2.0
"""DICOM structure sets (RTSTRUCT) as label maps: contours filled on the grid of the series that they were drawn on.

A pixel belongs to a structure if its center lies within an odd number of its contours in the slice, or on one: contours
within contours are holes. Contours find their slices by position."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from monai_unlearnable.data.dicom.geometry import SeriesGrid
from monai_unlearnable.data.overlap import Segments, overlap_remarks
from monai_unlearnable.errors import ScanError

__all__ = ["fill", "read_contours"]

CLOSED = ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR")
NEAR = 0.25  # of the distance of slices, and in pixels beyond the border
ON_EDGE = 1e-6  # pixels


def read_contours(dataset: Dataset, grid: SeriesGrid) -> tuple[NDArray, dict[int, str], list[str]]:
    """Fill the contours of a structure set.

    Args:
        dataset: the structure set.
        grid: grid of the series that it refers to.

    Returns:
        Numbers of structures (columns, rows, slices), 0 where there is none; names of the structures; remarks on what
        was passed over.

    Raises:
        ScanError: when a contour lies on no slice of the grid, or nothing is left.
    """
    columns, rows, slices = grid.shape
    segments, skipped = Segments((slices, rows, columns)), list[str]()
    names = {int(item.ROINumber): str(item.get("ROIName", "")) for item in dataset.get("StructureSetROISequence", ())}
    numbers = {number: number or max(names) + 1 for number in names}
    for item in dataset.get("ROIContourSequence", ()):
        number = int(item.ReferencedROINumber)
        if number < 0 or number not in names:
            raise ScanError(f"contours are of structure {number}, which is not described")
        closed, others = _contours(item)
        if others or not closed:
            what = ", ".join(sorted(others)) or "no contours"
            skipped.append(f"{names[number]} ({what})")
        try:
            _add(segments, numbers[number], closed, grid)
        except ScanError as error:
            raise ScanError(f"structure {number} ({names[number]}) {error.reason}") from error
    label, overlaps = segments.merge()
    if not label.any():
        raise ScanError(f"holds no closed contours: {', '.join(skipped) or 'no structures'}")
    named = {numbers[number]: name for number, name in names.items()}
    remarks = overlap_remarks(overlaps, named)
    if 0 in names:
        remarks.append(f"structure 0 ({names[0]}) has the label value {numbers[0]}; 0 is background")
    if skipped:
        remarks.append(f"only closed contours have an inside; passed over: {', '.join(skipped)}")
    return label.T, named, remarks


def _contours(item: Dataset) -> tuple[list[NDArray], set[str]]:
    """The points (points, 3) of the closed contours of a structure, each once, and the kinds of the others."""
    closed, others = dict[bytes, NDArray](), set[str]()
    for contour in item.get("ContourSequence", ()):
        kind = str(contour.get("ContourGeometricType", "of no kind"))
        data = np.asarray(contour.get("ContourData") or (), np.float64)
        if data.size % 3 or not np.isfinite(data).all():
            raise ScanError("has contours whose points are no triples of numbers")
        if kind in CLOSED and data.size >= 9:
            closed[data.tobytes()] = data.reshape(-1, 3)
        else:
            others.add(kind if kind not in CLOSED else f"{data.size // 3} points")
    return list(closed.values()), others


def _add(segments: Segments, number: int, contours: Sequence[NDArray], grid: SeriesGrid) -> None:
    """Fill the contours of a structure, those of each slice together."""
    of_slice: dict[int, list[NDArray]] = {}
    for points in contours:
        index, places = _place(points, grid)
        of_slice.setdefault(index, []).append(places)
    for index, polygons in of_slice.items():
        segments.add_mask(number, index, fill(polygons, (grid.shape[1], grid.shape[0])))


def _place(points: NDArray, grid: SeriesGrid) -> tuple[int, NDArray]:
    """The slice that a contour lies on, and its points (column, row) there."""
    index, places, distances = grid.locate(points)
    gap = grid.gap(index)
    off = float(np.abs(distances).max())
    if off > NEAR * gap:
        raise ScanError(
            f"has a contour that lies up to {off:.4g} mm from the nearest slice; slices are {gap:.4g} mm apart"
        )
    return index, places


def fill(polygons: Sequence[NDArray], shape: tuple[int, int]) -> NDArray:
    """The pixels whose centers lie in an odd number of polygons, or on the edge of one.

    Args:
        polygons: corners (corners, 2) of each, as column and row; the last one is joined to the first.
        shape: rows and columns.

    Returns:
        Mask (rows, columns).
    """
    rows, columns = shape
    starts = np.concatenate(polygons)
    ends = np.concatenate([np.roll(polygon, -1, axis=0) for polygon in polygons])
    top, bottom = np.clip([np.floor(starts[:, 1].min()), np.ceil(starts[:, 1].max()) + 1], 0, rows).astype(np.int64)
    marks = np.zeros((bottom - top, columns + 1), np.int32)
    for row, left, right in (*_spans(starts, ends), *_flat(starts, ends)):
        first = np.ceil(left - ON_EDGE).astype(np.int64).clip(0, columns)
        last = np.floor(right + ON_EDGE).astype(np.int64).clip(-1, columns - 1) + 1
        used = (row >= top) & (row < bottom) & (first < last)
        np.add.at(marks, (row[used] - top, first[used]), 1)
        np.add.at(marks, (row[used] - top, last[used]), -1)
    mask = np.zeros(shape, bool)
    mask[top:bottom] = np.cumsum(marks, axis=1)[:, :-1] > 0
    return mask


def _spans(starts: NDArray, ends: NDArray) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Rows of pixel centers, and from which column to which they run inside of polygons."""
    low, high = np.minimum(starts[:, 1], ends[:, 1]), np.maximum(starts[:, 1], ends[:, 1])
    first, stop = np.ceil(low).astype(np.int64), np.ceil(high).astype(np.int64)  # low <= row < high
    counts = np.maximum(stop - first, 0)
    edge = np.repeat(np.arange(len(counts)), counts)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts)
    (x, y), (other_x, other_y) = starts[edge].T, ends[edge].T
    crossing = x + (row - y) * (other_x - x) / (other_y - y)
    order = np.lexsort((crossing, row))  # each row has an even number of crossings
    row, crossing = row[order], crossing[order]
    yield row[::2], crossing[::2], crossing[1::2]


def _flat(starts: NDArray, ends: NDArray) -> Iterator[tuple[NDArray, NDArray, NDArray]]:
    """Edges along a row of pixel centers, and corners on one: where polygons end downward, no span runs."""
    for first, last in ((starts, ends), (starts, starts)):
        row = np.rint(first[:, 1])
        on = (np.abs(first[:, 1] - row) <= ON_EDGE) & (np.abs(last[:, 1] - row) <= ON_EDGE)
        left, right = np.minimum(first[on, 0], last[on, 0]), np.maximum(first[on, 0], last[on, 0])
        yield row[on].astype(np.int64), left, right

# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations as label maps on the grid of the series that they refer to.

Frames find their slices by position, or by the instance they refer to, never by their order. Of fractional segments
a voxel belongs to those that hold at least half of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian

from monai_unlearnable.data.dicom.geometry import SeriesGrid
from monai_unlearnable.data.dicom.pixels import LOSSLESS, NATIVE
from monai_unlearnable.data.overlap import Segments, overlap_remarks
from monai_unlearnable.errors import ScanError

__all__ = ["check_segmentation", "frame_sources", "read_frames"]

BACKGROUND = 0
NEAR = (0.5, 0.25)  # pixels, and distances of slices
PLAIN = (*(syntax for syntax in NATIVE if syntax.is_little_endian), DeflatedExplicitVRLittleEndian)
KINDS = ("BINARY", "FRACTIONAL", "LABELMAP")
FULL = 255  # the fraction 1 where the file does not say otherwise


def read_frames(dataset: Dataset, grid: SeriesGrid) -> tuple[NDArray, dict[int, str], list[str]]:
    """Put the frames of a segmentation on the slices of a series.

    Args:
        dataset: the segmentation.
        grid: grid of the series.

    Returns:
        Segment numbers (columns, rows, slices), 0 where there is no segment; names of the segments; remarks on those
        that overlap.

    Raises:
        ScanError: when a frame lies elsewhere, or holds a segment that is not described.
    """
    columns, rows, slices = grid.shape
    if (dataset.Columns, dataset.Rows) != (columns, rows):
        raise ScanError(f"frames of {dataset.Columns} x {dataset.Rows} pixels lie on no slice of {columns} x {rows}")
    names = {int(item.SegmentNumber): item.get("SegmentLabel", "") for item in dataset.get("SegmentSequence", ())}
    segments = Segments((slices, rows, columns))
    for number, (groups, pixels) in enumerate(_frames(dataset), start=1):
        try:
            values = _values(dataset, groups, pixels)
            _check_described(values, names)
            segments.add(_slice(groups, grid), values)
        except ScanError as error:
            raise ScanError(f"frame {number} {error.reason}") from error
    label, overlaps = segments.merge()
    return label.T, names, overlap_remarks(overlaps, names)


def check_segmentation(dataset: Dataset) -> None:
    """Check that a segmentation is of a kind that can be read.

    Raises:
        ScanError: with the kinds that are.
    """
    if dataset.SegmentationType not in KINDS:
        raise ScanError(f"{dataset.SegmentationType} segments are not supported; {', '.join(KINDS)} ones are")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (PLAIN if dataset.BitsAllocated == 1 else (*PLAIN, *LOSSLESS)):
        raise ScanError(f"the transfer syntax {syntax.name} is not supported for segmentations")
    if dataset.get("PixelPaddingValue", BACKGROUND) != BACKGROUND:
        raise ScanError(f"a background of {dataset.PixelPaddingValue} is not supported; {BACKGROUND} is")


def _frames(dataset: Dataset) -> Iterator[tuple[list[Dataset], NDArray]]:
    """Functional groups of each frame, its own before those of all, and its pixels (rows, columns)."""
    own = dataset.get("PerFrameFunctionalGroupsSequence", ())
    if len(own) != int(dataset.get("NumberOfFrames") or 1):
        raise ScanError(f"{dataset.NumberOfFrames} frames, but {len(own)} descriptions of frames")
    shared = list(dataset.get("SharedFunctionalGroupsSequence", ()))
    frames = _unpacked(dataset, len(own)) if dataset.BitsAllocated == 1 else iter_pixels(dataset)
    for groups, pixels in zip(own, frames, strict=True):
        yield [groups, *shared], pixels


def _unpacked(dataset: Dataset, count: int) -> Iterator[NDArray]:
    """Frames of one bit a pixel, which follow each other without a gap: pydicom yields only those of whole bytes."""
    size, data = dataset.Rows * dataset.Columns, np.frombuffer(dataset.PixelData, np.uint8)
    if 8 * len(data) < count * size:
        raise ScanError(f"truncated: {-(-count * size // 8)} bytes of pixels expected, {len(data)} found")
    for start in range(0, count * size, size):
        bits = np.unpackbits(data[start // 8 : -(-(start + size) // 8)], bitorder="little")
        yield bits[start % 8 :][:size].reshape(dataset.Rows, dataset.Columns)


def _value(groups: Sequence[Dataset], group: str, name: str) -> Any:
    items = (item for found in groups for item in found.get(group, ()))
    return next((item[name].value for item in items if name in item), None)


def frame_sources(groups: Sequence[Dataset]) -> set[str]:
    """UIDs of the instances that a frame was made from."""
    derivations = (item for found in groups for item in found.get("DerivationImageSequence", ()))
    sources = (source for item in derivations for source in item.get("SourceImageSequence", ()))
    return {source.ReferencedSOPInstanceUID for source in sources}


def _values(dataset: Dataset, groups: Sequence[Dataset], pixels: NDArray) -> NDArray:
    """The segment number of each pixel of a frame."""
    if dataset.SegmentationType == "LABELMAP":
        return pixels.astype(np.uint16)
    least = 1 if dataset.SegmentationType == "BINARY" else int(dataset.get("MaximumFractionalValue") or FULL) / 2
    number = _value(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    if number is None:
        raise ScanError("does not say of which segment it is")
    return np.where(pixels >= least, np.uint16(number), np.uint16(BACKGROUND))


def _slice(groups: Sequence[Dataset], grid: SeriesGrid) -> int:
    """The index of the slice that a frame lies on."""
    uids = frame_sources(groups)
    referenced = {index for index, uid in enumerate(grid.instances) if uid in uids}
    position = _value(groups, "PlanePositionSequence", "ImagePositionPatient")
    if position is None:
        if len(referenced) != 1:
            raise ScanError("has no position, and does not refer to one slice of the series")
        return referenced.pop()
    index = _place(groups, np.asarray(position, np.float64), grid)
    if referenced and index not in referenced:
        raise ScanError(f"lies on {grid.instances[index]} by its position, and refers to another slice")
    return index


def _place(groups: Sequence[Dataset], position: NDArray, grid: SeriesGrid) -> int:
    """The index of the slice whose corners are those of a frame."""
    size = np.linalg.norm(grid.steps, axis=0)
    spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing") or (size[1], size[0])
    directions = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    row, column = np.reshape(directions or (grid.steps[:, :2] / size[:2]).T, (2, 3)).astype(np.float64)
    last = np.array([(i, j) for i in (0, grid.shape[0] - 1) for j in (0, grid.shape[1] - 1)])
    corners = position + last[:, :1] * row * float(spacing[1]) + last[:, 1:] * column * float(spacing[0])
    index, places, heights = grid.locate(corners)
    gap = grid.gap(index)
    if (np.abs(places - last) > NEAR[0]).any() or (np.abs(heights) > NEAR[1] * gap).any():
        if np.ptp(heights) < NEAR[1] * gap and np.abs(heights).min() > gap / 2 and index in (0, grid.shape[2] - 1):
            raise ScanError("lies where the series has no slice")
        offsets = (places - last) @ grid.steps[:, :2].T + heights[:, None] * grid.normal
        distance = np.linalg.norm(offsets, axis=1).max()
        raise ScanError(f"lies up to {distance:.4g} mm from the nearest slice: it is on another grid")
    return index


def _check_described(values: NDArray, names: Mapping[int, str]) -> None:
    unknown = set(np.unique(values).tolist()) - {BACKGROUND, *names}
    if unknown:
        listed = ", ".join(f"{number} ({name})" for number, name in names.items())
        raise ScanError(f"holds segment {min(unknown)}, which is not described; described are {listed or 'none'}")

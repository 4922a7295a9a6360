# SPDX-License-Identifier: Apache-2.0
"""DICOM segmentations as label maps on the grid of the series that they refer to.

Frames find their slices by position, or by the instance they refer to, never by their order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.pixels import iter_pixels
from pydicom.uid import DeflatedExplicitVRLittleEndian, RTStructureSetStorage

from monai_unlearnable.data.dicom.geometry import Grid
from monai_unlearnable.data.dicom.pixels import LOSSLESS, NATIVE
from monai_unlearnable.data.scan import LPS_TO_RAS
from monai_unlearnable.errors import ScanError

__all__ = ["read_segmentation"]

BACKGROUND = 0
NEAR = (0.5, 0.5, 0.25)  # columns, rows and slices; distances of slices are even to a tenth
PLAIN = (*(syntax for syntax in NATIVE if syntax.is_little_endian), DeflatedExplicitVRLittleEndian)
KINDS = ("BINARY", "LABELMAP")


def read_segmentation(path: Path, grids: Sequence[Grid]) -> tuple[NDArray, Grid]:
    """Read a segmentation.

    Args:
        path: path of the file.
        grids: grids of the images that the segmentation can refer to.

    Returns:
        Segment numbers (columns, rows, slices) as uint16, 0 where there is no segment, and the grid they lie on.

    Raises:
        ScanError: when it is of another image, lies elsewhere, or is no map of one segment a pixel.
    """
    dataset = dcmread(path)
    _check_kind(dataset)
    grid = _referenced(dataset, grids)
    columns, rows, slices = grid.shape
    if (dataset.Columns, dataset.Rows) != (columns, rows):
        raise ScanError(f"frames of {dataset.Columns} x {dataset.Rows} pixels lie on no slice of {columns} x {rows}")
    names = {int(item.SegmentNumber): item.get("SegmentLabel", "") for item in dataset.get("SegmentSequence", ())}
    label = np.zeros((slices, rows, columns), np.uint16)
    for number, (groups, pixels) in enumerate(_frames(dataset), start=1):
        try:
            segments = _segments(groups, pixels, dataset.SegmentationType == "BINARY")
            _put(segments, label[_slice(groups, grid)], names)
        except ScanError as error:
            raise ScanError(f"frame {number} {error.reason}") from error
    return label.T, grid


def _check_kind(dataset: Dataset) -> None:
    if dataset.SOPClassUID == RTStructureSetStorage:
        reason = "contours (RTSTRUCT) are not read; convert them to DICOM-SEG, or to NIfTI on the grid of the series"
        raise ScanError(f"{reason}, with 3D Slicer for example")
    if dataset.SegmentationType not in KINDS:
        raise ScanError(f"{dataset.SegmentationType} segments are not supported; {' and '.join(KINDS)} ones are")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax not in (PLAIN if dataset.BitsAllocated == 1 else (*PLAIN, *LOSSLESS)):
        raise ScanError(f"the transfer syntax {syntax.name} is not supported for segmentations")
    if dataset.get("PixelPaddingValue", BACKGROUND) != BACKGROUND:
        raise ScanError(f"a background of {dataset.PixelPaddingValue} is not supported; {BACKGROUND} is")


def _referenced(dataset: Dataset, grids: Sequence[Grid]) -> Grid:
    """The grid of the first image that a segmentation is of."""
    listed = list(dataset.get("ReferencedSeriesSequence", ()))
    series = {item.get("SeriesInstanceUID") for item in listed}
    sources = [*dataset.get("SourceImageSequence", ())]
    sources += [instance for item in listed for instance in item.get("ReferencedInstanceSequence", ())]
    known = series | {item.get("ReferencedSOPInstanceUID") for item in sources}
    known |= {uid for groups in dataset.get("PerFrameFunctionalGroupsSequence", ()) for uid in _sources([groups])}
    if not known:
        place = dataset.get("FrameOfReferenceUID")
        found = next((grid for grid in grids if place and grid.frame_of_reference == place), None)
        reason = f"refers to no image, and its frame of reference {place} is not that of the series"
    else:
        found = next((grid for grid in grids if known.intersection((grid.series, *grid.instances))), None)
        names = ", ".join(sorted(map(str, series))) or "other images"
        reason = f"is of another series: it refers to {names}, the image is {', '.join(g.series for g in grids)}"
    if found is None:
        raise ScanError(reason)
    return found


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


def _sources(groups: Sequence[Dataset]) -> set[str]:
    """UIDs of the instances that a frame was made from."""
    derivations = (item for found in groups for item in found.get("DerivationImageSequence", ()))
    sources = (source for item in derivations for source in item.get("SourceImageSequence", ()))
    return {source.ReferencedSOPInstanceUID for source in sources}


def _segments(groups: Sequence[Dataset], pixels: NDArray, is_binary: bool) -> NDArray:
    """The segment number of each pixel of a frame."""
    if not is_binary:
        return pixels.astype(np.uint16)
    number = _value(groups, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    if number is None:
        raise ScanError("does not say of which segment it is")
    return np.where(pixels != 0, np.uint16(number), np.uint16(BACKGROUND))


def _slice(groups: Sequence[Dataset], grid: Grid) -> int:
    """The index of the slice that a frame lies on."""
    uids = _sources(groups)
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


def _place(groups: Sequence[Dataset], position: NDArray, grid: Grid) -> int:
    """The index of the slice whose corners are those of a frame."""
    affine = LPS_TO_RAS @ grid.affine
    size = np.linalg.norm(affine[:3, :3], axis=0)
    spacing = _value(groups, "PixelMeasuresSequence", "PixelSpacing") or (size[1], size[0])
    directions = _value(groups, "PlaneOrientationSequence", "ImageOrientationPatient")
    row, column = np.reshape(directions or (affine[:3, :2] / size[:2]).T, (2, 3)).astype(np.float64)
    last = np.array([(i, j) for i in (0, grid.shape[0] - 1) for j in (0, grid.shape[1] - 1)])
    corners = position + last[:, :1] * row * float(spacing[1]) + last[:, 1:] * column * float(spacing[0])
    indices = apply_affine(np.linalg.inv(affine), corners)
    index = round(float(indices[0, 2]))
    offsets = indices - np.column_stack([last, np.full(4, index)])
    if (np.abs(offsets) > NEAR).any():
        distance = np.linalg.norm(offsets @ affine[:3, :3].T, axis=1).max()
        raise ScanError(f"lies up to {distance:.4g} mm from the nearest slice: it is on another grid")
    if not 0 <= index < grid.shape[2]:
        raise ScanError("lies where the series has no slice")
    return index


def _put(segments: NDArray, label: NDArray, names: dict[int, str]) -> None:
    """Write the segments of a frame to the label of its slice, which others may have written to."""
    unknown = set(np.unique(segments).tolist()) - {BACKGROUND, *names}
    if unknown:
        listed = ", ".join(f"{number} ({name})" for number, name in names.items())
        raise ScanError(f"holds segment {min(unknown)}, which is not described; described are {listed or 'none'}")
    clash = (label != BACKGROUND) & (segments != BACKGROUND) & (label != segments)
    if clash.any():
        first, second = sorted((int(label[clash][0]), int(segments[clash][0])))
        pair = f"{first} ({names[first]}) and {second} ({names[second]})"
        raise ScanError(f"makes the segments {pair} overlap; a voxel has one label")
    np.copyto(label, segments, where=segments != BACKGROUND)

# SPDX-License-Identifier: Apache-2.0
"""DICOM annotations as label maps on the grid of the series that they refer to: segmentations and structure sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.uid import RTStructureSetStorage

from monai_unlearnable.data.dicom.contours import read_contours
from monai_unlearnable.data.dicom.geometry import SeriesGrid
from monai_unlearnable.data.dicom.segmentation import check_segmentation, frame_sources, read_frames
from monai_unlearnable.errors import ScanError

__all__ = ["Annotation", "read_annotation"]


@dataclass(frozen=True)
class Annotation:
    """A label map on the grid of an image.

    Args:
        label: numbers of segments or structures (columns, rows, slices), 0 where there is none.
        grid: the grid.
        names: names of the segments by their numbers.
        remarks: notes for the owner.
    """

    label: NDArray
    grid: SeriesGrid
    names: Mapping[int, str]
    remarks: tuple[str, ...]


def read_annotation(path: Path, grids: Sequence[SeriesGrid]) -> Annotation:
    """Read a segmentation or a structure set.

    Args:
        path: path of the file.
        grids: grids of the images that it can refer to.

    Raises:
        ScanError: when it is of another image, lies elsewhere, or is of a kind that is not read.
    """
    dataset = dcmread(path)
    if dataset.SOPClassUID == RTStructureSetStorage:
        grid = _referenced(dataset, grids)
        label, names, remarks = read_contours(dataset, grid)
    else:
        check_segmentation(dataset)
        grid = _referenced(dataset, grids)
        label, names, remarks = read_frames(dataset, grid)
    return Annotation(label, grid, names, tuple(f"{path}: {remark}" for remark in remarks))


def _referenced(dataset: Dataset, grids: Sequence[SeriesGrid]) -> SeriesGrid:
    """The grid of the first image that an annotation is of."""
    series, instances, places = _references(dataset)
    known = series | instances
    if not known:
        found = next((grid for grid in grids if grid.frame_of_reference in places), None)
        shown = ", ".join(sorted(places))
        reason = f"refers to no image, and its frame of reference {shown} is not that of the series"
    else:
        found = next((grid for grid in grids if known.intersection((grid.series, *grid.instances))), None)
        names = ", ".join(sorted(series)) or "other images"
        reason = f"is of another series: it refers to {names}, the image is {', '.join(g.series for g in grids)}"
    if found is None:
        raise ScanError(reason)
    return found


def _references(dataset: Dataset) -> tuple[set[str], set[str], set[str]]:
    """UIDs of the series, instances and frames of reference that an annotation names."""
    listed = list(dataset.get("ReferencedSeriesSequence", ()))
    places, sources = [dataset], list(dataset.get("SourceImageSequence", ()))
    for space in dataset.get("ReferencedFrameOfReferenceSequence", ()):  # of a structure set
        places.append(space)
        for study in space.get("RTReferencedStudySequence", ()):
            listed += study.get("RTReferencedSeriesSequence", ())
    for item in listed:
        sources += [*item.get("ReferencedInstanceSequence", ()), *item.get("ContourImageSequence", ())]
    instances = {str(item.get("ReferencedSOPInstanceUID")) for item in sources}
    for groups in dataset.get("PerFrameFunctionalGroupsSequence", ()):
        instances |= frame_sources([groups])
    for structure in dataset.get("ROIContourSequence", ()):
        for contour in structure.get("ContourSequence", ()):
            instances |= {str(item.get("ReferencedSOPInstanceUID")) for item in contour.get("ContourImageSequence", ())}
    series = {str(item.SeriesInstanceUID) for item in listed if item.get("SeriesInstanceUID")}
    spaces = {str(place.FrameOfReferenceUID) for place in places if place.get("FrameOfReferenceUID")}
    return series, instances, spaces

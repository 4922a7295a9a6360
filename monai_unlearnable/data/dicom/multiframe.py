# SPDX-License-Identifier: Apache-2.0
"""The frames of a DICOM file: where each lies and how it is scaled, from functional groups or the header itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from pydicom import Dataset
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from monai_unlearnable.data.dicom.geometry import Frame
from monai_unlearnable.errors import ScanError

__all__ = ["frames_of", "set_derived"]

SHARED, OWN = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
# What tells of a frame, by the functional group that holds it; files of one frame have the elements themselves.
GROUPED = {
    "PlanePositionSequence": ("ImagePositionPatient",),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PixelMeasuresSequence": ("PixelSpacing", "SpacingBetweenSlices", "SliceThickness"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "FrameContentSequence": ("TemporalPositionIndex",),
    "MREchoSequence": ("EffectiveEchoTime",),
    "MRDiffusionSequence": ("DiffusionBValue",),
}
TURN = ("TemporalPositionIndex", "EffectiveEchoTime", "DiffusionBValue")
TAGS = {name: Tag(name) for name in (*(name for names in GROUPED.values() for name in names), "ImagerPixelSpacing")}
GROUPS = {Tag(group): names for group, names in GROUPED.items()}
FRAME_TYPES = {Tag(tag) for tag, entry in DicomDictionary.items() if entry[4].endswith("FrameTypeSequence")}
FRAME_TYPE = (bytes.fromhex("08000790"), bytes.fromhex("00089007"))  # its tag, in either order of bytes


def frames_of(header: Dataset, name: str) -> list[Frame]:
    """The frames of a file, in their order.

    Args:
        header: elements of the file.
        name: name of the file.

    Raises:
        ScanError: when a lookup table gives the physical values, or frames are not described.
    """
    if "ModalityLUTSequence" in header:
        raise ScanError("a lookup table for physical values is not supported; RescaleSlope and RescaleIntercept are")
    count = int(header.get("NumberOfFrames") or 1)
    common = _read(header)
    for groups in list(header.get(SHARED) or ())[:1]:
        common |= _read_groups(groups)
    own = list(header.get(OWN) or ())
    if own and len(own) != count:
        raise ScanError(f"{count} frames, but {len(own)} descriptions of frames")
    if count == 1:
        return [_frame({**common, **_read_groups(own[0])} if own else common, name)]
    names = [f"frame {number}" for number in range(1, count + 1)]
    if own:
        return [_frame({**common, **_read_groups(groups)}, name) for groups, name in zip(own, names, strict=True)]
    first = _frame(common, name)
    offsets = [float(offset) for offset in header.get("GridFrameOffsetVector") or ()]  # of doses
    if SHARED in header or first.position is None or len(offsets) != count or offsets[0] != 0:
        return [replace(first, name=name, position=None) for name in names]
    positions = [tuple((first.origin + offset * first.axes[2]).tolist()) for offset in offsets]
    return [replace(first, name=name, position=own) for name, own in zip(names, positions, strict=True)]


def _read(header: Dataset) -> dict[str, Any]:
    """The elements of a header that tell of a frame."""
    return {name: header[tag].value for name, tag in TAGS.items() if tag in header}


def _read_groups(groups: Dataset) -> dict[str, Any]:
    """The elements of functional groups that tell of a frame."""
    return {
        name: item[TAGS[name]].value
        for tag, names in GROUPS.items()
        if tag in groups
        for item in groups[tag].value[:1]
        for name in names
        if TAGS[name] in item
    }


def _frame(values: dict[str, Any], name: str) -> Frame:
    rows, columns = _numbers(values, "PixelSpacing", 2) or _numbers(values, "ImagerPixelSpacing", 2) or (1.0, 1.0)
    distance = _numbers(values, "SpacingBetweenSlices") or _numbers(values, "SliceThickness") or (1.0,)
    slope, inter = _numbers(values, "RescaleSlope") or (1.0,), _numbers(values, "RescaleIntercept") or (0.0,)
    return Frame(
        name,
        position=_numbers(values, "ImagePositionPatient", 3),
        directions=_numbers(values, "ImageOrientationPatient", 6),
        spacing=(columns, rows),
        thickness=distance[0] or 1.0,
        slope=slope[0] or 1.0,
        inter=inter[0],
        turn=tuple((_numbers(values, part) or (0.0,))[0] for part in TURN),
    )


def _numbers(values: dict[str, Any], name: str, count: int = 1) -> tuple[float, ...] | None:
    """The numbers of an element; None where it is missing or empty.

    Raises:
        ScanError: when there are not ``count``, or they are not finite.
    """
    value = values.get(name)
    if value is None or value == "":
        return None
    found = tuple(map(float, value if isinstance(value, Iterable) and not isinstance(value, str) else (value,)))
    if len(found) != count or not all(map(math.isfinite, found)):
        raise ScanError(f"{name} is {value}, where {count} finite number{'s' if count > 1 else ''} were expected")
    return found


def set_derived(dataset: Dataset) -> None:
    """Make the type of each frame say that it is derived, as that of the image does."""
    for name in (SHARED, OWN):
        raw = dataset.get_item(name) if name in dataset else None
        if raw is None or (
            isinstance(raw, RawDataElement) and not any(tag in (raw.value or b"") for tag in FRAME_TYPE)
        ):
            continue  # read and written as it is, which takes a fraction of the time
        for groups in dataset[name].value:
            for tag in FRAME_TYPES.intersection(groups.keys()):
                for item in groups[tag].value:
                    item.FrameType = ["DERIVED", *list(item.get("FrameType") or ())[1:]]

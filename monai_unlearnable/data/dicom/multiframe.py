# SPDX-License-Identifier: Apache-2.0
"""The frames of a DICOM file: where each lies and how it is scaled, from functional groups or the header itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from pydicom import Dataset

from monai_unlearnable.data.dicom.geometry import Frame
from monai_unlearnable.errors import ScanError

__all__ = ["frames_of", "set_derived"]

SHARED, OWN = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
# The functional group of an element; files of one frame have the elements themselves.
GROUP = {
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    **dict.fromkeys(("PixelSpacing", "SpacingBetweenSlices", "SliceThickness"), "PixelMeasuresSequence"),
    **dict.fromkeys(("RescaleSlope", "RescaleIntercept"), "PixelValueTransformationSequence"),
    "TemporalPositionIndex": "FrameContentSequence",
    "EffectiveEchoTime": "MREchoSequence",
    "DiffusionBValue": "MRDiffusionSequence",
}
TURN = ("TemporalPositionIndex", "EffectiveEchoTime", "DiffusionBValue")


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
    own = list(header.get(OWN) or [Dataset()] * count) if SHARED in header or OWN in header else []
    if own and len(own) != count:
        raise ScanError(f"{count} frames, but {len(own)} descriptions of frames")
    if count == 1:
        return [_frame([*own, *_shared(header), header], name)]
    if own:
        sources = [*_shared(header), header]
        return [_frame([groups, *sources], f"frame {number}") for number, groups in enumerate(own, start=1)]
    first = replace(_frame([header], name), turn=())
    offsets = [float(offset) for offset in header.get("GridFrameOffsetVector") or ()]  # of doses
    if first.position is None or len(offsets) != count or offsets[0] != 0:
        return [replace(first, name=f"frame {number}", position=None) for number in range(1, count + 1)]
    positions = [first.origin + offset * first.axes[2] for offset in offsets]
    return [
        replace(first, name=f"frame {number}", position=tuple(position.tolist()))
        for number, position in enumerate(positions, start=1)
    ]


def _shared(header: Dataset) -> list[Dataset]:
    return list(header.get(SHARED) or ())[:1]


def _frame(sources: Sequence[Dataset], name: str) -> Frame:
    """The frame that elements describe; those of earlier sources come first."""
    rows, columns = _numbers(sources, "PixelSpacing", 2) or _numbers(sources, "ImagerPixelSpacing", 2) or (1.0, 1.0)
    distance = _numbers(sources, "SpacingBetweenSlices") or _numbers(sources, "SliceThickness") or (1.0,)
    slope, inter = _numbers(sources, "RescaleSlope") or (1.0,), _numbers(sources, "RescaleIntercept") or (0.0,)
    return Frame(
        name,
        position=_numbers(sources, "ImagePositionPatient", 3),
        directions=_numbers(sources, "ImageOrientationPatient", 6),
        spacing=(columns, rows),
        thickness=distance[0] or 1.0,
        slope=slope[0] or 1.0,
        inter=inter[0],
        turn=tuple((_numbers(sources, part) or (0.0,))[0] for part in TURN),
    )


def _numbers(sources: Sequence[Dataset], name: str, count: int = 1) -> tuple[float, ...] | None:
    """The numbers of the first source that has them.

    Raises:
        ScanError: when there are not ``count``, or they are not finite.
    """
    value = _value(sources, name)
    if value is None or value == "":
        return None
    found = tuple(float(number) for number in np.atleast_1d(value))
    if len(found) != count or not np.isfinite(found).all():
        raise ScanError(f"{name} is {value}, where {count} finite numbers were expected")
    return found


def _value(sources: Sequence[Dataset], name: str) -> Any:
    group = GROUP.get(name)
    for source in sources:
        items = source.get(group) if group is not None else None
        value = items[0].get(name) if items else source.get(name)
        if value is not None:
            return value
    return None


def set_derived(dataset: Dataset) -> None:
    """Make the type of each frame say that it is derived, as that of the image does."""
    for groups in (*_shared(dataset), *(dataset.get(OWN) or ())):
        for element in groups:
            if element.VR == "SQ" and element.keyword.endswith("FrameTypeSequence"):
                for item in element.value:
                    kind = list(item.get("FrameType") or ())
                    item.FrameType = ["DERIVED", *kind[1:]]

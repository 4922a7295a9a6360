# SPDX-License-Identifier: Apache-2.0
"""Which files are DICOM, told from their first bytes, and which of them hold images or annotations of images."""

from __future__ import annotations

import struct
from pathlib import Path

from pydicom import Dataset, dcmread, uid
from pydicom.valuerep import VR

from monai_unlearnable.utils.files import reading

SUFFIXES = (".dcm", ".dicom", ".ima")
DIRECTORY = "DICOMDIR"
PREAMBLE = 128
HEAD = 512  # bytes that tell a file without the mark: a few elements
LOOK = 3  # elements of it
VALUE_REPRESENTATIONS = {vr.value.encode() for vr in VR if len(vr.value) == 2}
LONG = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"}  # 4 bytes of length
LABEL_MAP_STORAGE = uid.UID("1.2.840.10008.5.1.4.1.1.66.7")  # younger than some releases of pydicom
ANNOTATIONS = (uid.SegmentationStorage, LABEL_MAP_STORAGE, uid.RTStructureSetStorage)


def is_dicom(file: Path) -> bool:
    """Whether the name of a file or its first bytes say that it is DICOM.

    Raises:
        OSError: when the file cannot be read.
    """
    if file.name.lower().endswith(SUFFIXES):
        return True
    with file.open("rb") as stream:
        return is_dicom_content(stream.read(HEAD))


def is_dicom_content(content: bytes) -> bool:
    """Whether bytes begin as a DICOM file does: with the mark, or with elements where the preamble is missing."""
    return has_mark(content) or any(_begins_with_elements(content, order) for order in "<>")


def lacks_mark(file: Path) -> bool:
    """Whether a file is DICOM by its first elements, without preamble and mark.

    Raises:
        OSError: when the file cannot be read.
    """
    with file.open("rb") as stream:
        head = stream.read(HEAD)
    return is_dicom_content(head) and not has_mark(head)


def has_mark(content: bytes) -> bool:
    """Whether a file has the preamble and the mark that follows it."""
    return content[PREAMBLE : PREAMBLE + 4] == b"DICM"


def _begins_with_elements(content: bytes, order: str) -> bool:
    """Whether bytes are elements of group 2 or 8 in ascending order."""
    position, last, seen = 0, (0, -1), 0
    while seen < LOOK and position + 12 <= min(len(content), HEAD):
        group, element = struct.unpack_from(f"{order}2H", content, position)
        vr = content[position + 4 : position + 6]
        if vr not in VALUE_REPRESENTATIONS:
            (size,), begin = struct.unpack_from(f"{order}L", content, position + 4), 8
        elif vr in LONG:
            (size,), begin = struct.unpack_from(f"{order}L", content, position + 8), 12
        else:
            (size,), begin = struct.unpack_from(f"{order}H", content, position + 6), 8
        if group not in (0x0002, 0x0008) or (group, element) <= last or size % 2 or size > 2**20:
            return False
        last, seen, position = (group, element), seen + 1, position + begin + size
    return seen > 0


def holds_no_image(header: Dataset) -> str | None:
    """What a DICOM object is if it is no image: a report, a structure set, a directory; else None."""
    kind = header.get("SOPClassUID") or getattr(header, "file_meta", Dataset()).get("MediaStorageSOPClassUID")
    if kind is None or header.get("Rows"):
        return "a segmentation" if header.get("SegmentationType") else None
    name = uid.UID(str(kind)).name
    # A slice whose pixels were cut off is of one of these classes, and must not go unseen.
    return None if "Image" in name or "Dose" in name or name == kind else name.removesuffix(" Storage")


def is_image(file: Path) -> bool:
    """Whether a file is DICOM and none of the objects that hold no image; damaged files count as images.

    Raises:
        OSError: when the file cannot be read.
    """
    if not is_dicom(file) or file.name.upper().startswith(DIRECTORY):
        return False
    try:
        tags = ["SOPClassUID", "Rows", "SegmentationType"]
        header = dcmread(file, force=lacks_mark(file), stop_before_pixels=True, specific_tags=tags)
        return holds_no_image(header) is None
    except OSError:
        raise
    except Exception:  # whatever pydicom raises for a damaged file
        return True


def is_annotation(path: Path) -> bool:
    """Whether a file is a DICOM segmentation or structure set, which has no meaning without the images it refers to.

    Raises:
        ScanError: naming the file, when the system does not let it be read.
    """
    with reading(path):
        if not (path.is_file() and is_dicom(path)):
            return False
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=["SOPClassUID"])
        return header.get("SOPClassUID") in ANNOTATIONS
    except Exception:  # whatever pydicom raises for a damaged file
        return False

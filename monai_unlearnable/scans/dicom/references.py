# SPDX-License-Identifier: Apache-2.0
"""Files that say something of images by their UIDs: told from images, and rewritten where those got other UIDs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import UID, RTStructureSetStorage, SegmentationStorage

from monai_unlearnable.scans.dicom.files import BROKEN, is_dicom
from monai_unlearnable.scans.dicom.header import VOID, derived_uid, identity_remarks
from monai_unlearnable.scans.dicom.pixels import encode, parse
from monai_unlearnable.scans.reading import reading

__all__ = ["annotation_remarks", "is_annotation", "rename"]

LabelMapSegmentationStorage = UID("1.2.840.10008.5.1.4.1.1.66.7")  # younger than some releases of pydicom
ANNOTATIONS = (SegmentationStorage, LabelMapSegmentationStorage, RTStructureSetStorage)


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
    except BROKEN:
        return False


def annotation_remarks(path: Path) -> list[str]:
    """What the owner should know of an annotation before it is published."""
    return identity_remarks([dcmread(path, stop_before_pixels=True)])


def rename(content: bytes, renamed: Mapping[str, str]) -> bytes:
    """A file that refers to images by their new UIDs; the same bytes where it refers to none of them.

    The new file has an instance UID of its own, which follows from the old one and the references. What was signed no
    longer holds, and signatures are removed. All else is kept.

    Args:
        content: of the file.
        renamed: new UIDs of instances and series by the old ones.
    """
    dataset, found = parse(content), dict[str, str]()
    for element in _uids(dataset):
        values = [element.value] if element.VM == 1 else list(element.value or ())
        if hits := {str(value): renamed[value] for value in values if value in renamed}:
            found |= hits
            new = [hits.get(value, value) for value in values]
            element.value = new[0] if len(new) == 1 else new
    if not found:
        return content
    references = "\0".join(f"{old}={new}" for old, new in sorted(found.items()))
    dataset.SOPInstanceUID = derived_uid(dataset.SOPInstanceUID, references.encode())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name in VOID:
        dataset.pop(name, None)
    return encode(dataset)


def _uids(dataset: Dataset) -> Iterator[DataElement]:
    """The elements that hold UIDs, in sequences too; others are not looked at, and stay as they were read."""
    for tag in list(dataset.keys()):
        vr = dataset.get_item(tag).VR or (dictionary_VR(tag) if dictionary_has_tag(tag) else "UN")
        if vr == "SQ":
            for item in dataset[tag].value:
                yield from _uids(item)
        elif vr == "UI":
            yield dataset[tag]

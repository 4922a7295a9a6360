# SPDX-License-Identifier: Apache-2.0
"""Headers of files derived from others: new UIDs, what no longer holds, and what tells who the patient is."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import DataElement, Dataset, dcmread
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.uid import UID

from monai_unlearnable.data.dicom.multiframe import set_derived
from monai_unlearnable.data.dicom.pixels import encode, parse

DERIVATION = "Pixel values changed within a bound (monai_unlearnable)"
MAX_TEXT = 1024  # characters of the value representation ST
# What would be wrong of the new pixels: signatures, and a small copy of the old ones.
VOID = ("DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence")
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "OtherPatientIDs"),
    *("OtherPatientNames", "AccessionNumber", "ReferringPhysicianName", "InstitutionName"),
)


def derived_uid(source: str, content: bytes) -> UID:
    """A UID that follows from that of the source and the derived content: the same in every run."""
    digest = hashlib.sha256(source.encode() + b"\0" + content).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def derive(dataset: Dataset, identity: bytes, planes: NDArray, voxels: NDArray, series: str) -> None:
    """Turn the header of an image into that of one derived from it.

    Args:
        dataset: the header, changed in place.
        identity: what the new UID of the instance follows from, besides the old one.
        planes: pixels of the new image.
        voxels: voxels of the new series.
        series: SHA-256 of these voxels, which decides on the UID of the series.
    """
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.SourceImageSequence = [*dataset.get("SourceImageSequence", ()), source]
    _rename_instance(dataset, identity)
    if dataset.get("SeriesInstanceUID"):
        dataset.SeriesInstanceUID = derived_uid(dataset.SeriesInstanceUID, series.encode())
    kind = dataset.get("ImageType") or ["", "PRIMARY"]
    dataset.ImageType = ["DERIVED", *([] if isinstance(kind, str) else kind[1:])]
    set_derived(dataset)
    known = dataset.get("DerivationDescription")
    dataset.DerivationDescription = f"{known}; {DERIVATION}"[-MAX_TEXT:] if known else DERIVATION
    for name, values in (("ImagePixelValue", planes), ("PixelValueInSeries", voxels)):
        _set_extreme(dataset, f"Smallest{name}", values, np.min)
        _set_extreme(dataset, f"Largest{name}", values, np.max)


def _rename_instance(dataset: Dataset, content: bytes) -> None:
    """Give an instance the UID that follows from its content, and remove elements that no longer hold."""
    dataset.SOPInstanceUID = derived_uid(dataset.SOPInstanceUID, content)
    if "MediaStorageSOPInstanceUID" in dataset.file_meta:
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    for name in VOID:
        dataset.pop(name, None)


def _set_extreme(dataset: Dataset, name: str, values: NDArray, extreme: Callable[[NDArray], Any]) -> None:
    """Replace an element where it is; one whose 16 bits cannot hold the value is omitted rather than wrong."""
    if name in dataset:
        value = int(extreme(values))
        vr, dtype = ("SS", np.int16) if dataset.PixelRepresentation else ("US", np.uint16)
        if np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
            dataset.add_new(name, vr, value)
        else:
            del dataset[name]


def identity_remarks(headers: Iterable[Dataset]) -> list[str]:
    """What the owner should know of headers before they are published: which elements tell who the patient is."""
    names = set[str]()
    for header in headers:
        names.update(name for name in IDENTITY if header.get(name))
        if header.get("BurnedInAnnotation") == "YES":
            names.add("BurnedInAnnotation")
    return [f"headers are published as they are, with {', '.join(sorted(names))}; de-identify first"] if names else []


def annotation_remarks(path: Path) -> list[str]:
    """What the owner should know of an annotation before it is published."""
    return identity_remarks([dcmread(path, stop_before_pixels=True)])


def rename(content: bytes, renamed: Mapping[str, str]) -> bytes:
    """A file that refers to images by their new UIDs; the same bytes where it refers to none of them.

    The new file has an instance UID of its own, which follows from the old one and the references. What was signed no
    longer holds, and signatures are removed. All else is kept.

    Args:
        content: content of the file.
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
    _rename_instance(dataset, references.encode())
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

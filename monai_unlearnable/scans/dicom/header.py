# SPDX-License-Identifier: Apache-2.0
"""What a DICOM header says of pixels that were changed, and what it says of the patient."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import UID

__all__ = ["derive", "derived_uid", "identity"]

DERIVATION = "Pixel values changed within a bound (monai_unlearnable)"
MAX_TEXT = 1024  # characters of the value representation ST
# What would be wrong of the new pixels: signatures, and a small copy of the old ones.
VOID = ("DigitalSignaturesSequence", "MACParametersSequence", "IconImageSequence")
IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientAddress", "PatientTelephoneNumbers", "OtherPatientIDs"),
    *("OtherPatientNames", "AccessionNumber", "ReferringPhysicianName", "InstitutionName"),
)


def derived_uid(source: str, content: bytes) -> UID:
    """A UID that follows from that of the source and what was made of it: the same in every run."""
    digest = hashlib.sha256(source.encode() + b"\0" + content).digest()
    return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def derive(dataset: Dataset, pixels: NDArray, voxels: NDArray, series: str) -> None:
    """Turn the header of an image into that of one derived from it.

    Args:
        dataset: the header, changed in place.
        pixels: of the new image.
        voxels: of the new series.
        series: content of the new series, as text; decides on its UID.
    """
    source = Dataset()
    source.ReferencedSOPClassUID, source.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.SourceImageSequence = [*dataset.get("SourceImageSequence", ()), source]
    dataset.SOPInstanceUID = derived_uid(dataset.SOPInstanceUID, pixels.tobytes())
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.SeriesInstanceUID = derived_uid(dataset.SeriesInstanceUID, series.encode())
    dataset.ImageType = ["DERIVED", *(_values(dataset.get("ImageType")) or ["", "PRIMARY"])[1:]]
    known = dataset.get("DerivationDescription")
    dataset.DerivationDescription = f"{known}; {DERIVATION}"[-MAX_TEXT:] if known else DERIVATION
    for kind, values in (("ImagePixelValue", pixels), ("PixelValueInSeries", voxels)):
        for name, value in ((f"Smallest{kind}", values.min()), (f"Largest{kind}", values.max())):
            if name in dataset:
                dataset.add_new(name, "SS" if dataset.PixelRepresentation else "US", int(value))
    for name in VOID:
        dataset.pop(name, None)


def _values(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


def identity(dataset: Dataset) -> list[str]:
    """Names of the elements that tell who the patient is."""
    found = [name for name in IDENTITY if dataset.get(name)]
    return found + ["BurnedInAnnotation"] * (dataset.get("BurnedInAnnotation") == "YES")

# SPDX-License-Identifier: Apache-2.0
"""The pixel data of one DICOM file: read as numbers, and replaced in the bytes of the file."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataelem import RawDataElement
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageLattice
from monai_unlearnable.scans.dicom.decoding import decode

__all__ = ["encode", "is_native", "lattice_of", "parse", "pixel_range", "read_pixels", "replace_pixels"]

NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian)
ENHANCED = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")  # geometry and rescaling lie there
LOSSLESS = (RLELossless, JPEGLSLossless, JPEG2000Lossless)  # that can be encoded, not only decoded


def parse(content: bytes) -> Dataset:
    """The elements of a DICOM file."""
    return dcmread(io.BytesIO(content))


def encode(dataset: Dataset) -> bytes:
    """The bytes of a DICOM file; elements that nobody looked at are as they were read."""
    stream = io.BytesIO()
    dcmwrite(stream, dataset, enforce_file_format=False)
    return stream.getvalue()


def lattice_of(dataset: Dataset) -> StorageLattice:
    """What the file can store.

    Raises:
        ScanError: when its pixels cannot be written back without loss.
    """
    allocated, bits, signed = dataset.BitsAllocated, dataset.BitsStored, dataset.PixelRepresentation
    if dataset.get("SamplesPerPixel", 1) != 1 or not str(dataset.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ScanError(f"{dataset.PhotometricInterpretation} pixels are not supported; use MONOCHROME1 or MONOCHROME2")
    if int(dataset.get("NumberOfFrames") or 1) != 1 or any(name in dataset for name in ENHANCED):
        reason = "enhanced files and others with several frames are not supported; convert them to one frame a file"
        raise ScanError(f"{reason}, with emf2sf of dcm4che for example")
    if allocated not in (8, 16, 32) or not 0 < bits <= allocated or dataset.HighBit != bits - 1:
        raise ScanError(f"{bits} bits up to bit {dataset.HighBit} of {allocated} are not supported")
    if allocated == 8 and dataset.file_meta.TransferSyntaxUID == ExplicitVRBigEndian:
        raise ScanError("8-bit pixels in big endian are not supported")
    if "ModalityLUTSequence" in dataset:
        raise ScanError("a lookup table for physical values is not supported; RescaleSlope and RescaleIntercept are")
    dtype = np.dtype(f"<{'i' if signed else 'u'}{allocated // 8}")
    slope, inter = float(dataset.get("RescaleSlope") or 1), float(dataset.get("RescaleIntercept") or 0)
    return StorageLattice(dtype.str, slope, inter, 0 if bits == allocated else bits, *_padding(dataset, dtype))


def _padding(dataset: Dataset, dtype: np.dtype) -> tuple[int, ...]:
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if value is None:
        return ()
    ends = np.array([value, value if limit is None else limit]).astype(dtype)  # some give -1 as 65535
    return tuple(sorted(_numbers(ends, dataset).tolist()))


def read_pixels(dataset: Dataset, content: bytes) -> NDArray:
    """The stored numbers (rows, columns), in little endian; bits that hold no number are left out.

    Args:
        dataset: the elements of a file.
        content: all of it.

    Raises:
        ScanError: when there are fewer than the header says, or the transfer syntax is unknown.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        words = _words(dataset, dataset.PixelData)
    elif syntax.is_encapsulated:
        words = decode(dataset, content)
    else:
        raise ScanError(f"the transfer syntax {syntax.name} is not supported")
    return _numbers(words, dataset)


def _numbers(words: NDArray, dataset: Dataset) -> NDArray:
    """What the bits that hold a number say."""
    size, spare = words.itemsize, 8 * words.itemsize - dataset.BitsStored
    shifted = words.astype(words.dtype.newbyteorder("<")).view(f"<u{size}") << spare
    return shifted.view(f"<{'i' if dataset.PixelRepresentation else 'u'}{size}") >> spare


def _words(dataset: Dataset, data: bytes, offset: int = 0) -> NDArray:
    order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
    dtype, shape = np.dtype(f"{order}u{dataset.BitsAllocated // 8}"), (dataset.Rows, dataset.Columns)
    expected = dtype.itemsize * shape[0] * shape[1]
    if len(data) - offset < expected:
        raise ScanError(f"truncated: {expected} bytes of pixels expected, {len(data) - offset} found")
    return np.frombuffer(data, dtype, shape[0] * shape[1], offset).reshape(shape)


def pixel_range(content: bytes) -> slice:
    """Where the pixel data lie in a file."""
    element = _element(parse(content))
    return slice(element.value_tell, element.value_tell + len(element.value or b""))


def is_native(content: bytes) -> bool:
    """Whether a file, of which all before the pixels is enough, does not compress them."""
    return dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta.TransferSyntaxUID in NATIVE


def _element(dataset: Dataset) -> RawDataElement:
    return dataset.get_item("PixelData")  # type: ignore[return-value]


def replace_pixels(content: bytes, before: NDArray, after: NDArray) -> bytes:
    """A file with other pixels in the same transfer syntax, or Explicit VR Little Endian where that has no encoder.

    Args:
        content: of the file.
        before: what :func:`read_pixels` gives; for native syntaxes.
        after: what it shall give.
    """
    dataset = parse(content)
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax in NATIVE:
        # Flipping bits keeps whatever lies in those that hold no number, and flipping them again gives it back.
        start = _element(dataset).value_tell
        words = _words(dataset, content, start).copy()
        words ^= (before ^ after).astype(words.dtype)
        return content[:start] + words.tobytes() + content[start + words.nbytes :]
    if syntax in LOSSLESS:
        dataset.compress(syntax, after, generate_instance_uid=False)
        return encode(dataset)
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = after.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    element = dataset["PixelData"]
    element.VR, element.is_undefined_length = ("OB" if dataset.BitsAllocated == 8 else "OW"), False
    for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths"):
        dataset.pop(name, None)
    return encode(dataset)

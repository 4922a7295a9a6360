# SPDX-License-Identifier: Apache-2.0
"""One DICOM file of a scan: its pixels, its frames, and what it can store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from monai_unlearnable.data.dicom.geometry import Frame
from monai_unlearnable.data.dicom.multiframe import frames_of
from monai_unlearnable.data.dicom.pixels import PixelFile, numbers
from monai_unlearnable.data.scan import naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization

__all__ = ["DicomFile", "quantization_of", "read_file"]

NEEDED = ("SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True)
class DicomFile:
    """A file of a scan.

    Args:
        path: path of the file.
        pixels: the file around its pixels.
        planes: stored numbers (frames, samples, rows, columns).
        frames: what is known of each frame.
    """

    path: Path
    pixels: PixelFile
    planes: NDArray
    frames: tuple[Frame, ...]


def read_file(path: Path) -> DicomFile:
    """One file.

    Raises:
        ScanError: naming the file, when it is not an image, cannot be read, or could not be written back without loss.
    """
    with naming(path):
        pixels = PixelFile.open(path.read_bytes())
        header = pixels.header
        missing = next((name for name in NEEDED if not header.get(name)), None)
        if missing is not None:
            raise ScanError(f"{missing} is missing")
        check_storage(header)
        return DicomFile(path, pixels, pixels.planes(), tuple(frames_of(header, path.name)))


def check_storage(header: Dataset) -> None:
    """Refuse a file whose numbers could not be written back without loss.

    Raises:
        ScanError: when that is so.
    """
    allocated, bits = header.BitsAllocated, header.BitsStored
    if allocated not in (8, 16, 32) or not 0 < bits <= allocated or header.HighBit != bits - 1:
        raise ScanError(f"{bits} bits up to bit {header.HighBit} of {allocated} are not supported")


def quantization_of(files: Sequence[DicomFile], order: NDArray) -> StorageQuantization:
    """What files can store, of which slope, intercept, bits and padding may differ from slice to slice.

    Args:
        files: files of the scan.
        order: numbers of the frames (channels, slices) among those of all files.
    """
    dtype, stored = files[0].planes.dtype, []
    for file in files:
        header = file.pixels.header
        bits = 0 if header.BitsStored == header.BitsAllocated else int(header.BitsStored)
        low, high = _padding(header, dtype)
        stored += [(frame.slope, frame.inter, bits, low, high) for frame in file.frames]
    return StorageQuantization(dtype.str, *zip(*(stored[index] for index in order[0]), strict=True))


def _padding(header: Dataset, dtype: np.dtype) -> tuple[int, int]:
    """The lowest and the highest number that marks padding; none does where the first is larger."""
    value, limit = header.get("PixelPaddingValue"), header.get("PixelPaddingRangeLimit")
    if value is None:
        return 0, -1
    ends = np.array([value, value if limit is None else limit]).astype(dtype)  # some give -1 as 65535
    low, high = sorted(numbers(ends, header).tolist())
    return low, high

# SPDX-License-Identifier: Apache-2.0
"""The files of a DICOM series: found and read."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import compress
from operator import not_
from pathlib import Path

from pydicom.errors import BytesLengthException, InvalidDicomError

from monai_unlearnable.data.dicom.geometry import Slice
from monai_unlearnable.data.dicom.pixels import parse, quantization_of, read_pixels
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import named_by, unreadable

__all__ = ["BROKEN", "SUFFIXES", "is_dicom", "is_series", "list_files", "naming", "read_slice"]

SUFFIXES = (".dcm",)
NEEDED = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID")
# What pydicom and its decoders raise for files that were cut or damaged.
BROKEN = (
    *(OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, RuntimeError, ArithmeticError),
    *(struct.error, InvalidDicomError, BytesLengthException, MemoryError),
)


@contextmanager
def naming(path: Path, done: str = "read") -> Iterator[None]:
    """Turn what pydicom and its decoders raise into an error that names the file."""
    try:
        yield
    except ScanError as error:
        raise ScanError(error.reason, file=error.file or path) from error
    except FileNotFoundError as error:
        raise ScanError("the file does not exist", file=named_by(error) or path) from error
    except InvalidDicomError as error:
        raise ScanError("not a DICOM file", file=path) from error
    except OSError as error:
        raise unreadable(path, error) from error
    except BROKEN as error:
        raise ScanError(f"cannot be {done}: {error}", file=path) from error


def is_series(folder: Path) -> bool:
    """Whether DICOM files lie right in a folder.

    Raises:
        OSError: when folder or files cannot be read.
    """
    return any(file.is_file() and not file.name.startswith(".") and is_dicom(file) for file in folder.iterdir())


def is_dicom(file: Path) -> bool:
    """Whether the name of a file or its first bytes say that it is DICOM."""
    if file.name.lower().endswith(SUFFIXES):
        return True
    with file.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def list_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """The DICOM files right in a folder, and the others.

    Raises:
        ScanError: when the folder holds folders, or no DICOM file.
        OSError: when folder or files cannot be read; a slice that is passed over would go unseen.
    """
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    below = next((path for path in paths if path.is_dir()), None)
    if below is not None:
        raise ScanError("the folder of a series must not hold folders", file=below)
    kinds = [is_dicom(path) for path in paths]
    if not any(kinds):
        raise ScanError("the folder holds no DICOM file", file=folder)
    return list(compress(paths, kinds)), list(compress(paths, map(not_, kinds)))


def read_slice(path: Path) -> Slice:
    """One file.

    Raises:
        ScanError: naming the file, when it is no image, cannot be read, or could not be written back without loss.
    """
    with naming(path):
        content = path.read_bytes()
        header = parse(content)
        if header.get("SegmentationType"):
            raise ScanError("a segmentation is a label, not an image")
        if "PixelData" not in header:
            raise ScanError("the file holds no image, or was cut: PixelData is missing")
        missing = next((name for name in NEEDED if not header.get(name)), None)
        if missing is not None:
            raise ScanError(f"{missing} is missing")
        quantization_of(header)
        pixels = read_pixels(header, content)
        del header.PixelData
        return Slice(path, content, header, pixels)

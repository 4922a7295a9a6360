# SPDX-License-Identifier: Apache-2.0
"""What a file is by its first bytes, whatever its name says."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from monai_unlearnable.data.formats.blocks import Packing, packing_of
from monai_unlearnable.errors import ScanError

__all__ = ["refuse_other_content"]

HEAD = 352  # bytes
# The kind of a file, where its mark begins, the mark, and the suffix that such files have.
SIGNATURES = (
    ("JPEG", 0, b"\xff\xd8\xff", ".jpg"),
    ("PNG", 0, b"\x89PNG\r\n\x1a\n", ".png"),
    ("TIFF", 0, b"II*\0", ".tif"),
    ("TIFF", 0, b"MM\0*", ".tif"),
    ("TIFF", 0, b"II+\0", ".tif"),
    ("TIFF", 0, b"MM\0+", ".tif"),
    ("WebP", 8, b"WEBPVP8", ".webp"),
    ("GIF", 0, b"GIF8", ".gif"),
    ("JPEG 2000", 0, b"\0\0\0\x0cjP  ", ".jp2"),
    ("DICOM", 128, b"DICM", ".dcm"),
    ("NIfTI", 344, b"n+1\0", ".nii"),
    ("NIfTI", 344, b"ni1\0", ".hdr"),
    ("NIfTI", 4, b"n+2\0", ".nii"),
    ("NIfTI", 4, b"ni2\0", ".hdr"),
    ("MetaImage", 0, b"ObjectType", ".mha"),
    ("NRRD", 0, b"NRRD000", ".nrrd"),
    ("gzip", 0, b"\x1f\x8b\x08", ".gz"),
    ("zip", 0, b"PK\x03\x04", ".zip"),
    ("HDF5", 0, b"\x89HDF\r\n\x1a\n", ".h5"),
)


def refuse_other_content(path: Path, suffix: str, kinds: Collection[str]) -> None:
    """Refuse a file whose content is known to be of another kind than its name says.

    Args:
        path: path of the file.
        suffix: suffix of its name.
        kinds: the kinds that files of that suffix are.

    Raises:
        ScanError: naming kind and suffix.
        OSError: when the file cannot be read.
    """
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not head:
        raise ScanError("the file is empty", file=path)
    expected = ("gzip",) if packing_of(path.name) is Packing.GZIP else kinds
    found = [(kind, usual) for kind, start, mark, usual in SIGNATURES if head[start : start + len(mark)] == mark]
    if found and not any(kind in expected for kind, _ in found):
        kind, usual = found[0]
        usual = suffix + usual if kind == "gzip" else usual
        raise ScanError(f"the file is {kind}, named {suffix}; name it {usual}, or write it anew", file=path)

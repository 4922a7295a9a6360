# SPDX-License-Identifier: Apache-2.0
"""The known file formats, found by suffix and first bytes; a folder is a DICOM series."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from numpy.typing import NDArray

from monai_unlearnable.data.dicom import (
    DicomFormat,
    dicom_files,
    is_annotation,
    is_image,
    read_annotation,
    volume_at,
)
from monai_unlearnable.data.formats.blocks import Packing, packing_of
from monai_unlearnable.data.formats.gipl import GiplFormat
from monai_unlearnable.data.formats.image2d import BmpFormat, JpegFormat, PngFormat, WebpFormat
from monai_unlearnable.data.formats.metaimage import MetaImageFormat
from monai_unlearnable.data.formats.mgh import MghFormat
from monai_unlearnable.data.formats.nifti import NiftiFormat, NiftiPairFormat
from monai_unlearnable.data.formats.nrrd import NrrdFormat
from monai_unlearnable.data.formats.tiff import TiffFormat
from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.files import Content, Siblings, file_digest, files_digest, reading, write_atomic

DICOM = DicomFormat()
FORMATS: tuple[ScanFormat, ...] = (
    *(NiftiFormat(), NiftiPairFormat(), MetaImageFormat(), NrrdFormat(), MghFormat(), GiplFormat()),
    *(PngFormat(), TiffFormat(), JpegFormat(), WebpFormat(), BmpFormat()),
    DICOM,
)
DATA_SUFFIXES = (".img", ".img.gz", ".raw", ".zraw", ".raw.gz")
HEAD = 352  # bytes
# What stores of large files put in the place of a file whose content was not fetched, by how it begins.
POINTERS = {
    b"version https://git-lfs": "a pointer of Git LFS (git lfs pull)",
    b"/annex/objects/": "a pointer of git-annex (git annex get, datalad get)",
}
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


def _match(name: str) -> tuple[ScanFormat, str] | None:
    for scan_format in FORMATS:
        for suffix in scan_format.suffixes:
            if name.lower().endswith(suffix):
                return scan_format, suffix
    return None


def is_known(name: str) -> bool:
    """Whether a file name has the suffix of a known format."""
    return _match(name) is not None


def _checked_format(path: Path) -> ScanFormat:
    """The format of a file whose content is what its name says.

    Raises:
        ScanError: naming the file.
        OSError: when it cannot be read.
    """
    found, match = find_format(path), _match(path.name)
    if match is not None and path.is_file():
        _refuse_other_content(path, match[1], found.kinds)
    return found


def _refuse_other_content(path: Path, suffix: str, kinds: Collection[str]) -> None:
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
    for start, what in POINTERS.items():
        if head.startswith(start):
            raise ScanError(f"the file is {what}, and not the scan itself; fetch its content first", file=path)
    expected = ("gzip",) if packing_of(path.name) is Packing.GZIP else kinds
    found = [(kind, usual) for kind, start, mark, usual in SIGNATURES if head[start : start + len(mark)] == mark]
    if found and not any(kind in expected for kind, _ in found):
        kind, usual = found[0]
        usual = suffix + usual if kind == "gzip" else usual
        raise ScanError(f"the file is {kind}, named {suffix}; name it {usual}, or write it anew", file=path)


def find_format(path: Path) -> ScanFormat:
    """The format of a file name; a folder, or the address of a volume in one, is read as a DICOM series.

    A file of an unknown suffix is DICOM if its content says so.

    Raises:
        ScanError: naming the file and the known suffixes.
        OSError: when the file cannot be read.
    """
    if path.is_dir() or (_match(path.name) is None and (is_image(path) if path.is_file() else volume_at(path))):
        return DICOM
    return _format_of_name(path)


def _format_of_name(path: Path) -> ScanFormat:
    match = _match(path.name)
    if match is None:
        if path.name.lower().endswith(DATA_SUFFIXES):
            raise ScanError("the file holds voxels without a header; name its header (.hdr, .mhd, .nhdr)", file=path)
        known = ", ".join(suffix for scan_format in FORMATS for suffix in scan_format.suffixes)
        raise ScanError(f"unknown file type; supported are {known}", file=path)
    return match[0]


def stem(name: str) -> str:
    """A relative file name without the suffix of its format: ``images/a.nii.gz`` gives ``images/a``."""
    match = _match(name)
    return name if match is None else name[: -len(match[1])]


def output_name(name: str) -> str:
    """The relative name that a protected file is written under: the same, except for formats that lose voxels."""
    match = _match(name)
    replaced = match[0].output_suffix if match else None
    return name if replaced is None else stem(name) + replaced


def read_scan(path: str | Path) -> Scan:
    """Read any supported file, or the folder of a DICOM series; see :class:`Scan` for what comes back.

    Raises:
        ScanError: naming the file and why it cannot be read or protected.
    """
    path = Path(path)
    with reading(path):
        return _checked_format(path).read(path).check()


def files_of(path: str | Path) -> tuple[Path, ...]:
    """All files of a scan: of a folder those in it, of a header with its data file both, the header first.

    Raises:
        ScanError: naming the file, when a header cannot be read or names no file beside it.
    """
    path = Path(path)
    with reading(path):
        if path.is_dir():
            return tuple(sorted(file for file in path.iterdir() if file.is_file()))
        if volume := volume_at(path):
            return tuple(volume.files)
        match = _match(path.name)
        return (path,) if match is None else match[0].files(path)


def data_files(path: Path) -> tuple[Path, ...]:
    """The files that a header names, if a file is one that does; none if they cannot be told."""
    match = _match(path.name)
    if match is None or type(match[0]).files is ScanFormat.files:  # of one file, which need not be looked at
        return ()
    try:
        return files_of(path)[1:] if path.is_file() else ()
    except ScanError:
        return ()


def voxel_files(path: Path) -> tuple[Path, ...]:
    """The files of a scan that hold its voxels: not the header of others, and of a folder the DICOM files.

    Raises:
        ScanError: see :func:`files_of`.
    """
    files = dicom_files(path) if path.is_dir() else files_of(path)
    return files[1:] if len(files) > 1 and files[0] == path else files


def names_of(path: Path) -> dict[str, Path]:
    """The files of a scan by the names that they are published under: relative to its folder, or in one of its own.

    Raises:
        ScanError: see :func:`files_of`.
    """
    files = files_of(path)
    with reading(path):
        has_folder = path.is_dir() or not path.exists()
    return {file.name if has_folder else file.relative_to(path.parent).as_posix(): file for file in files}


def content_of(path: Path) -> Content:
    """The bytes of all files of a scan.

    Raises:
        ScanError: naming the file, when one cannot be read.
    """
    with reading(path):
        content = {name: file.read_bytes() for name, file in names_of(path).items()}
        if path.is_dir() or not path.exists():
            return content
    return content[path.name] if len(content) == 1 else Siblings(content)


def digest_of(path: Path) -> str:
    """SHA-256 of the file of a scan; where it has several, of their names and digests.

    Raises:
        ScanError: naming the file, when one cannot be read.
    """
    files = names_of(path)
    return file_digest(path) if list(files.values()) == [path] else files_digest(files)


def write_scan(scan: Scan, voxels: NDArray, path: str | Path) -> None:
    """Write ``voxels`` in the container that ``scan`` was read from: same format, geometry, dtype and header.

    Args:
        scan: the scan whose file is repeated.
        voxels: channel-first voxels, same shape and dtype as ``scan.voxels``.
        path: file to write; the write is atomic.
    """
    if voxels.shape != scan.voxels.shape or voxels.dtype != scan.voxels.dtype:
        reason = f"voxels {voxels.shape} {voxels.dtype} do not fit the file's {scan.voxels.shape} {scan.voxels.dtype}"
        raise ScanError(reason, file=scan.path)
    path, found = Path(path), DICOM if DICOM.has_read(scan) else _format_of_name(scan.path)
    write_atomic(path, found.encode(scan, voxels, path))


def original_headers(scan: Scan) -> bytes:
    """What the owner must keep of a file besides the change of its voxels: of DICOM, the headers, which reveal it."""
    return DICOM.headers(scan) if DICOM.has_read(scan) else b""


def with_headers(scan: Scan, headers: bytes) -> Scan:
    """A protected scan that is written with the headers of its original (:func:`original_headers`)."""
    return DICOM.with_headers(scan, headers) if headers and DICOM.has_read(scan) else scan


def read_label_scan(path: Path, images: Sequence[Scan]) -> Scan:
    """Read the file of a label map: any supported one, or a DICOM annotation, on the grid of the image it is of.

    Args:
        path: path of the label.
        images: the scans of the case.

    Raises:
        ScanError: naming the file, when it cannot be read, or is of no image.
    """
    if not is_annotation(path):
        with reading(path):
            return _checked_format(path).read_label(path)
    grids = [DICOM.grid(image) for image in images if DICOM.has_read(image)]
    with naming(path):
        if not grids:
            raise ScanError("a DICOM segmentation or structure set needs a DICOM image, to whose slices it refers")
        read = read_annotation(path, grids)
    flat = read.label if len(images[0].spatial_shape) == 3 else read.label[..., 0]
    return Scan(
        path,
        flat[None],
        StorageQuantization(flat.dtype.str),
        read.grid.affine,
        remarks=read.remarks,
        value_names=read.names,
    )


def renamed_by(scan: Scan, voxels: NDArray) -> dict[str, str]:
    """New UIDs by those that the files of a scan have, where writing ``voxels`` gives them others."""
    return DICOM.renamed(scan, voxels) if DICOM.has_read(scan) else {}

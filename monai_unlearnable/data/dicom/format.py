# SPDX-License-Identifier: Apache-2.0
"""DICOM files as a format of scans.

Only pixels change, and the header elements that describe them. The owner keeps what else the originals hold, so that
restored files are the original ones."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from monai_unlearnable.data.dicom.derivation import derive, derived_uid, identity_remarks
from monai_unlearnable.data.dicom.detection import SUFFIXES
from monai_unlearnable.data.dicom.geometry import Frame, SeriesGrid, affine_of, arrange
from monai_unlearnable.data.dicom.multiframe import frames_of
from monai_unlearnable.data.dicom.pixels import NATIVE, PixelFile, encode, numbers, parse, parse_header, put_pixels
from monai_unlearnable.data.dicom.volumes import sources
from monai_unlearnable.data.scan import Scan, ScanFormat, naming, voxel_digest
from monai_unlearnable.errors import NoiseError, ScanError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.files import Content

__all__ = ["DicomFormat"]

NEEDED = ("SOPClassUID", "SOPInstanceUID")


@dataclass(frozen=True)
class _File:
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


@dataclass(frozen=True)
class _Original:
    """What a file was before it was protected.

    Args:
        content: bytes of the file, with the protected pixels in the place of its own.
        is_whole: whether its own pixels are in it: where they were compressed, no other encoder need make them again.
        digest: SHA-256 of the file; None in records of earlier releases.
    """

    content: bytes
    is_whole: bool
    digest: bytes | None


@dataclass(frozen=True)
class _Container:
    """The files of a scan.

    Args:
        names: names of the files.
        files: the files around their pixels.
        frames: number of frames of each file.
        order: numbers of the frames (channels, slices) among those of all files.
        is_folder: whether the scan is a folder, not a file by itself.
        origins: center of the first pixel of each slice (slices, 3), in mm of the patient (LPS).
        originals: the files that voxels are to be written to, if they are not those that were read.
    """

    names: tuple[str, ...]
    files: tuple[PixelFile, ...]
    frames: tuple[int, ...]
    order: NDArray
    is_folder: bool
    origins: NDArray
    originals: tuple[_Original, ...] = ()


class DicomFormat(ScanFormat):
    """A file as an image of one slice or of its frames, and a folder of files as the volume that they make up.

    Slices are ordered by their position along the normal of their plane. Frames at one position, and colors, are
    channels. Compressed pixels are compressed again in the same lossless transfer syntax, or written in Explicit VR
    Little Endian where it was lossy or has no encoder.
    """

    suffixes = SUFFIXES
    kinds = ("DICOM",)

    def read(self, path: Path) -> Scan:
        with naming(path):
            paths, remarks = sources(path)
            files = [_read_file(file) for file in paths]
            order, uneven = arrange([frame for file in files for frame in file.frames])
            if len(files) > 1 and len(order) > 1:
                first, second = (files[index].path.name for index in order[:2, 0])
                raise ScanError(f"{first} and {second} lie at the same position")
            if len(files) > 1:  # in the order of slices, as they are compared and named
                files = [files[index] for index in order[0]]
                order = np.arange(len(files))[None]
            frames = [frame for file in files for frame in file.frames]
            remarks += [f"{path}: {remark}" for remark in uneven]
            remarks += identity_remarks(file.pixels.header for file in files)
            container = _Container(
                tuple(file.path.name for file in files),
                tuple(file.pixels for file in files),
                tuple(len(file.frames) for file in files),
                order,
                is_folder=not path.is_file(),
                origins=np.stack([frames[index].origin for index in order[0]]),
            )
            affine = affine_of([frames[index] for index in order[0]])
            return Scan(path, _voxels(files, order), _storage(files, order), affine, container, tuple(remarks))

    def has_read(self, scan: Scan) -> bool:
        """Whether a scan was read in this format."""
        return isinstance(scan.container, _Container)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        container: _Container = scan.container
        if container.originals:
            contents = [self._restored(scan, index, own) for index, own in enumerate(_planes(scan, voxels))]
        elif _is_same(voxels, scan.voxels):
            contents = [file.content for file in container.files]  # as they are where nothing changed
        else:
            contents = self._derived(scan, voxels)
        return dict(zip(container.names, contents, strict=True)) if container.is_folder else contents[0]

    def _derived(self, scan: Scan, voxels: NDArray) -> list[bytes]:
        """The files with other voxels, and headers that say so."""
        contents, digest = [], voxel_digest(voxels)
        for file, planes in zip(scan.container.files, _planes(scan, voxels), strict=True):
            change = partial(derive, identity=_identity(planes, digest), planes=planes, voxels=voxels, series=digest)
            with naming(scan.path, "written"):
                contents.append(file.derived(planes, change))
        return contents

    def _restored(self, scan: Scan, index: int, planes: NDArray) -> bytes:
        """The original of a file.

        Raises:
            ScanError: when the file that comes out is another one.
        """
        original: _Original = scan.container.originals[index]
        content = original.content
        with naming(scan.path, "written"):
            if original.is_whole:
                pass
            elif original.digest is None and parse_header(content).file_meta.TransferSyntaxUID not in NATIVE:
                dataset = parse(content)
                put_pixels(dataset, planes)
                content = encode(dataset)
            else:
                content = PixelFile.open(content).with_planes(planes)
        if original.digest not in (None, hashlib.sha256(content).digest()):
            raise ScanError(f"{scan.container.names[index]} does not come back as it was", file=scan.path)
        return content

    def grid(self, scan: Scan) -> SeriesGrid:
        """Where the pixels of a scan lie, and its UIDs."""
        container: _Container = scan.container
        headers = [file.header for file in container.files]
        columns, rows, slices = (*scan.spatial_shape, 1)[:3]
        owners = np.repeat(np.arange(len(headers)), container.frames)
        return SeriesGrid(
            shape=(columns, rows, slices),
            affine=scan.affine,
            series=headers[0].get("SeriesInstanceUID") or "",
            instances=tuple(headers[owners[index]].SOPInstanceUID for index in container.order[0]),
            frame_of_reference=headers[0].get("FrameOfReferenceUID"),
            origins=container.origins,
        )

    def renamed(self, scan: Scan, voxels: NDArray) -> dict[str, str]:
        """The UIDs that a series and its instances get when it is written with ``voxels``, by those it has."""
        if _is_same(voxels, scan.voxels):
            return {}
        headers = [parse_header(own.content) for own in scan.container.originals]
        headers = headers or [file.header for file in scan.container.files]
        digest = voxel_digest(voxels)
        series = headers[0].get("SeriesInstanceUID")
        renamed = {series: digest.encode()} if series else {}
        planes = _planes(scan, voxels)
        renamed |= {h.SOPInstanceUID: _identity(own, digest) for h, own in zip(headers, planes, strict=True)}
        return {old: derived_uid(old, content) for old, content in renamed.items()}

    def headers(self, scan: Scan) -> bytes:
        """What brings back the files of a scan, together with its voxels: what :meth:`with_headers` takes.

        It is all that the files hold besides pixels that lie in them as they are, and whole files where pixels are
        compressed or deflated: no other encoder need make the same bytes.
        """
        parts = [MAGIC]
        for file in scan.container.files:
            content = file.content
            place = file.place if file.is_plain else slice(len(content), len(content))
            head, tail = content[: place.start], content[place.stop :]
            sizes = struct.pack("<3Q", len(head), place.stop - place.start, len(tail))
            parts += [hashlib.sha256(content).digest(), sizes, head, tail]
        return b"".join(parts)

    def with_headers(self, scan: Scan, headers: bytes) -> Scan:
        """The scan in the files of another one, the original: encoding writes these, and voxels of its own.

        Raises:
            NoiseError: when the headers are of another number of files, or of pixels that take other space.
        """
        container: _Container = scan.container
        try:
            originals = tuple(_original(*pair) for pair in zip(container.files, _split(headers), strict=True))
        except Exception as error:  # whatever pydicom raises
            raise NoiseError(f"the stored headers do not fit the files: {error}", file=scan.path) from error
        return replace(scan, container=replace(container, originals=originals))


MAGIC = b"DICOM\0\0\2"  # begins the headers; those of earlier releases begin with a length, which is less


def _is_same(voxels: NDArray, others: NDArray) -> bool:
    """Whether two arrays (C, x, y[, z]) are equal; most that are not differ in the first slice already."""
    return all(np.array_equal(first, second) for first, second in zip(voxels.T, others.T, strict=True))


def _identity(planes: NDArray, digest: str) -> bytes:
    """What the UID of an instance follows from: its pixels, or the digest of all voxels where it has several frames."""
    return planes.tobytes() if len(planes) == 1 else digest.encode()


def _read_file(path: Path) -> _File:
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
        _check_storage(header)
        return _File(path, pixels, pixels.planes(), tuple(frames_of(header, path.name)))


def _check_storage(header: Dataset) -> None:
    """Refuse a file whose numbers could not be written back without loss.

    Raises:
        ScanError: naming the bits.
    """
    allocated, bits = header.BitsAllocated, header.BitsStored
    if allocated not in (8, 16, 32) or not 0 < bits <= allocated or header.HighBit != bits - 1:
        raise ScanError(f"{bits} bits up to bit {header.HighBit} of {allocated} are not supported")


def _storage(files: Sequence[_File], order: NDArray) -> StorageQuantization:
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


def _voxels(files: Sequence[_File], order: NDArray) -> NDArray:
    """Voxels (C, x, y[, z]) of the planes (frames, samples, rows, columns) of files."""
    planes = files[0].planes if len(files) == 1 else np.concatenate([file.planes for file in files])
    if (order.T.ravel() != np.arange(len(planes))).any():
        planes = np.take(planes, order.T.ravel(), axis=0)
    planes = planes.reshape(order.shape[1], -1, *planes.shape[2:])  # (slices, channels, rows, columns)
    voxels = np.moveaxis(planes, 1, 0).swapaxes(1, 3)  # (C, x, y, z)
    return voxels if voxels.shape[3] > 1 else voxels[..., 0]


def _planes(scan: Scan, voxels: NDArray) -> list[NDArray]:
    """Voxels as the planes (frames, samples, rows, columns) of each file."""
    container: _Container = scan.container
    stack = voxels if voxels.ndim == 4 else voxels[..., None]
    channels, slices = container.order.shape
    planes = np.moveaxis(stack.swapaxes(1, 3), 0, 1)  # (slices, C, rows, columns)
    planes = planes.reshape(slices, channels, -1, *planes.shape[2:])
    frames = planes.reshape(-1, *planes.shape[2:])
    places = np.argsort(container.order.T.ravel())  # of each frame, where channels of a slice follow each other
    if (places == np.arange(len(places))[::-1]).all():
        frames = frames[::-1]  # a view
    elif (places != np.arange(len(places))).any():
        frames = np.take(frames, places, axis=0)
    return np.split(frames, np.cumsum(container.frames)[:-1])


def _split(headers: bytes) -> Iterator[tuple[bytes | None, bytes, int, bytes]]:
    """SHA-256 of each file, what it holds before its pixels, the size of these, and what it holds after them."""
    is_current = headers.startswith(MAGIC)
    position = len(MAGIC) if is_current else 0
    while position < len(headers):
        digest = headers[position : position + 32] if is_current else None
        position += 32 if is_current else 0
        head, size, tail = struct.unpack_from("<3Q", headers, position)
        position += struct.calcsize("<3Q")
        middle, end = position + head, position + head + tail
        if end > len(headers):
            raise ValueError("they were cut")
        yield digest, headers[position:middle], size, headers[middle:end]
        position = end


def _original(file: PixelFile, stored: tuple[bytes | None, bytes, int, bytes]) -> _Original:
    """An original with the pixels of its protected file, where they lie in both as they are."""
    digest, head, size, tail = stored
    if digest is not None and not size:
        return _Original(head, True, digest)
    if digest is None and parse_header(head).file_meta.TransferSyntaxUID not in NATIVE:
        return _Original(head + tail, False, None)
    place = file.place if digest is not None else slice(file.start, file.stop)
    if place.stop - place.start != size:
        raise ValueError(f"{place.stop - place.start} bytes of pixels, not {size}")
    return _Original(head + file.content[place] + tail, False, digest)

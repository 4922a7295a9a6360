# SPDX-License-Identifier: Apache-2.0
"""DICOM files as a format of scans.

Only pixels change, and the header elements that describe them. The owner keeps the headers of the originals, so that
restored files are the original ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from monai_unlearnable.data.dicom.detection import SUFFIXES
from monai_unlearnable.data.dicom.files import derive, derived_uid, identity_remarks, read_slice
from monai_unlearnable.data.dicom.geometry import Grid, affine_of, check_alike, in_order
from monai_unlearnable.data.dicom.pixels import NATIVE, encode, parse, pixel_range, quantization_of, replace_pixels
from monai_unlearnable.data.dicom.volumes import sources
from monai_unlearnable.data.scan import Scan, ScanFormat, naming, voxel_digest
from monai_unlearnable.errors import NoiseError
from monai_unlearnable.utils.arrays import file_order
from monai_unlearnable.utils.files import Content

__all__ = ["DicomFormat"]


@dataclass(frozen=True)
class _Container:
    names: tuple[str, ...]  # of the files, in the order of slices
    contents: tuple[bytes, ...]
    is_folder: bool
    is_original: bool = False  # whether the header is that of the voxels to write, not of those that were read


class DicomFormat(ScanFormat):
    """A ``.dcm`` file as a 2D image, and a folder that holds one series as a 3D one, or 2D if it has a single slice.

    Slices go by their position along the normal of their plane. Compressed pixels are compressed again in the same
    lossless transfer syntax, or written in Explicit VR Little Endian where it was lossy or has no encoder.
    """

    suffixes = SUFFIXES

    def read(self, path: Path) -> Scan:
        is_folder = not path.is_file()
        with naming(path):
            files, remarks = sources(path)
            slices = [read_slice(file) for file in files]
            check_alike(slices)
            slices, uneven = in_order(slices)
            stack = np.stack([part.pixels for part in slices]) if len(slices) > 1 else slices[0].pixels
            remarks += [f"{path}: {remark}" for remark in uneven]
            remarks += identity_remarks(part.header for part in slices)
            names, contents = zip(*((part.path.name, part.content) for part in slices), strict=True)
            quantization, container = quantization_of(slices[0].header), _Container(names, contents, is_folder)
            return Scan(path, stack.T[None], quantization, affine_of(slices), container, tuple(remarks))

    def has_read(self, scan: Scan) -> bool:
        """Whether a scan was read in this format."""
        return isinstance(scan.container, _Container)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        container: _Container = scan.container
        contents = list(container.contents)  # as they are where nothing changed
        if container.is_original or not np.array_equal(voxels, scan.voxels):
            before, after = _planes(scan.voxels), _planes(voxels)
            digest = voxel_digest(voxels)
            for index, content in enumerate(contents):
                with naming(scan.path, "written"):
                    content = replace_pixels(content, before[index], after[index])
                    if not container.is_original:
                        dataset = parse(content)
                        derive(dataset, after[index], voxels, digest)
                        content = encode(dataset)
                contents[index] = content
        return dict(zip(container.names, contents, strict=True)) if container.is_folder else contents[0]

    def grid(self, scan: Scan) -> Grid:
        """Where the pixels of a scan lie, and its UIDs."""
        headers = _uids(scan)
        columns, rows, slices = (*scan.spatial_shape, 1)[:3]
        return Grid(
            shape=(columns, rows, slices),
            affine=scan.affine,
            series=headers[0].SeriesInstanceUID,
            instances=tuple(header.SOPInstanceUID for header in headers),
            frame_of_reference=headers[0].get("FrameOfReferenceUID"),
        )

    def renamed(self, scan: Scan, voxels: NDArray) -> dict[str, str]:
        """The UIDs that a series and its instances get when it is written with ``voxels``, by those it has."""
        if np.array_equal(voxels, scan.voxels):
            return {}
        headers = _uids(scan)
        renamed = {headers[0].SeriesInstanceUID: voxel_digest(voxels).encode()}
        renamed |= {h.SOPInstanceUID: pixels.tobytes() for h, pixels in zip(headers, _planes(voxels), strict=True)}
        return {old: derived_uid(old, content) for old, content in renamed.items()}

    def headers(self, scan: Scan) -> bytes:
        """All that the files of a scan hold besides pixels: what :meth:`with_headers` takes."""
        parts = []
        for content in scan.container.contents:
            pixels = pixel_range(content)
            head, tail = content[: pixels.start], content[pixels.stop :]
            parts += [struct.pack("<3Q", len(head), pixels.stop - pixels.start, len(tail)), head, tail]
        return b"".join(parts)

    def with_headers(self, scan: Scan, headers: bytes) -> Scan:
        """The scan in the files of another one, the original: encoding writes their headers, and voxels of its own.

        Raises:
            NoiseError: when the headers are of another number of files, or of pixels that take other space.
        """
        container: _Container = scan.container
        try:
            pairs = zip(container.contents, _split(headers), strict=True)
            contents = tuple(_with_header(content, *header) for content, header in pairs)
        except Exception as error:  # whatever pydicom raises
            raise NoiseError(f"the stored headers do not fit the files: {error}", file=scan.path) from error
        return replace(scan, container=replace(container, contents=contents, is_original=True))


def _uids(scan: Scan) -> list[Dataset]:
    """The elements of each file that tell what others call it."""
    tags = ["SOPInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"]
    contents = scan.container.contents
    return [dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=tags) for content in contents]


def _planes(voxels: NDArray) -> Sequence[NDArray]:
    stack = file_order(voxels)[0]
    return [np.ascontiguousarray(plane) for plane in (stack if stack.ndim == 3 else stack[None])]


def _split(headers: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    position = 0
    while position < len(headers):
        head, size, tail = struct.unpack_from("<3Q", headers, position)
        position += struct.calcsize("<3Q")
        middle, end = position + head, position + head + tail
        if end > len(headers):
            raise ValueError("they were cut")
        yield headers[position:middle], size, headers[middle:end]
        position = end


def _with_header(content: bytes, head: bytes, size: int, tail: bytes) -> bytes:
    """A file with another header; its pixels stay where both are native, and have yet to be written elsewhere."""
    syntax = dcmread(io.BytesIO(head), stop_before_pixels=True).file_meta.TransferSyntaxUID
    native, pixels = syntax in NATIVE, content[pixel_range(content)]
    if native and len(pixels) != size:
        raise ValueError(f"{len(pixels)} bytes of pixels, not {size}")
    return head + (pixels if native else b"") + tail

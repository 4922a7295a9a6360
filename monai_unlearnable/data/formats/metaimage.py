# SPDX-License-Identifier: Apache-2.0
"""MetaImage (``.mha``, and ``.mhd`` with data files beside it), read and written without loss.

Of the header only the size of compressed data can change. SimpleITK reads the format too, but does not tell where the
voxels are, and writes a header of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.data.formats.blocks import Axes, Blocks, Packing, cut_files, named_files, numbered, storage
from monai_unlearnable.data.scan import LPS_TO_RAS, Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.utils.files import Content

__all__ = ["MetaImageFormat"]

# MetaIO's own sizes: a "long" has four bytes on every machine.
TYPES = {
    **{"MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4"},
    **{"MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8"},
    **{"MET_FLOAT": "f4", "MET_DOUBLE": "f8"},
}
MAX_HEADER = 2**20  # bytes
LAST = re.compile(rb"^[ \t]*ElementDataFile[ \t]*[=:][ \t]*([^\r\n]*?)[ \t]*(?:\r?\n|\Z)", re.MULTILINE)
FIELD = re.compile(r"\s*(\w+)\s*[=:]\s*(.*?)\s*")
COMPRESSED_SIZE = re.compile(rb"^([ \t]*CompressedDataSize[ \t]*[=:][ \t]*)\d+", re.MULTILINE)
DIRECTIONS, PLACES = ("TransformMatrix", "Rotation", "Orientation"), ("Offset", "Position", "Origin")
LOCAL, LIST = "LOCAL", "LIST"


@dataclass(frozen=True)
class _Header:
    """The fields of a header.

    Args:
        fields: their values as they are written.
        end: number of bytes up to the line after ``ElementDataFile``.
        names: names of the data files; empty where the voxels follow the header.
    """

    fields: Mapping[str, str]
    end: int
    names: tuple[str, ...]

    def words(self, *names: str) -> list[str]:
        """The words of the first of these fields that is present."""
        return next((self.fields[name].split() for name in names if name in self.fields), [])

    def numbers(self, *names: str) -> NDArray:
        """The numbers of the first of these fields that is present, (N,)."""
        return np.array([float(word) for word in self.words(*names)])

    def is_set(self, *names: str) -> bool:
        """Whether the first of these fields that is present is true."""
        return self.words(*names)[:1] in (["True"], ["true"], ["TRUE"], ["T"], ["t"], ["1"])

    @property
    def axes(self) -> Axes:
        """The axes of the voxels; channels follow each other first."""
        dims = int(self.fields["NDims"])
        shape = tuple(int(word) for word in self.words("DimSize"))
        if len(shape) != dims:
            raise ScanError(f"the header says {dims} dimensions, and extents {shape}")
        channels = int(self.fields.get("ElementNumberOfChannels", 1))
        first = int(channels != 1)
        return Axes((channels, *shape) if first else shape, tuple(range(first, first + min(dims, 3))))

    @property
    def dtype(self) -> np.dtype:
        """Type of the voxels."""
        name = self.fields["ElementType"].removesuffix("_ARRAY")
        if name not in TYPES:
            raise ScanError(f"voxels of type {name} are not supported")
        is_big = self.is_set("ElementByteOrderMSB", "BinaryDataByteOrderMSB")
        return np.dtype(TYPES[name]).newbyteorder(">" if is_big else "<")

    @property
    def affine(self) -> NDArray:
        """Voxel indices to millimeters; the file gives the direction of each axis, and counts to the left and back."""
        dims = int(self.fields["NDims"])
        size, affine = min(dims, 3), np.eye(4)
        directions = self.numbers(*DIRECTIONS)
        spacing, offset = self.numbers("ElementSpacing", "ElementSize"), self.numbers(*PLACES)
        directions = directions.reshape(dims, dims) if directions.size else np.eye(dims)
        spacing = spacing if spacing.size else np.ones(dims)
        affine[:size, :size] = (directions[:size, :size] * spacing[:size, None]).T
        affine[:size, 3] = offset[:size] if offset.size else 0
        return LPS_TO_RAS @ affine

    @property
    def has_geometry(self) -> bool:
        """Whether the file says where the image lies."""
        return any(self.words(*names) for names in (PLACES, DIRECTIONS))


class MetaImageFormat(ScanFormat):
    """``.mha`` and ``.mhd``: raw or deflated voxels, in the file, in another one, or in one for each slice."""

    suffixes = (".mha", ".mhd")
    kinds = ("MetaImage",)

    def read(self, path: Path) -> Scan:
        """Read an image, or a label of any width."""
        with naming(path):
            content = path.read_bytes()
            header = _parse(content)
            files = [file.read_bytes() for file in named_files(path, header.names)]
            packing = Packing.ZLIB if header.is_set("CompressedData") else Packing.RAW
            start = 0 if files else header.end
            before, skip = _skipped(header, start, packing)
            axes, dtype = header.axes, header.dtype
            size = axes.size * dtype.itemsize
            pieces, block = cut_files(files or [content], size, packing, start, before, skip)
            blocks = Blocks(axes, pieces, content[: header.end] if not files else content, header.names)
            voxels = axes.channel_first(np.frombuffer(block, dtype))
            return Scan(path, voxels, storage(dtype), header.affine, blocks, has_geometry=header.has_geometry)

    def files(self, path: Path) -> tuple[Path, ...]:
        with naming(path), path.open("rb") as stream:
            return path, *named_files(path, _parse(stream.read(MAX_HEADER)).names)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> Content:
        blocks: Blocks = scan.container
        parts = blocks.parts(voxels)
        size = sum(map(len, parts[0][1:-1]))
        header = COMPRESSED_SIZE.sub(rb"\g<1>%d" % size, blocks.header)
        return blocks.content(path, header, parts)


def _skipped(header: _Header, start: int, packing: Packing) -> tuple[int, int]:
    """Bytes before what may be compressed, and (-1) whether the file ends with the voxels."""
    skip = int(header.fields.get("HeaderSize", 0))
    if skip == -1:
        if packing is not Packing.RAW:
            raise ScanError("compressed voxels need a place in the file (HeaderSize)")
        return 0, -1
    if skip > 0 and skip < start:
        raise ScanError(f"the voxels cannot begin in the header (HeaderSize = {skip})")
    return max(0, skip - start), 0


def _parse(content: bytes) -> _Header:
    last = LAST.search(content[:MAX_HEADER])
    if last is None:
        raise ScanError("not a MetaImage file: no line names the data (ElementDataFile)")
    lines = content[: last.start()].decode("utf-8", "replace").splitlines()
    fields = {found[1]: found[2] for line in lines if (found := FIELD.fullmatch(line))}
    missing = [name for name in ("NDims", "DimSize", "ElementType") if name not in fields]
    if missing:
        raise ScanError(f"broken MetaImage header: {', '.join(missing)} is missing")
    if fields.get("BinaryData", "True").lower() in ("false", "f", "0"):
        raise ScanError("voxels written as text are not supported; write them as binary data")
    where = last[1].decode("utf-8", "replace")
    if where.upper() == LOCAL:
        return _Header(fields, last.end(), ())
    if where.split()[:1] == [LIST]:
        names = content[last.end() : MAX_HEADER].decode("utf-8", "replace").split("\n")
        return _Header(fields, len(content), tuple(name.strip() for name in names if name.strip()))
    names = numbered(where) or [where]
    return _Header(fields, last.end(), tuple(names))

# SPDX-License-Identifier: Apache-2.0
"""Voxels as blocks of bytes in files: cut out, and put back among the same bytes before and after them."""

from __future__ import annotations

import bz2
import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from isal import isal_zlib
from numpy.typing import DTypeLike, NDArray

from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.arrays import file_order
from monai_unlearnable.utils.files import Content, Siblings, leads_outside

__all__ = [
    "GZIP_MAGIC",
    "Axes",
    "Blocks",
    "Packing",
    "Piece",
    "cut",
    "cut_files",
    "named_files",
    "numbered",
    "packing_of",
    "storage",
    "unpack",
]

# ISA-L deflates several times faster than zlib at its fastest, to nearly the same size.
LEVEL = 2
GZIP_MAGIC = b"\x1f\x8b"
NUMBERED = re.compile(
    r"(?P<name>[^%]*%0?\d?d[^%]*?)\s+(?P<first>-?\d+)\s+(?P<last>-?\d+)(\s+(?P<step>-?\d+))?(\s+\d+)?"
)
MAX_FILES = 100_000
EXACT_BITS = 54  # signed; float64 arithmetic is exact on as many


class Packing(str, Enum):
    """How bytes are compressed."""

    RAW = "raw"
    GZIP = "gzip"
    ZLIB = "zlib"
    BZIP2 = "bzip2"


MEMBERS = {Packing.GZIP: (GZIP_MAGIC,), Packing.BZIP2: (b"BZh",)}
WINDOWS = {Packing.GZIP: 16 + isal_zlib.MAX_WBITS, Packing.ZLIB: isal_zlib.MAX_WBITS}


def packing_of(name: str) -> Packing:
    """How the file of a name is compressed as a whole."""
    return Packing.GZIP if name.lower().endswith((".gz", ".mgz")) else Packing.RAW


def unpack(content: bytes, packing: Packing, start: int = 0) -> tuple[memoryview, bytes]:
    """Decompress the end of a file.

    Args:
        content: of the file.
        packing: how it is compressed.
        start: number of bytes at its beginning that are not.

    Returns:
        The decompressed bytes, and those that follow the compressed ones.

    Raises:
        EOFError: when they are cut off.
        Exception: of the library, when they are damaged.
    """
    rest = memoryview(content)[start:]
    if packing is Packing.RAW:
        return rest, b""
    members, packed = list[bytes](), bytes(rest) if start else content
    while not members or packed.startswith(MEMBERS.get(packing, ())):  # such a file may have several
        stream: Any = bz2.BZ2Decompressor() if packing is Packing.BZIP2 else isal_zlib.decompressobj(_window(packed))
        members.append(stream.decompress(packed))
        if not stream.eof:
            raise EOFError("the compressed data are cut off")
        packed = stream.unused_data
    return memoryview(members[0] if len(members) == 1 else b"".join(members)), packed


def _window(packed: bytes) -> int:
    """MetaImage allows either container of deflated data, whatever its name says."""
    return WINDOWS[Packing.GZIP if packed[:2] == GZIP_MAGIC else Packing.ZLIB]


def pack(parts: Sequence[Any], packing: Packing) -> bytes:
    """Bytes compressed, always in the same way: with a fixed header, and no time."""
    if packing is Packing.BZIP2:
        return bz2.compress(b"".join(parts))
    packer = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, WINDOWS[packing])
    return b"".join([*(packer.compress(part) for part in parts), packer.flush()])


@dataclass(frozen=True)
class Piece:
    """The bytes around a block of voxels, in the part of a file that follows its header.

    Args:
        size: number of bytes of voxels.
        before: bytes before all that is compressed.
        head: bytes before them, compressed together with them.
        tail: bytes after them, compressed together with them.
        after: bytes after all that is compressed.
        packing: how the part is compressed.
    """

    size: int
    before: bytes = b""
    head: bytes = b""
    tail: bytes = b""
    after: bytes = b""
    packing: Packing = Packing.RAW

    def around(self, block: memoryview) -> list[Any]:
        """The bytes of the part with other voxels, one after the other."""
        parts: list[Any] = [self.head, block, self.tail]
        if self.packing is not Packing.RAW:
            parts = [pack(parts, self.packing)]
        return [self.before, *parts, self.after]


def cut(unpacked: tuple[memoryview, bytes], size: int, packing: Packing, skip: int = 0) -> tuple[Piece, memoryview]:
    """Cut a block of voxels out of the bytes that follow a header.

    Args:
        unpacked: result of :func:`unpack`.
        size: number of bytes of voxels.
        packing: how they were compressed.
        skip: number of (decompressed) bytes before the voxels; -1 if the bytes end with them.

    Returns:
        What is around the voxels, and their bytes.

    Raises:
        ScanError: when there are fewer bytes.
    """
    raw, after = unpacked
    first = len(raw) - size if skip == -1 else skip
    if first < 0 or len(raw) < first + size:
        raise ScanError(f"truncated: {max(skip, 0) + size} bytes expected, {len(raw)} found")
    piece = Piece(size, head=bytes(raw[:first]), tail=bytes(raw[first + size :]), after=after, packing=packing)
    return piece, raw[first : first + size]


def cut_files(
    contents: Sequence[bytes], size: int, packing: Packing = Packing.RAW, start: int = 0, before: int = 0, skip: int = 0
) -> tuple[tuple[Piece, ...], Any]:
    """Cut voxels out of one or more files, which hold equal parts of them.

    Args:
        contents: of the files.
        size: number of bytes of voxels in all.
        packing: how they are compressed.
        start: number of bytes of a header that the only file begins with.
        before: number of bytes after that which are not compressed, and no voxels.
        skip: see :func:`cut`.

    Returns:
        What is around the voxels in each file, and the bytes of all voxels.

    Raises:
        ScanError: when there are fewer bytes.
    """
    if not contents or size % len(contents):
        raise ScanError(f"{size} bytes of voxels are no equal parts of {len(contents)} data files")
    pieces, found = [], []
    for content in contents:
        piece, block = cut(unpack(content, packing, start + before), size // len(contents), packing, skip)
        pieces.append(replace(piece, before=content[start : start + before]))
        found.append(block)
    return tuple(pieces), found[0] if len(found) == 1 else b"".join(found)


@dataclass(frozen=True)
class Axes:
    """The axes of voxels as they lie in a file, and those of a scan.

    Args:
        shape: extents in the file, the axis along which bytes follow each other first.
        spatial: the axes that are spatial ones, two or three; all others are taken together as channels.

    Raises:
        ScanError: when the shape is none of an image.
    """

    shape: tuple[int, ...]
    spatial: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        if not 2 <= len(self.spatial) <= 3 or max(self.spatial) >= len(self.shape) or min(self.shape) < 1:
            raise ScanError(f"expected a 2D or 3D image with optional channels, found shape {self.shape}")

    @property
    def size(self) -> int:
        """Number of voxels, each channel counted."""
        return math.prod(self.shape)

    @property
    def channels(self) -> tuple[int, ...]:
        """The axes that are none of space."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.spatial)

    def channel_first(self, stored: NDArray) -> NDArray:
        """A view (C, x, y[, z]) of voxels that follow each other as in the file; a third extent of 1 is left out."""
        extents = [self.shape[axis] for axis in self.spatial]
        kept = extents if extents[-1] > 1 else extents[:2]
        block = stored.reshape(self.shape, order="F").transpose(*self.spatial, *self.channels)
        return np.moveaxis(block.reshape(*kept, -1, order="F"), -1, 0)

    def in_file(self, voxels: NDArray) -> memoryview:
        """The bytes of voxels (C, x, y[, z]) in the order of the file."""
        order = (*self.spatial, *self.channels)
        block = file_order(voxels).T.reshape([self.shape[axis] for axis in order], order="F")
        return np.ascontiguousarray(block.transpose(np.argsort(order)).T).data.cast("B")


@dataclass(frozen=True)
class Blocks:
    """All bytes of a scan but its voxels, and where those belong.

    Args:
        axes: axes of the voxels.
        pieces: what is around the voxels in each file that holds some.
        header: bytes of the header, as they are in its file.
        names: names of the data files, relative to the header's folder; empty where it holds the voxels itself.
        carried: channels after those of the scan that stay as they are (C, spatial...).
    """

    axes: Axes
    pieces: tuple[Piece, ...]
    header: bytes = b""
    names: tuple[str, ...] = ()
    carried: NDArray | None = None

    def parts(self, voxels: NDArray) -> list[list[Any]]:
        """The bytes that follow the header, or of each data file, with other voxels; in pieces, without copies."""
        voxels = voxels if self.carried is None else np.concatenate([voxels, self.carried])
        block, start, parts = self.axes.in_file(voxels), 0, list[list[Any]]()
        for piece in self.pieces:
            parts.append(piece.around(block[start : start + piece.size]))
            start += piece.size
        return parts

    def content(self, path: Path, header: bytes, parts: Sequence[Sequence[Any]]) -> Content:
        """The bytes of the file of a scan, or of each of its files.

        Args:
            path: path of the file that names the scan.
            header: bytes of the header.
            parts: made by :meth:`parts`.
        """
        if not self.names:
            return b"".join([header, *itertools.chain(*parts)])
        files = (b"".join(part) for part in parts)
        return Siblings({path.name: header, **dict(zip(self.names, files, strict=True))})


def named_files(path: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """The paths of data files that a header names.

    Raises:
        ScanError: when one does not exist, lies outside the folder of the header, or is the header.
    """
    for name in names:
        if leads_outside(name) or "\\" in name or Path(name) in (Path(), Path(path.name)):
            raise ScanError(f"the data file {name!r} is not beside its header")
    if len(set(names)) < len(names):
        raise ScanError("a data file is named twice")
    files = tuple(path.parent / name for name in names)
    missing = next((name for name, file in zip(names, files, strict=True) if not file.is_file()), None)
    if missing is not None:
        raise ScanError(f"the data file {missing!r} does not exist")
    return files


def numbered(words: str) -> list[str] | None:
    """The names that a pattern stands for: ``slice%03d.raw 1 20 1`` is 20 files; None for any other name."""
    found = NUMBERED.fullmatch(words)
    if found is None:
        return None
    first, last, step = int(found["first"]), int(found["last"]), int(found["step"] or 1)
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    if not 0 < len(numbers) <= MAX_FILES:
        raise ScanError(f"{words!r} stands for {len(numbers)} data files")
    return [found["name"] % number for number in numbers]


def storage(dtype: DTypeLike, slope: float = 1.0, inter: float = 0.0) -> StorageQuantization:
    """The numbers that a file of a dtype can hold; of 64-bit integers those that double precision tells apart."""
    dtype = np.dtype(dtype)
    bits = EXACT_BITS - (dtype.kind == "u") if dtype.kind in "iu" and dtype.itemsize == 8 else 0
    return StorageQuantization(dtype.str, slope, inter, bits)

# SPDX-License-Identifier: Apache-2.0
"""TIFF of one page, with its tags.

Files of the kinds that Pillow writes as well as it reads them are written by Pillow. Into all others (big-endian,
signed, 32- and 64-bit, deep colors, color planes, tiles) the pixels are spliced, a strip or tile at a time."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray
from PIL import Image
from tifffile import TiffFile, TiffPage

from monai_unlearnable.data.formats.blocks import storage
from monai_unlearnable.data.formats.image2d import MAX_RATIO, PillowFormat, save
from monai_unlearnable.data.scan import Scan, naming
from monai_unlearnable.errors import ScanError

__all__ = ["TiffFormat"]

# TIFF tags.
OFFSETS, BYTE_COUNTS, SUB_IFDS, ORIENTATION = (273, 324), (279, 325), 330, 274
TURNED = range(2, 9)  # values of Orientation; 1 is upright
BY_PILLOW = {("u", 8): (1, 3), ("u", 16): (1,), ("i", 32): (1,), ("f", 32): (1,)}  # colors by kind and bits
LOSSY_CODES = {6: "jpeg", 7: "jpeg", 34892: "jpeg", 50001: "webp", 50002: "jpeg xl", 33003: "jpeg 2000"}
GRAY, COLOR, PALETTE = (0, 1), (2,), (3,)
ALPHA = (1, 2)
CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}  # of numbers in tags

# Decoder and encoder of each compression that loses nothing; both results are always the same for the same bytes.
Codec = tuple[Callable[[bytes], bytes | bytearray], Callable[[bytes], bytes | bytearray]]
DEFLATE: Codec = (zlib.decompress, lambda data: isal_zlib.compress(data, 2))
CODECS: dict[int, Codec] = {
    1: (bytes, bytes),
    5: (imagecodecs.lzw_decode, imagecodecs.lzw_encode),
    8: DEFLATE,
    32946: DEFLATE,
    32773: (imagecodecs.packbits_decode, imagecodecs.packbits_encode),
    34925: (lzma.decompress, lzma.compress),
    50000: (imagecodecs.zstd_decode, imagecodecs.zstd_encode),
}
RAW, NO_PREDICTOR, DIFFERENCES = 1, 1, 2


@dataclass(frozen=True)
class _Segment:
    """A strip or tile.

    Args:
        offset: its first byte.
        size: number of bytes.
        shape: rows, columns and samples, those outside the image included.
        place: where it lies in pixels (rows, columns, samples).
    """

    offset: int
    size: int
    shape: tuple[int, int, int]
    place: tuple[slice, slice, slice]


class _Page:
    """The only page of a file, its pixels in strips or tiles.

    Args:
        content: of the file.

    Raises:
        ScanError: when it has others, or pixels that cannot be told apart.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        with TiffFile(io.BytesIO(content)) as file:
            page = file.pages[0]
            if not isinstance(page, TiffPage):
                raise ScanError("not a TIFF file with pixels")
            self.page, self.order = page, file.byteorder
            frames = max(len(file.pages), -(-file.series[0].size // max(page.size, 1)))
            self.dtype = np.dtype(page.dtype or "V").newbyteorder(file.byteorder)
            tags = {code: page.tags.get(code) for code in (*OFFSETS, *BYTE_COUNTS, SUB_IFDS)}
            orientation = page.tags.valueof(ORIENTATION)
        if frames > 1 or tags[SUB_IFDS] is not None:
            raise ScanError("files with several frames are not supported")
        if orientation in TURNED:  # programs differ in whether they turn the pixels
            raise ScanError(f"the tag Orientation ({orientation}) turns or mirrors the image; write it upright")
        self.tags = [next((tags[code] for code in codes if tags[code]), None) for codes in (OFFSETS, BYTE_COUNTS)]
        self.colors = int(page.samplesperpixel) - sum(1 for kind in page.extrasamples if int(kind) in ALPHA)

    @property
    def has_whole_bytes(self) -> bool:
        """Whether each sample is a number of whole bytes."""
        bits = self.page.bitspersample
        return self.dtype.kind in "iuf" and isinstance(bits, int) and bits == 8 * self.dtype.itemsize

    @property
    def is_by_pillow(self) -> bool:
        """Whether Pillow reads and writes the same."""
        kind = (self.dtype.kind, 8 * self.dtype.itemsize)
        is_chunky = int(self.page.planarconfig) == 1
        return self.order == "<" and is_chunky and self.has_whole_bytes and self.colors in BY_PILLOW.get(kind, ())

    @property
    def segments(self) -> Iterator[_Segment]:
        """Strips or tiles in the order of the file."""
        page = self.page
        height, width, count = page.imagelength, page.imagewidth, page.samplesperpixel
        rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (min(page.rowsperstrip, height), width)
        planes = [slice(0, count)] if int(page.planarconfig) == 1 else [slice(n, n + 1) for n in range(count)]
        places = [
            (slice(y, min(y + rows, height)), slice(x, min(x + columns, width)), plane)
            for plane in planes
            for y in range(0, height, rows)
            for x in range(0, width, columns)
        ]
        if not len(places) == len(page.dataoffsets) == len(page.databytecounts):
            raise ScanError("broken TIFF: strips or tiles are missing")
        for place, offset, size in zip(places, page.dataoffsets, page.databytecounts, strict=True):
            if offset + size > len(self.content):
                raise ScanError("truncated: pixels lie beyond the end of the file")
            extent = rows if page.is_tiled else place[0].stop - place[0].start
            yield _Segment(int(offset), int(size), (extent, columns, place[2].stop - place[2].start), place)

    def refuse_lossy(self) -> None:
        """Refuse compression that loses pixels."""
        kind = LOSSY_CODES.get(int(self.page.compression))
        if kind is not None:
            raise ScanError(f"{kind} compression in TIFF cannot hold exact pixels; write it with LZW or deflate")

    def check(self, kinds: tuple[int, ...]) -> None:
        """Refuse what cannot be spliced.

        Args:
            kinds: photometric interpretations that are welcome.
        """
        page = self.page
        if int(page.compression) not in CODECS or int(page.predictor) not in (NO_PREDICTOR, DIFFERENCES):
            raise ScanError("TIFF of this compression is not supported; use none, LZW or deflate")
        if not self.has_whole_bytes or int(page.fillorder) != 1 or int(page.photometric) not in kinds:
            what = f"{page.bitspersample} bits a sample, {getattr(page.photometric, 'name', page.photometric)}"
            raise ScanError(f"TIFF of {what} cannot be written back without loss; use gray or RGB of whole bytes")
        if page.imagelength * page.imagewidth * page.samplesperpixel > MAX_RATIO * len(self.content):
            raise ScanError(f"{page.imagewidth}x{page.imagelength} pixels cannot be in {len(self.content)} bytes")

    def pixels(self) -> NDArray:
        """Pixels (rows, columns, samples) as they are stored."""
        page = self.page
        pixels = np.empty((page.imagelength, page.imagewidth, page.samplesperpixel), self.dtype)
        for segment in self.segments:
            part = self._decoded(segment)
            rows, columns, _ = (side.stop - side.start for side in segment.place)
            pixels[segment.place] = part[:rows, :columns]
        return pixels

    def with_pixels(self, pixels: NDArray) -> bytes:
        """The file with other pixels; what does not fit where a strip or tile was goes to the end."""
        result, places = bytearray(self.content), list[tuple[int, int]]()
        for segment in self.segments:
            part = self._decoded(segment)
            rows, columns, _ = (side.stop - side.start for side in segment.place)
            if part[:rows, :columns].tobytes() == pixels[segment.place].tobytes():
                places.append((segment.offset, segment.size))
                continue
            part[:rows, :columns] = pixels[segment.place]
            places.append(self._put(result, segment, self._encoded(part)))
        for tag, values in zip(self.tags, zip(*places, strict=True), strict=True):
            if tag is not None and int(self.page.compression) != RAW:
                self._write(result, tag.valueoffset, int(tag.dtype), values)
        return bytes(result)

    def _put(self, result: bytearray, segment: _Segment, data: bytes) -> tuple[int, int]:
        end = segment.offset + segment.size
        if int(self.page.compression) == RAW:
            data = data + bytes(result[segment.offset + len(data) : end])
        result[segment.offset : end] = b"\0" * segment.size  # nothing of the original stays behind
        start = segment.offset
        if len(data) > segment.size:
            result.extend(b"\0" * (len(result) % 2))
            start = len(result)
            result.extend(b"\0" * len(data))
        result[start : start + len(data)] = data
        return start, len(data)

    def _write(self, result: bytearray, position: int, kind: int, values: tuple[int, ...]) -> None:
        try:
            struct.pack_into(f"{self.order}{len(values)}{CODES[kind]}", result, position, *values)
        except (struct.error, KeyError) as error:
            raise ScanError("the places of strips cannot be written: their numbers are too small") from error

    def _decoded(self, segment: _Segment) -> NDArray:
        """A strip or tile as it is stored, ready to be changed."""
        data = CODECS[int(self.page.compression)][0](self.content[segment.offset : segment.offset + segment.size])
        count = int(np.prod(segment.shape))
        if len(data) < count * self.dtype.itemsize:
            raise ScanError("truncated: a strip or tile has too few pixels")
        part = np.frombuffer(data, self.dtype, count).reshape(segment.shape)
        if int(self.page.predictor) == DIFFERENCES:
            return (
                np.cumsum(_bits(part), axis=1, dtype=_bits(part).dtype.newbyteorder("="))
                .astype(_bits(part).dtype)
                .view(self.dtype)
            )
        return part.copy()

    def _encoded(self, part: NDArray) -> bytes:
        if int(self.page.predictor) == DIFFERENCES:
            bits = _bits(part)
            part = np.diff(bits, axis=1, prepend=np.zeros_like(bits[:, :1])).astype(bits.dtype)
        return bytes(CODECS[int(self.page.compression)][1](part.tobytes()))


def _bits(values: NDArray) -> NDArray:
    """Numbers whose differences wrap."""
    return values.view(values.dtype.str.replace("f", "u").replace("i", "u"))


class TiffFormat(PillowFormat):
    """Single-page TIFF; tags are kept, lossy compression is refused."""

    suffixes = (".tif", ".tiff")
    kinds = ("TIFF",)

    def read(self, path: Path) -> Scan:
        with naming(path):
            page = _Page(path.read_bytes())
            page.refuse_lossy()
            if page.is_by_pillow:
                return super().read(path)
            page.check(GRAY + COLOR)
            layers = page.pixels()
        voxels = layers[..., : page.colors].T
        return Scan(path, voxels, storage(voxels.dtype), container=page, has_geometry=False)

    def read_label(self, path: Path) -> Scan:
        """Read a label map; of a palette the indices, and no alpha channel."""
        with naming(path):
            page = _Page(path.read_bytes())
            if page.is_by_pillow or not page.has_whole_bytes:
                return super().read_label(path)
            page.check(GRAY + COLOR + PALETTE)
            layers = page.pixels()[..., : page.colors]
        return Scan(path, layers.T, storage(layers.dtype), has_geometry=False)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        page = scan.container
        if isinstance(page, _Page):
            pixels = page.pixels()
            pixels[..., : page.colors] = voxels.T
            with naming(scan.path, "written back"):
                return page.with_pixels(pixels)
        with Image.open(io.BytesIO(scan.container.content)) as original:
            tags = original.tag_v2  # type: ignore[attr-defined]
            compression = scan.container.info.get("compression", "raw")
            return save(scan, voxels, format="TIFF", tiffinfo=tags, compression=compression)

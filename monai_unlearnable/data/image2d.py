# SPDX-License-Identifier: Apache-2.0
"""2D images: PNG and TIFF written back as they are, JPEG written as PNG because JPEG cannot hold exact pixels.

Pixels are indexed x, y as MONAI's readers do. An alpha channel is carried along unchanged."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization

__all__ = ["PngFormat", "TiffFormat", "JpegFormat"]

# Pillow mode -> number of color channels; other modes are palettes, bitmaps or color spaces that convert lossily.
COLOR_CHANNELS = {"L": 1, "LA": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "RGB": 3, "RGBA": 3}

INDICES = ("1", "P", "PA")

MAX_RATIO = 2000  # pixels in a byte of a compressed file; deflate, LZW and JPEG stay below

# TIFF tags, and the compression that loses pixels.
BITS_PER_SAMPLE, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 284, 339
LOSSY = ("jpeg", "tiff_jpeg", "webp")


@dataclass(frozen=True)
class _Container:
    content: bytes
    alpha: NDArray | None
    mode: str
    info: Mapping[Any, Any]


class _PillowFormat(ScanFormat):
    def read(self, path: Path) -> Scan:
        with naming(path), self._open(path) as (image, content):
            self._check(image, content)
            image.load()
            mode, info, pixels = image.mode, {**image.info}, np.asarray(image)
        channels = COLOR_CHANNELS[mode]
        layers = pixels.reshape(*pixels.shape[:2], -1)
        alpha = layers[..., channels:] if layers.shape[-1] > channels else None
        voxels = layers[..., :channels].T  # (row, column, channel) -> (channel, x, y)
        container = _Container(content, alpha, mode, info)
        return Scan(path, voxels, StorageQuantization(voxels.dtype.str), container=container, has_geometry=False)

    def read_label(self, path: Path) -> Scan:
        """Read a label map; of a palette the indices, and no alpha channel."""
        with naming(path), self._open(path) as (image, content):
            if image.mode not in (*COLOR_CHANNELS, *INDICES):
                raise ScanError(f"pixel mode {image.mode!r} holds no label values")
            pixels = self._values(image, content)
            layers = pixels.reshape(*pixels.shape[:2], -1)[..., : COLOR_CHANNELS.get(image.mode, 1)]
        return Scan(path, layers.T, StorageQuantization(layers.dtype.str), has_geometry=False)

    @contextmanager
    def _open(self, path: Path) -> Iterator[tuple[Image.Image, bytes]]:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if image.width * image.height > MAX_RATIO * len(content):
                raise ScanError(f"{image.width}x{image.height} pixels cannot be in {len(content)} bytes")
            if getattr(image, "n_frames", 1) > 1:
                raise ScanError("files with several frames are not supported")
            yield image, content

    def _values(self, image: Image.Image, content: bytes) -> NDArray:
        """The stored numbers of an image that may be a bitmap or a palette."""
        pixels = np.asarray(image)
        return pixels.astype(np.uint8) if pixels.dtype == bool else pixels

    def _check(self, image: Image.Image, content: bytes) -> None:
        if image.mode not in COLOR_CHANNELS:
            reason = f"pixel mode {image.mode!r} cannot be written back without loss"
            raise ScanError(f"{reason}; convert to one of {sorted(COLOR_CHANNELS)}")


class PngFormat(_PillowFormat):
    """PNG, grey or RGB: only the pixel data are replaced, all other chunks stay as they were."""

    suffixes = (".png",)

    def _check(self, image: Image.Image, content: bytes) -> None:
        super()._check(image, content)
        depth, color = _png_kind(content)
        if depth < 8 or (depth == 16 and color != 0):
            reason = f"PNG with {depth} bits a sample and color type {color} is not supported"
            raise ScanError(f"{reason}; use 8-bit grey or RGB, or 16-bit grey")

    def _values(self, image: Image.Image, content: bytes) -> NDArray:
        depth, color = _png_kind(content)
        if depth == 16 and color != 0:
            raise ScanError("PNG with 16 bits a sample is read in gray only")
        step = 255 // (2**depth - 1) if color == 0 and depth < 8 and image.mode == "L" else 1  # Pillow scales to 255
        return super()._values(image, content) // np.uint8(step)

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        chunks = _png_chunks(_save(scan, voxels, format="PNG"))
        data = b"".join(body for kind, body in chunks if kind == b"IDAT")
        pieces, written = [scan.container.content[:8]], False
        for kind, body in _png_chunks(scan.container.content):
            if kind == b"IHDR":
                body = body[:-1] + b"\0"  # Pillow writes no interlacing
            if kind == b"IDAT":
                if written:
                    continue
                body, written = data, True
            pieces.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
        return b"".join(pieces)


class TiffFormat(_PillowFormat):
    """Single-page TIFF; tags are kept, lossy compression is refused."""

    suffixes = (".tif", ".tiff")

    def _check(self, image: Image.Image, content: bytes) -> None:
        super()._check(image, content)
        if image.info.get("compression") in LOSSY:
            raise ScanError(f"{image.info['compression']} compression in TIFF cannot hold exact pixels")
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = {"I;16": 16, "I;16B": 16, "I": 32, "F": 32}.get(image.mode, 8)
        unsigned = image.mode == "I" and set(tags.get(SAMPLE_FORMAT, (1,))) != {2}
        if set(tags.get(BITS_PER_SAMPLE, (1,))) != {bits} or unsigned or tags.get(PLANAR_CONFIGURATION, 1) != 1:
            reason = "TIFF of this sample type or with separate color planes cannot be written back without loss"
            raise ScanError(f"{reason}; use 8- or 16-bit unsigned, 32-bit signed or 32-bit float samples")

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        with Image.open(io.BytesIO(scan.container.content)) as original:
            tags = original.tag_v2  # type: ignore[attr-defined]
            compression = scan.container.info.get("compression", "raw")
            return _save(scan, voxels, format="TIFF", tiffinfo=tags, compression=compression)


class JpegFormat(_PillowFormat):
    """JPEG in, PNG out: resolution, color profile and EXIF are carried over."""

    suffixes = (".jpg", ".jpeg")
    output_suffix = ".png"

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        kept = {key: scan.container.info[key] for key in ("dpi", "icc_profile", "exif") if key in scan.container.info}
        return _save(scan, voxels, format="PNG", **kept)


def _save(scan: Scan, voxels: NDArray, **options: Any) -> bytes:
    """A file of voxels (C, x, y) in place of the scan's own, with its alpha channel."""
    layers = voxels.T
    if scan.container.alpha is not None:
        layers = np.concatenate([layers, scan.container.alpha], axis=-1)
    image = Image.frombytes(scan.container.mode, voxels.shape[1:], layers.tobytes())
    stream = io.BytesIO()
    with naming(scan.path, "written back"):  # metadata may be readable but broken
        image.save(stream, **options)
    return stream.getvalue()


def _png_kind(content: bytes) -> tuple[int, int]:
    """Bits a sample, and color type."""
    return content[24], content[25]


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(content):
        length = struct.unpack(">I", content[position : position + 4])[0]
        yield content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += 12 + length

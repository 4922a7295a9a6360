# SPDX-License-Identifier: Apache-2.0
"""2D images: PNG written back as it is; JPEG, which cannot hold exact pixels, WebP and BMP written as PNG.

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

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from monai_unlearnable.data.scan import Scan, ScanFormat, naming
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization

__all__ = ["MAX_RATIO", "BmpFormat", "JpegFormat", "PillowFormat", "PngFormat", "WebpFormat", "save"]

# Pillow mode -> number of color channels; other modes are palettes, bitmaps or color spaces that convert lossily.
COLOR_CHANNELS = {"L": 1, "LA": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "RGB": 3, "RGBA": 3}

INDICES = ("1", "P", "PA")

PNG_LEVEL = 6  # of deflate
MAX_RATIO = 2000  # pixels in a byte of a compressed file; deflate, LZW and JPEG stay below


@dataclass(frozen=True)
class _Container:
    content: bytes
    alpha: NDArray | None
    mode: str
    info: Mapping[Any, Any]


class PillowFormat(ScanFormat):
    """Images that Pillow reads: gray or RGB, with an alpha channel or without."""

    def read(self, path: Path) -> Scan:
        with naming(path), self._open(path) as (image, content):
            self._check(image, content)
            mode, info, pixels = image.mode, {**image.info}, self._pixels(image, content)
        layers = pixels.reshape(*pixels.shape[:2], -1)
        channels = 3 if layers.shape[-1] > 2 else 1
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
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            layers = pixels[..., : 3 if pixels.shape[-1] > 2 else 1]
        return Scan(path, layers.T, StorageQuantization(layers.dtype.str), has_geometry=False)

    @contextmanager
    def _open(self, path: Path) -> Iterator[tuple[Image.Image, bytes]]:
        content = path.read_bytes()
        try:
            opened = Image.open(io.BytesIO(content), formats=self.kinds)
        except UnidentifiedImageError as error:
            raise ScanError(f"not a {self.kinds[0]} file, or a damaged one") from error
        with opened as image:
            if image.width * image.height > MAX_RATIO * len(content):
                raise ScanError(f"{image.width}x{image.height} pixels cannot be in {len(content)} bytes")
            if getattr(image, "n_frames", 1) > 1:
                raise ScanError("files with several frames are not supported")
            yield image, content

    def _pixels(self, image: Image.Image, content: bytes) -> NDArray:
        """The stored numbers of an image (rows, columns[, channels])."""
        return np.asarray(image)

    def _values(self, image: Image.Image, content: bytes) -> NDArray:
        """The stored numbers of a label, which may be a bitmap or a palette."""
        pixels = self._pixels(image, content)
        return pixels.astype(np.uint8) if pixels.dtype == bool else pixels

    def _check(self, image: Image.Image, content: bytes) -> None:
        if image.mode not in COLOR_CHANNELS:
            reason = f"pixel mode {image.mode!r} cannot be written back without loss"
            raise ScanError(f"{reason}; convert to one of {sorted(COLOR_CHANNELS)}")


class PngFormat(PillowFormat):
    """PNG, grey or RGB: only the pixel data are replaced, all other chunks and what follows stay as they were."""

    suffixes = (".png",)
    kinds = ("PNG",)

    def _check(self, image: Image.Image, content: bytes) -> None:
        super()._check(image, content)
        depth, color = _png_kind(content)
        if depth < 8:
            raise ScanError(f"PNG with {depth} bits a sample and color type {color} is not supported; use 8 or 16 bits")

    def _pixels(self, image: Image.Image, content: bytes) -> NDArray:
        if not _is_deep_color(content):
            return super()._pixels(image, content)
        return np.asarray(imagecodecs.png_decode(content))

    def _values(self, image: Image.Image, content: bytes) -> NDArray:
        depth, color = _png_kind(content)
        step = 255 // (2**depth - 1) if color == 0 and depth < 8 and image.mode == "L" else 1  # Pillow scales to 255
        return super()._values(image, content) // step

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        if _is_deep_color(scan.container.content):
            layers = np.ascontiguousarray(_with_alpha(scan, voxels))
            chunks = _png_chunks(bytes(imagecodecs.png_encode(layers, level=PNG_LEVEL)))
        else:
            chunks = _png_chunks(save(scan, voxels, format="PNG"))
        data = b"".join(body for kind, body in chunks if kind == b"IDAT")
        content, position = scan.container.content, 8
        pieces, written = [content[:8]], False
        for kind, body in _png_chunks(content):
            position += 12 + len(body)
            if kind == b"IHDR":
                body = body[:-1] + b"\0"  # Pillow writes no interlacing
            if kind == b"IDAT":
                if written:
                    continue
                body, written = data, True
            pieces.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)))
        return b"".join([*pieces, content[position:]])


class _ConvertedFormat(PillowFormat):
    """In as it is, PNG out: resolution, color profile and EXIF are carried over."""

    output_suffix = ".png"

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        kept = {key: scan.container.info[key] for key in ("dpi", "icc_profile", "exif") if key in scan.container.info}
        return save(scan, voxels, format="PNG", **kept)


class JpegFormat(_ConvertedFormat):
    """JPEG, which cannot hold exact pixels."""

    suffixes = (".jpg", ".jpeg")
    kinds = ("JPEG",)


class WebpFormat(_ConvertedFormat):
    """WebP of one frame."""

    suffixes = (".webp",)
    kinds = ("WebP",)


class BmpFormat(_ConvertedFormat):
    """BMP, gray or RGB."""

    suffixes = (".bmp",)
    kinds = ("BMP",)


def save(scan: Scan, voxels: NDArray, **options: Any) -> bytes:
    """A file of voxels (C, x, y) in place of the scan's own, with its alpha channel."""
    layers = _with_alpha(scan, voxels)
    image = Image.frombytes(scan.container.mode, voxels.shape[1:], layers.tobytes())
    stream = io.BytesIO()
    with naming(scan.path, "written back"):  # metadata may be readable but broken
        image.save(stream, **options)
    return stream.getvalue()


def _with_alpha(scan: Scan, voxels: NDArray) -> NDArray:
    """Pixels (rows, columns, channels)."""
    alpha = scan.container.alpha
    return voxels.T if alpha is None else np.concatenate([voxels.T, alpha], axis=-1)


def _is_deep_color(content: bytes) -> bool:
    """Whether a PNG has 16 bits a sample and several channels, of which Pillow keeps 8 bits."""
    depth, color = _png_kind(content)
    return depth == 16 and color != 0


def _png_kind(content: bytes) -> tuple[int, int]:
    """Bits a sample, and color type."""
    return content[24], content[25]


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk, up to the last; what follows that one is none."""
    position, kind = 8, b""
    while kind != b"IEND" and position + 8 <= len(content):
        length = struct.unpack(">I", content[position : position + 4])[0]
        kind = content[position + 4 : position + 8]
        yield kind, content[position + 8 : position + 8 + length]
        position += 12 + length

# SPDX-License-Identifier: Apache-2.0
"""2D images: PNG and TIFF written back as they are, JPEG written as PNG because JPEG cannot hold exact pixels.

Pixels are indexed x, y as MONAI's readers do. An alpha channel is carried along unchanged."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import StorageQuantization

__all__ = ["PngFormat", "TiffFormat", "JpegFormat"]

# Pillow mode -> number of color channels; other modes are palettes, bitmaps or color spaces that convert lossily.
COLOR_CHANNELS = {"L": 1, "LA": 1, "I;16": 1, "I;16B": 1, "I": 1, "F": 1, "RGB": 3, "RGBA": 3}

# What Pillow raises for files that were cut or damaged.
BROKEN = (
    *(OSError, EOFError, LookupError, ValueError, TypeError, SyntaxError, RuntimeError, ArithmeticError, MemoryError),
    *(UnidentifiedImageError, struct.error, zlib.error, Image.DecompressionBombError),
)
MAX_RATIO = 2000  # pixels in a byte of a compressed file; deflate, LZW and JPEG stay below

# TIFF tags
BITS_PER_SAMPLE, PLANAR_CONFIGURATION, SAMPLE_FORMAT = 258, 284, 339


@dataclass(frozen=True)
class _Container:
    content: bytes
    alpha: NDArray | None
    mode: str
    info: dict[str, Any]


class _PillowFormat:
    suffixes: tuple[str, ...] = ()
    output_suffix: str | None = None

    def read(self, path: Path) -> Scan:
        """Read an image.

        Raises:
            ScanError: when the file is missing, truncated, or of a pixel type that cannot be written without loss.
        """
        try:
            content = path.read_bytes()
            with Image.open(io.BytesIO(content)) as image:
                self._check(image, content, path)
                image.load()
                mode, info, pixels = image.mode, dict(image.info), np.asarray(image)
        except FileNotFoundError as error:
            raise ScanError("the file does not exist", file=path) from error
        except ScanError:
            raise
        except BROKEN as error:
            raise ScanError(f"cannot be read: {error}", file=path) from error
        channels = COLOR_CHANNELS[mode]
        layers = pixels.reshape(*pixels.shape[:2], -1)
        alpha = layers[..., channels:] if layers.shape[-1] > channels else None
        voxels = layers[..., :channels].T  # (row, column, channel) -> (channel, x, y)
        container = _Container(content, alpha, mode, info)
        return Scan(path, voxels, StorageQuantization(voxels.dtype.str), container=container).check()

    def _check(self, image: Image.Image, content: bytes, path: Path) -> None:
        if image.width * image.height > MAX_RATIO * len(content):
            raise ScanError(f"{image.width}x{image.height} pixels cannot be in {len(content)} bytes", file=path)
        if getattr(image, "n_frames", 1) > 1:
            raise ScanError("files with several frames are not supported", file=path)
        if image.mode not in COLOR_CHANNELS:
            raise ScanError(
                f"pixel mode {image.mode!r} cannot be written back without loss; "
                f"convert to one of {sorted(COLOR_CHANNELS)}",
                file=path,
            )

    def _image(self, scan: Scan, voxels: NDArray) -> Image.Image:
        layers = voxels.T
        if scan.container.alpha is not None:
            layers = np.concatenate([layers, scan.container.alpha], axis=-1)
        pixels = np.ascontiguousarray(layers[..., 0] if layers.shape[-1] == 1 else layers)
        height, width = pixels.shape[:2]
        return Image.frombytes(scan.container.mode, (width, height), pixels.tobytes())


class PngFormat(_PillowFormat):
    """PNG, grey or RGB: only the pixel data are replaced, all other chunks stay as they were."""

    suffixes = (".png",)

    def _check(self, image: Image.Image, content: bytes, path: Path) -> None:
        super()._check(image, content, path)
        depth, color = content[24], content[25]
        if depth < 8 or (depth == 16 and color != 0):
            raise ScanError(
                f"PNG with {depth} bits a sample and color type {color} is not supported; "
                "use 8-bit grey or RGB, or 16-bit grey",
                file=path,
            )

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        """The bytes of the PNG that holds ``voxels`` (C, x, y) in place of the scan's own."""
        chunks = list(_png_chunks(_save(self._image(scan, voxels), scan.path, format="PNG")))
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
    lossy = {"jpeg", "tiff_jpeg", "webp"}

    def _check(self, image: Image.Image, content: bytes, path: Path) -> None:
        super()._check(image, content, path)
        if image.info.get("compression") in self.lossy:
            raise ScanError(f"{image.info['compression']} compression in TIFF cannot hold exact pixels", file=path)
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits = {"I;16": 16, "I;16B": 16, "I": 32, "F": 32}.get(image.mode, 8)
        unsigned = image.mode == "I" and set(tags.get(SAMPLE_FORMAT, (1,))) != {2}
        if set(tags.get(BITS_PER_SAMPLE, (1,))) != {bits} or unsigned or tags.get(PLANAR_CONFIGURATION, 1) != 1:
            raise ScanError(
                "TIFF of this sample type or with separate color planes cannot be written back without loss; "
                "use 8- or 16-bit unsigned, 32-bit signed or 32-bit float samples",
                file=path,
            )

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        """The bytes of the TIFF that holds ``voxels`` (C, x, y) in place of the scan's own."""
        with Image.open(io.BytesIO(scan.container.content)) as original:
            tags = original.tag_v2  # type: ignore[attr-defined]
            return _save(
                self._image(scan, voxels),
                scan.path,
                format="TIFF",
                tiffinfo=tags,
                compression=scan.container.info.get("compression", "raw"),
            )


class JpegFormat(_PillowFormat):
    """JPEG in, PNG out: resolution, color profile and EXIF are carried over."""

    suffixes = (".jpg", ".jpeg")
    output_suffix = ".png"

    def encode(self, scan: Scan, voxels: NDArray, path: Path) -> bytes:
        """The bytes of a PNG that holds ``voxels`` (C, x, y)."""
        kept = {key: scan.container.info[key] for key in ("dpi", "icc_profile", "exif") if key in scan.container.info}
        return _save(self._image(scan, voxels), scan.path, format="PNG", **kept)


def _save(image: Image.Image, path: Path, **options: Any) -> bytes:
    stream = io.BytesIO()
    try:
        image.save(stream, **options)
    except BROKEN as error:  # metadata that were read, but are no good
        raise ScanError(f"cannot be written back: {error}", file=path) from error
    return stream.getvalue()


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 8
    while position + 8 <= len(content):
        length = struct.unpack(">I", content[position : position + 4])[0]
        yield content[position + 4 : position + 8], content[position + 8 : position + 8 + length]
        position += 12 + length

# SPDX-License-Identifier: Apache-2.0
"""What an export does: few levels, and lossy compression of 8-bit slices, by Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from monai_unlearnable.countermeasures.base import NormalizedTransform, at_least, by_plane
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.dictionaries import dictionary_transform

__all__ = [
    "Jpeg",
    "Jpeg2000",
    "Jpeg2000D",
    "Jpeg2000Dict",
    "Jpeg2000d",
    "JpegD",
    "JpegDict",
    "Jpegd",
    "Quantize",
    "QuantizeD",
    "QuantizeDict",
    "Quantized",
]


class Quantize(NormalizedTransform):
    """Round to equally spaced levels: 256 of them are an 8-bit export.

    Args:
        levels: how many, the first at 0 and the last at 1.

    Raises:
        InputError: when there are fewer than two.
    """

    def __init__(self, levels: int = 256) -> None:
        at_least("levels", levels, 2)
        self.levels = levels

    def change(self, channel: NDArray) -> NDArray:
        return np.rint(channel * (self.levels - 1)) / (self.levels - 1)


class Jpeg(NormalizedTransform):
    """JPEG of each slice, 8-bit grey.

    Args:
        quality: 1 to 100, libjpeg's scale. Liu et al. (ICML 2023, arXiv:2301.13838) undo most methods for photographs
            with 10; 75 is what most programs write.
        axis: of a volume, the one that slices are stacked along.

    Raises:
        InputError: when the quality is out of range.
    """

    def __init__(self, quality: int = 10, axis: int = -1) -> None:
        if not 1 <= quality <= 100:
            raise InputError(f"quality must be from 1 to 100, not {quality}", value=quality)
        self.quality, self.axis = int(quality), axis

    def change(self, channel: NDArray) -> NDArray:
        return by_plane(channel, self.axis, lambda plane: _through(plane, format="JPEG", quality=self.quality))


class Jpeg2000(NormalizedTransform):
    """JPEG 2000 of each slice, 8-bit grey, with the lossy wavelet.

    Args:
        psnr: to reach, in decibels of the 8-bit range: the smaller, the stronger. 36 dB is an error as large as noise
            of 4/255 everywhere, 30 dB as of 8/255.
        ratio: compression ratio to reach instead, such as 10 for 10:1, what guidelines for archives speak of. The
            bytes count those of headers, which leave small slices next to nothing: prefer ``psnr`` there.
        axis: of a volume, the one that slices are stacked along.

    Raises:
        InputError: when not exactly one of ``psnr`` and ``ratio`` is given, when it is out of range, or when this
            Pillow was built without the codec.
    """

    def __init__(self, psnr: float | None = None, ratio: float | None = None, axis: int = -1) -> None:
        if (psnr is None) == (ratio is None):
            raise InputError("give either psnr or ratio of JPEG 2000")
        at_least("psnr" if ratio is None else "ratio", psnr if ratio is None else ratio, 1)
        if not features.check("jpg_2000"):
            raise InputError("this Pillow was built without JPEG 2000 (OpenJPEG): install one of its binary wheels")
        self.mode, self.layer = ("dB", psnr) if ratio is None else ("rates", ratio)
        self.axis = axis

    def change(self, channel: NDArray) -> NDArray:
        options = {"quality_mode": self.mode, "quality_layers": [self.layer], "irreversible": True, "no_jp2": True}
        return by_plane(channel, self.axis, lambda plane: _through(plane, format="JPEG2000", **options))


def _through(plane: NDArray, **options: Any) -> NDArray:
    stream = io.BytesIO()
    Image.fromarray(np.rint(plane * 255).astype(np.uint8)).save(stream, **options)
    with Image.open(stream) as image:
        return np.asarray(image, np.float32) / 255


Jpegd = JpegD = JpegDict = dictionary_transform(Jpeg)
Jpeg2000d = Jpeg2000D = Jpeg2000Dict = dictionary_transform(Jpeg2000)
Quantized = QuantizeD = QuantizeDict = dictionary_transform(Quantize)

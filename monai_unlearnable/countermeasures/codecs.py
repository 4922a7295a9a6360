# SPDX-License-Identifier: Apache-2.0
"""The effects of an export: few levels, and lossy compression of 8-bit slices, by Pillow."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from monai_unlearnable.countermeasures.base import NormalizedTransform, by_plane
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.pipelines import dictionary_transform
from monai_unlearnable.utils.values import check_at_least

__all__ = ["Jpeg", "Jpeg2000", "Jpeg2000D", "Jpeg2000Dict", "Jpeg2000d", "JpegD", "JpegDict", "Jpegd"]
__all__ += ["Quantize", "QuantizeD", "QuantizeDict", "Quantized"]


@dataclass(frozen=True)
class Quantize(NormalizedTransform):
    """Round to equally spaced levels: 256 of them are an 8-bit export.

    Args:
        levels: number of levels, the first at 0 and the last at 1.

    Raises:
        InputError: when there are fewer than two.
    """

    levels: int = 256

    def __post_init__(self) -> None:
        check_at_least(2, levels=self.levels)

    def change(self, channel: NDArray) -> NDArray:
        return np.rint(channel * (self.levels - 1)) / (self.levels - 1)


@dataclass(frozen=True)
class Jpeg(NormalizedTransform):
    """JPEG of each slice, 8-bit grey.

    Args:
        quality: quality on libjpeg's scale, 1 to 100. Liu et al. (ICML 2023, arXiv:2301.13838) undo most methods for
            photographs with 10; 75 is what most programs write.
        axis: axis of a volume that slices are stacked along.

    Raises:
        InputError: when the quality is out of range.
    """

    quality: int = 10
    axis: int = -1

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise InputError(f"quality must be from 1 to 100, not {self.quality}", value=self.quality)

    def change(self, channel: NDArray) -> NDArray:
        return by_plane(channel, self.axis, lambda plane: _through(plane, format="JPEG", quality=int(self.quality)))


@dataclass(frozen=True)
class Jpeg2000(NormalizedTransform):
    """JPEG 2000 of each slice, 8-bit grey, with the lossy wavelet.

    Args:
        psnr: PSNR to reach, in dB of the 8-bit range: the smaller, the stronger. 36 dB is an error as large as noise
            of 4/255 everywhere, 30 dB as of 8/255.
        ratio: compression ratio to reach instead, such as 10 for 10:1, which guidelines for archives use. The
            bytes count those of headers, which leave small slices next to nothing: prefer ``psnr`` there.
        axis: axis of a volume that slices are stacked along.

    Raises:
        InputError: when not exactly one of ``psnr`` and ``ratio`` is given, when it is out of range, or when this
            Pillow was built without the codec.
    """

    psnr: float | None = None
    ratio: float | None = None
    axis: int = -1

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if name != "axis" and value is not None}
        if len(given) != 1:
            raise InputError("give either psnr or ratio of JPEG 2000")
        check_at_least(1, **given)
        if not features.check("jpg_2000"):
            raise InputError("this Pillow was built without JPEG 2000 (OpenJPEG): install one of its binary wheels")

    def change(self, channel: NDArray) -> NDArray:
        mode, layer = ("dB", self.psnr) if self.ratio is None else ("rates", self.ratio)
        options = {"quality_mode": mode, "quality_layers": [layer], "irreversible": True, "no_jp2": True}
        return by_plane(channel, self.axis, lambda plane: _through(plane, format="JPEG2000", **options))


def _through(plane: NDArray, **options: Any) -> NDArray:
    stream = io.BytesIO()
    Image.fromarray(np.rint(plane * 255).astype(np.uint8)).save(stream, **options)
    with Image.open(stream) as image:
        return np.asarray(image, np.float32) / 255


Jpegd = JpegD = JpegDict = dictionary_transform(Jpeg)
Jpeg2000d = Jpeg2000D = Jpeg2000Dict = dictionary_transform(Jpeg2000)
Quantized = QuantizeD = QuantizeDict = dictionary_transform(Quantize)

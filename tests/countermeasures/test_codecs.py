# SPDX-License-Identifier: Apache-2.0
"""Lossy compression of slices."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, features
from skimage.metrics import peak_signal_noise_ratio

from monai_unlearnable.countermeasures import Jpeg, Jpeg2000, NormalizedTransform
from monai_unlearnable.errors import InputError
from tests.countermeasures.images import unit_image


def error(change: NormalizedTransform, image: np.ndarray) -> float:
    return float(np.abs(change(image) - image).mean())


@pytest.mark.parametrize("shape", [(1, 40, 33), (2, 24, 21, 5)], ids=["2D", "3D"])
def test_more_compression_more_error(shape: tuple[int, ...]) -> None:
    image = unit_image(shape)
    for changes in (
        [Jpeg(quality) for quality in (100, 75, 50, 10)],
        [Jpeg2000(psnr=psnr) for psnr in (50, 35, 25)],
        [Jpeg2000(ratio=ratio) for ratio in (2, 4, 8)],
    ):
        errors = [error(change, image) for change in changes]
        assert errors == sorted(errors) and errors[0] < errors[-1]
    assert error(Jpeg(100), image) < 1 / 255


@pytest.mark.parametrize("psnr", [28, 35, 45])
def test_jpeg2000_reaches_its_psnr(psnr: float) -> None:
    image = unit_image((1, 64, 64))
    done = Jpeg2000(psnr=psnr)(image)
    assert abs(peak_signal_noise_ratio(np.rint(255 * image), 255 * done, data_range=255) - psnr) < 1.5


def test_slices_are_files_of_their_own() -> None:
    image = unit_image((1, 20, 18, 6))
    for axis in (0, -1):
        done = Jpeg(30, axis)(image)
        stream = io.BytesIO()
        plane = np.take(image[0], 2, axis)
        Image.fromarray((plane * 255 + 0.5).astype(np.uint8)).save(stream, "JPEG", quality=30)
        assert np.allclose(np.take(done[0], 2, axis), np.asarray(Image.open(stream)) / 255, atol=1e-6)
    with pytest.raises(InputError, match="3 spatial axes"):
        Jpeg(axis=3)(image)


def test_missing_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    with pytest.raises(InputError, match="without JPEG 2000"):
        Jpeg2000(psnr=30)


def test_wrong_settings() -> None:
    for quality in (0, 101):
        with pytest.raises(InputError, match="quality"):
            Jpeg(quality)
    for options in ({}, {"psnr": 30, "ratio": 10}):
        with pytest.raises(InputError, match="either psnr or ratio"):
            Jpeg2000(**options)
    with pytest.raises(InputError, match="ratio must be at least 1"):
        Jpeg2000(ratio=0.5)

# SPDX-License-Identifier: Apache-2.0
"""Images of known noise, and the operator against SciPy's convolution."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import median_abs_deviation

from monai_unlearnable.metrics import noise_level
from monai_unlearnable.metrics.fidelity import MAX_VOXELS

SHAPES = [(220, 180), (64, 60, 56)]


def anatomy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blobs with sharp borders on a smooth ground, 0 to about 1000."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 8)
    return 300 * (smooth / smooth.std()) + 400 * (gaussian_filter(rng.normal(size=shape), 12) > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    kernel = reduce(np.multiply.outer, [np.array([-1.0, 2.0, -1.0])] * len(shape))
    residual = convolve(image, kernel)[(slice(1, -1),) * len(shape)]
    expected = median_abs_deviation(residual, None, center=lambda *_, **__: 0, scale="normal")
    assert noise_level(image) == pytest.approx(expected / np.linalg.norm(kernel))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [10, 50, 200])
def test_finds_known_noise_under_anatomy(shape: tuple[int, ...], sigma: float) -> None:
    image = anatomy(shape) + np.random.default_rng(1).normal(0, sigma, shape)
    for dtype in (np.float64, np.float32, np.int16):
        assert noise_level(image.astype(dtype)) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_and_saturation_hold_no_noise(shape: tuple[int, ...]) -> None:
    image = (anatomy(shape) + np.random.default_rng(1).normal(0, 30, shape)).astype(np.int16)
    image[: int(0.8 * shape[0])] = -1000
    assert noise_level(image) == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("shape", [(900, 800), (110, 100, 90)])
def test_large_images_are_sampled(shape: tuple[int, ...]) -> None:
    assert np.prod(shape) > MAX_VOXELS
    image = np.random.default_rng(2).normal(100, 7, shape)
    assert noise_level(image) == pytest.approx(7, rel=0.02)
    assert noise_level(np.asfortranarray(image)) == noise_level(image)


def test_narrow_axes_are_left_alone() -> None:
    noise = np.random.default_rng(3).normal(0, 5, (2, 300, 200))
    assert noise_level(noise) == pytest.approx(5, rel=0.05)
    assert noise_level(noise[:, :2, :2]) == noise_level(np.full((9, 9), 3)) == 0
    assert noise_level(np.add.outer(np.arange(9), 3 * np.arange(8))) == 0  # a ramp

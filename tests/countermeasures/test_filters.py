# SPDX-License-Identifier: Apache-2.0
"""Filters against formulas and second implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.transforms import MedianSmooth
from scipy import ndimage

from monai_unlearnable.countermeasures import BilateralFilter, BinomialSmooth, GaussianFilter
from monai_unlearnable.errors import InputError
from tests.countermeasures.images import alternating, unit_image, wave

SHAPES = [(2, 15, 12), (1, 9, 8, 7), (1, 9, 8, 2)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_binomial_removes_alternating_noise(shape: tuple[int, ...]) -> None:
    clean = 0.3 + 0.4 * unit_image(shape)
    for axis in range(len(shape) - 1):
        noise = 8 / 255 * alternating(shape, axis)
        assert np.allclose(BinomialSmooth()(clean + noise), BinomialSmooth()(clean), atol=1e-6)
        assert np.allclose(BinomialSmooth(axes=axis)(clean + noise), BinomialSmooth(axes=axis)(clean), atol=1e-6)
        if len(shape) - 1 > axis + 1:
            kept = BinomialSmooth(axes=-1)(clean + noise) - BinomialSmooth(axes=-1)(clean)
            assert np.allclose(kept, noise, atol=1e-6)


def test_binomial_by_hand() -> None:
    image = unit_image((1, 9, 6))
    padded = np.pad(image[0], 1, mode="reflect")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    by_hand = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    assert np.allclose(BinomialSmooth()(image)[0], by_hand, atol=1e-6)
    twice = BinomialSmooth()(BinomialSmooth()(image))
    assert np.allclose(BinomialSmooth(passes=2)(image), twice, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.75, 1.0, 2.0])
@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_what_gaussian_leaves_of_a_wave(sigma: float, period: int) -> None:
    image = (0.5 + 0.4 * wave(33, period))[None].astype(np.float32)
    voxels = np.arange(-20, 21)
    kernel = np.exp(-(voxels**2) / (2 * sigma**2))
    fraction = (kernel * np.cos(2 * np.pi * voxels / period)).sum() / kernel.sum()
    assert np.allclose(GaussianFilter(sigma, axes=0)(image)[0], 0.5 + 0.4 * fraction * wave(33, period), atol=1e-3)
    if period > 2:
        assert fraction == pytest.approx(np.exp(-2 * (np.pi * sigma / period) ** 2), rel=0.01)
    assert np.allclose(GaussianFilter(sigma, axes=1)(image), image, atol=1e-6)


def test_gaussian_agrees_with_simple_itk() -> None:
    sitk = pytest.importorskip("SimpleITK")
    image = unit_image((1, 30, 24))
    theirs = sitk.GetArrayFromImage(sitk.DiscreteGaussian(sitk.GetImageFromArray(image[0]), 2.25, 32, 0.001))
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(GaussianFilter(1.5)(image)[0][inner] - theirs[inner]).max() < 0.01


@pytest.mark.parametrize("shape", [(1, 12, 11), (1, 9, 8, 7)], ids=["2D", "3D"])
def test_bilateral_by_definition(shape: tuple[int, ...]) -> None:
    sigma, tau, epsilon = 0.8, 0.15, 2
    channel = unit_image(shape)[0]
    padded, total, weights = np.pad(channel, epsilon, mode="edge"), np.zeros_like(channel), np.zeros_like(channel)
    for offset in itertools.product(range(2 * epsilon + 1), repeat=channel.ndim):
        other = padded[tuple(slice(o, o + extent) for o, extent in zip(offset, channel.shape, strict=True))]
        near = np.exp(-sum((o - epsilon) ** 2 for o in offset) / (2 * sigma**2))
        weight = near * np.exp(-((other - channel) ** 2) / (2 * tau**2))
        total, weights = total + weight * other, weights + weight
    assert np.abs(BilateralFilter(sigma, tau)(channel[None])[0] - total / weights).max() < 2e-3


def test_bilateral_keeps_edges() -> None:
    step = np.repeat(np.where(np.arange(20) < 10, 0.2, 0.8)[:, None], 12, axis=1)[None].astype(np.float32)
    assert np.abs(BilateralFilter(1.0, 0.1)(step) - step).max() < 1e-3 < np.abs(GaussianFilter(1.0)(step) - step).max()


@pytest.mark.parametrize("shape", [(1, 12, 11), (2, 9, 8, 1)], ids=["2D", "thin"])
def test_median_of_monai_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    image = unit_image(shape)
    theirs = np.stack([ndimage.median_filter(channel, 3, mode="nearest") for channel in image])
    assert np.allclose(MedianSmooth(1)(torch.as_tensor(image)).numpy(), theirs)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: GaussianFilter(-1),
        lambda: GaussianFilter(float("nan")),
        lambda: BinomialSmooth(passes=-1),
        lambda: BilateralFilter(sigma=-1),
        lambda: BilateralFilter(sigma_intensity=-0.1),
    ],
)
def test_wrong_strengths(wrong: type) -> None:
    with pytest.raises(InputError, match="at least 0"):
        wrong()

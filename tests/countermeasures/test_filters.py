# SPDX-License-Identifier: Apache-2.0
"""Filters against formulas and second implementations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrastd, MedianSmooth
from PIL import Image
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio
from torch.nn import functional as F

from monai_unlearnable.countermeasures import (
    BilateralFilter,
    BinomialSmooth,
    GaussianFilter,
    NonLocalMeans,
    NormalizedTransform,
    Quantize,
    RemoveBiasField,
    ResampleBack,
    TotalVariation,
)
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
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


def box(shape: tuple[int, ...]) -> np.ndarray:
    image = np.full((1, *shape), 0.3, np.float32)
    image[(slice(None), *[slice(extent // 4, -(extent // 4)) for extent in shape])] = 0.7
    return image


@pytest.mark.parametrize("change", [TotalVariation(0.1), NonLocalMeans(0.08)], ids=["tv", "nlm"])
@pytest.mark.parametrize("shape", [(32, 28), (16, 14, 12)], ids=["2D", "3D"])
def test_noise_goes(change: NormalizedTransform, shape: tuple[int, ...]) -> None:
    clean = box(shape)
    noisy = (clean + np.random.default_rng(0).normal(0, 0.05, clean.shape)).astype(np.float32)
    before, after = (peak_signal_noise_ratio(clean, image, data_range=1) for image in (noisy, change(noisy)))
    assert after > before + 3


def variation(image: np.ndarray) -> float:
    steps = [np.diff(image, axis=axis, append=np.take(image, [-1], axis)) for axis in range(image.ndim)]
    return float(np.sqrt(sum(step**2 for step in steps)).sum())


def test_tv_minimizes_its_objective() -> None:
    rng = np.random.default_rng(0)
    noisy, weight = (box((16, 16)) + rng.normal(0, 0.05, (1, 16, 16))).astype(np.float32), 0.1

    def objective(image: np.ndarray) -> float:
        return float(0.5 * ((image - noisy[0]) ** 2).sum() + weight * variation(image))

    done = TotalVariation(weight, iterations=2000)(noisy)[0]
    assert objective(done) < objective(noisy[0])
    assert all(objective(done + 0.02 * rng.standard_normal(done.shape)) > objective(done) for _ in range(20))
    assert objective(0.9 * done + 0.1 * noisy[0]) > objective(done) < objective(0.9 * done + 0.1 * done.mean())


def test_nlm_by_definition() -> None:
    image, h, distance = np.random.default_rng(0).random((1, 12, 11)).astype(np.float32), 0.4, 2
    done, pixels = NonLocalMeans(h, 3, distance)(image)[0], image[0]
    for row, column in itertools.product(range(4, 7), range(4, 7)):
        total = weights = 0.0
        for down, right in itertools.product(range(-distance, distance + 1), repeat=2):
            # the fast variant of scikit-image leaves out the first of the three voxels of a patch
            here = pixels[row : row + 2, column : column + 2]
            there = pixels[row + down : row + down + 2, column + right : column + right + 2]
            weight = np.exp(-((here - there) ** 2).sum() / (3 * h) ** 2)
            total, weights = total + weight * pixels[row + down, column + right], weights + weight
        assert done[row, column] == pytest.approx(total / weights, abs=2e-3)


def test_wrong_settings_of_denoising() -> None:
    for wrong, name in (
        (lambda: TotalVariation(-1), "weight"),
        (lambda: TotalVariation(iterations=0), "iterations"),
        (lambda: NonLocalMeans(-0.1), "h"),
        (lambda: NonLocalMeans(patch_size=0), "patch_size"),
        (lambda: NonLocalMeans(patch_distance=0), "patch_distance"),
    ):
        with pytest.raises(InputError, match=f"{name} must be at least"):
            wrong()


@pytest.mark.parametrize(("shape", "mode"), [((1, 16, 12), "bilinear"), ((2, 12, 8, 6), "trilinear")])
def test_linear_agrees_with_torch(shape: tuple[int, ...], mode: str) -> None:
    image = unit_image(shape)
    small = F.interpolate(torch.as_tensor(image)[None], scale_factor=0.5, mode=mode)
    back = F.interpolate(small, size=shape[1:], mode=mode)[0].numpy()
    assert np.allclose(ResampleBack(2, order=1)(image), back, atol=1e-5)


@pytest.mark.parametrize("order", [1, 3])
def test_half_resolution_has_no_alternating_noise(order: int) -> None:
    flat = np.full((1, 16, 12, 8), 0.5, np.float32)
    noisy = flat + 8 / 255 * alternating(flat.shape, 0)
    assert np.abs(ResampleBack(2, order)(noisy) - flat).max() < (1e-6 if order == 1 else 0.02)
    inner = ResampleBack(2, order)(noisy)[:, 4:-4] - 0.5
    assert np.abs(inner).max() < 1e-3


def test_factors_of_axes() -> None:
    image = unit_image((1, 12, 12, 8))
    ramp = np.broadcast_to(np.linspace(0, 1, 9, dtype=np.float32)[:, None], (1, 9, 5))
    assert np.array_equal(ResampleBack([2, 1])(ramp), ResampleBack(2)(ramp))  # constant along the second axis
    along_z = ResampleBack([1, 1, 2], order=1)(image)
    assert np.allclose(along_z[..., 0], 0.5 * (image[..., 0] + image[..., 1]), atol=1e-6)
    assert np.abs(ResampleBack(3)(image) - image).mean() > np.abs(ResampleBack(1.5)(image) - image).mean()
    with pytest.raises(InputError, match="2 factors"):
        ResampleBack([2, 2])(image)


def test_wrong_settings_of_resampling() -> None:
    with pytest.raises(InputError, match="factor must be at least 1"):
        ResampleBack(0.5)
    with pytest.raises(InputError, match="order"):
        ResampleBack(2, order=7)


def test_quantize_is_an_8_bit_export() -> None:
    image = unit_image((1, 9, 8))
    stored = Image.fromarray((image[0] * 255 + 0.5).astype(np.uint8))
    done = Quantize()(image)
    assert np.allclose(done[0], np.asarray(stored) / 255, atol=1e-6)
    assert np.array_equal(Quantize()(done), done)


@pytest.mark.parametrize("levels", [2, 7, 256, 4096])
def test_levels(levels: int) -> None:
    image = unit_image((1, 40, 40))
    done = Quantize(levels)(image)
    assert len(np.unique(done)) <= levels and done.min() == 0 and done.max() == 1
    assert np.abs(done - image).max() <= 0.5 / (levels - 1) + 1e-6


def biased(shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Two tissues in air, times a smooth field; the image (1, spatial...) and where the outer tissue is."""
    grid = np.indices(shape) / (np.max(shape) - 1) - 0.5
    distance = np.sqrt((grid**2).sum(0))
    tissue = np.where(distance < 0.25, 0.9, np.where(distance < 0.45, 0.6, 0))
    values = tissue * np.exp(0.4 * grid[0] + 0.3 * grid[1])
    noise = np.random.default_rng(0).normal(0, 0.01, shape)
    return (values / values.max() + noise).clip(0, 1)[None].astype(np.float32), tissue == 0.6


@pytest.mark.parametrize("shape", [(48, 48), (32, 32, 32)], ids=["2D", "3D"])
def test_n4_evens_out_a_bias_field(shape: tuple[int, ...]) -> None:
    image, tissue = biased(shape)
    done = RemoveBiasField(shrink=2)(image)

    def spread(values: np.ndarray) -> float:
        return float(values[tissue].std() / values[tissue].mean())

    assert spread(done[0]) < 0.5 * spread(image[0])
    assert np.isclose(np.percentile(done, 99.5), 1, atol=1e-3)


def test_n4_on_thin_and_nearly_empty_images() -> None:
    spot = np.zeros((1, 12, 12, 2), np.float32)
    spot[0, 3, 3, 0] = 1
    done = RemoveBiasField()(spot)
    assert np.isfinite(done).all() and done.max() > 0 and done[spot == 0].max() == 0


def test_threads_do_not_matter() -> None:
    sitk = pytest.importorskip("SimpleITK")
    image, before = biased((20, 20, 20))[0], sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    results = []
    try:
        for threads in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
            results.append(RemoveBiasField(iterations=(10, 10))(image))
            assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    assert np.array_equal(*results)


def test_gamma_and_clip_of_the_catalog_by_hand() -> None:
    catalog, image = Catalog.load("countermeasures"), unit_image((2, 15, 14))
    (gamma,) = catalog.build("gamma", dims=2, size=[16, 16])
    assert isinstance(gamma, AdjustContrastd)
    assert np.allclose(gamma({"image": torch.as_tensor(image)})["image"], image**gamma.adjuster.gamma, atol=1e-5)
    (clip,) = catalog.build("clip", dims=2, size=[16, 16])
    low, high = (np.percentile(image, q, axis=(1, 2), keepdims=True) for q in (2, 98))
    by_hand = ((image - low) / (high - low)).clip(0, 1)
    assert np.allclose(clip({"image": torch.as_tensor(image)})["image"], by_hand, atol=1e-5)


def test_wrong_settings_of_intensity() -> None:
    with pytest.raises(InputError, match="levels must be at least 2"):
        Quantize(1)
    with pytest.raises(InputError, match="shrink"):
        RemoveBiasField(0)
    with pytest.raises(InputError, match="iterations"):
        RemoveBiasField(iterations=[50, 0])

# SPDX-License-Identifier: Apache-2.0
"""Denoising by total variation and non-local means."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from monai_unlearnable.countermeasures import NonLocalMeans, NormalizedTransform, TotalVariation
from monai_unlearnable.errors import InputError


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


def test_wrong_settings() -> None:
    for wrong, name in (
        (lambda: TotalVariation(-1), "weight"),
        (lambda: TotalVariation(iterations=0), "iterations"),
        (lambda: NonLocalMeans(-0.1), "h"),
        (lambda: NonLocalMeans(patch_size=0), "patch_size"),
        (lambda: NonLocalMeans(patch_distance=0), "patch_distance"),
    ):
        with pytest.raises(InputError, match=f"{name} must be at least"):
            wrong()

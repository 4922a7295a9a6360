# SPDX-License-Identifier: Apache-2.0
"""Quantization and bias fields."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import AdjustContrastd
from PIL import Image

from monai_unlearnable.countermeasures import Quantize, RemoveBiasField
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from tests.countermeasures.images import unit_image


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


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="levels must be at least 2"):
        Quantize(1)
    with pytest.raises(InputError, match="shrink"):
        RemoveBiasField(0)
    with pytest.raises(InputError, match="iterations"):
        RemoveBiasField(iterations=[50, 0])

# SPDX-License-Identifier: Apache-2.0
"""Masks against scipy.ndimage and torch, and their algebra."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import ContourBand, Everywhere, MaskProvider, OfClasses, Roi, TextureMap
from monai_unlearnable.masks.base import max_filter
from tests.helpers import two_classes

SHAPES = [(15, 18), (12, 14, 10)]
ALL = [
    Everywhere(),
    Roi(),
    Roi(2),
    OfClasses([1, 5]),
    ContourBand(),
    ContourBand(0, 2),
    ContourBand(1, 0),
    TextureMap(),
    TextureMap(2, 0.5, 0.2),
]


def batch(shape: tuple[int, ...], size: int = 3, channels: int = 1) -> tuple[Tensor, Tensor]:
    """Images, and labels of which the first has two touching classes and the last is empty."""
    rng = np.random.default_rng(0)
    label = np.stack([np.roll(two_classes(shape), shift, axis=0) for shift in range(size)])[:, None]
    label[1:-1][label[1:-1] == 2] = 5
    label[-1] = 0
    return torch.as_tensor(rng.random((size, channels, *shape), np.float32)), torch.as_tensor(label.astype(np.int64))


def dilated(mask: np.ndarray, radius: int) -> np.ndarray:
    return ndimage.binary_dilation(mask, np.ones([2 * radius + 1] * mask.ndim))


def eroded(mask: np.ndarray, radius: int) -> np.ndarray:
    return ndimage.binary_erosion(mask, np.ones([2 * radius + 1] * mask.ndim), border_value=1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("margin", [0, 1, 3])
def test_roi_is_a_dilation(shape: tuple[int, ...], margin: int) -> None:
    image, label = batch(shape)
    mask = Roi(margin)(image, label).numpy()
    for one, classes in zip(mask, label.numpy(), strict=True):
        assert np.array_equal(one[0] > 0, dilated(classes[0] > 0, margin))


@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 99), inner=st.integers(0, 3), outer=st.integers(0, 3))
def test_contour_band_is_dilation_minus_erosion_of_each_class(
    shape: tuple[int, ...], seed: int, inner: int, outer: int
) -> None:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 2)
    label = np.digitize(field, np.quantile(field, [0.5, 0.7, 0.9])).astype(np.int64)
    mask = ContourBand(inner, outer)(torch.zeros(1, 1, *shape), torch.as_tensor(label)[None, None]).numpy()[0, 0]
    bands = [dilated(label == k, outer) & ~eroded(label == k, inner) for k in np.unique(label) if k > 0]
    assert np.array_equal(mask > 0, np.any(bands, axis=0)) and set(np.unique(mask)) <= {0, 1}


@pytest.mark.parametrize("shape", SHAPES)
def test_border_between_touching_classes_is_a_contour(shape: tuple[int, ...]) -> None:
    image, label = batch(shape, 2)
    mask = ContourBand(1, 1)(image, label)[0, 0]
    center = [extent // 2 for extent in shape]
    for shift in (-1, 0):
        assert mask[(center[0] + shift, *center[1:])] == 1
    assert mask[(center[0] - 2, *center[1:])] == 0


def test_border_of_the_image_is_no_contour() -> None:
    label = torch.ones(1, 1, 9, 9, dtype=torch.long)
    assert not ContourBand()(torch.zeros(1, 1, 9, 9), label).any()


@pytest.mark.parametrize("provider", ALL, ids=repr)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 2])
def test_batches_equal_single_results(provider: MaskProvider, shape: tuple[int, ...], channels: int) -> None:
    image, label = batch(shape, channels=channels)
    mask = provider(image, label)
    assert mask.shape == (3, 1, *shape) and mask.dtype == image.dtype
    assert mask.min() >= 0 and mask.max() <= 1
    for i in range(3):
        assert torch.allclose(mask[i], provider(image[i : i + 1], label[i : i + 1])[0], atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_empty_labels_have_no_region_and_no_contour(shape: tuple[int, ...]) -> None:
    image, label = batch(shape)
    for provider in (Roi(2), ContourBand()):
        mask = provider(image, label)
        assert mask[0].any() and not mask[-1].any()
        assert not provider(image, torch.zeros_like(label)).any()


@pytest.mark.parametrize("shape", [(32, 20), (24, 12, 10)])
@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
def test_texture_is_zero_on_constant_regions(shape: tuple[int, ...], level: float) -> None:
    image = torch.full((2, 1, *shape), level)
    image[0, :, shape[0] // 2 :] = torch.as_tensor(np.random.default_rng(0).random((1, *shape), np.float32))[
        :, shape[0] // 2 :
    ]
    mask = TextureMap()(image)
    flat, textured = mask[0, :, : shape[0] // 2 - 1], mask[0, :, shape[0] // 2 + 1 :]
    assert not flat.any() and textured.mean() > 0.5
    assert not mask[1].any()


def test_texture_floor_and_saturation() -> None:
    image = torch.as_tensor(np.random.default_rng(0).random((1, 1, 20, 20), np.float32))
    assert TextureMap(floor=1)(image).eq(1).all()
    assert TextureMap(floor=0.25)(image).min() >= 0.25
    assert (
        TextureMap(saturation=2.0)(image).mean() < TextureMap()(image).mean() < TextureMap(saturation=0.5)(image).mean()
    )


def test_texture_follows_local_deviation() -> None:
    image = np.random.default_rng(0).random((20, 20)).astype(np.float32)
    expected = ndimage.generic_filter(image.astype(np.float64), np.std, 3)
    mask = TextureMap(saturation=1e3)(torch.as_tensor(image)[None, None])[0, 0].numpy()
    inside = (slice(1, -1),) * 2
    assert np.corrcoef(mask[inside].ravel(), expected[inside].ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("shape", SHAPES)
def test_composition(shape: tuple[int, ...]) -> None:
    image, label = batch(shape)
    a, b = ContourBand(1, 1)(image, label), TextureMap()(image)
    assert torch.equal((ContourBand(1, 1) & TextureMap())(image, label), a * b)
    assert torch.equal((ContourBand(1, 1) | TextureMap())(image, label), torch.maximum(a, b))
    assert torch.equal((~TextureMap())(image), 1 - b)
    inside = (Roi() & ~ContourBand(1, 0))(image, label)
    assert torch.equal(inside + ContourBand(1, 0)(image, label), Roi()(image, label))


@pytest.mark.parametrize(
    "provider",
    [Roi(), ContourBand(), OfClasses([1]), TextureMap() & Roi(), Everywhere() | Roi(), ~Roi(), ~OfClasses([1])],
    ids=repr,
)
def test_label_errors(provider: MaskProvider) -> None:
    image, label = batch((8, 9))
    assert provider.needs_label
    with pytest.raises(LabelError, match="needs a label"):
        provider(image)
    with pytest.raises(LabelError, match="does not match"):
        provider(image, label[..., :-1])
    with pytest.raises(LabelError, match="does not match"):
        provider(image, label[:1])


@pytest.mark.parametrize("provider", [Everywhere(), TextureMap(), ~(Everywhere() & TextureMap())], ids=repr)
def test_some_need_no_label(provider: MaskProvider) -> None:
    image, _ = batch((8, 9))
    assert not provider.needs_label and provider(image).shape == (3, 1, 8, 9)


@pytest.mark.parametrize("shape", SHAPES)
def test_voxels_of_classes(shape: tuple[int, ...]) -> None:
    image, label = batch(shape)
    for kinds in ([1], [0, 2], [5], [7], []):
        expected = np.isin(label.numpy(), kinds)
        assert np.array_equal(OfClasses(kinds)(image, label).numpy(), expected)
        assert np.array_equal((~OfClasses(kinds))(image, label).numpy(), ~expected)
    assert torch.equal((Roi() & ~OfClasses([2]))(image, label), ((label > 0) & (label != 2)).float())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_classes(shape: tuple[int, ...], channels: int) -> None:
    image, label = batch(shape, 4, channels)[0], torch.tensor([0, 1, 2, 1])
    for provider, expected in (
        (OfClasses([1]), [0, 1, 0, 1]),
        (OfClasses([0, 2]), [1, 0, 1, 0]),
        (~OfClasses([1]), [1, 0, 1, 0]),
        (Everywhere() & ~OfClasses([1]), [1, 0, 1, 0]),
        (OfClasses([0]) | OfClasses([2]), [1, 0, 1, 0]),
        (Everywhere(), [1, 1, 1, 1]),
    ):
        mask = provider(image, label)
        assert mask.shape == (4, 1, *shape) and mask.dtype == image.dtype
        assert [float(one.mean()) for one in mask] == expected and set(mask.unique().tolist()) <= {0, 1}
    assert torch.equal((TextureMap() & OfClasses([1]))(image, label)[1], TextureMap()(image)[1])


@pytest.mark.parametrize(
    "provider", [Roi(), ContourBand(), Roi() & ~OfClasses([1]), OfClasses([1]) | ContourBand(), ~Roi()], ids=repr
)
def test_regions_need_a_class_for_each_voxel(provider: MaskProvider) -> None:
    image, _ = batch((8, 9))
    with pytest.raises(LabelError, match="needs a class for each voxel, and these cases have one for each image"):
        provider(image, torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Roi(-2), "margin of the region is -2; give 0 or more"),
        (lambda: TextureMap(radius=0), "radius of the texture map is 0; give 1 or more"),
        (lambda: TextureMap(saturation=0), "saturation is 0; it must be positive"),
        (lambda: TextureMap(floor=2), r"the floor of the texture map must lie in \[0, 1\]"),
        (lambda: TextureMap(floor=-1), r"the floor of the texture map must lie in \[0, 1\]"),
    ],
)
def test_numbers_out_of_range(make: Callable[[], MaskProvider], reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        make()


def test_there_is_a_class_for_every_image() -> None:
    image, _ = batch((8, 9))
    with pytest.raises(LabelError, match="does not match"):
        OfClasses([1])(image, torch.tensor([0, 1]))


@pytest.mark.parametrize("radius", [0, 1, 3])
@pytest.mark.parametrize("shape", [(2, 1, 9, 8), (1, 3, 7, 8, 9)])
def test_equals_pooling_over_the_neighborhood(shape: tuple[int, ...], radius: int) -> None:
    image = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    pool = F.max_pool2d if len(shape) == 4 else F.max_pool3d
    assert torch.equal(max_filter(image, radius), pool(image, 2 * radius + 1, stride=1, padding=radius))

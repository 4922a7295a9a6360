# SPDX-License-Identifier: Apache-2.0
"""Exactly so many voxels, the right ones, and the same ones every time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import (
    ForegroundScore,
    GradientScore,
    RandomScore,
    Roi,
    Score,
    Sparsity,
    TopK,
    VarianceScore,
    top_k,
)
from monai_unlearnable.masks.sparsity import foreground
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe
from tests.helpers import two_classes

SHAPES = [(15, 18), (12, 14, 10)]
SCORES = [GradientScore(), GradientScore(times_input=True), RandomScore(), ForegroundScore(), VarianceScore()]
BLIND = SCORES[2:]  # need no gradient
every_score = pytest.mark.parametrize("score", SCORES, ids=repr)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def batch(shape: tuple[int, ...], channels: int = 1, size: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Images in (0, 1), label maps and gradients."""
    generator = torch.Generator().manual_seed(0)
    image = 0.1 + 0.8 * torch.rand(size, channels, *shape, generator=generator)
    label = torch.as_tensor(two_classes(shape).astype(np.int64)).expand(size, 1, *shape)
    return image, label, torch.randn(image.shape, generator=generator)


@given(
    scores=st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, -np.inf]), min_size=7, max_size=7), min_size=1, max_size=4
    ),
    count=st.integers(0, 9),
)
def test_top_k_is_a_stable_sort(scores: list[list[float]], count: int) -> None:
    marked = top_k(torch.tensor(scores), torch.tensor([count] * len(scores)))
    for row, found in zip(scores, marked.numpy(), strict=True):
        order = np.argsort(-np.array(row), kind="stable")
        expected = [index for index in order[:count] if row[index] > -np.inf]
        assert sorted(expected) == np.flatnonzero(found).tolist()


def test_top_k_takes_counts_of_their_own() -> None:
    marked = top_k(torch.arange(24.0).reshape(2, 1, 3, 4), torch.tensor([1, 5]))
    assert marked.shape == (2, 1, 3, 4) and marked.flatten(1).sum(1).tolist() == [1, 5]
    assert marked[0, 0, 2, 3] and marked[1, 0, 2].all()


@every_score
@every_shape
def test_counts_are_exact(score: Score, shape: tuple[int, ...]) -> None:
    for channels, fraction in itertools.product((1, 3), (0.001, 0.01, 0.1, 1.0)):
        image, label, gradient = batch(shape, channels)
        mask, tried = Sparsity(fraction, score).select(image, label, gradient=gradient), (channels, fraction)
        assert mask.shape == (3, 1, *shape) and mask.dtype == image.dtype, tried
        assert set(mask.unique().tolist()) <= {0, 1}, tried
        assert mask.flatten(1).sum(1).tolist() == [int(fraction * np.prod(shape) + 1e-6)] * 3, tried


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_counts_are_exact_whatever_the_precision_of_the_image(dtype: torch.dtype) -> None:
    image, gradient = torch.rand(1, 1, 301, 301).to(dtype), torch.randn(1, 1, 301, 301).to(dtype)
    assert int(Sparsity(0.1).select(image, gradient=gradient).bool().sum()) == 9060


@pytest.mark.parametrize("shape", [(5, 7, 1), (17, 3, 2), (3, 9)], ids=str)
@pytest.mark.parametrize("patch", [2, 4, 16])
def test_blocks_may_be_larger_than_the_image(shape: tuple[int, ...], patch: int) -> None:
    image, _, gradient = batch(shape)
    mask, allowed = Sparsity(0.3, patch=patch).select(image, gradient=gradient).flatten(1), int(0.3 * np.prod(shape))
    assert mask.sum(1).tolist() == [allowed] * 3
    if patch >= max(shape):
        assert mask[:, :allowed].all(), "of a single block, the first voxels"


@every_shape
@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.29])
def test_elements_are_as_many_as_voxels(shape: tuple[int, ...], fraction: float) -> None:
    image, label, gradient = batch(shape, 3)
    mask = Sparsity(fraction, per="element").select(image, label, gradient=gradient)
    assert mask.shape == image.shape and mask.flatten(1).sum(1).tolist() == [int(fraction * np.prod(shape) + 1e-6)] * 3
    for one, size in zip(mask, gradient.abs(), strict=True):
        assert size[one > 0].min() >= size[one == 0].max(), "the largest elements, whatever their voxel"


@every_score
@every_shape
def test_a_case_knows_nothing_of_those_beside_it(score: Score, shape: tuple[int, ...]) -> None:
    image, label, gradient = batch(shape, 2)
    together = Sparsity(0.1, score).select(image, label, gradient=gradient)
    for i in range(3):
        alone = Sparsity(0.1, score).select(image[[i]], label[[i]], gradient=gradient[[i]])
        assert torch.equal(alone[0], together[i])
    assert not torch.equal(together[0], together[1])


@every_score
@every_shape
def test_the_support_is_never_left(score: Score, shape: tuple[int, ...]) -> None:
    image, label, gradient = batch(shape)
    support = (label == 1).float()
    for fraction in (0.05, 1.0):
        mask = Sparsity(fraction, score).select(image, label, support, gradient)
        assert not mask[support == 0].any()
        wanted = [min(int(fraction * np.prod(shape)), int(one.sum())) for one in support]
        assert mask.flatten(1).sum(1).tolist() == wanted
    empty = Sparsity(0.1, score).select(image, label, torch.zeros_like(support), gradient)
    assert not empty.any()


@every_shape
def test_gradients_rank_voxels_by_all_channels(shape: tuple[int, ...]) -> None:
    image, _, gradient = batch(shape, 2)
    for times_input in (False, True):
        size = ((gradient * image if times_input else gradient) ** 2).sum(1, keepdim=True)
        mask = Sparsity(0.2, GradientScore(times_input)).select(image, gradient=gradient)
        for one, rank in zip(mask, size, strict=True):
            assert rank[one > 0].min() >= rank[one == 0].max()


@every_shape
def test_no_voxel_is_wasted_on_noise_that_the_file_cannot_hold(shape: tuple[int, ...]) -> None:
    image, _, gradient = batch(shape)
    half = shape[0] // 2
    image[:, :, :half], gradient[:, :, :half] = 0, 9  # the way down leads below black
    image[:, :, -1], gradient[:, :, -1] = 1, -9
    mask = Sparsity(0.2).select(image, gradient=gradient)
    assert not mask[:, :, :half].any() and not mask[:, :, -1].any() and mask.any()
    gradient[:, :, :half] = -9
    assert Sparsity(0.2).select(image, gradient=gradient)[:, :, :half].all(0).any()


@pytest.mark.parametrize("kind", [RandomScore, ForegroundScore])
def test_chance_follows_the_image_and_the_seed(kind: type[RandomScore] | type[ForegroundScore]) -> None:
    image, label, _ = batch((15, 18))
    first = Sparsity(0.1, kind()).select(image, label)
    state = torch.get_rng_state()
    assert torch.equal(Sparsity(0.1, kind()).select(image, label), first)
    assert not torch.equal(Sparsity(0.1, kind(1)).select(image, label), first)
    assert torch.equal(torch.get_rng_state(), state), "the global generator was not touched"


@every_shape
def test_foreground_is_the_region_or_what_is_bright(shape: tuple[int, ...]) -> None:
    image, label, _ = batch(shape)
    inside = label > 0
    assert Sparsity(0.05, ForegroundScore()).select(image, label)[~inside].sum() == 0
    full = Sparsity(0.9, ForegroundScore()).select(image, label)
    assert full[inside].all() and full.flatten(1).sum(1).tolist() == [int(0.9 * np.prod(shape))] * 3
    bright = image * 0.3
    bright[:, :, :5] += 0.5
    for whole in (None, torch.tensor([0, 1, 2])):
        mask = Sparsity(0.1, ForegroundScore()).select(bright, whole)
        assert mask[:, :, 5:].mean() < 0.01 and mask.flatten(1).sum(1).tolist() == [int(0.1 * np.prod(shape))] * 3


@pytest.mark.parametrize("shape", [(8, 3), (8, 8, 4)], ids=str)
def test_foreground_of_shapes_that_look_like_colors(shape: tuple[int, ...], recwarn: pytest.WarningsRecorder) -> None:
    image = torch.full((2, 1, *shape), 0.1)
    image[:, :, 3:5] = 0.9
    assert torch.equal(foreground(image), image > 0.5) and not recwarn.list


@every_shape
def test_a_fraction_of_the_foreground(shape: tuple[int, ...]) -> None:
    image, label, gradient = batch(shape)
    mask = Sparsity(0.25, of="foreground").select(image, label, gradient=gradient)
    assert mask.flatten(1).sum(1).tolist() == [int(0.25 * int((one > 0).sum())) for one in label]


@every_shape
def test_variance_is_where_texture_is(shape: tuple[int, ...]) -> None:
    image = torch.full((1, 1, *shape), 0.5)
    image[:, :, : shape[0] // 2] = torch.rand(image[:, :, : shape[0] // 2].shape)
    assert not Sparsity(0.3, VarianceScore()).select(image)[:, :, shape[0] // 2 + 1 :].any()


@pytest.mark.parametrize("score", BLIND, ids=repr)
@every_shape
def test_a_mask_among_masks(score: Score, shape: tuple[int, ...]) -> None:
    image, label, _ = batch(shape)
    provider = TopK(Sparsity(0.2, score))
    assert torch.equal(provider(image, label), Sparsity(0.2, score).select(image, label))
    both = Roi() & provider
    assert both.needs_label and not provider.needs_label
    assert torch.equal(both(image, label), Roi()(image, label) * provider(image, label))
    inside = TopK(Sparsity(0.05, score), within=Roi())
    assert inside.needs_label and inside(image, label).flatten(1).sum(1).tolist() == [int(0.05 * np.prod(shape))] * 3
    assert not inside(image, label)[label == 0].any()
    again = build(describe(both))
    assert describe(again) == describe(both) and torch.equal(again(image, label), both(image, label))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        Sparsity(0)
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        Sparsity(1.5)
    with pytest.raises(InputError, match="patch is 1.5, not a whole number"):
        Sparsity(patch=1.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="radius of the score is 0; give 1 or more"):
        VarianceScore(radius=0)
    with pytest.raises(InputError, match="unknown base.*'half'.*foreground"):
        Sparsity(of="half")
    with pytest.raises(InputError, match="unknown unit.*'image'.*element"):
        Sparsity(per="image")
    with pytest.raises(InputError, match="GradientScore needs a network"):
        TopK(Sparsity())
    with pytest.raises(InputError, match="GradientScore needs a gradient"):
        Sparsity().select(torch.rand(1, 1, 8, 8))
    with pytest.raises(InputError, match="voxels, not elements"):
        TopK(Sparsity(score=RandomScore(), per="element"))

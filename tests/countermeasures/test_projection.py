# SPDX-License-Identifier: Apache-2.0
"""The projection finds planted linear patterns and takes them out, and leaves the rest."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from monai_unlearnable.countermeasures import BlockProjection, OrthogonalProjection, WholeProjection
from monai_unlearnable.countermeasures.classifiers import blocks, labeled_vectors, residual, unblocks
from monai_unlearnable.errors import InputError
from tests.countermeasures.planted import (
    AMPLITUDE,
    SHAPES,
    class_pattern,
    classification_cases,
    material,
    segmentation_cases,
    smooth_image,
    stripes,
)


def left_of(pattern: Tensor, before: Tensor, after: Tensor, region: Tensor | None = None) -> float:
    """How much of a pattern in the difference of two images a projection has left, 0 to 1."""
    region = torch.ones_like(pattern) if region is None else region
    return float(((after - before) * pattern * region).sum() / (AMPLITUDE * region.sum()))


@pytest.mark.parametrize("dims", [2, 3])
def test_class_patterns_are_removed(dims: int) -> None:
    cases = classification_cases(60, dims)
    (step,) = OrthogonalProjection().prepare(material(cases)).steps
    clean = smooth_image(SHAPES[dims], 500)
    difference = class_pattern(SHAPES[dims], 1) - class_pattern(SHAPES[dims], 0)
    protected = clean + AMPLITUDE / 2 * difference
    kept = ((step({"image": protected})["image"] - step({"image": clean})["image"]) * difference).sum()
    assert kept / ((protected - clean) * difference).sum() < 0.2
    assert (step({"image": clean})["image"] - clean).abs().mean() < 0.03


@pytest.mark.parametrize(("dims", "block"), [(2, 4), (3, 4), (3, None)])
def test_patterns_inside_a_label_are_removed(dims: int, block: int | None) -> None:
    cases = segmentation_cases(12, dims)
    (step,) = OrthogonalProjection(block=block).prepare(material(cases)).steps
    clean = segmentation_cases(1, dims, [False], start=500)[0]
    image, region = clean["image"], clean["label"].float()
    pattern = stripes(SHAPES[dims])
    protected = image + AMPLITUDE * pattern * region
    changed, unchanged = (step({"image": part})["image"] for part in (protected, image))
    assert left_of(pattern, image, protected, region) == pytest.approx(1, abs=1e-4)
    assert abs(left_of(pattern, unchanged, changed, region)) < 0.2
    assert (unchanged - image).abs().mean() < 0.01


def test_a_sliding_filter_could_not_see_the_stripes() -> None:
    """Why blocks: shifted by one voxel, the stripes of a block change their sign."""
    pattern = stripes((8, 8))
    assert torch.equal(blocks(pattern, 4)[0], -blocks(pattern.roll(1, 1), 4)[0])


def test_the_mean_of_blocks_survives() -> None:
    cases = segmentation_cases(6, 2)
    for case in cases:
        case["image"] = case["image"] + 0.1 * case["label"]
    (step,) = OrthogonalProjection(block=4).prepare(material(cases)).steps
    image = cases[0]["image"].clamp(0.3, 0.7)
    changed = step({"image": image})["image"]
    assert torch.allclose(blocks(image, 4).mean(1), blocks(changed, 4).mean(1), atol=1e-4)


def test_projection_is_a_projection() -> None:
    draw = torch.Generator().manual_seed(0)
    image = torch.rand(2, 8, 12, generator=draw)
    weights = torch.randn(3, 2 * 16, generator=draw)
    weights[2] = weights[0] + weights[1]
    once = BlockProjection(weights, 4)(image)
    assert torch.allclose(BlockProjection(weights, 4)(once), once, atol=1e-5)
    assert (blocks(once, 4) @ weights.T).abs().max() < 1e-4
    assert torch.equal(BlockProjection(torch.zeros(2, 32), 4)(image), image)
    weights = torch.randn(2, image.numel(), generator=draw)
    once = WholeProjection(weights, (8, 12))(image)
    assert (weights @ once.flatten()).abs().max() < 1e-3
    smaller = WholeProjection(weights, (8, 12))(image[:, :5])
    assert (weights.view(2, 2, 8, 12)[:, :, :5].flatten(1) @ smaller.flatten()).abs().max() < 1e-3
    larger = torch.rand(2, 10, 12, generator=draw)
    assert torch.equal(WholeProjection(weights, (8, 12))(larger)[:, 8:], larger[:, 8:])


@pytest.mark.parametrize("make", [classification_cases, segmentation_cases])
def test_sizes_seeds_and_pickles(make) -> None:  # type: ignore[no-untyped-def]
    cases = make(8, 2)
    cases[3] = {**cases[3], "image": cases[3]["image"][:, :17, :11]}
    if not isinstance(cases[3]["label"], int):
        cases[3]["label"] = cases[3]["label"][:, :17, :11]
    first, second = (OrthogonalProjection(iterations=5).prepare(material(cases)).steps[0] for _ in range(2))
    again = pickle.loads(pickle.dumps(first))
    for case in cases:
        changed = first(dict(case))["image"]
        assert changed.shape == case["image"].shape and changed.min() >= 0 and changed.max() <= 1
        assert torch.equal(changed, second(dict(case))["image"])
        assert torch.equal(changed, again(dict(case))["image"])


def test_labels_are_needed() -> None:
    cases = classification_cases(4, 2)
    with pytest.raises(InputError, match="case1.*no label"):
        OrthogonalProjection().prepare(material([cases[0], {**cases[1], "label": None}]))
    with pytest.raises(InputError, match="the same"):
        OrthogonalProjection().prepare(material([cases[0], cases[2]]))
    with pytest.raises(InputError, match="class numbers"):
        OrthogonalProjection().prepare(material([cases[0], segmentation_cases(1, 2)[0]]))
    with pytest.raises(InputError, match="shape"):
        wrong = {**segmentation_cases(1, 2)[0], "image": torch.rand(1, 8, 8)}
        OrthogonalProjection().prepare(material([wrong]))
    with pytest.raises(InputError, match="no case"):
        OrthogonalProjection().prepare(material([]))
    with pytest.raises(InputError, match="block is -1"):
        OrthogonalProjection(block=-1)


@pytest.mark.parametrize("shape", [(1, 8, 12), (2, 7, 9), (1, 5, 6, 11)])
def test_blocks_go_back(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    assert torch.equal(unblocks(blocks(image, 4), shape, 4), image)


def test_rows_know_their_case_and_fraction() -> None:
    cases = segmentation_cases(3, 2)
    vectors = labeled_vectors(cases, residual, block=4, rows=8)
    assert vectors.values.shape == (24, 16) and vectors.targets.shape == (24, 2)
    assert torch.equal(vectors.cases, torch.arange(3).repeat_interleave(8))
    assert torch.allclose(vectors.targets.sum(1), torch.ones(24))
    assert vectors.targets[:, 1].view(3, 8).sum(1).tolist() == [4, 4, 4]
    whole = labeled_vectors(classification_cases(3, 3), residual)
    assert whole.whole and whole.extent == SHAPES[3] and whole.channels == 1
    part = labeled_vectors(classification_cases(3, 3), residual, features=50, seed=1)
    assert part.values.shape == (3, 50)
    columns = [(whole.values == column[:, None]).all(0) for column in part.values.T]
    assert all(column.any() for column in columns)

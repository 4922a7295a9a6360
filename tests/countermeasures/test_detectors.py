# SPDX-License-Identifier: Apache-2.0
"""Detectors read planted noise, and chance where there is none; the area agrees with counting pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from monai_unlearnable.countermeasures import label_separability, scan_statistics, separability
from monai_unlearnable.countermeasures.classifiers import fit_classifier
from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import area_under_curve
from tests.countermeasures.planted import SHAPES, classification_cases, segmentation_cases, smooth_image, stripes


def count_pairs(scores: np.ndarray, positive: np.ndarray) -> float:
    wins = [(a > b) + (a == b) / 2 for a in scores[positive] for b in scores[~positive]]
    return float(np.mean(wins))


@pytest.mark.parametrize("levels", [3, 1000])
def test_area_agrees_with_counting_pairs(levels: int) -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(levels, size=60) / 7, rng.random(60) < 0.4
    assert area_under_curve(scores, positive) == pytest.approx(count_pairs(scores, positive))
    often = rng.integers(0, 3, size=60)
    repeated = count_pairs(np.repeat(scores, often), np.repeat(positive, often))
    assert area_under_curve(scores, positive, often) == pytest.approx(repeated)
    assert np.isnan(area_under_curve(scores, np.ones(60, bool)))


@pytest.mark.parametrize("dims", [2, 3])
def test_planted_stripes_are_detected(dims: int) -> None:
    clean = [smooth_image(SHAPES[dims], seed) for seed in range(20)]
    protected = [image + 0.02 * stripes(SHAPES[dims]) for image in clean]
    found = separability(protected, clean)
    for area in (found.linear, found.two_layer):
        assert area.value > 0.95 and area.interval[0] <= area.value <= area.interval[1] <= 1
    assert found.cases == 20


def test_equal_distributions_are_chance() -> None:
    first = [smooth_image(SHAPES[2], seed) for seed in range(40)]
    other = [smooth_image(SHAPES[2], seed) for seed in range(100, 140)]
    names = ([f"a{i}" for i in range(40)], [f"b{i}" for i in range(40)])
    found = separability(first, other, names)
    assert found.cases == 80
    for area in (found.linear, found.two_layer):
        assert 0.3 < area.value < 0.7 and area.interval[0] < 0.5 < area.interval[1]
    same = separability(first, first)
    assert same.linear.value == same.two_layer.value == 0.5


def test_the_seed_decides() -> None:
    clean = [smooth_image(SHAPES[2], seed) for seed in range(12)]
    protected = [image + 0.001 * stripes(SHAPES[2]) for image in clean]
    assert separability(protected, clean, seed=3) == separability(protected, clean, seed=3)
    assert separability(protected, clean, seed=3) != separability(protected, clean, seed=4)


@pytest.mark.parametrize("make", [classification_cases, segmentation_cases])
@pytest.mark.parametrize("dims", [2, 3])
def test_labels_are_read_from_planted_noise_alone(make, dims: int) -> None:  # type: ignore[no-untyped-def]
    planted = label_separability(make(40, dims), block=4, rows=32)
    clean = label_separability(make(40, dims, [False] * 40), block=4, rows=32)
    for area in (planted.linear, planted.two_layer):
        assert area.value > 0.9 and area.interval[0] <= area.value <= area.interval[1]
    for area in (clean.linear, clean.two_layer):
        assert 0.3 < area.value < 0.7
    assert planted.cases == clean.cases == 40


def test_three_classes_are_judged_one_against_the_rest() -> None:
    cases = classification_cases(30, 2)
    for index, case in enumerate(cases):
        case["label"] = index % 3
        case["image"] = smooth_image(SHAPES[2], index) + 0.06 * stripes(SHAPES[2]).roll(index % 3, 2) * (index % 3)
    assert label_separability(cases).linear.value > 0.8
    gaps = [{**case, "label": 3 * case["label"] + 1} for case in cases]
    found, same = label_separability(gaps), label_separability(cases)
    assert found.linear.value == pytest.approx(same.linear.value, abs=0.02)


def test_where_every_block_is_of_one_class_the_area_is_not_known() -> None:
    labels = [torch.ones(1, 16, 16, dtype=torch.long) for _ in range(4)]
    labels[0][:, 0, 0] = 0  # a voxel of background in all
    samples = [{"image": torch.rand(1, 16, 16), "label": label} for label in labels]
    found = label_separability(samples).linear
    assert math.isnan(found.value) and all(map(math.isnan, found.interval))


def test_statistics_are_finite_and_few() -> None:
    for shape in ((1, 30, 20), (2, 9, 9), (1, 8, 12, 1), (1, 5, 6, 7)):
        for image in (torch.rand(shape), torch.zeros(shape)):
            numbers = scan_statistics(image)
            assert numbers.isfinite().all()
            assert numbers.shape == (shape[0] * (8 * (len(shape) - 1) + 6),)


def test_too_few_cases() -> None:
    image = smooth_image(SHAPES[2], 0)
    with pytest.raises(InputError, match="at least 2"):
        separability([image], [image])
    cases = classification_cases(5, 2)
    with pytest.raises(InputError, match="single case"):
        label_separability([cases[0], cases[1], cases[2]])
    with pytest.raises(InputError, match="the same"):
        label_separability([cases[0], cases[2]])
    specks = segmentation_cases(4, 2)
    for case in specks:
        case["label"] = torch.zeros_like(case["label"])
        case["label"][0, 5, 5] = 1
    with pytest.raises(InputError, match="too large"):
        label_separability(specks)


def test_logistic_regression_reaches_its_optimum() -> None:
    """At the optimum the gradient of the penalized loss is zero."""
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(80, 3, generator=rng)
    targets = torch.nn.functional.one_hot((values[:, 0] + torch.randn(80, generator=rng) > 0).long(), 2).float()
    model = fit_classifier(values, targets, penalty=2.0, iterations=200)
    scaled = torch.from_numpy(model.scaler.transform(values.numpy()))
    difference = model.weights[0] / 2  # of the two classes' weights, which are each other's opposites
    weights = torch.stack([-difference, difference]).requires_grad_(True)
    offset = torch.tensor([-1, 1]) * float(model.model.intercept_[0]) / 2
    assert torch.allclose(
        (scaled @ weights.T + offset).log_softmax(1), model.log_probabilities(values).float(), atol=1e-5
    )
    weight = 1 / (2 * targets.mean(0))
    loss = torch.nn.functional.cross_entropy(scaled @ weights.T + offset, targets, weight)
    loss = loss + 2.0 / 2 / 80 * (weights**2).sum()
    loss.backward()
    assert weights.grad.abs().max() < 1e-3

# SPDX-License-Identifier: Apache-2.0
"""Dice against SimpleITK, distances against SciPy, SimpleITK and hand-computed ones."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.metrics import compute_hausdorff_distance
from scipy.ndimage import binary_erosion
from scipy.spatial.distance import cdist

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import segmentation_scores

pytestmark = pytest.mark.filterwarnings("error")


def blobs(shape: tuple[int, ...], seed: int, classes: int = 3) -> np.ndarray:
    """Boxes of the classes at random places."""
    rng, label = np.random.default_rng(seed), np.zeros(shape, np.uint8)
    for index in range(1, classes):
        low = [int(rng.integers(0, extent - 4)) for extent in shape]
        label[tuple(slice(a, a + int(rng.integers(3, 5))) for a in low)] = index
    return label


def surface_distances(first: np.ndarray, second: np.ndarray, spacing: Any) -> list[np.ndarray]:
    """From each surface voxel of one mask to the closest of the other, both ways."""
    points = [np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(spacing) for mask in (first, second)]
    table = cdist(*points)
    return [table.min(axis=1), table.min(axis=0)]


@pytest.mark.parametrize(("shape", "spacing"), [((14, 17), (0.5, 2.0)), ((12, 13, 9), (0.8, 1.1, 3.0))])
def test_agrees_with_other_implementations(shape: tuple[int, ...], spacing: tuple[float, ...]) -> None:
    predictions, labels = [blobs(shape, seed) for seed in range(4)], [blobs(shape, seed + 9) for seed in range(4)]
    scores = segmentation_scores(predictions, labels, 3, [spacing] * 4)
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    dice, distances = np.zeros((4, 2)), np.zeros((4, 2))
    for row, (found, truth) in enumerate(zip(predictions, labels, strict=True)):
        overlap.Execute(sitk.GetImageFromArray(truth), sitk.GetImageFromArray(found))
        for index in (1, 2):
            dice[row, index - 1] = 100 * overlap.GetDiceCoefficient(index)
            both = surface_distances(found == index, truth == index, spacing)
            distances[row, index - 1] = max(np.percentile(way, 95) for way in both)
    assert scores.metric == "Dice"
    assert scores.by_case == pytest.approx(dice.mean(axis=1), abs=1e-4)
    assert scores.per_class == pytest.approx(dice.mean(axis=0), abs=1e-4)
    assert scores.value == pytest.approx(dice.mean(), abs=1e-4)
    assert scores.interval[0] <= scores.value <= scores.interval[1]
    assert scores.extras == pytest.approx({"hd95": distances.mean(), "hd95_missing": 0.0}, rel=1e-5)


def test_distance_of_single_voxels_as_in_simple_itk() -> None:
    """Where a mask is all surface, the 95th percentile of a single distance is the Hausdorff distance."""
    masks = np.zeros((2, 9, 8, 7), np.uint8)
    masks[0, 1, 2, 3] = masks[1, 6, 4, 1] = 1
    images = [sitk.GetImageFromArray(mask) for mask in masks]
    for image in images:
        image.SetSpacing((0.5, 2.0, 3.0))  # x, y, z: axes backwards
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*images)
    scores = segmentation_scores(masks[:1], masks[1:], 2, [(3.0, 2.0, 0.5)])
    assert scores.extras["hd95"] == pytest.approx(hausdorff.GetHausdorffDistance())
    assert scores.extras["hd95"] == pytest.approx(math.hypot(5 * 3, 2 * 2, 2 * 0.5))


def test_shifted_box_by_hand() -> None:
    """A box moved by 2 voxels of 3 mm: half of it is hit, and its far face is 6 mm off."""
    label = np.zeros((1, 12, 10, 10), np.uint8)
    label[0, 2:6, 2:8, 2:8] = 1
    found = np.roll(label, 2, axis=1)
    scores = segmentation_scores([torch.as_tensor(found)], [torch.as_tensor(label)], 2, [(3, 1, 1)])
    assert scores.value == pytest.approx(50, abs=1e-4)
    assert scores.extras["hd95"] == pytest.approx(6)
    assert scores.interval == (scores.value, scores.value)
    assert segmentation_scores([found], [label], 2).extras["hd95"] == pytest.approx(2)  # voxels


def test_arrays_tensors_channels_and_generators_are_the_same() -> None:
    predictions, labels = [blobs((9, 9, 9), seed) for seed in (0, 1)], [blobs((9, 9, 9), seed) for seed in (5, 6)]
    expected = segmentation_scores(predictions, labels, 3)
    assert segmentation_scores((torch.as_tensor(x[None]) for x in predictions), iter(labels), 3) == expected


def test_a_volume_of_one_slice_keeps_its_axis() -> None:
    label, found = np.zeros((2, 1, 8, 8), np.uint8)
    label[0, 2:4], found[0, 3:5] = 1, 1
    assert segmentation_scores([found], [label], 2, [(5.0, 2.0, 1.0)]).extras["hd95"] == pytest.approx(2)


def test_distance_is_that_of_monai() -> None:
    found, truth = (torch.as_tensor(blobs((12, 13, 9), seed) == 1)[None, None] for seed in (1, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI 1.6 about its own argument
        expected = compute_hausdorff_distance(found, truth, True, percentile=95, spacing=(0.8, 1.1, 3.0))
    scores = segmentation_scores([found[0, 0].int()], [truth[0, 0].int()], 2, [(0.8, 1.1, 3.0)])
    assert scores.extras["hd95"] == pytest.approx(expected.item())


def test_absent_classes_do_not_count() -> None:
    label, other = np.zeros((2, 8, 8), np.uint8)
    label[:4], other[:2], other[4:6] = 1, 1, 2
    found = np.zeros((8, 8), np.uint8)
    found[:2], found[7] = 1, 3
    scores = segmentation_scores([found, found], [label, other], 4)
    assert scores.per_class[:2] == pytest.approx([100 * (2 / 3 + 1) / 2, 0], abs=1e-4)
    assert math.isnan(scores.per_class[2])  # in no label, though predicted
    assert scores.by_case == pytest.approx([200 / 3, 50], abs=1e-4)
    assert scores.value == pytest.approx(175 / 3, abs=1e-4)
    assert scores.extras["hd95_missing"] == pytest.approx(100 / 3)  # class 2 of the second case was not found
    assert scores.extras["hd95"] == pytest.approx((2 + 0) / 2)


def test_cases_without_any_class_are_left_out() -> None:
    label, empty = blobs((8, 8), 0), np.zeros((8, 8), np.uint8)
    scores = segmentation_scores([label, label], [empty, label], 3)
    assert math.isnan(scores.by_case[0]) and scores.by_case[1] == scores.value == pytest.approx(100)
    assert scores.interval == pytest.approx((100, 100))


def test_nothing_predicted() -> None:
    label = blobs((8, 8), 0)
    scores = segmentation_scores([np.zeros_like(label)], [label], 3)
    assert scores.value == 0 and scores.extras["hd95_missing"] == 100 and math.isnan(scores.extras["hd95"])
    assert segmentation_scores([label], [label], 3, distances=False).extras == {}


def test_errors() -> None:
    label = blobs((8, 8), 0)
    empty = np.zeros_like(label)
    with pytest.raises(InputError, match="test set is empty"):
        segmentation_scores([], [], 3)
    with pytest.raises(InputError, match="the labels of all cases are background: there is nothing to score"):
        segmentation_scores([label], [empty], 3)
    with pytest.raises(InputError, match="test case 2.*differ in number"):
        segmentation_scores([label], [label, label], 3)
    with pytest.raises(InputError, match="test case 2.*differ in number"):
        segmentation_scores([label] * 2, [label] * 2, 3, [(1, 1)])
    with pytest.raises(InputError, match="test case 1.*differ in shape"):
        segmentation_scores([label[1:]], [label], 3)
    with pytest.raises(InputError, match="test case 1.*0 to 2 are not within 0 to 1"):
        segmentation_scores([label], [label], 2)
    with pytest.raises(InputError, match="nothing to score"):
        segmentation_scores([label], [label], 1)
    with pytest.raises(InputError, match="spacing of 3 numbers for 2 axes"):
        segmentation_scores([label], [label], 3, [(1, 1, 1)])

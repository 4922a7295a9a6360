# SPDX-License-Identifier: Apache-2.0
"""Patches and augmentation keep what a recipe relies on, repeat, and do what nnU-Net does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, RandScaleIntensity

from monai_unlearnable.data import load_cases
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.victims import Segmentation
from monai_unlearnable.victims.augmentation import (
    RandBlur,
    RandChannelWised,
    RandLowResolution,
    mirroring,
    nnunet_augmentation,
)
from monai_unlearnable.victims.patches import RandAffinePatchd
from monai_unlearnable.victims.prediction import MirroredInferer
from tests.helpers import write_nifti

SIZES = {2: (20, 24), 3: (16, 20, 12)}


def sample(size: tuple[int, ...], channels: int = 1, seed: int = 0) -> dict[str, Any]:
    """A z-scored image and a label map with two classes that touch."""
    image = torch.randn(channels, *size, generator=torch.Generator().manual_seed(seed))
    label = torch.zeros(1, *size, dtype=torch.uint8)
    box = tuple(slice(n // 4, n - n // 4) for n in size)
    label[(0, *box)] = 1
    label[(0, slice(size[0] // 2, box[0].stop), *box[1:])] = 2
    return {"image": image, "label": label, "case_id": "a"}


def pipeline(size: tuple[int, ...], seed: int = 0, **arguments: Any) -> Compose:
    return Compose(nnunet_augmentation(len(size), size, **arguments)).set_random_state(seed)


def patches(seed: int = 0, size: tuple[int, ...] = SIZES[3], **arguments: Any) -> RandAffinePatchd:
    still = {"prob_rotation": 0, "prob_scaling": 0, **arguments}
    return RandAffinePatchd(("image", "label"), size, **still).set_random_state(seed)


@pytest.mark.parametrize("larger", [0, 7])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("dims", [2, 3])
def test_shapes_types_and_classes_stay(dims: int, channels: int, larger: int) -> None:
    size = SIZES[dims]
    data = sample(tuple(n + larger for n in size), channels)
    before = {key: value.clone() for key, value in data.items() if key != "case_id"}
    augment = pipeline(size)
    for _ in range(40):
        result = augment(data)
        assert result["image"].shape == (channels, *size) and result["image"].dtype == torch.float32
        assert result["label"].shape == (1, *size) and result["label"].dtype == torch.uint8
        assert set(result["label"].unique().tolist()) <= {0, 1, 2}
        assert result["image"].isfinite().all() and result["case_id"] == "a"
        assert not any(isinstance(result[key], MetaTensor) for key in ("image", "label"))
    assert all(torch.equal(data[key], value) for key, value in before.items())


def test_classifiers_have_no_label_map() -> None:
    data = {**sample((24, 28)), "label": 3}
    result = pipeline(SIZES[2], keys=("image",))(data)
    assert result["image"].shape == (1, *SIZES[2]) and result["label"] == 3


@pytest.mark.parametrize("dims", [2, 3])
def test_seed_decides(dims: int) -> None:
    def run(seed: int) -> list[torch.Tensor]:
        augment = pipeline(SIZES[dims], seed)
        return [augment(sample(SIZES[dims]))["image"] for _ in range(12)]

    state = torch.get_rng_state()
    first, second, other = run(1), run(1), run(2)
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert not all(torch.equal(*pair) for pair in zip(first, other, strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_rates_are_those_of_nnunet() -> None:
    """Each step alone, by how often it leaves the image as it was."""
    size, count = (8, 10), 600
    expected = {
        "RandAffinePatchd": [1 - 0.8**2],
        "RandGaussianNoised": [0.1],
        "RandChannelWised": [0.2 / 2, 0.15, 0.15, 0.25 / 2, 0.1, 0.3],
        "RandFlipd": [0.5, 0.5],
    }
    seen: dict[str, list[float]] = {}
    for seed, step in enumerate(nnunet_augmentation(2, size)[:-1]):
        step.set_random_state(seed)
        data = sample(size)
        if isinstance(step, RandAffinePatchd):
            moved = sum(step(data) is not None and step.affine is not None for _ in range(count))
        else:
            moved = sum(not torch.equal(torch.as_tensor(step(data)["image"]), data["image"]) for _ in range(count))
        seen.setdefault(type(step).__name__, []).append(moved / count)
    for name, rates in expected.items():
        assert seen[name] == pytest.approx(rates, abs=0.06), name


@pytest.mark.parametrize("dims", [2, 3])
def test_mirroring_shows_every_orientation_and_nothing_else(dims: int) -> None:
    data = sample(SIZES[dims])
    axes = range(1, dims + 1)
    ways = [[axis for axis in axes if number >> axis & 1] for number in range(0, 2 ** (dims + 1), 2)]
    mirror, seen = Compose(mirroring(dims)).set_random_state(0), set()
    for _ in range(80):
        result = mirror(data)
        way = next(n for n, way in enumerate(ways) if torch.equal(result["image"], data["image"].flip(way)))
        assert torch.equal(result["label"], data["label"].flip(ways[way]))
        seen.add(way)
    assert len(seen) == 2**dims


def test_channels_are_drawn_on_their_own() -> None:
    step = RandChannelWised("image", RandScaleIntensity(0.25, prob=0.5), prob=1).set_random_state(0)
    image = torch.ones(2, 4, 4)
    results = torch.stack([torch.as_tensor(step({"image": image})["image"])[:, 0, 0] for _ in range(400)])
    touched = results != 1
    assert touched.float().mean(0).tolist() == pytest.approx([0.5, 0.5], abs=0.08)
    assert touched.all(1).float().mean() == pytest.approx(0.25, abs=0.08)
    assert results.min() >= 0.75 and results.max() <= 1.25


def test_gamma_is_balanced_and_keeps_statistics() -> None:
    step = nnunet_augmentation(2, (8, 10))[7]  # of the image that is not inverted
    step.set_random_state(0)
    data, below = sample((16, 16)), []
    for _ in range(300):
        result = torch.as_tensor(step(data)["image"])
        assert result.mean().item() == pytest.approx(data["image"].mean().item(), abs=1e-3)
        assert result.std().item() == pytest.approx(data["image"].std().item(), rel=1e-3)
        if not torch.equal(result, data["image"]):
            below.append(bool(result.median() > data["image"].median()))  # brighter in between: an exponent below 1
    assert len(below) / 300 == pytest.approx(0.3, abs=0.08)
    assert np.mean(below) == pytest.approx(0.5, abs=0.12)


def test_plain_cut_is_a_window_of_the_image() -> None:
    data = sample((20, 26, 15))
    corners = set()
    for seed in range(30):
        cut = patches(seed, foreground=0)
        result = cut(data)
        at = tuple(slice(c, c + n) for c, n in zip(cut.corner, SIZES[3], strict=True))
        assert torch.equal(result["image"], data["image"][(slice(None), *at)])
        assert torch.equal(result["label"], data["label"][(slice(None), *at)])
        corners.add(tuple(cut.corner))
    assert len(corners) > 20


def test_small_images_lie_in_the_middle() -> None:
    data = sample((10, 26, 11))
    cut = patches(foreground=0)
    result = cut(data)
    assert result["image"].shape == (1, *SIZES[3])
    assert not result["image"][:, :3].any() and not result["image"][:, 13:].any() and result["image"][:, 3:13].any()
    assert {cut(data) and cut.corner[2] for _ in range(20)} == {-1, 0}  # one voxel is missing: before or behind


# Recorded from nnU-Net 2.8.1, its get_bbox and its center crop: image, patch, what is cut out before it is turned; the
# first and last corners of 4000 random patches; the corners of those around the first and the last voxel.
CORNERS = [
    ((35, 50, 34), (48, 64, 48), (48, 64, 48), (-7, -7, -7), (-6, -7, -7), (-7, -7, -7), (10, 17, 9)),
    ((35, 50, 34), (48, 64, 48), (77, 93, 86), (-7, -8, -7), (-7, -7, -7), (-7, -8, -7), (10, 17, 9)),
    ((38, 65, 47), (48, 64, 48), (48, 64, 48), (-5, 0, -1), (-5, 1, 0), (-5, 0, -1), (13, 32, 22)),
    ((38, 65, 47), (48, 64, 48), (77, 93, 86), (-6, -1, -1), (-5, 1, 0), (-6, -1, -1), (13, 32, 22)),
    ((48, 64, 48), (48, 64, 48), (77, 93, 86), (-1, -1, 0), (0, 0, 0), (-1, -1, 0), (23, 31, 23)),
    ((70, 90, 41), (48, 64, 48), (48, 64, 48), (0, 0, -4), (22, 26, -3), (0, 0, -4), (45, 57, 16)),
    ((70, 90, 41), (48, 64, 48), (77, 93, 86), (-1, -1, -4), (22, 26, -3), (-1, -1, -4), (45, 57, 16)),
    ((35, 50, 34), (40, 56, 40), (64, 80, 73), (-3, -3, -4), (-2, -3, -3), (-3, -3, -4), (14, 21, 13)),
    ((38, 65, 47), (40, 56, 40), (64, 80, 73), (-1, 0, -1), (-1, 9, 7), (-1, 0, -1), (17, 36, 26)),
    ((70, 90, 41), (40, 56, 40), (64, 80, 73), (0, 0, -1), (30, 34, 1), (0, 0, -1), (49, 61, 20)),
    ((35, 50, 34), (96, 80, 64), (135, 137, 112), (-31, -16, -15), (-31, -15, -15), (-31, -16, -15), (-14, 9, 1)),
    ((38, 65, 47), (96, 80, 64), (135, 137, 112), (-30, -8, -9), (-29, -8, -8), (-30, -8, -9), (-11, 24, 14)),
    ((17, 30), (20, 24), (28, 28), (-2, 0), (-1, 6), (-2, 0), (6, 17)),
    ((64, 50), (20, 24), (28, 28), (0, 0), (44, 26), (0, 0), (53, 37)),
    ((17, 30), (16, 40), (16, 40), (0, -5), (1, -5), (0, -5), (8, 9)),
    ((17, 30), (16, 40), (18, 50), (0, -5), (1, -5), (0, -5), (8, 9)),
    ((24, 24), (16, 40), (18, 50), (0, -8), (8, -8), (0, -8), (15, 3)),
]


@pytest.mark.parametrize(("shape", "size", "initial", "low", "high", "first", "last"), CORNERS)
def test_patches_lie_where_nnunet_puts_them(
    shape: tuple[int, ...],
    size: tuple[int, ...],
    initial: tuple[int, ...],
    low: tuple[int, ...],
    high: tuple[int, ...],
    first: tuple[int, ...],
    last: tuple[int, ...],
) -> None:
    chances = {} if size == initial else {"prob_rotation": 0.2, "prob_scaling": 0.2}
    cut = patches(0, size, foreground=0, **chances)
    assert cut.initial == initial
    corners = []
    for _ in range(1000):
        cut.randomize((shape, None))
        corners.append(cut.corner)
    assert tuple(np.min(corners, axis=0)) == low and tuple(np.max(corners, axis=0)) == high
    spread = np.subtract(high, low)
    assert np.allclose(np.mean(corners, axis=0), (np.array(low) + high) / 2, atol=0.12 * spread.max() + 1e-9)
    label = torch.zeros(1, *shape, dtype=torch.uint8)
    around = patches(0, size, foreground=1, **chances)
    for voxel, expected in (((0,) * len(shape), first), (tuple(n - 1 for n in shape), last)):
        label.zero_()[(0, *voxel)] = 1
        around.randomize((shape, label))
        assert tuple(around.corner) == expected


def test_recipes_leave_the_place_of_patches_to_nnunets_rule(tmp_path: Path) -> None:
    """Images smaller than the patch are not padded before: the voxel that decides on the phase of a pattern would."""
    write_nifti(
        tmp_path / "images" / "a.nii.gz", np.random.default_rng(0).integers(1, 99, (35, 50, 34)).astype("int16")
    )
    write_nifti(tmp_path / "labels" / "a.nii.gz", np.eye(50, dtype="uint8")[:35, :, None].repeat(34, -1))
    (case,), size = [case.to_dict() for case in load_cases(tmp_path)], [48, 64, 48]
    values = {"dims": 3, "size": size, "nnunet_size": size, "keys": ["image", "label"]}
    values |= {"spacing": [0.9274, 1.1045, 2.0106]}  # that of the file
    values |= {"iterations": 2, "batch_size": 3, "learning_rate": 0.01, "weights": None}
    for name, (_, _, initial, low, high, *_) in (("patches", CORNERS[0]), ("nnunet", CORNERS[1])):
        recipe = Catalog.load("recipes").build(name, **values)
        prepared = recipe.preprocessing(Segmentation((0, 1)))(case)
        assert prepared["image"].shape == (1, 35, 50, 34)
        cut = recipe.augmentation[0].set_random_state(0)
        cut.foreground, corners = 0, []
        for _ in range(40):
            assert cut(prepared)["image"].shape == (1, *size)
            corners.append(cut.corner)
        assert cut.initial == initial
        assert tuple(np.min(corners, axis=0)) == low and tuple(np.max(corners, axis=0)) == high


# Recorded from batchgeneratorsv2 0.3.6, which nnU-Net blurs with: the second of nine voxels is 1, the others are 0.
BLURRED = {
    0.5: (0.213014, 0.786986, 0.106507, 0, 0, 0, 0, 0, 0),
    0.7: (0.410847, 0.579533, 0.205424, 0.00962, 0, 0, 0, 0, 0),
    1.0: (0.484072, 0.453056, 0.246469, 0.054006, 0.004433, 0, 0, 0, 0),
}


@pytest.mark.parametrize("sigma", BLURRED)
def test_blur_is_that_of_nnunet(sigma: float) -> None:
    point = torch.eye(9)[1].reshape(1, 9, 1).expand(1, 9, 4)
    blurred = RandBlur((sigma, sigma), prob=1)(point)
    assert blurred.dtype == torch.float32
    assert blurred[0, :, 2].tolist() == pytest.approx(BLURRED[sigma], abs=1e-6)


def test_slices_of_flat_volumes_stay_apart_at_low_resolution() -> None:
    image = torch.arange(4.0).expand(1, 16, 16, 4) + torch.rand(
        1, 16, 16, 1, generator=torch.Generator().manual_seed(0)
    )
    for across, apart in ((2, True), (None, False)):
        coarse = RandLowResolution(across, prob=1).set_random_state(0)(image)
        assert coarse.shape == image.shape and not torch.equal(coarse, image)
        assert torch.allclose(coarse - coarse[..., :1], image - image[..., :1], atol=1e-5) is apart


def test_foreground_comes_into_the_patch() -> None:
    size = (60, 60)
    data = {"image": torch.zeros(1, *size), "label": torch.zeros(1, *size, dtype=torch.uint8)}
    data["label"][0, 3, 4], data["label"][0, 50:, 50:] = 2, 1
    cut = RandAffinePatchd(("image", "label"), (8, 8), foreground=1, prob_rotation=0, prob_scaling=0)
    cut.set_random_state(0)
    seen = [set(cut(data)["label"].unique().tolist()) & {1, 2} for _ in range(200)]
    assert all(seen)
    assert np.mean([2 in classes for classes in seen]) == pytest.approx(0.5, abs=0.12)  # not by size
    empty = {**data, "label": torch.zeros_like(data["label"])}
    assert cut(empty)["label"].shape == (1, 8, 8)


@pytest.mark.parametrize("size", [(20, 20), (16, 20, 12)])
def test_turning_keeps_image_and_label_together(size: tuple[int, ...]) -> None:
    data = sample(size)
    data["label"] = data["label"].clamp(max=1)
    data["image"] = data["label"].float()
    turn = patches(3, size, prob_rotation=1, prob_scaling=1)
    results = [turn(data) for _ in range(5)]
    assert all(torch.equal(result["image"] > 0.5, result["label"] == 1) for result in results)
    assert sum(not torch.equal(result["label"], data["label"]) for result in results) >= 3


def test_turning_is_rigid_in_voxels_of_any_shape() -> None:
    """A disk stays a disk of its epsilon in an oblong image, and scaling by a factor shrinks it by that factor."""
    size = (64, 128)
    rows, columns = torch.meshgrid(torch.arange(64) - 31.5, torch.arange(128) - 63.5, indexing="ij")
    disk = ((rows**2 + columns**2).sqrt() <= 20)[None].to(torch.uint8)
    data = {"image": disk.float(), "label": disk}
    turned = patches(0, size, foreground=0, prob_rotation=1, degrees=90)(data)["label"]
    assert (turned != disk).float().mean() < 0.01
    scaled = patches(0, size, prob_scaling=1, scaling=(1.25, 1.25))(data)["label"]
    assert scaled.sum() / disk.sum() == pytest.approx(1 / 1.25**2, rel=0.03)


def test_angles_depend_on_the_shape_of_the_patch() -> None:
    angles = {size: RandAffinePatchd("image", size).degrees for size in ((8, 8), (8, 16), (8, 9, 10), (32, 32, 8))}
    assert list(angles.values()) == [180, 15, 30, 180]
    flat = patches(0, (16, 16, 4), foreground=0, prob_rotation=1, prob_scaling=1)
    data = sample((16, 16, 4))
    data["image"] = torch.arange(4.0).expand(1, 16, 16, 4)
    inner = flat(data)["image"][:, 6:10, 6:10]
    assert torch.allclose(inner, data["image"][:, 6:10, 6:10], atol=1e-5)  # slices stay slices


def test_arrays_come_back_as_arrays() -> None:
    data = {key: np.asarray(value) for key, value in sample(SIZES[2]).items() if key != "case_id"}
    result = RandAffinePatchd(("image", "label"), SIZES[2], prob_rotation=1).set_random_state(0)(data)
    assert isinstance(result["image"], np.ndarray) and result["label"].dtype == np.uint8


def test_prediction_is_the_mean_over_mirrored_windows() -> None:
    """A network that answers with a ramp across its window: mirrored copies make it flat, half steps cover all."""
    seen = []

    def ramp(windows: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        return windows + torch.arange(8.0)

    image = torch.rand(1, 1, 8, 20, generator=torch.Generator().manual_seed(0))
    result = MirroredInferer((8, 8))(image, ramp)
    assert torch.allclose(result, image + 3.5, atol=1e-5)
    assert sum(seen) == 4 * 4, "four windows at half steps, each in four orientations"
    assert MirroredInferer((8, 8, 8))(torch.zeros(1, 1, 5, 6, 20), ramp).shape == (1, 1, 5, 6, 20)

# SPDX-License-Identifier: Apache-2.0
"""What an exploiter's pipeline does to images: it keeps maps in step, passes gradients, and depends on a seed alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from monai.transforms import Resize
from scipy import ndimage
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import Augmentation, standardize
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe

SHAPES = [(24, 32), (16, 20, 12)]
RANDOM = [
    Augmentation(noise=0.1),
    Augmentation(flip=True),
    Augmentation(rotation=20),
    Augmentation(scaling=0.2),
    Augmentation(blur=1.0),
    Augmentation(shift=1),
]
ALL = {"noise": 0.1, "flip": True, "rotation": 15.0, "scaling": 0.1, "blur": 1.0, "shift": 2}
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def images(shape: tuple[int, ...], count: int = 4, channels: int = 1) -> Tensor:
    return 0.1 + 0.8 * torch.rand(count, channels, *shape, generator=torch.Generator().manual_seed(0))


def boxes(shape: tuple[int, ...], count: int = 4) -> Tensor:
    """Class maps with a box off the center."""
    label = torch.zeros(count, 1, *shape, dtype=torch.long)
    label[(slice(None), slice(None), *(slice(extent // 4, extent // 2 + 1) for extent in shape))] = 1
    return label


@pytest.mark.parametrize("augmentation", [Augmentation(), Augmentation([8, 8]), *RANDOM], ids=repr)
def test_what_is_random(augmentation: Augmentation) -> None:
    assert augmentation.is_random == (augmentation in RANDOM)
    assert build(json.loads(json.dumps(describe(augmentation)))) == augmentation


@shapes
def test_by_default_an_image_is_clipped_and_standardized(shape: tuple[int, ...]) -> None:
    image, label = 3 * images(shape, channels=2) - 1, boxes(shape)
    seen, truth = Augmentation()(image, label)
    assert torch.equal(seen, standardize(image.clamp(0, 1))) and truth is label


@shapes
def test_images_of_one_class_are_resized_as_by_monai(shape: tuple[int, ...]) -> None:
    size = tuple(extent // 2 + 1 for extent in shape)
    image, label = images(shape, 3, 2), torch.tensor([0, 2, 1])
    seen, truth = Augmentation(size)(image, label)
    resize = Resize(size, mode="area")
    expected = torch.stack([torch.as_tensor(resize(part)) for part in standardize(image)])
    assert torch.allclose(seen, expected, atol=1e-6) and torch.equal(truth, label)


@shapes
def test_images_with_class_maps_keep_their_size(shape: tuple[int, ...]) -> None:
    image, label = images(shape), boxes(shape)
    seen, truth = Augmentation([8] * len(shape))(image, label)
    assert torch.equal(seen, standardize(image)) and truth is label


@shapes
@pytest.mark.parametrize("most", [1, 3])
def test_shifts_move_image_and_map_by_whole_voxels(shape: tuple[int, ...], most: int) -> None:
    label = boxes(shape, 16)
    seen, truth = Augmentation(shift=most)(0.2 + 0.5 * label, label, seed=1)
    assert torch.equal((seen > 0).long(), truth)
    first = np.array([extent // 4 for extent in shape])
    moved = np.array([(part[0] > 0).nonzero().amin(0).tolist() for part in truth]) - first
    assert truth.sum() == label.sum(), "nothing is lost"
    assert abs(moved).max() == most and (moved.min(0) < 0).all() and (moved.max(0) > 0).all()
    classes = torch.arange(16)
    assert torch.equal(Augmentation(shift=most)(0.2 + 0.5 * label, classes, seed=1)[1], classes)


@shapes
def test_mirroring_moves_image_and_map_together(shape: tuple[int, ...]) -> None:
    label = (images(shape, 8) > 0.6).long()
    image, augmentation = 0.2 + 0.5 * label, Augmentation(flip=True)
    seen, truth = augmentation(image, label, seed=1)
    assert torch.equal((seen > 0).long(), truth)
    axes = tuple(range(1, 1 + len(shape)))
    moves = [
        [torch.equal(one, old.flip(chosen)) for chosen in ((), *((axis,) for axis in axes), axes)]
        for one, old in zip(truth, label, strict=True)
    ]
    assert not all(move[0] for move in moves), "images have mirrorings of their own"
    if len(shape) == 2:
        assert all(sum(move) == 1 for move in moves)
    classes = torch.arange(8)
    assert torch.equal(augmentation(image, classes, seed=1)[0], seen) and torch.equal(
        augmentation(image, classes, seed=1)[1], classes
    )


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(rotation=20), Augmentation(scaling=0.2), Augmentation(rotation=30, scaling=0.1, flip=True)],
)
@shapes
def test_images_are_moved_together_with_their_maps(shape: tuple[int, ...], augmentation: Augmentation) -> None:
    label = boxes(shape)
    seen, truth = augmentation(0.2 + 0.5 * label, label, seed=2)
    assert truth.dtype == label.dtype and set(truth.unique().tolist()) == {0, 1}
    assert not torch.equal(truth, label)
    middle = (seen.flatten(1).amax(1) + seen.flatten(1).amin(1)) / 2
    bright = seen > middle.reshape(-1, *[1] * (seen.ndim - 1))
    for one, moved in zip(bright[:, 0].numpy(), truth[:, 0].numpy() > 0, strict=True):
        block = np.ones([3] * len(shape))
        border = ndimage.binary_dilation(moved, block) & ~ndimage.binary_erosion(moved, block)
        assert np.array_equal(one[~border], moved[~border])
        assert (one != moved).sum() < 0.25 * moved.sum()


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (24, 40, 32)], ids=str)
def test_rotation_is_rigid_whatever_the_shape(shape: tuple[int, ...]) -> None:
    grid = torch.stack(torch.meshgrid(*[torch.arange(extent) - extent / 2 + 0.5 for extent in shape], indexing="ij"))
    ball = (grid.square().sum(0) < 9**2).long().expand(6, 1, *shape)
    _, truth = Augmentation(rotation=80)(0.2 + 0.5 * ball, ball, seed=3)
    for one in truth[:, 0]:
        assert (one != ball[0, 0]).sum() < 0.1 * ball[0, 0].sum(), "a ball stays where and what it is"


def test_what_comes_in_from_beyond_the_border_is_background() -> None:
    label = torch.ones(4, 1, 20, 20, dtype=torch.long)
    seen, truth = Augmentation(scaling=0.5)(images((20, 20)), label, seed=0)
    assert torch.isfinite(seen).all() and (truth == 0).any() and (truth[:, :, 8:12, 8:12] == 1).all()


@pytest.mark.parametrize("of_images", [True, False])
@shapes
def test_gradients_reach_the_image_through_everything(shape: tuple[int, ...], of_images: bool) -> None:
    image = images(shape).requires_grad_()
    label = torch.arange(4) if of_images else boxes(shape)
    seen, _ = Augmentation([12] * len(shape), **ALL)(image, label, seed=4)
    assert list(seen.shape[2:]) == ([12] * len(shape) if of_images else list(shape))
    weights = torch.randn(seen.shape, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((weights * seen).sum(), image)
    assert torch.isfinite(gradient).all() and (gradient != 0).float().mean() > 0.9


@pytest.mark.parametrize("augmentation", [*RANDOM, Augmentation(**ALL)], ids=repr)
def test_an_augmentation_depends_on_its_seed_alone(augmentation: Augmentation) -> None:
    image, label = images((24, 32)), boxes((24, 32))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = augmentation(image, label, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again, other = augmentation(image, label, seed=5), augmentation(image, label, seed=6)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_noise_has_its_strength() -> None:
    image = images((64, 64))
    seen, _ = Augmentation(noise=0.25)(image, torch.arange(4), seed=7)
    added = seen - standardize(image)
    assert added.std() == pytest.approx(0.25, rel=0.05) and abs(float(added.mean())) < 0.02


@shapes
def test_blur_takes_fine_detail_and_leaves_the_rest(shape: tuple[int, ...]) -> None:
    fine = (
        sum(torch.arange(extent).reshape(-1, *[1] * (len(shape) - 1 - axis)) for axis, extent in enumerate(shape)) % 2
    )
    coarse = boxes(shape).float()
    kept = {}
    for name, pattern in (("fine", fine.expand(4, 1, *shape).float()), ("coarse", coarse)):
        image, label = 0.2 + 0.5 * pattern, torch.arange(4)
        seen, truth = Augmentation(blur=2.0)(image, label, seed=2)
        assert truth is label
        clean = standardize(image)
        kept[name] = [float((a * b).mean() / (b * b).mean()) for a, b in zip(seen, clean, strict=True)]
    assert min(kept["fine"]) < 0.3 and all(a < b for a, b in zip(kept["fine"], kept["coarse"], strict=True))
    assert len(set(kept["fine"])) == 4, "each image has a filter of its own"


@pytest.mark.parametrize("change", [{"blur": 2.0}, {"noise": 0.3}, {"rotation": 40.0}, {"scaling": 0.4}], ids=str)
@shapes
def test_changes_take_place_in_their_fraction_of_the_cases(shape: tuple[int, ...], change: dict[str, float]) -> None:
    image, label = images(shape, 80), boxes(shape, 80)
    seen, _ = Augmentation(**change, prob=0.25)(image, label, seed=3)
    difference = (seen - standardize(image)).abs().flatten(1).amax(1)
    assert 10 <= int((difference > 1e-3).sum()) <= 32, "80 draws with a chance of 1/4"
    assert int((difference < 1e-4).sum()) >= 48, "the others are left as they are"


def test_changes_are_drawn_apart() -> None:
    image, label = images((24, 32), 64), torch.zeros(64, dtype=torch.long)
    moved, _ = Augmentation(rotation=40, blur=2.0, prob=0.5)(image, label, seed=1)
    only_moved, _ = Augmentation(rotation=40, prob=0.5)(image, label, seed=1)
    moves = (only_moved - standardize(image)).abs().flatten(1).amax(1) > 1e-3
    blurs = (moved - only_moved).abs().flatten(1).amax(1) > 1e-3
    counts = [int((moves == a).logical_and(blurs == b).sum()) for a in (True, False) for b in (True, False)]
    assert min(counts) >= 6, "both, either and none"


@pytest.mark.parametrize("prob", [0, -0.1, 1.5])
def test_prob_is_a_fraction(prob: float) -> None:
    for wrong in ({"noise": -1}, {"rotation": -30}, {"blur": -1.0}, {"scaling": -0.1}, {"scaling": 1}, {"shift": -1}):
        with pytest.raises(InputError, match="scale|at least 0|give 0 or more"):
            Augmentation(**wrong)
    with pytest.raises(InputError, match="shift is 0.5, not a whole number"):
        Augmentation(shift=0.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="prob"):
        Augmentation(blur=1, prob=prob)


def test_augmentations_of_recipes_by_name() -> None:
    assert Augmentation.of_recipe("plain") == Augmentation()
    assert Augmentation.of_recipe("mirror") == Augmentation(flip=True)
    assert Augmentation.of_recipe("nnunet").flip and Augmentation.of_recipe("nnunet").prob < 1
    assert Augmentation.of_recipe("mirror", blur=0.5) == Augmentation(flip=True, blur=0.5)
    assert Augmentation.of_recipe("nnunet", prob=1.0).prob == 1
    with pytest.raises(InputError, match="'nnUNet'.*plain, mirror, nnunet"):
        Augmentation.of_recipe("nnUNet")

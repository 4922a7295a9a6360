# SPDX-License-Identifier: Apache-2.0
"""Random noise, the control."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.masks import Everywhere, Roi, TextureMap
from monai_unlearnable.perturbers import RandomNoise, load_perturber, save_perturber
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.seeding import derive_seed
from tests.helpers import two_classes

EPSILON = 0.1
DISTRIBUTIONS = ["sign", "uniform", "gaussian", "low_pass"]


def sample(shape: tuple[int, ...] = (40, 36), channels: int = 1) -> tuple[Tensor, Tensor]:
    image = torch.rand(2, channels, *shape, generator=torch.Generator().manual_seed(0))
    return image, torch.as_tensor(two_classes(shape))[None, None].long().expand(2, 1, *shape)


def rms(noise: Tensor) -> float:
    return float(noise.double().square().mean().sqrt())


def test_signs_are_those_of_the_seed_and_the_case() -> None:
    image, label = sample()
    generator = torch.Generator().manual_seed(derive_seed(7, "a"))
    expected = 0.1 * (torch.randint(0, 2, (1, 40, 36), generator=generator) * 2 - 1).float() * (label[0] > 0)
    assert torch.equal(RandomNoise(0.1, seed=7).delta(image, ["a", "b"], label)[0], expected)


@pytest.mark.parametrize(("shape", "channels"), [((40, 36), 3), ((11, 14, 12), 1)])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_noise_is_bounded_and_in_the_support(distribution: str, shape: tuple[int, ...], channels: int) -> None:
    image, label = sample(shape, channels)
    perturber = RandomNoise(EPSILON, distribution=distribution)
    noise = perturber.delta(image, ["a", "b"], label)
    assert 0.5 * EPSILON < noise.abs().max() <= EPSILON + 1e-7
    assert not noise[(label == 0).expand_as(noise)].any()
    assert torch.equal(perturber.delta(image[[1]], ["b"], label[[1]])[0], noise[1])
    assert not torch.equal(noise[0], noise[1])


def test_distributions() -> None:
    image, _ = sample((200, 200))
    noise = {
        name: RandomNoise(EPSILON, Everywhere(), distribution=name).delta(image, ["a", "b"], torch.tensor([0, 1]))
        for name in DISTRIBUTIONS
    }
    expected = {"sign": 1.0, "uniform": 3**-0.5, "gaussian": 0.48, "low_pass": 0.48}
    for name, ratio in expected.items():
        assert rms(noise[name]) == pytest.approx(ratio * EPSILON, rel=0.03)
        assert abs(float(noise[name].mean())) < 0.1 * EPSILON
    for name in DISTRIBUTIONS:
        neighbors = (noise[name][..., 1:] * noise[name][..., :-1]).mean() / noise[name].square().mean()
        assert neighbors > 0.8 if name == "low_pass" else abs(neighbors) < 0.05


@pytest.mark.parametrize("fraction", [0.1, 0.45, 0.9, 1.0])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_root_mean_square_is_as_wanted(distribution: str, fraction: float) -> None:
    image, label = sample()
    perturber = RandomNoise(EPSILON, distribution=distribution, rms=fraction * EPSILON)
    for noise, region in zip(perturber.delta(image, ["a", "b"], label), label > 0, strict=True):
        assert rms(noise[region]) == pytest.approx(fraction * EPSILON, rel=5e-3)
        assert noise.abs().max() <= EPSILON + 1e-7


def test_a_support_that_weakens_noise() -> None:
    image, label = sample()
    support = Roi() & TextureMap(floor=0.3)
    weights = support(image, label)[0]
    noise = RandomNoise(EPSILON, support, rms=0.4 * EPSILON).delta(image, ["a", "b"], label)[0]
    assert rms(noise[weights > 0]) == pytest.approx(0.4 * EPSILON, rel=1e-3)
    assert (noise.abs() <= EPSILON * weights + 1e-7).all()


def test_no_region_no_noise() -> None:
    image, label = sample()
    for arguments in ({}, {"rms": 0.05}):
        assert not RandomNoise(EPSILON, **arguments).delta(image, ["a", "b"], 0 * label).any()


def test_classes_of_whole_images_take_the_whole_image() -> None:
    image, _ = sample()
    assert RandomNoise(support=Everywhere()).delta(image, ["a", "b"], torch.tensor([0, 1])).all()
    with pytest.raises(LabelError, match="a class for each voxel"):
        RandomNoise().delta(image, ["a", "b"], torch.tensor([0, 1]))


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    perturber = RandomNoise(EPSILON, Roi(1), 3, "low_pass", 1.5, 0.04)
    save_perturber(perturber, tmp_path / "p.safetensors")
    loaded = load_perturber(tmp_path / "p.safetensors")
    assert describe(loaded) == describe(perturber)
    image, label = sample()
    assert torch.equal(loaded.delta(image, ["a", "b"], label), perturber.delta(image, ["a", "b"], label))


def test_wrong_settings() -> None:
    with pytest.raises(InputError, match="known are sign, uniform, gaussian, low_pass"):
        RandomNoise(distribution="pink")
    for value in (0.0, 0.2):
        with pytest.raises(InputError, match="at most epsilon"):
            RandomNoise(EPSILON, rms=value)

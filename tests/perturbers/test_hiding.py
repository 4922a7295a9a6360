# SPDX-License-Identifier: Apache-2.0
"""Pictures of classes, the network that hides them, and the noise that it makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.perturbers import DeepHiding, HidingNetwork, load_perturber, save_perturber
from monai_unlearnable.perturbers.hiding import class_pictures
from monai_unlearnable.perturbers.invertible import haar, haar_inverse
from monai_unlearnable.utils.seeding import reset_parameters

both = pytest.mark.parametrize("dims", [2, 3])


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def network(dims: int, channels: int = 1) -> HidingNetwork:
    made = HidingNetwork(dims, channels, blocks=2, width=4)
    reset_parameters(made, 0)
    return made


def hiding(size: tuple[int, ...] = (16, 12), classes: int = 3, channels: int = 1, seed: int = 0) -> DeepHiding:
    return DeepHiding(classes, size, network(len(size), channels), 0.05, seed=seed)


class TestWavelet:
    @both
    def test_bands_hold_the_image_and_its_energy(self, dims: int) -> None:
        image = images(2, 3, *[8, 6, 4][:dims])
        bands = haar(image)
        assert bands.shape == (2, 3 * 2**dims, *[4, 3, 2][:dims])
        assert torch.allclose(haar_inverse(bands), image, atol=1e-6)
        assert torch.allclose(bands.square().sum(), image.square().sum())

    @both
    def test_the_lowest_band_comes_first(self, dims: int) -> None:
        image = images(2, 3, *[8] * dims)
        pool = F.avg_pool2d if dims == 2 else F.avg_pool3d
        assert torch.allclose(haar(image)[:, :3] / 2 ** (dims / 2), pool(image, 2), atol=1e-6)


class TestNetwork:
    @both
    @pytest.mark.parametrize("channels", [1, 3])
    def test_what_was_hidden_comes_back_with_what_was_thrown_away(self, dims: int, channels: int) -> None:
        cover, hidden = images(2, channels, *[8] * dims), images(2, 1, *[8] * dims, seed=1)
        hider = network(dims, channels)
        stego, thrown = hider.hide(cover, hidden)
        assert (stego - cover).abs().max() > 1e-3
        again = hider.reveal(stego, thrown)
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(again, (cover, hidden), strict=True))
        assert torch.equal(hider(torch.cat([cover, hidden], 1)), stego), "both as channels"

    def test_without_it_there_are_estimates(self) -> None:
        cover, hidden = images(2, 3, 8, 8), images(2, 1, 8, 8, seed=1)
        hider = network(2, 3)
        found_cover, found = hider.reveal(hider.hide(cover, hidden)[0])
        assert (found_cover.shape, found.shape) == (cover.shape, hidden.shape)
        assert not torch.allclose(found, hidden, atol=1e-2)


class TestPictures:
    @pytest.mark.parametrize("size", [(32, 40), (16, 12, 14)])
    def test_those_of_classes_are_unlike_and_no_offset(self, size: tuple[int, ...]) -> None:
        pictures = class_pictures(8, size, 4, seed=0)
        assert pictures.shape == (8, 1, *size) and 0.9 < pictures.abs().max() <= 1
        alike = torch.corrcoef(pictures.flatten(1)) - torch.eye(8)
        assert alike.abs().max() < 0.3 and alike.abs().mean() < 0.12
        assert pictures.flatten(1).mean(1).abs().max() < 0.3

    def test_shapes_are_large(self) -> None:
        signs = class_pictures(20, (64, 64), 4, seed=0) > 0
        changes = (signs[..., 1:] != signs[..., :-1]).sum(-1)
        assert changes.max() <= 4, "a sum of 4 half waves has no more zeros"

    def test_other_sizes_show_the_same(self) -> None:
        fine, coarse = (class_pictures(3, size, 3, seed=5) for size in ((64, 64), (16, 16)))
        assert (F.avg_pool2d(fine, 4) - coarse).abs().mean() < 0.05

    def test_more_classes_than_waves_have_pictures_too(self) -> None:
        pictures = class_pictures(20, (16, 16), 2, seed=0).flatten(1)  # there are 8 waves
        assert len(torch.unique(pictures.sign(), dim=0)) == 20

    def test_the_seed_decides(self) -> None:
        first, same, other = (class_pictures(3, (16, 16), 4, seed) for seed in (0, 0, 1))
        assert torch.equal(first, same) and not torch.allclose(first, other, atol=0.1)


class TestNoise:
    def test_tells_the_class_and_keeps_to_epsilon(self) -> None:
        noise = hiding().delta(images(3, 1, 16, 12), ["a", "b", "c"], torch.tensor([0, 0, 1]))
        same, other = ((noise[0] - noise[k]).square().mean() for k in (1, 2))
        assert same < 0.05 * other
        assert 0 < noise.abs().max() <= 0.05

    def test_images_that_are_resized_to_one_size_carry_the_same(self) -> None:
        image = images(1, 1, 16, 12)
        large = F.interpolate(image, scale_factor=3)
        made, label = hiding(), torch.tensor([2])
        noise = F.avg_pool2d(made.delta(large, ["a"], label), 3)
        assert torch.allclose(noise, made.delta(image, ["a"], label), atol=1e-6)

    @pytest.mark.parametrize("shape", [(17, 30), (9, 5)])
    def test_any_size_of_images(self, shape: tuple[int, int]) -> None:
        assert hiding().delta(images(1, 1, *shape), ["a"], torch.tensor([1])).abs().mean() > 0

    def test_another_epsilon_scales_the_noise(self, tmp_path: Path) -> None:
        made, image, label = hiding(), images(1, 1, 16, 12), torch.tensor([1])
        save_perturber(made, tmp_path / "kept")
        loaded = load_perturber(tmp_path / "kept", epsilon=0.1)
        assert torch.allclose(loaded.delta(image, ["a"], label), 2 * made.delta(image, ["a"], label), atol=1e-7)

    def test_a_key_decides_on_the_pictures(self) -> None:
        seeds = (1 << 256 | 1, 1 << 256 | 2)  # as an owner's key gives them
        first, second = (hiding(seed=seed).pictures(seed) for seed in seeds)
        assert not torch.allclose(first, second, atol=0.1)

    def test_labels_that_do_not_fit(self) -> None:
        image = images(1, 1, 16, 12)
        with pytest.raises(LabelError, match="needs one class for each whole image, and these cases have label maps"):
            hiding().delta(image, ["a"], torch.zeros(1, 1, 16, 12, dtype=torch.long))
        with pytest.raises(LabelError, match="not known to the method"):
            hiding().delta(image, ["a"], torch.tensor([3]))

    @pytest.mark.parametrize(
        ("size", "detail", "reason"),
        [
            ((16, 13), 4, "even sizes of more than 4 voxels, and the size is"),
            ((16, 4), 4, "even sizes of more than 4 voxels"),
            ((16, 16), 0, "one half wave at least"),
            ((16, 16, 16), 4, "a network of 2 dimensions does not fit"),
        ],
    )
    def test_settings_that_do_not_fit(self, size: tuple[int, ...], detail: int, reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            DeepHiding(3, size, network(2), detail=detail)

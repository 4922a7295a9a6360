# SPDX-License-Identifier: Apache-2.0
"""Patches and windows keep to the grid of the file; what is learned is a transform like any other."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose
from torch import Tensor, nn

from monai_unlearnable.countermeasures import LearnedChanged, NetworkChange, Patches
from monai_unlearnable.countermeasures.learning import choose_cases, fit
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.tensors import fit_extent, pad_to_multiple
from monai_unlearnable.utils.values import check_positive


class AddPhase(nn.Module):
    """Adds to each voxel its position modulo 4 along the first axis, as the network sees it."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, image: Tensor) -> Tensor:
        phase = (torch.arange(image.shape[2]) % 4).view(-1, *[1] * (image.ndim - 3))
        return image + self.gain * phase


def halve(image: Tensor) -> Tensor:
    return image / 2 - 0.1


@pytest.mark.parametrize("shape", [(1, 37, 21), (2, 5, 9), (1, 25, 18, 11)])
def test_windows_and_padding_keep_the_phase(shape: tuple[int, ...]) -> None:
    image = torch.rand(shape)
    changed = NetworkChange(AddPhase(), 4, window=12)(image)
    phase = (torch.arange(shape[1]) % 4).view(-1, *[1] * (len(shape) - 2)).float()
    assert changed.shape == shape
    assert torch.allclose(changed, image + phase, atol=1e-5)


@pytest.mark.parametrize("shapes", [[(1, 37, 21), (1, 16, 40)], [(2, 5, 6)], [(1, 9, 30, 7), (1, 20, 8, 8)]])
def test_patches_keep_the_phase_and_stay_together(shapes: list[tuple[int, ...]]) -> None:
    samples = [(index_image(shape), 2 * index_image(shape)) for shape in shapes]
    patches = Patches(samples, size=16, batch_size=8, multiple=4)
    first, second = patches(torch.Generator().manual_seed(0))
    assert first.shape[0] == 8 and all(voxels <= 16 and voxels % 4 == 0 for voxels in first.shape[2:])
    assert torch.equal(second, 2 * first)
    # The first value of a patch is the position along the first axis: a multiple of 4 everywhere.
    assert (first.flatten(1)[:, 0] % 4 == 0).all()


def index_image(shape: tuple[int, ...]) -> Tensor:
    return torch.arange(shape[1]).view(1, -1, *[1] * (len(shape) - 2)).expand(shape).float()


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
def test_a_learned_change_keeps_type_dtype_shape_and_range(dtype: Any) -> None:
    array = np.linspace(0, 1, 24, dtype=dtype).reshape(1, 4, 6)
    meta = MetaTensor(torch.from_numpy(array), meta={"a": 1})
    step = LearnedChanged(halve)
    for image in (array, torch.from_numpy(array), meta):
        done = step({"image": image, "label": 3, "case_id": "x"})
        assert type(done["image"]) is type(image) and done["image"].dtype == image.dtype
        assert done["label"] == 3 and done["image"].shape == (1, 4, 6)
        assert np.allclose(np.asarray(done["image"]), (array / 2 - 0.1).clip(0, 1), atol=1e-3)
    assert step({"image": meta})["image"].meta["a"] == 1
    assert np.array_equal(array, np.linspace(0, 1, 24, dtype=dtype).reshape(1, 4, 6))


def test_a_learned_change_is_cached_pickled_and_has_no_gradient() -> None:
    step = LearnedChanged(NetworkChange(AddPhase(), 4))
    again = pickle.loads(pickle.dumps(step))
    image = torch.rand(1, 8, 8, requires_grad=True)
    assert torch.equal(again({"image": image})["image"], step({"image": image})["image"])
    assert not step({"image": image})["image"].requires_grad
    data = CacheDataset([{"image": torch.rand(1, 8, 8)}], Compose([step]), progress=False)
    assert torch.equal(data[0]["image"], data._cache[0]["image"])
    with pytest.raises(KeyError):
        step({"label": 1})
    assert LearnedChanged(halve, allow_missing_keys=True)({"label": 1}) == {"label": 1}


def test_fit_depends_on_its_seed_alone() -> None:
    def train(seed: int) -> Tensor:
        network = nn.Linear(3, 1, bias=False)
        nn.init.zeros_(network.weight)

        def loss(network: nn.Module, values: Tensor) -> Tensor:
            return ((network(values + 0.1 * torch.randn_like(values)) - values.sum(1, keepdim=True)) ** 2).mean()

        def batch(generator: torch.Generator) -> tuple[Tensor]:
            return (torch.rand(8, 3, generator=generator),)

        done = fit(network, batch, loss, 60, 0.1, seed)
        assert not done.training and not any(parameter.requires_grad for parameter in done.parameters())
        return network.weight

    weight = train(0)
    torch.rand(3)
    assert torch.equal(weight, train(0)) and not torch.equal(weight, train(1))
    assert (weight - 1).abs().max() < 0.2


def test_a_loss_that_is_no_number_is_an_error() -> None:
    def loss(network: nn.Module, values: Tensor) -> Tensor:
        return network(values).mean() * math.nan

    with pytest.raises(InputError, match="purifier: the loss became nan"):
        fit(nn.Linear(3, 1), lambda generator: (torch.rand(2, 3),), loss, 2, 0.1, 0, description="purifier")


def test_chosen_cases_are_nested_and_ordered() -> None:
    cases = [{"case_id": str(index)} for index in range(20)]
    few, many = choose_cases(cases, 5, 1), choose_cases(cases, 9, 1)
    assert len(few) == 5 and all(case in many for case in few)
    assert few == sorted(few, key=cases.index) and choose_cases(cases, None, 1) == cases
    assert choose_cases(cases, 5, 2) != few
    with pytest.raises(InputError, match="no case"):
        choose_cases([], 5, 1)


@pytest.mark.parametrize("number", [0, -1, math.nan, math.inf])
def test_settings_are_positive_or_left_to_their_default(number: float) -> None:
    check_positive(rows=1, block=None)
    with pytest.raises(InputError, match=f"block is {number}"):
        check_positive(rows=1, block=number)


def test_sizes_change_at_the_far_ends() -> None:
    image = torch.arange(12.0).view(1, 3, 4)
    padded = pad_to_multiple(image, 4, (2, 7))
    assert padded.shape == (1, 4, 8) and torch.equal(padded[:, :3, :4], image)
    assert torch.equal(padded[0, 3, :4], image[0, 2]) and pad_to_multiple(image, 1) is image
    changed = fit_extent(image, (5, 2))
    assert torch.equal(changed[:, :3], image[..., :2]) and not changed[:, 3:].any()

# SPDX-License-Identifier: Apache-2.0
"""With a key, every method that draws anything draws what its owner alone can draw again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from monai_unlearnable.masks import Everywhere, ForegroundScore, RandomScore
from monai_unlearnable.noise import OwnerKey, secret_seed
from monai_unlearnable.perturbers import (
    AutoregressiveNoise,
    ClassConvolution,
    FixedSites,
    GradientNoise,
    LinearPatterns,
    Perturber,
    RandomNoise,
    View,
)
from monai_unlearnable.seeding import derive_seed, reset_parameters, seeded
from tests.helpers import small_shared, small_surrogate, small_umed

FIRST, SECOND = (secret_seed(0, OwnerKey(bytes([number] * 32))) for number in (1, 2))
IMAGE, LABEL = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
MAKE: dict[str, Callable[[int], Perturber]] = {
    "lsp": lambda seed: LinearPatterns(seed=seed),
    "ar": lambda seed: AutoregressiveNoise(seed=seed),
    "cuda": lambda seed: ClassConvolution(seed=seed),
    "ops": lambda seed: FixedSites(seed=seed, fraction=0.1),
    "random": lambda seed: RandomNoise(0.03, Everywhere(), seed),
    "umed": lambda seed: reset_parameters(small_umed(2, support=Everywhere()), seed),
    "shared": lambda seed: reset_parameters(small_shared((16, 16), support=Everywhere()), seed),
    "gradient": lambda seed: GradientNoise(
        [small_surrogate()], support=Everywhere(), steps=2, samples=2, view=View(noise=0.5), seed=seed
    ),
}


@pytest.mark.parametrize("name", MAKE)
def test_each_key_has_noise_of_its_own(name: str) -> None:
    label = LABEL if name != "umed" else (IMAGE > 0.5).long()
    with torch.no_grad():
        first, again, second = (
            MAKE[name](seed).eval().delta(IMAGE, ["a", "b"], label).detach() for seed in (FIRST, FIRST, SECOND)
        )
    assert torch.equal(first, again) and not torch.equal(first, second)


@pytest.mark.parametrize("score", [RandomScore, ForegroundScore])
def test_each_key_has_sites_of_its_own(score: type) -> None:
    first, again, second = (score(seed)(IMAGE, None, None) for seed in (FIRST, FIRST, SECOND))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_public_seeds_draw_what_they_always_drew() -> None:
    usual = torch.Generator().manual_seed(derive_seed(7, "class", 1))
    assert torch.equal(torch.rand(9, generator=seeded(7, "class", 1)), torch.rand(9, generator=usual))


def test_no_seed_of_torch_gives_the_state_of_a_secret_one() -> None:
    words = seeded(FIRST, "class", 1).get_state().numpy().view("uint64")[3:627]
    usual = torch.Generator().manual_seed(int(words[0])).get_state().numpy().view("uint64")[3:627]
    assert words[0] == usual[0] and (words[1:] != usual[1:]).all(), "the first word decides where torch was seeded"


def test_secret_draws_are_uniform_and_normal() -> None:
    uniform, normal = (draw(10**5, generator=seeded(FIRST, "x")) for draw in (torch.rand, torch.randn))
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.std() - 12**-0.5) < 0.01
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01

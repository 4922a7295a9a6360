# SPDX-License-Identifier: Apache-2.0
"""With a key, every method that draws anything draws what its owner alone can draw again."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.transforms import Compose, Identity, RandCropByPosNegLabeld, RandGaussianNoise

from monai_unlearnable.crypto import OwnerKey, secret_seed
from monai_unlearnable.masks import Everywhere, ForegroundScore, RandomScore
from monai_unlearnable.perturbers import (
    Augmentation,
    AutoregressiveNoise,
    ClassConvolution,
    FixedVoxels,
    GradientNoise,
    LinearPatterns,
    Perturber,
    RandomNoise,
)
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed, reset_parameters, seed_transforms, seeded
from tests.helpers import small_shared, small_surrogate, small_umed

FIRST, SECOND = (secret_seed(0, OwnerKey(bytes([number] * 32))) for number in (1, 2))
IMAGE, LABEL = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 2])
MAKE: dict[str, Callable[[int], Perturber]] = {
    "lsp": lambda seed: LinearPatterns(seed=seed),
    "ar": lambda seed: AutoregressiveNoise(seed=seed),
    "cuda": lambda seed: ClassConvolution(seed=seed),
    "ops": lambda seed: FixedVoxels(seed=seed, fraction=0.1),
    "random": lambda seed: RandomNoise(0.03, Everywhere(), seed),
    "umed": lambda seed: reset_parameters(small_umed(2, support=Everywhere()), seed),
    "shared": lambda seed: reset_parameters(small_shared((16, 16), support=Everywhere()), seed),
    "gradient": lambda seed: GradientNoise(
        [small_surrogate()], support=Everywhere(), steps=2, samples=2, augmentation=Augmentation(noise=0.5), seed=seed
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
def test_each_key_has_voxels_of_its_own(score: type) -> None:
    first, again, second = (score(seed)(IMAGE, None, None) for seed in (FIRST, FIRST, SECOND))
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_public_seeds_draw_what_they_always_drew() -> None:
    usual = torch.Generator().manual_seed(derive_seed(7, "class", 1))
    assert torch.equal(torch.rand(9, generator=seeded(7, "class", 1)), torch.rand(9, generator=usual))


def test_what_is_derived_from_a_secret_seed_is_one() -> None:
    seeds = [derive_seed(seed, "surrogate", birth) for seed in (FIRST, SECOND) for birth in (0, 1)]
    assert len(set(seeds)) == 4 and {seed.bit_length() for seed in seeds} == {257}
    assert derive_seed(derive_seed(FIRST, 1), 2).bit_length() == 257, "however far down"
    assert (derive_seed(3, "surrogate", 0, 1), derive_seed(0)) == (978102517, 804681139), "public ones never change"


def draw_of(use: Callable[[int], object], seed: int) -> bytes:
    """The words of the generator that a use of a seed draws from first."""
    words: list[bytes] = []
    real = torch.randn

    def spy(*arguments: object, generator: torch.Generator | None = None, **rest: object) -> torch.Tensor:
        state = torch.get_rng_state() if generator is None else generator.get_state()
        words.append(state.numpy().view("uint64")[4:627].tobytes())
        return real(*arguments, generator=generator, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randn", spy)
        use(seed)
    return words[0]


def weights(seed: int) -> None:
    with isolated_seed(seed):
        torch.randn(1)


@pytest.mark.parametrize(
    "use", [weights, lambda seed: Augmentation(noise=0.5)(IMAGE, LABEL, seed)], ids=["weights", "augmentation"]
)
def test_the_whole_state_of_torch_is_secret(use: Callable[[int], object]) -> None:
    def of_seed(
        words: bytes,
    ) -> bytes:  # of torch: each word follows from the one before
        first = int.from_bytes(words[:4], "little")
        second = (1812433253 * (first ^ first >> 30) + 2) & 0xFFFFFFFF
        return second.to_bytes(8, "little")

    public, secret = draw_of(use, 7), draw_of(use, derive_seed(FIRST, "surrogate"))
    assert public[8:16] == of_seed(public) and secret[8:16] != of_seed(secret)


def test_transforms_have_states_of_their_own() -> None:
    crop = RandCropByPosNegLabeld(("image", "label"), label_key="label", spatial_size=(4, 4))
    transforms = [RandGaussianNoise(), Identity(), crop]
    states = {}
    for seed in (FIRST, SECOND):
        seed_transforms(Compose(transforms), seed)
        states[seed] = [part.R.get_state()[1] for part in (transforms[0], crop, crop.cropper)]
        assert (states[seed][0] != states[seed][1]).any() and (states[seed][1] == states[seed][2]).all()
    assert (states[FIRST][1] != states[SECOND][1]).any()
    seed_transforms(Compose(transforms), 5)
    again = [part.R.get_state()[1] for part in (transforms[0], crop)]
    Compose(transforms).set_random_state(5)
    assert all((part.R.get_state()[1] == state).all() for part, state in zip((transforms[0], crop), again, strict=True))


def test_no_seed_of_torch_gives_the_state_of_a_secret_one() -> None:
    words = seeded(FIRST, "class", 1).get_state().numpy().view("uint64")[3:627]
    usual = torch.Generator().manual_seed(int(words[0])).get_state().numpy().view("uint64")[3:627]
    assert words[0] == usual[0] and (words[1:] != usual[1:]).all(), "the first word decides where torch was seeded"


def test_secret_draws_are_uniform_and_normal() -> None:
    uniform, normal = (draw(10**5, generator=seeded(FIRST, "x")) for draw in (torch.rand, torch.randn))
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.std() - 12**-0.5) < 0.01
    assert abs(normal.mean()) < 0.01 and abs(normal.std() - 1) < 0.01

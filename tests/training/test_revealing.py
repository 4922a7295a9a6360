# SPDX-License-Identifier: Apache-2.0
"""The training of a network that hides pictures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import DeepHiding, HidingNetwork, RandomNoise
from monai_unlearnable.perturbers.invertible import haar
from monai_unlearnable.training import LogitDivergence, ProtectionTrainer, Revealing, SurrogatePool
from monai_unlearnable.utils.seeding import reset_parameters

SIZE, EPSILON = (16, 16), 0.1
NOBODY = SurrogatePool([], size=0)


def batch(seed: int = 0) -> dict[str, Any]:
    """Smooth images of two classes."""
    drawn = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    image = torch.nn.functional.interpolate(drawn, SIZE, mode="bilinear")
    return {"image": image, "label": torch.arange(8) % 2, "case_id": list("abcdefgh")}


def trained(steps: int = 60, **settings: float) -> tuple[DeepHiding, list[float]]:
    """A network after some steps, and the fraction of voxels that were revealed with the wrong sign in each."""
    perturber = DeepHiding(2, SIZE, HidingNetwork(2, blocks=2, width=8), EPSILON)
    reset_parameters(perturber, 0)
    optimizer = torch.optim.Adam(perturber.parameters(), 5e-3)
    data = [batch(seed) for seed in range(steps)]
    trainer = ProtectionTrainer("cpu", 1, data, NOBODY, perturber, optimizer, strategy=Revealing(**settings))
    errors: list[float] = []
    trainer.add_event_handler("ITERATION_COMPLETED", lambda: errors.append(trainer.state.output["error"]))
    trainer.run()
    return perturber, errors


def noise(perturber: DeepHiding) -> Tensor:
    """Noise as a fraction of epsilon, in images that were not trained on."""
    new = batch(1000)
    with torch.no_grad():
        return perturber.delta(new["image"], new["case_id"], new["label"]) / EPSILON


@pytest.fixture(scope="module")
def blurred() -> tuple[DeepHiding, list[float]]:
    return trained()


@pytest.fixture(scope="module")
def sharp() -> tuple[DeepHiding, list[float]]:
    return trained(blur=0)


def low_fraction(of: Tensor) -> float:
    """The fraction of the energy that lies in the lowest wavelet band."""
    return float(haar(of)[:, :1].square().sum() / of.square().sum())


def test_pictures_are_revealed_that_were_never_seen(sharp: tuple[DeepHiding, list[float]]) -> None:
    _, errors = sharp
    assert sum(errors[:3]) / 3 > 0.3
    assert sum(errors[-5:]) / 5 < 0.2


def test_images_of_a_class_carry_the_same(blurred: tuple[DeepHiding, list[float]]) -> None:
    made = noise(blurred[0])
    within = torch.stack([made[kind::2].var(0, unbiased=False).mean() for kind in (0, 1)]).mean()
    assert within < 0.1 * made.square().mean()


def test_what_is_revealed_after_a_blur_lies_in_lower_frequencies(
    blurred: tuple[DeepHiding, list[float]], sharp: tuple[DeepHiding, list[float]]
) -> None:
    assert low_fraction(noise(blurred[0])) > 2 * low_fraction(noise(sharp[0]))


def test_a_hiding_loss_makes_fainter_noise(blurred: tuple[DeepHiding, list[float]]) -> None:
    faint, _ = trained(hide=1.0)
    assert noise(faint).square().mean() < 0.5 * noise(blurred[0]).square().mean()


def test_a_wavelet_loss_keeps_noise_out_of_the_lowest_band(blurred: tuple[DeepHiding, list[float]]) -> None:
    kept, _ = trained(low_frequency=2.0)
    assert low_fraction(noise(kept)) < 0.5 * low_fraction(noise(blurred[0]))


def test_a_seed_gives_the_same_weights() -> None:
    first, second = (trained(steps=2)[0].state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_it_cannot_train() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], 0.01)
    hider = DeepHiding(2, SIZE, HidingNetwork(2, blocks=1, width=2))
    for perturber, own in ((RandomNoise(0.1), optimizer), (hider, None), (None, None)):
        with pytest.raises(InputError, match="revealing trains a network that hides, and needs its optimizer"):
            ProtectionTrainer("cpu", 1, [], NOBODY, perturber, own, strategy=Revealing())
    with pytest.raises(InputError, match="takes no penalties"):
        ProtectionTrainer("cpu", 1, [], NOBODY, hider, optimizer, strategy=Revealing(), penalties=[LogitDivergence()])
    with pytest.raises(InputError, match="blur is negative"):
        Revealing(blur=-1)

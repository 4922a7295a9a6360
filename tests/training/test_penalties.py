# SPDX-License-Identifier: Apache-2.0
"""Terms that generators go down and surrogates do not see."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from monai_unlearnable.budget import Budget
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, Sparsity
from monai_unlearnable.perturbers import GradientNoise, SalientVoxels, UMed, VoxShield
from monai_unlearnable.training import (
    Alternating,
    EpochLoader,
    LogitDivergence,
    ProtectionTrainer,
    SliceContrast,
    SurrogatePool,
)
from monai_unlearnable.utils.config import build
from monai_unlearnable.utils.descriptions import describe
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import small_surrogate, small_umed
from tests.training.test_trainer import batches, make, same

EPSILON = 0.05


def noise(size: int = 16, slices: int = 5, seed: int = 0) -> torch.Tensor:
    """Signs in a box in the middle of each slice."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.zeros(2, 1, size, size, slices)
    box = slice(size // 4, -size // 4)
    found[:, :, box, box] = EPSILON * (2.0 * torch.randint(0, 2, found[:, :, box, box].shape, generator=generator) - 1)
    return found


def contrast(noise: torch.Tensor, axis: int = 2) -> float:
    return -float(SliceContrast(1.0, axis)(noise, torch.zeros(1), lambda: torch.zeros(1)))


def test_contrast_by_numpy() -> None:
    found, expected = noise(), []
    for volume in found[:, 0].double().numpy():
        spectra = [abs(np.fft.fft2(volume[:, :, z], norm="ortho")) for z in range(5)]
        voxels = (volume != 0).sum((0, 1)).max()
        expected += [np.linalg.norm(b - a) / (EPSILON * voxels**0.5) for a, b in itertools.pairwise(spectra)]
    assert contrast(found) == pytest.approx(np.mean(expected), rel=1e-4)
    assert contrast(found.movedim(4, 2), axis=0) == pytest.approx(contrast(found), rel=1e-5)


def test_contrast_does_not_depend_on_resolution_or_epsilon() -> None:
    found = noise()
    finer = found.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert contrast(3 * found) == pytest.approx(contrast(found), rel=1e-4)
    assert contrast(torch.cat([found, torch.zeros_like(found)], 2)) == pytest.approx(contrast(found), rel=0.2)
    assert contrast(finer) == pytest.approx(contrast(found), rel=0.3)


def test_equal_slices_have_no_contrast_and_empty_noise_no_value() -> None:
    same_slices = noise(slices=1).expand(-1, -1, -1, -1, 6)
    assert contrast(same_slices) < 1e-4 < contrast(noise())
    empty = torch.zeros(1, 1, 8, 8, 3, requires_grad=True)
    value = SliceContrast()(empty, torch.zeros(1), lambda: torch.zeros(1))
    assert value.item() == 0 and value.requires_grad


def test_gradients_lead_to_more_contrast() -> None:
    found = (noise(slices=1).expand(-1, -1, -1, -1, 6) + 1e-3 * noise(slices=6)).clone().requires_grad_()
    value = SliceContrast()(found, torch.zeros(1), lambda: torch.zeros(1))
    (gradient,) = torch.autograd.grad(value, found)
    assert torch.isfinite(gradient).all()
    assert contrast(found.detach() - 0.02 * gradient / gradient.abs().max()) > contrast(found.detach())


def test_divergence_is_the_mean_distance_of_logits() -> None:
    first, second = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    found = LogitDivergence(0.5)(torch.zeros(1), first, lambda: second)
    assert float(found) == pytest.approx(-0.5 * float((first - second).abs().mean()))


def test_slices_need_volumes() -> None:
    with pytest.raises(InputError, match="slices need volumes"):
        SliceContrast()(torch.zeros(1, 1, 8, 8), torch.zeros(1), lambda: torch.zeros(1))


def test_descriptions() -> None:
    for penalty in (SliceContrast(0.3, 1), LogitDivergence(0.1)):
        assert build(describe(penalty)) == penalty


@pytest.mark.parametrize("penalty", [LogitDivergence(100.0), SliceContrast(100.0)], ids=["logits", "slices"])
def test_only_the_perturber_feels_penalties(penalty: LogitDivergence | SliceContrast) -> None:
    plain, penalized = (make(epochs=1, size=1, epoch_length=1, penalties=terms) for terms in ((), (penalty,)))
    for trainer in (plain, penalized):
        trainer.run()
    networks = [trainer.surrogates.networks[0].parameters() for trainer in (plain, penalized)]
    assert same(*(list(parameters) for parameters in networks))
    assert not same(*([*trainer.perturber.parameters()] for trainer in (plain, penalized)))


def test_penalties_do_what_they_are_for() -> None:
    terms = {"plain": (), "slices": (SliceContrast(5.0),)}
    reached = {}
    for name, penalties in terms.items():
        trainer = make(epochs=8, penalties=penalties, strategy=Alternating(10**6))
        trainer.run()
        (batch,) = list(trainer.state.dataloader)[:1]
        with torch.no_grad():
            reached[name] = contrast(trainer.perturber.delta(batch["image"], ["a", "b"], batch["label"].long()))
    assert reached["slices"] > reached["plain"] + 0.05


def test_penalties_need_a_perturber_that_is_trained() -> None:
    made_of_surrogates = GradientNoise([small_surrogate("UNet")], EPSILON)
    for perturber in (made_of_surrogates, None):
        with pytest.raises(InputError, match="none is trained"):
            ProtectionTrainer("cpu", 1, [], SurrogatePool(small_surrogate("UNet")), perturber, None,
                              penalties=(LogitDivergence(),))  # fmt: skip


def test_networks_of_masks_may_be_frozen() -> None:
    mask = SalientVoxels(small_surrogate("UNet").requires_grad_(False), Sparsity(0.2))
    perturber = small_umed(2, support=mask, contour=Everywhere())
    optimizer = torch.optim.Adam(perturber.parameters(), 1e-2)
    loader = EpochLoader(batches(2), batch_size=2, batches=2, seed=0)
    pool = SurrogatePool(small_surrogate("UNet", classes=2))
    terms = (LogitDivergence(),)
    trainer = ProtectionTrainer("cpu", 1, loader, pool, perturber, optimizer, train_handlers=[loader], penalties=terms)
    trainer.run()
    assert trainer.state.iteration == 2


@pytest.mark.parametrize("name", ["voxshield", "umed"])
def test_noise_in_bfloat16_keeps_its_epsilon(name: str) -> None:
    epsilon = 8 / 255  # more than that in bfloat16
    perturber = {"voxshield": VoxShield, "umed": UMed}[name](3, 1, epsilon, channels=(4, 8), support=Everywhere())
    reset_parameters(perturber, 0)
    for layer in perturber.modules():
        if hasattr(layer, "head"):
            layer.head.weight.data *= 1e4  # all voxels are saturated
    image, label = (torch.stack([item[key] for item in batches(3, 2)]) for key in ("image", "label"))
    with torch.autocast("cpu", torch.bfloat16):
        found = perturber.delta(image, ["a", "b"], label.long()).float()
    Budget(epsilon).check(float(found.detach().abs().max()), step=epsilon)

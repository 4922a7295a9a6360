# SPDX-License-Identifier: Apache-2.0
"""Seeds decide, and the global generators stay as they are."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from monai_unlearnable.perturbers import UMed
from monai_unlearnable.utils.seeding import Learned, derive_seed, isolated_seed, reset_parameters


def network() -> nn.Module:
    return UNet(2, 1, 2, (4, 8), (2,), num_res_units=1)


def weights(module: nn.Module) -> list[bytes]:
    return [value.detach().numpy().tobytes() for value in module.state_dict().values()]


@pytest.mark.parametrize("make", [network, lambda: UMed(3, channels=(4, 8))], ids=["unet", "umed"])
def test_reset_parameters_depends_on_the_seed_alone(make) -> None:
    first, second = make(), make()
    torch.rand(3)
    assert weights(reset_parameters(first, 5)) == weights(reset_parameters(second, 5))
    assert weights(reset_parameters(first, 6)) != weights(second)


def test_every_weight_is_drawn_anew() -> None:
    module = UMed(2, channels=(4, 8))
    for parameter in module.parameters():
        parameter.data.fill_(12345.0)
    reset_parameters(module, 0)
    assert all((parameter < 100).all() for parameter in module.parameters())


def test_tables_without_a_layer_are_drawn_and_scales_stay() -> None:
    class Tables(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.scale = nn.Parameter(torch.rand(1, 50, 40)), nn.Parameter(torch.tensor([3.0]))
            self.layer = nn.Linear(4, 4)

    first, second, alone = Tables(), Tables(), nn.Linear(4, 4)
    assert weights(reset_parameters(first, 5)) == weights(reset_parameters(second, 5))
    assert first.table.std().item() == pytest.approx(0.02, rel=0.1) and first.scale.item() == 3
    assert weights(first.layer) == weights(reset_parameters(alone, 5))


def test_networks_that_have_learned_are_left_alone() -> None:
    class Method(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.known, self.layer = Learned([network(), nn.ModuleDict({"inner": network()})]), nn.Linear(4, 4)

    module, alone = Method(), nn.Linear(4, 4)
    before = weights(module.known)
    assert weights(reset_parameters(module, 5).layer) == weights(reset_parameters(alone, 5))
    assert weights(module.known) == before


def test_global_generator_is_untouched() -> None:
    module, before = network(), torch.get_rng_state()
    reset_parameters(module, 1)
    with isolated_seed(3):
        inside = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with isolated_seed(3):
        assert torch.equal(torch.rand(2), inside)


def test_generator_is_put_back_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), isolated_seed(3):
        torch.rand(2)
        _ = 1 / 0
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("seed", [3, 1 << 256 | 3])
def test_generators_of_gpus_are_seeded_and_put_back(seed: int) -> None:
    torch.cuda.init()
    before = torch.cuda.get_rng_state()
    drawn = []
    for _ in range(2):
        with isolated_seed(seed):
            drawn.append(torch.rand(2, device="cuda"))
        assert torch.equal(torch.cuda.get_rng_state(), before)
    assert torch.equal(*drawn)


def test_derived_seeds_are_stable_and_apart() -> None:
    seeds = {derive_seed(seed, part) for seed in range(20) for part in ("a", "b", 1)}
    assert len(seeds) == 60 and all(0 <= seed < 2**31 for seed in seeds)
    assert derive_seed(1, 23) != derive_seed(12, 3)

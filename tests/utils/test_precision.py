# SPDX-License-Identifier: Apache-2.0
"""Networks in bfloat16, and transforms without metadata."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Compose, RandFlip, RandGaussianNoise
from torch import nn

from monai_unlearnable.utils.precision import Autocast, fast_bfloat16, untracked


@pytest.mark.parametrize("amp", [True, False])
def test_a_network_computes_in_bfloat16_where_asked_and_returns_float32(amp: bool) -> None:
    seen = []
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 2, 1))
    network[1].register_forward_hook(lambda layer, given, found: seen.append(found.dtype))
    image = torch.rand(1, 1, 8, 8, 8)
    output = Autocast(network, amp)(image)
    output.sum().backward()
    assert seen == [torch.bfloat16 if amp else torch.float32]
    assert output.dtype == torch.float32
    assert {parameter.grad.dtype for parameter in network.parameters()} == {torch.float32}
    assert torch.allclose(output, network(image), atol=0.02) and torch.equal(output, network(image)) is not amp


def test_the_mode_is_that_of_the_network() -> None:
    network = nn.Dropout(0.5)
    Autocast(network).eval()
    assert not network.training


@pytest.mark.parametrize(("has_instructions", "has_kernels"), [(True, True), (True, False), (False, True)])
def test_a_cpu_is_fast_at_bfloat16_if_it_has_the_instructions(
    has_instructions: bool, has_kernels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: has_instructions, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_kernels)
    assert fast_bfloat16("cpu") is (has_instructions and has_kernels)


def test_devices_that_are_not_known_to_be_fast_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert not fast_bfloat16("cpu") and not fast_bfloat16("meta")


def test_transforms_draw_the_same_without_metadata() -> None:
    found = []
    for plain in (False, True):
        transform = Compose([RandFlip(0.5), RandGaussianNoise(0.5)]).set_random_state(3)
        image = torch.arange(24.0).reshape(1, 2, 3, 4)
        if plain:
            with untracked():
                found.append(transform(image))
        else:
            found.append(transform(image))
    tracked, plain_tensor = found
    assert isinstance(tracked, MetaTensor) and type(plain_tensor) is torch.Tensor
    assert torch.equal(tracked.as_tensor(), plain_tensor)


def test_metadata_are_tracked_again_after_an_error() -> None:
    with pytest.raises(RuntimeError), untracked():
        assert not get_track_meta()
        raise RuntimeError
    assert get_track_meta()

# SPDX-License-Identifier: Apache-2.0
"""Networks in bfloat16, and transforms without metadata."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from monai.data import MetaTensor, get_track_meta
from monai.transforms import Compose, RandFlip, RandGaussianNoise
from torch import nn

from monai_unlearnable.utils.precision import Autocast, channels_last, fast_bfloat16, untracked
from monai_unlearnable.utils.seeding import isolated_seed
from monai_unlearnable.utils.single_images import SingleImages


@pytest.mark.parametrize("amp", [True, False])
def test_a_network_computes_in_bfloat16_where_asked_and_returns_float32(amp: bool) -> None:
    seen = []
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.Conv3d(4, 2, 1))
    network[1].register_forward_hook(lambda layer, given, found: seen.append(found.dtype))
    image = torch.rand(2, 1, 8, 8, 8)
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
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: has_instructions, raising=False)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_kernels)
    assert fast_bfloat16("cpu") is (has_instructions and has_kernels)


def test_devices_that_are_not_known_to_be_fast_stay_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported", raising=False)
    assert not fast_bfloat16("cpu") and not fast_bfloat16("meta")


class Viewing(nn.Sequential):
    """Views maps as vectors."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image).view(len(image), -1)


@pytest.mark.parametrize("dims", [2, 3])
def test_weights_are_laid_out_channels_last_and_stay_the_same(dims: int) -> None:
    convolution = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]
    layers = convolution(2, 4, 3), nn.BatchNorm2d(4) if dims == 2 else nn.BatchNorm3d(4), convolution(4, 2, 1)
    network, shape = nn.Sequential(*layers), (1, 2, *[6] * dims)
    image = torch.rand(shape)
    before, state = network(image), {name: value.clone() for name, value in network.state_dict().items()}
    channels_last(network, shape)
    assert network.training and layers[0].weight.is_contiguous(memory_format=layout)
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert torch.allclose(network(image), before, atol=1e-5)


def test_a_network_that_fails_channels_last_stays_as_it_is() -> None:
    network = Viewing(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3))
    channels_last(network, (1, 1, 8, 8))
    assert all(parameter.is_contiguous() for parameter in network.parameters())
    network(torch.rand(2, 1, 8, 8)).sum().backward()


def test_strided_pointwise_convolutions_of_few_channels_keep_their_layout() -> None:
    """Their gradients overran memory, which ended the process."""
    few, many = nn.Sequential(nn.Conv2d(4, 8, 1, stride=2)), nn.Sequential(nn.Conv2d(8, 8, 1, stride=2))
    for network in (few, many):
        channels_last(network, (1, network[0].in_channels, 8, 8))
    assert few[0].weight.stride() == (4, 1, 1, 1) and many[0].weight.is_contiguous(memory_format=torch.channels_last)


def ways_of_convolving(work: Callable[[], object]) -> set[str]:
    """Names of the implementations that a CPU took."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as watched:
        work()
    names = {event.key for event in watched.key_averages()}
    return names & {"aten::mkldnn_convolution", "aten::slow_conv3d", "aten::thnn_conv2d", "aten::_slow_conv2d_forward"}


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_image_is_convolved_as_a_batch_is(dims: int) -> None:
    """To the same values and gradients; strides, padding by name and pointwise convolutions included."""
    conv = (nn.Conv2d, nn.Conv3d)[dims - 2]
    with isolated_seed(0):
        layers = [conv(2, 4, 3, padding=1), conv(4, 4, 3, stride=2, padding=1, groups=2), conv(4, 4, 3, padding="same")]
        network = nn.Sequential(*layers, conv(4, 3, 1))
        image = torch.rand(1, 2, *(8,) * dims)
    network(image).square().sum().backward()
    expected = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    computing = Autocast(network, amp=False)
    assert torch.allclose(computing(image), network(image), atol=1e-6)
    computing(image).square().sum().backward()
    for parameter, gradient in zip(network.parameters(), expected, strict=True):
        assert torch.allclose(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    plain = Autocast(nn.Sequential(*layers[:2]), amp=False)
    assert ways_of_convolving(lambda: plain(image)) == {"aten::mkldnn_convolution"}


def test_what_onednn_does_not_take_is_convolved_as_ever() -> None:
    image = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    with SingleImages():
        found = nn.Conv2d(1, 2, 3).double()(image)
        unbatched = nn.functional.conv2d(image[0].float(), torch.ones(1, 1, 3, 3))
    assert found.shape == (1, 2, 4, 4) and found.dtype == torch.float64
    assert torch.allclose(
        unbatched.double(), nn.functional.conv2d(image, torch.ones(1, 1, 3, 3).double())[0], atol=1e-5
    )


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

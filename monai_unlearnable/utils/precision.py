# SPDX-License-Identifier: Apache-2.0
"""What makes trainings fast: bfloat16 where the machine is made for it, the ways of CPUs to convolve, plain tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from monai.data import get_track_meta, set_track_meta
from torch import Tensor, nn

from monai_unlearnable.utils.single_images import SingleImages
from monai_unlearnable.utils.tensors import evaluating

__all__ = ["Autocast", "channels_last", "fast_bfloat16", "untracked"]

VECTOR = 8  # float32 in a register of AVX2


def fast_bfloat16(device: str | torch.device) -> bool:
    """Whether a device multiplies matrices in bfloat16.

    CPUs do with AMX (Intel since Sapphire Rapids), GPUs from CUDA compute capability 8.0 (Ampere) on. Elsewhere
    bfloat16 is no faster than float32; with the vector instructions AVX512_BF16 alone, networks of few channels took
    twice the time (``benchmarks/victim_speed.py``).

    Args:
        device: device that networks compute on.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return kind == "cpu" and supported is not None and torch.backends.mkldnn.is_available() and bool(supported())


def channels_last(network: nn.Module, shape: Sequence[int]) -> None:
    """Lay out the weights of convolutions channels last, in place, which CPUs are faster at, above all in float32.

    Values stay as they are. So does the layout where the network fails with it, because it views maps as vectors, and
    where oneDNN would write beyond its memory (:func:`_overruns`).

    Args:
        network: network on its device.
        shape: shape of an input that it takes, (B, C, spatial...).
    """
    if any(map(_overruns, network.modules())):
        return
    _lay_out(network, {4: torch.channels_last, 5: torch.channels_last_3d})
    try:
        with evaluating(network), torch.no_grad():
            network(torch.zeros(tuple(shape)))
    except RuntimeError:
        _lay_out(network, dict.fromkeys((4, 5), torch.contiguous_format))


def _overruns(layer: nn.Module) -> bool:
    """Whether the gradient of a convolution's weights may overrun memory when they lie channels last.

    oneDNN 3.12 does so on CPUs with AVX2 in one thread: pointwise, strided, input channels that do not fill a vector.
    """
    if not isinstance(layer, nn.Conv2d):
        return False
    return set(layer.kernel_size) == {1} and set(layer.stride) != {1} and layer.in_channels % VECTOR != 0


def _lay_out(network: nn.Module, formats: Mapping[int, torch.memory_format]) -> None:
    for parameter in network.parameters():
        if parameter.ndim in formats:
            parameter.data = parameter.data.contiguous(memory_format=formats[parameter.ndim])


class Autocast(nn.Module):
    """A network that computes in bfloat16 autocast and returns float32; its weights are float32 and need no loss scale.

    Args:
        network: network that returns a tensor; parameters and mode are shared with it.
        amp: whether to do so; else it computes as it is.
    """

    def __init__(self, network: nn.Module, amp: bool = True) -> None:
        super().__init__()
        self.network, self.amp = network, amp

    def forward(self, image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        single = SingleImages() if len(image) == 1 else nullcontext()
        with single, torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            output = self.network(image, *args, **kwargs)
        return output.float() if self.amp else output


@contextmanager
def untracked() -> Iterator[None]:
    """A block in which MONAI's transforms give plain tensors, which takes half the time; what they draw is the same."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)

# SPDX-License-Identifier: Apache-2.0
"""Networks that compute in bfloat16 where the machine is faster at it, and random transforms without bookkeeping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from monai.data import get_track_meta, set_track_meta
from torch import Tensor, nn

__all__ = ["Autocast", "fast_bfloat16", "untracked"]


def fast_bfloat16(device: str | torch.device) -> bool:
    """Whether a device has instructions for bfloat16.

    They are AVX512_BF16 (with AMX or without it; Intel since Cooper Lake and Sapphire Rapids, AMD since Zen 4) and CUDA
    from compute capability 8.0 (Ampere) on. Elsewhere bfloat16 is emulated, which is slower than float32.

    Args:
        device: device that networks compute on.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return kind == "cpu" and supported is not None and torch.backends.mkldnn.is_available() and bool(supported())


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
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
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

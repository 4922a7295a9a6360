# SPDX-License-Identifier: Apache-2.0
"""How CPUs convolve batches of one image.

nnU-Net imports this file in its own environment, beside the trainer, so it needs PyTorch alone.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["SingleImages"]


class SingleImages(TorchFunctionMode):
    """A block in which a CPU convolves single images as fast as those of batches, to the same values but for rounding.

    PyTorch gives float32 to oneDNN only where a batch has more images or the maps are large. Its own convolution, which
    takes the others, needs up to 15 times as long in one thread (``benchmarks/victim_speed.py``).
    """

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in (torch.conv2d, torch.conv3d) and not kwargs and _is_slow(*args):
            image, weight, bias, stride, padding, dilation, groups = args
            return torch.mkldnn_convolution(image, weight, bias, padding, stride, dilation, groups)
        return function(*args, **(kwargs or {}))


def _is_slow(image: Tensor, weight: Tensor, *settings: Any) -> bool:
    """Whether these arguments of a convolution are all there are, and such that oneDNN takes them and is faster."""
    if len(settings) != 5 or isinstance(settings[2], str) or torch.is_autocast_enabled("cpu"):
        return False
    is_single = image.ndim == weight.ndim and len(image) == 1 and max(weight.shape[2:]) > 1
    is_dense = image.device.type == "cpu" and image.dtype == weight.dtype == torch.float32
    return is_single and is_dense and torch.backends.mkldnn.is_available()

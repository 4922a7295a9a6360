# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that users bring: what is in the file, and under which names a network knows it."""

from __future__ import annotations

import _codecs
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from monai_unlearnable.errors import InputError, told

__all__ = ["LAYOUTS", "Layout", "bare_name", "fitting_weights", "read_checkpoint"]

CONTAINERS = ("state_dict", "model", "network", "net")  # under what training scripts store the weights
WRAPPERS = re.compile(r"^(?:(?:module|network)\.)+")  # of DistributedDataParallel and of our adapters

# Numbers of numpy, such as a best score, which checkpoints hold beside the weights; none of these can do anything.
_NUMBER = np.float64(0).__reduce__()[0]  # what makes one; its module had another name before numpy 2
NUMPY_NUMBERS: list[Any] = [
    (_NUMBER, "numpy.core.multiarray.scalar"),
    (_NUMBER, "numpy._core.multiarray.scalar"),
    (_codecs.encode, "_codecs.encode"),
    np.dtype,
    *(getattr(np.dtypes, f"{name}DType") for name in ("Float64", "Float32", "Int64", "Int32", "Bool")),
]


@dataclass(frozen=True)
class Layout:
    """How names in a file become names of a network, as MONAI calls its parts.

    Args:
        name: whose layout it is.
        rewrites: regular expressions and what they are replaced by, in turn, after wrappers were taken off.
    """

    name: str
    rewrites: tuple[tuple[str, str], ...] = ()

    def renamed(self, name: str) -> str:
        """The name in the network."""
        for pattern, replacement in self.rewrites:
            name = re.sub(pattern, replacement, name)
        return name


LINEAR = (r"\.mlp\.fc([12])\.", r".mlp.linear\1.")  # as the blocks of Swin transformers called it once
LAYOUTS = (
    Layout("the network itself", (LINEAR,)),
    Layout("SwinUNETR's encoder after self-supervision", ((r"^", "swinViT."), LINEAR)),  # model_swinvit.pt
    Layout("SwinUNETR's pretraining", ((r"^swin_vit\.", "swinViT."), LINEAR)),
    Layout(  # ssl_pretrained_weights.pth
        "Disruptive Autoencoders",
        ((r"^encoder\.(layers\d\.0)\.0\.", r"swinViT.\1."), (r"^encoder\.patch_embed", "swinViT.patch_embed"), LINEAR),
    ),
    Layout("SuPreM", ((r"^backbone\.", ""), LINEAR)),
    Layout("VISTA3D", ((r"^image_encoder\.", ""),)),
    Layout("Lightning", ((r"^(model|net|backbone)\.(module\.)?", ""), LINEAR)),
)


def bare_name(name: str) -> str:
    """The name of a parameter without those of wrappers."""
    return WRAPPERS.sub("", name)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights in a file, by their names there without those of wrappers.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote. Nothing in it is executed.

    Raises:
        InputError: naming the file, when it cannot be read or holds no weights.
    """
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(NUMPY_NUMBERS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except (EOFError, pickle.UnpicklingError) as error:  # torch advises to run what is in the file
        raise InputError("the weights cannot be read: no file of torch, or one that holds more", file=path) from error
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(f"the weights cannot be read: {told(error)}", file=path) from error
    if not isinstance(content, Mapping):
        raise InputError("the file holds no state dict", file=path)
    weights = next((content[name] for name in CONTAINERS if isinstance(content.get(name), Mapping)), content)
    return {bare_name(str(name)): value for name, value in weights.items() if isinstance(value, Tensor)}


def fitting_weights(offered: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Layout]:
    """What fits a network by name and shape, in the layout in which most numbers do.

    Args:
        offered: weights of a file, by bare names.
        own: state dict of the network.

    Returns:
        Weights by names of the network, and the layout.
    """
    best: dict[str, Tensor] = {}
    chosen = LAYOUTS[0]
    for layout in LAYOUTS:
        renamed = {layout.renamed(name): value for name, value in offered.items()}
        found = {name: renamed.get(bare_name(name)) for name in own}
        fitting = {name: value for name, value in found.items() if value is not None and value.shape == own[name].shape}
        if _numbers(fitting) > _numbers(best):
            best, chosen = fitting, layout
    return best, chosen


def _numbers(weights: Mapping[str, Tensor]) -> int:
    return sum(value.numel() for value in weights.values() if value.is_floating_point())

# SPDX-License-Identifier: Apache-2.0
"""Weights in files: what users bring, under which names a network knows it, loaded, saved and frozen."""

from __future__ import annotations

import _codecs
import logging
import pickle
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from monai_unlearnable.errors import InputError, told
from monai_unlearnable.utils.files import write_atomic

__all__ = ["ENCODER", "LAYOUTS", "Loaded", "NameLayout", "bare_name", "fitting_weights", "freeze", "load_pretrained"]
__all__ += ["read_checkpoint", "save_weights"]

logger = logging.getLogger(__name__)

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
class NameLayout:
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
    NameLayout("the network itself", (LINEAR,)),
    NameLayout("SwinUNETR's encoder after self-supervision", ((r"^", "swinViT."), LINEAR)),  # model_swinvit.pt
    NameLayout("SwinUNETR's pretraining", ((r"^swin_vit\.", "swinViT."), LINEAR)),
    NameLayout(  # ssl_pretrained_weights.pth
        "Disruptive Autoencoders",
        ((r"^encoder\.(layers\d\.0)\.0\.", r"swinViT.\1."), (r"^encoder\.patch_embed", "swinViT.patch_embed"), LINEAR),
    ),
    NameLayout("SuPreM", ((r"^backbone\.", ""), LINEAR)),
    NameLayout("VISTA3D", ((r"^image_encoder\.", ""),)),
    NameLayout("Lightning", ((r"^(model|net|backbone)\.(module\.)?", ""), LINEAR)),
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


def fitting_weights(offered: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], NameLayout]:
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


LITTLE = 0.5  # of the tensors of a file; where fewer fit, it is likely meant for another network

# Names of the encoder's parameters in the networks of the catalog; in classifiers, of all but the last layer.
ENCODER = "|".join(
    (
        r"model\.(1\.submodule\.)*(0\.|[a-z])",  # UNet, whose levels are nested
        r"conv_0|down_\d",  # BasicUNet
        r"input_block|downsamples|bottleneck",  # DynUNet
        r"convInit|down_layers",  # SegResNet
        r"encoder\.",  # SegResNetDS
        r"vit\.|swinViT|encoder\d",  # UNETR, SwinUNETR
        r"conv1|bn1|layer\d",  # ResNet18
        r"features",  # DenseNet121
        r"_conv_stem|_bn[01]|_blocks|_conv_head",  # EfficientNetB0
        r"patch_embedding|cls_token|blocks|norm\.",  # ViT
    )
)


@dataclass(frozen=True)
class Loaded:
    """The part of a network that was taken from a file of weights.

    Args:
        names: tensors of the network that were replaced.
        fraction: fraction of the network's parameters, counted in numbers, 0 to 1.
    """

    names: tuple[str, ...]
    fraction: float


def load_pretrained(network: nn.Module, file: str | Path, part: str = "") -> Loaded:
    """Take the weights that fit, by name and shape, from a file; the others stay the same.

    A last layer for other classes or a first one for other channels does not fit and is omitted. Names are read in the
    layout, of those that are known (:data:`LAYOUTS`), in which most weights fit:
    MONAI's SwinUNETR with its self-supervised encoders, SuPreM, VISTA3D. How much was taken, and in which, is logged;
    as a warning where less than half of the file was.

    Args:
        network: network to change in place.
        file: ``.safetensors``, or what ``torch.save`` wrote: a state dict, bare or under ``state_dict``, ``model``,
            ``network`` or ``net``. Nothing in the file is executed.
        part: submodule that the file is for, such as ``swinViT``; all of the network by default.

    Raises:
        InputError: naming the file, when it cannot be read or nothing in it fits.
    """
    try:
        target = network.get_submodule(part)
    except AttributeError as error:
        raise InputError(f"the network has no part {part!r}", file=file) from error
    own = target.state_dict()
    offered = read_checkpoint(Path(file))
    fitting, layout = fitting_weights(offered, own)
    sizes = {name: parameter.numel() for name, parameter in target.named_parameters()}
    taken = sum(count for name, count in sizes.items() if name in fitting)
    if not taken:
        raise InputError("none of the weights fits the network: no parameter has the same name and shape", file=file)
    target.load_state_dict({**own, **fitting})
    fraction = taken / sum(parameter.numel() for parameter in network.parameters())
    prefix = f"{part}." if part else ""
    loaded = Loaded(tuple(prefix + name for name in fitting), fraction)
    level = logging.INFO if len(fitting) >= LITTLE * len(offered) else logging.WARNING
    words = "%s: %d of its %d tensors fit the network, in the layout of %s: %.1f%% of the network's weights"
    logger.log(level, words, file, len(fitting), len(offered), layout.name, 100 * fraction)
    return loaded


def save_weights(network: nn.Module, file: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the weights as :func:`load_pretrained` takes them.

    Args:
        network: network on any device.
        file: ``.safetensors`` file to write; the write is atomic.
        notes: notes in the head of the file.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    # Copies, because some networks hold a tensor under two names, which the format does not allow.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    write_atomic(Path(file), save(weights, metadata=None if notes is None else dict(notes)))


def freeze(network: nn.Module, pattern: str = ENCODER, loaded: Collection[str] | None = None) -> list[str]:
    """Exclude parameters from training; batch norm beside them keeps its running statistics too.

    Args:
        network: network to change in place.
        pattern: regular expression that the name of a parameter begins with, without that of wrappers; ``"encoder"``
            means :data:`ENCODER`, which knows the networks of the catalog.
        loaded: names of the parameters that came from a file, which alone are frozen; None for all.

    Returns:
        Names of the parameters that are frozen.

    Raises:
        InputError: when no parameter has such a name, all of them do, or it is not a regular expression.
    """
    try:
        expression = re.compile(ENCODER if pattern == "encoder" else pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is not a regular expression: {error}") from error
    parameters = dict(network.named_parameters())
    known = parameters if loaded is None else loaded
    frozen = [name for name in parameters if name in known and expression.match(bare_name(name))]
    if not frozen or len(frozen) == len(parameters):
        raise InputError(f"{pattern!r} matches {len(frozen)} of {len(parameters)} parameters of the network")
    for name in frozen:
        parameters[name].requires_grad_(False)
    for layer in network.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not any(p.requires_grad for p in layer.parameters()):
            layer.register_forward_pre_hook(_stay_as_you_are)
    return frozen


def _stay_as_you_are(layer: nn.Module, _: Any) -> None:
    # before every pass, because trainers put the whole network back into training mode
    layer.eval()

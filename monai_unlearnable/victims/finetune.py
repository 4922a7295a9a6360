# SPDX-License-Identifier: Apache-2.0
"""Weights in files, and training that starts from them, of all of a network or with a part frozen."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.files import write_atomic

__all__ = ["ENCODER", "Loaded", "freeze", "load_pretrained", "save_weights"]

logger = logging.getLogger(__name__)

# Names of the encoder's parameters in the networks of the catalog; in classifiers, of all but the last layer.
ENCODER = "|".join(
    (
        r"model\.(1\.submodule\.)*(0\.|[a-z])",  # UNet, whose levels are nested
        r"conv_0|down_\d",  # BasicUNet
        r"input_block|downsamples|bottleneck",  # DynUNet
        r"convInit|down_layers",  # SegResNet
        r"vit\.|swinViT|encoder\d",  # UNETR, SwinUNETR
        r"conv1|bn1|layer\d",  # ResNet18
        r"features",  # DenseNet121
        r"_conv_stem|_bn[01]|_blocks|_conv_head",  # EfficientNetB0
        r"patch_embedding|cls_token|blocks|norm\.",  # ViT
    )
)
CONTAINERS = ("state_dict", "model", "network", "net")  # under what training scripts store the weights
WRAPPERS = re.compile(r"^(?:(?:module|network)\.)+")  # of DistributedDataParallel and of our adapters


@dataclass(frozen=True)
class Loaded:
    """What was taken from a file of weights.

    Args:
        names: tensors of the network that were replaced.
        fraction: of the network's parameters, counted in numbers, 0 to 1.
    """

    names: tuple[str, ...]
    fraction: float


def load_pretrained(network: nn.Module, file: str | Path, part: str = "") -> Loaded:
    """Take the weights that fit, by name and shape, from a file; the others stay as they are.

    A last layer for other classes or a first one for other channels does not fit and is left out. How much was
    taken is logged.

    Args:
        network: changed in place.
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
    offered = {_bare(name): value for name, value in _read(Path(file)).items()}
    own = target.state_dict()
    fitting = {
        name: offered[_bare(name)]
        for name, value in own.items()
        if _bare(name) in offered and offered[_bare(name)].shape == value.shape
    }
    sizes = {name: parameter.numel() for name, parameter in target.named_parameters()}
    taken = sum(count for name, count in sizes.items() if name in fitting)
    if not taken:
        raise InputError("none of the weights fits the network: no parameter has the same name and shape", file=file)
    target.load_state_dict({**own, **fitting})
    fraction = taken / sum(parameter.numel() for parameter in network.parameters())
    prefix = f"{part}." if part else ""
    loaded = Loaded(tuple(prefix + name for name in fitting), fraction)
    logger.info("%.1f%% of the weights (%d tensors) come from %s", 100 * fraction, len(fitting), file)
    return loaded


def save_weights(network: nn.Module, file: str | Path, notes: Mapping[str, str] | None = None) -> None:
    """Write the weights as :func:`load_pretrained` takes them.

    Args:
        network: on any device.
        file: ``.safetensors``; the write is atomic.
        notes: kept in the head of the file.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    # Copies, because some networks hold a tensor under two names, which the format does not allow.
    weights = {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}
    write_atomic(Path(file), save(weights, metadata=None if notes is None else dict(notes)))


def freeze(network: nn.Module, pattern: str = ENCODER) -> list[str]:
    """Exclude parameters from training; batch norm beside them keeps its running statistics too.

    Args:
        network: changed in place.
        pattern: regular expression that the name of a parameter begins with, wrappers left out; ``"encoder"`` means
            :data:`ENCODER`, which knows the networks of the catalog.

    Returns:
        Names of the parameters that are frozen.

    Raises:
        InputError: when no parameter has such a name, all of them do, or it is no regular expression.
    """
    try:
        expression = re.compile(ENCODER if pattern == "encoder" else pattern)
    except re.error as error:
        raise InputError(f"{pattern!r} is no regular expression: {error}") from error
    parameters = dict(network.named_parameters())
    frozen = [name for name in parameters if expression.match(_bare(name))]
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


def _bare(name: str) -> str:
    return WRAPPERS.sub("", name)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(f"the weights cannot be read: {str(error).splitlines()[0]}", file=path) from error
    for container in CONTAINERS:
        inner = content.get(container) if isinstance(content, Mapping) else None
        if isinstance(inner, Mapping):
            content = inner
            break
    if not isinstance(content, Mapping):
        raise InputError("the file holds no state dict", file=path)
    return {str(name): value for name, value in content.items() if isinstance(value, Tensor)}

# SPDX-License-Identifier: Apache-2.0
"""Pretrained weights: made on other clean scans without labels, kept in files, loaded, frozen."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import monai.transforms as mt
import torch
from safetensors.torch import save
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.files import write_atomic
from monai_unlearnable.utils.optimization import minimize
from monai_unlearnable.utils.seeding import derive_seed, seeded
from monai_unlearnable.utils.tensors import averaged
from monai_unlearnable.victims.checkpoints import bare_name, fitting_weights, read_checkpoint
from monai_unlearnable.victims.networks import DeepSupervision, fresh_network
from monai_unlearnable.victims.tasks import LoadImages

__all__ = ["ENCODER", "Loaded", "freeze", "load_pretrained", "pretrain_encoder", "save_weights"]

logger = logging.getLogger(__name__)

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
    layout, of those that are known (:data:`~monai_unlearnable.victims.checkpoints.LAYOUTS`), in which most weights fit:
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
        loaded: names of the parameters that came from a file; others are trained all the same. None for all.

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


COARSE = 4  # voxels a side of the image that a classification network draws


def pretrain_encoder(
    name: str,
    cases: Sequence[Mapping[str, Any]],
    file: str | Path,
    *,
    size: Sequence[int],
    width: int = 8,
    iterations: int = 300,
    batch_size: int = 4,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str | torch.device = "cpu",
    catalog: Catalog | None = None,
) -> float:
    """Train a network to restore distorted images, and save its weights for fine-tuning.

    In the manner of Models Genesis (Zhou et al., MICCAI 2019; Medical Image Analysis 67, 2021): intensities are bent,
    small blocks shuffled, and blocks or all but some blocks painted over; the mean squared error to the original is
    minimized. A segmentation network gives as many outputs as the image has channels. A classification network gives
    the original averaged over a grid of 4 voxels a side, which is our choice. Either way the last layer has another
    shape than in use, and :func:`~monai_unlearnable.victims.load_pretrained` omits it, unless the counts agree.

    Args:
        name: name of a network in the catalog.
        cases: dictionaries with a file name, or several, under ``image``. They must be other scans than those that the
            fine-tuned model is scored on.
        file: ``.safetensors`` file to write.
        size: spatial size of the network's input; larger images are cropped at random.
        width: channels of the first layer, the same as in use.
        iterations: training steps.
        batch_size: images a step.
        learning_rate: peak of the one-cycle schedule.
        seed: random seed of weights, order and distortions.
        device: device to train on.
        catalog: catalog of networks; by default the one that comes with the package.

    Returns:
        The mean squared error over the last tenth of the steps, in variances of an image.

    Raises:
        InputError: when there are no cases, they have different channels, or the network does not take the size.
        OutputError: when the file cannot be written.
    """
    images = _read_images(cases, size)
    values = {"dims": len(size), "channels": len(images[0]), "size": list(size), "width": width}
    network, dense = _network(catalog or Catalog.load("networks"), name, derive_seed(seed, "weights"), values)
    network.to(device)
    distort, loss = _distortion(size, derive_seed(seed, "distortion")), DeepSupervision(nn.MSELoss())
    order = seeded(seed, "order")

    def next_loss() -> Tensor:
        chosen = torch.randint(len(images), (batch_size,), generator=order).tolist()
        pairs = [distort({"image": images[index]}) for index in chosen]
        distorted, target = (torch.stack([pair[key] for pair in pairs]).to(device) for key in ("image", "target"))
        return loss(network(distorted), target if dense else _coarse(target))

    losses = minimize(network, next_loss, iterations, learning_rate, seed, description=f"pretraining {name}")
    save_weights(network, file, {"network": f"{name}, width {width}"})
    last = losses[-max(1, iterations // 10) :]
    return sum(last) / len(last) if last else math.nan


def _read_images(cases: Sequence[Mapping[str, Any]], size: Sequence[int]) -> list[Tensor]:
    """Z-scored images (C, spatial...), at least as large as the network's input."""
    if not cases:
        raise InputError("there are no scans to pretrain on")
    read = mt.Compose(
        [
            LoadImages("image"),
            mt.ClipIntensityPercentilesd("image", 0.5, 99.5, channel_wise=True),
            mt.NormalizeIntensityd("image", channel_wise=True),
            mt.SpatialPadd("image", size),
            mt.EnsureTyped("image", dtype=torch.float32, track_meta=False),
        ]
    )
    images = [read({"image": case["image"]})["image"] for case in cases]
    counts = {len(image) for image in images}
    if len(counts) > 1:
        raise InputError(f"scans to pretrain on have {sorted(counts)} channels; all must have the same number")
    return images


def _network(catalog: Catalog, name: str, seed: int, values: dict[str, Any]) -> tuple[nn.Module, bool]:
    """The network, and whether it gives a value for each voxel of the image."""
    channels, size = values["channels"], values["size"]
    network = fresh_network(catalog, name, seed, classes=channels, **values)
    with torch.no_grad():
        dense = network.eval()(torch.zeros(1, channels, *size)).ndim > 2
    if not dense:
        network = fresh_network(catalog, name, seed, classes=channels * COARSE ** len(size), **values)
    return network, dense


def _coarse(images: Tensor) -> Tensor:
    return averaged(images, [COARSE] * (images.ndim - 2)).flatten(1)


def _distortion(size: Sequence[int], seed: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """From images to patches under ``target`` and their distorted copies under ``image``."""
    small, large = [max(1, n // 16) for n in size], [max(1, n // 8) for n in size]
    block, most = [max(1, n // 6) for n in size], [max(1, n // 3) for n in size]
    paint = partial(mt.RandCoarseDropoutd, "image", max_spatial_size=most, prob=1)
    inside = paint(holes=2, max_holes=6, spatial_size=block)
    outside = paint(holes=4, max_holes=8, spatial_size=most, dropout_holes=False)
    distort = mt.Compose(
        [
            mt.RandSpatialCropd("image", size, random_size=False),
            *(mt.RandFlipd("image", prob=0.5, spatial_axis=axis) for axis in range(len(size))),
            mt.CopyItemsd("image", names="target"),
            mt.RandHistogramShiftd("image", prob=0.9, num_control_points=(4, 8)),
            mt.RandCoarseShuffled("image", holes=10, spatial_size=small, max_spatial_size=large, prob=0.5),
            mt.OneOf([inside, outside]),
            mt.EnsureTyped(("image", "target"), dtype=torch.float32, track_meta=False),
        ]
    )
    distort.set_random_state(seed)
    return distort

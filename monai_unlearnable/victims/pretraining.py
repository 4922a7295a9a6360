# SPDX-License-Identifier: Apache-2.0
"""Encoders pretrained on other clean scans without labels, for recipes that start from weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import monai.transforms as mt
import torch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.optimization import minimize
from monai_unlearnable.utils.seeding import derive_seed, seeded
from monai_unlearnable.utils.tensors import averaged
from monai_unlearnable.victims.networks import DeepSupervision, fresh_network
from monai_unlearnable.victims.tasks import LoadImages
from monai_unlearnable.victims.weights import save_weights

__all__ = ["pretrain_encoder"]

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

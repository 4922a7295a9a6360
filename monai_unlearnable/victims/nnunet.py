# SPDX-License-Identifier: Apache-2.0
"""The augmentation of nnU-Net, from MONAI's transforms.

The numbers are the defaults of ``nnUNetTrainer`` in nnU-Net v2 (Isensee et al., Nature Methods 18:203, 2021, describe
those of the first version). The image comes z-scored, which is also nnU-Net's normalization of everything but CT. What
is different here:

- voxels are taken to be isotropic;
- Gaussian noise is drawn for each channel, not once for all;
- blur takes the image to be 0 beyond its border, not mirrored;
- a patch never reaches over the image's border where the image is large enough;
- each sample is made to show the foreground with a chance of 1/3, instead of every third one of a batch;
- low resolution acts along all axes, also in flat patches.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import (
    EnsureTyped,
    MapTransform,
    OneOf,
    RandAdjustContrast,
    RandFlipd,
    RandGaussianNoised,
    RandGaussianSmooth,
    Randomizable,
    RandomizableTransform,
    RandScaleIntensity,
    RandScaleIntensityFixedMean,
    RandSimulateLowResolution,
)
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends

from monai_unlearnable.victims.patches import RandAffinePatchd

__all__ = ["RandChannelWiseD", "RandChannelWiseDict", "RandChannelWised", "mirroring", "nnunet_augmentation"]

MAX_SEED = 2**32 - 1


def nnunet_augmentation(dims: int, size: Sequence[int], keys: Sequence[str] = ("image", "label")) -> list[Any]:
    """nnU-Net v2's default augmentation of z-scored images that are at least as large as the patch.

    A patch of the given size, in a third of samples around a foreground voxel; rotation (chance 0.2; 30 degrees about
    each axis, 180 in squarish 2D images and within the slices of flat volumes) and scaling (0.2; 0.7 to 1.4) in one
    resampling; Gaussian noise (0.1; standard deviation 0 to 0.1); blur (0.2, half of the channels; sigma 0.5 to 1 for
    each axis); brightness (0.15; times 0.75 to 1.25); contrast (0.15; 0.75 to 1.25, within the old range); low
    resolution (0.25, half of the channels; zoom 0.5 to 1); gamma of the inverted image (0.1) and of the image (0.3;
    0.7 to 1.5, mean and standard deviation kept); mirroring of each axis (0.5). Channels are drawn on their own.

    Args:
        dims: 2 or 3.
        size: of the patch, that is of the network's input.
        keys: the image, and the label map (class indices) where there is one.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.
    """
    image = keys[0]
    upsample = "bilinear" if dims == 2 else "trilinear"
    return [
        RandAffinePatchd(keys, size, label_key=keys[1] if len(keys) > 1 else None),
        RandGaussianNoised(image, prob=0.1, std=0.1),  # drawn from 0 to 0.1; "variance" in nnU-Net, in name only
        RandChannelWised(image, RandGaussianSmooth((0.5, 1), (0.5, 1), (0.5, 1), prob=0.5), prob=0.2),
        RandChannelWised(image, RandScaleIntensity(0.25, prob=1), prob=0.15),
        RandChannelWised(image, RandScaleIntensityFixedMean(1, 0.25, preserve_range=True), prob=0.15),
        RandChannelWised(image, RandSimulateLowResolution(0.5, "nearest-exact", upsample), prob=0.25),
        RandChannelWised(image, _gamma(invert=True), prob=0.1),
        RandChannelWised(image, _gamma(invert=False), prob=0.3),
        *mirroring(dims, keys),
    ]


def mirroring(dims: int, keys: Sequence[str] = ("image", "label")) -> list[Any]:
    """Mirroring of each axis in half of the samples, the augmentation that most pipelines have.

    Args:
        dims: 2 or 3.
        keys: the image, and the label map where there is one.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.
    """
    flips = (RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(dims))
    return [*flips, EnsureTyped(keys, track_meta=False)]


def _gamma(invert: bool) -> OneOf:
    """Exponents below and above 1 are equally frequent."""
    ranges = ((0.7, 1.0), (1.0, 1.5))
    return OneOf([RandAdjustContrast(1, gamma, invert_image=invert, retain_stats=True) for gamma in ranges])


class RandChannelWised(RandomizableTransform, MapTransform):
    """Applies a random array transform to each channel of an image on its own.

    Args:
        keys: images (C, spatial...).
        transform: random transform of a (1, spatial...) image; its own probability is that of each channel.
        prob: chance that the image is touched at all.
        allow_missing_keys: do not raise where a key is absent.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, keys: KeysCollection, transform: Randomizable, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, prob)
        self.transform = transform

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> RandChannelWised:
        super().set_random_state(seed, state)
        self.transform.set_random_state(seed=int(self.R.randint(MAX_SEED, dtype="uint32")))
        return self

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        self.randomize(None)
        if self._do_transform:
            for key in self.key_iterator(d):
                image = convert_to_tensor(d[key])
                channels = [convert_to_tensor(self.transform(channel[None])) for channel in image]  # type: ignore[operator]
                d[key] = convert_to_dst_type(torch.cat(channels), d[key])[0]
        return d


RandChannelWiseD = RandChannelWiseDict = RandChannelWised

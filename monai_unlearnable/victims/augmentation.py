# SPDX-License-Identifier: Apache-2.0
"""Augmentation as exploiters use it: mirroring, nnU-Net's, and that of MONAI's tutorials."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import combinations
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms.utils import map_binary_to_indices
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from monai_unlearnable.victims.patches import FOREGROUND, RandAffinePatchd

__all__ = ["RandChannelWiseD", "RandChannelWiseDict", "RandChannelWised"]
__all__ += ["RandPosNegPatchD", "RandPosNegPatchDict", "RandPosNegPatchd"]
__all__ += ["mirroring", "monai_augmentation", "nnunet_augmentation"]

MAX_SEED = 2**32 - 1


def nnunet_augmentation(
    dims: int, size: Sequence[int], keys: Sequence[str] = ("image", "label"), foreground: float = FOREGROUND
) -> list[Any]:
    """nnU-Net v2's default augmentation of z-scored images.

    A patch of the given size, where nnU-Net puts it, see :class:`RandAffinePatchd`; rotation (probability 0.2; 30
    degrees about each axis, 180 in squarish 2D images and within the slices of flat volumes) and scaling (0.2; 0.7 to
    1.4) in one resampling; Gaussian noise (0.1; standard deviation 0 to 0.1); blur (0.2, half of the channels; sigma
    0.5 to 1 for each axis); brightness (0.15; times 0.75 to 1.25); contrast (0.15; 0.75 to 1.25, within the old range);
    low resolution (0.25, half of the channels; zoom 0.5 to 1, within the slices of flat volumes); gamma of the inverted
    image (0.1) and of the image (0.3; 0.7 to 1.5, mean and standard deviation kept); mirroring of each axis (0.5).
    Channels are drawn on their own.

    Args:
        dims: 2 or 3.
        size: spatial size of the patch, that is of the network's input.
        keys: the image, and the label map (class indices) where there is one.
        foreground: probability of a patch around a foreground voxel.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.
    """
    image = keys[0]
    patch = RandAffinePatchd(keys, size, label_key=keys[1] if len(keys) > 1 else None, foreground=foreground)
    return [
        patch,
        mt.RandGaussianNoised(image, prob=0.1, std=0.1),  # drawn from 0 to 0.1; "variance" in nnU-Net, in name only
        RandChannelWised(image, RandBlur(), prob=0.2),
        RandChannelWised(image, mt.RandScaleIntensity(0.25, prob=1), prob=0.15),
        RandChannelWised(image, mt.RandScaleIntensityFixedMean(1, 0.25, preserve_range=True), prob=0.15),
        RandChannelWised(image, RandLowResolution(patch.across), prob=0.25),
        RandChannelWised(image, _gamma(invert=True), prob=0.1),
        RandChannelWised(image, _gamma(invert=False), prob=0.3),
        *mirroring(dims, keys),
    ]


def monai_augmentation(
    dims: int, size: Sequence[int], keys: Sequence[str] = ("image", "label"), prob: float = 0.1
) -> list[Any]:
    """The augmentation of MONAI's tutorials, for images in [0, 1].

    Segmentation, as in ``swin_unetr_btcv_segmentation_3d``: zeros around images smaller than the patch; a patch around
    a voxel that is labeled or, equally often, belongs to the background of the image; flips of each axis; turns by 90,
    180 or 270 degrees in the first plane of axes in which the patch is square, if there is one; a shift of all
    intensities by up to 0.1 (0.5).
    Classification, as in ``mednist_tutorial``: rotation by up to 15 degrees (0.5), a flip of the first axis (0.5), a
    zoom of 0.9 to 1.1 (0.5); in 3D about each axis. ``brats_segmentation_3d`` flips with a probability of 0.5.

    Args:
        dims: 2 or 3.
        size: spatial size of the network's input.
        keys: the image, and the label map where there is one.
        prob: probability of the flip of an axis, and of a turn, in segmentation.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, float images out.
    """
    image, *labels = keys
    shift = mt.RandShiftIntensityd(image, offsets=0.1, prob=0.5)
    if not labels:
        angle = math.pi / 12
        turn = mt.RandRotated(image, range_x=angle, range_y=angle, range_z=angle, prob=0.5, keep_size=True)
        zoom = mt.RandZoomd(image, prob=0.5, min_zoom=0.9, max_zoom=1.1)
        return [turn, mt.RandFlipd(image, prob=0.5, spatial_axis=0), zoom, mt.EnsureTyped(image, track_meta=False)]
    flips = [mt.RandFlipd(keys, prob=prob, spatial_axis=axis) for axis in range(dims)]
    square = next((plane for plane in combinations(range(dims), 2) if len({size[axis] for axis in plane}) == 1), None)
    turns = [] if square is None else [mt.RandRotate90d(keys, prob=prob, max_k=3, spatial_axes=square)]
    pad = mt.SpatialPadd(keys, size)
    patch = RandPosNegPatchd(keys, labels[0], size, image_key=image)
    return [pad, patch, *flips, *turns, shift, mt.EnsureTyped(keys, track_meta=False)]


def mirroring(dims: int, keys: Sequence[str] = ("image", "label")) -> list[Any]:
    """Mirroring of each axis in half of the samples, the augmentation that most pipelines have.

    Args:
        dims: 2 or 3.
        keys: the image, and the label map where there is one.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.
    """
    flips = (mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(dims))
    return [*flips, mt.EnsureTyped(keys, track_meta=False)]


def _gamma(invert: bool) -> mt.OneOf:
    """Exponents below and above 1 are equally frequent."""
    ranges = ((0.7, 1.0), (1.0, 1.5))
    return mt.OneOf([mt.RandAdjustContrast(1, gamma, invert_image=invert, retain_stats=True) for gamma in ranges])


class RandBlur(mt.RandomizableTransform):
    """Blurs an image as nnU-Net does: a sampled Gaussian for each axis, over three to seven voxels, mirrored outside.

    Args:
        sigma: range of the standard deviation in voxels, drawn for each axis.
        prob: probability that the image is changed.
    """

    def __init__(self, sigma: tuple[float, float] = (0.5, 1), prob: float = 0.5) -> None:
        super().__init__(prob)
        self.sigma = sigma

    def __call__(self, image: Tensor) -> Tensor:
        """A changed image (C, spatial...)."""
        self.randomize(None)
        if not self._do_transform:
            return image
        sigmas = self.R.uniform(*self.sigma, size=image.ndim - 1)
        values = image.numpy(force=True)
        for axis, sigma in enumerate(sigmas, start=1):
            radius = math.floor((6 * sigma + 0.5) / 2)  # of the odd number that is nearest to 6 sigma + 0.5
            values = gaussian_filter1d(values, sigma, axis, mode="mirror", radius=radius)
        return torch.from_numpy(values).to(image)


class RandLowResolution(mt.RandSimulateLowResolution):
    """Fewer voxels, as nnU-Net takes them away: the nearest are kept, and what lies between is interpolated linearly.

    Args:
        across: spatial axis along which all voxels stay, that of the slices of a flat volume.
        prob: probability that the image is changed.
    """

    def __init__(self, across: int | None = None, prob: float = 0.5) -> None:
        super().__init__(prob, downsample_mode="nearest-exact", zoom_range=(0.5, 1.0))
        self.across = across

    def __call__(self, image: Tensor, randomize: bool = True) -> Tensor:  # type: ignore[override]
        """A changed image (1, spatial...)."""
        # the slices of a flat volume as channels of a 2D image
        slices = image if self.across is None else image[0].movedim(self.across, 0)
        self.upsample_mode = "bilinear" if slices.ndim == 3 else "trilinear"
        changed = convert_to_tensor(super().__call__(slices, randomize))
        return changed if self.across is None else changed.movedim(0, self.across)[None]


class RandChannelWised(mt.RandomizableTransform, mt.MapTransform):
    """Applies a random array transform to each channel of an image on its own.

    Args:
        keys: images (C, spatial...).
        transform: random transform of a (1, spatial...) image; its own probability is that of each channel.
        prob: probability that the image is changed at all.
        allow_missing_keys: whether keys may be absent.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self, keys: KeysCollection, transform: mt.Randomizable, prob: float = 0.1, allow_missing_keys: bool = False
    ) -> None:
        mt.MapTransform.__init__(self, keys, allow_missing_keys)
        mt.RandomizableTransform.__init__(self, prob)
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


class RandPosNegPatchd(mt.RandCropByPosNegLabeld):
    """MONAI's ``RandCropByPosNegLabeld`` for one patch, which it returns as a dictionary rather than in a list.

    Where there is no labeled voxel, all patches are those of the background, and the other way round.

    Args:
        keys: images and label maps (C, spatial...) of one shape, at least as large as the patch.
        label_key: entry with class indices.
        spatial_size: spatial size of the patch.
        pos: weight of patches around a labeled voxel.
        neg: weight of patches around another voxel.
        image_key: image that is above 0 where a voxel may be chosen as background.
        allow_missing_keys: whether keys may be absent.
    """

    def __init__(
        self,
        keys: KeysCollection,
        label_key: str,
        spatial_size: Sequence[int],
        pos: float = 1,
        neg: float = 1,
        image_key: str | None = None,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(
            keys, label_key, spatial_size, pos, neg, image_key=image_key, allow_missing_keys=allow_missing_keys
        )

    def randomize(self, label: Any = None, fg_indices: Any = None, bg_indices: Any = None, image: Any = None) -> None:
        labeled, others = map_binary_to_indices(label, image)
        if not len(others):  # of an image that is 0 wherever it has no label
            others = labeled if len(labeled) else torch.arange(label[0].numel())
        super().randomize(label, labeled if len(labeled) else others, others)

    def __call__(self, data: Mapping[Hashable, Any], lazy: bool | None = None) -> dict[Hashable, Any]:  # type: ignore[override]
        (patch,) = super().__call__(data, lazy)
        return patch


RandChannelWiseD = RandChannelWiseDict = RandChannelWised
RandPosNegPatchD = RandPosNegPatchDict = RandPosNegPatchd

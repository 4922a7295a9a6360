# SPDX-License-Identifier: Apache-2.0
"""Batches whose content depends on seed, rank and epoch alone, so that a resumed run repeats them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.config import KeysCollection
from monai.data import DataLoader
from monai.transforms import (
    Compose,
    EnsureTyped,
    MapTransform,
    RandCropByPosNegLabeld,
    Resized,
    SelectItemsd,
    SpatialPadd,
)
from torch.utils.data import Dataset, RandomSampler, Sampler, WeightedRandomSampler

from monai_unlearnable.data import Case, DatasetSummary
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.transforms import EncodeLabeld, LoadScand, ScaleToWindowd
from monai_unlearnable.utils.arrays import as_channels
from monai_unlearnable.utils.config import Described
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.seeding import derive_seed, seed_transforms, seeded

__all__ = ["EpochLoader", "class_weights", "native_transforms", "training_transforms"]


def native_transforms(summary: DatasetSummary, window: WindowRule) -> list[MapTransform]:
    """What reads a case on its own grid: normalized intensity, class indices of voxels where labels are maps.

    Args:
        summary: summary of the dataset.
        window: rule for the intensity windows.
    """
    image, label = CaseKeys.IMAGE, CaseKeys.LABEL
    alike = SameChannelsd((image, CaseKeys.STEP), summary.channels, summary.spatial_dims)
    if not summary.is_segmentation:
        return [LoadScand(image), ScaleToWindowd(image, window), alike]
    encoded = EncodeLabeld(label, summary.label_values)
    return [LoadScand((image, label)), ScaleToWindowd(image, window), alike, encoded]


def training_transforms(summary: DatasetSummary, window: WindowRule, patch_size: Sequence[int]) -> Compose:
    """What the training of a perturber does to each case: normalized intensity, class indices, one size.

    With label maps: zeros up to ``patch_size``, then a random crop of this size around a voxel of the region. With
    classes of whole images: resized to it by area averages.

    Args:
        summary: summary of the dataset.
        window: rule for the intensity windows.
        patch_size: spatial size of the patches, in voxels.
    """
    image, label = CaseKeys.IMAGE, CaseKeys.LABEL
    kept = SelectItemsd((image, label, CaseKeys.STEP, CaseKeys.CASE_ID))
    read, typed = native_transforms(summary, window), EnsureTyped((image, label), track_meta=False)
    if not summary.is_segmentation:
        return Compose([*read, Resized(image, patch_size, mode="area"), typed, kept])
    cropped = RandCropByPosNegLabeld(
        (image, label), label_key=label, spatial_size=patch_size, pos=1, neg=0, num_samples=1, allow_smaller=True
    )
    return Compose([*read, SpatialPadd((image, label), patch_size), typed, cropped, kept])


class SameChannelsd(MapTransform):
    """Gives gray pictures among color ones the channels of the latter.

    Args:
        keys: entries (C, ...), a channel after the other.
        channels: number of channels.
        dims: number of spatial dimensions of the pictures.
    """

    def __init__(self, keys: KeysCollection, channels: int, dims: int) -> None:
        super().__init__(keys)
        self.channels, self.dims = channels, dims

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        return {**d, **{key: as_channels(d[key], self.channels, self.dims) for key in self.key_iterator(d)}}


def class_weights(cases: Sequence[Case]) -> list[float] | None:
    """Weights with which all classes of whole images are drawn equally often; None where labels are maps.

    With several tasks it is the mean weight of them.
    """
    targets = [case.target if isinstance(case.target, tuple) else (case.target,) for case in cases]
    counts = [Counter(kinds) for kinds in zip(*targets, strict=True)]
    if any(None in found for found in counts):
        return None
    return [sum(1 / found[kind] for found, kind in zip(counts, own, strict=True)) / len(counts) for own in targets]


class DrawnAtOnce(RandomSampler):
    """Cases in random order, drawn as an epoch begins.

    The base class draws another order once it is exhausted, if the cases divide the draws. Ignite exhausts it only
    after the next epoch was seeded.
    """

    def __iter__(self) -> Iterator[int]:
        return iter(list(super().__iter__()))


class EpochLoader(DataLoader, Described):
    """A loader that draws ``batches`` random batches an epoch, and an Ignite handler that seeds it at each epoch.

    Loading happens in the training process: random transforms are seeded there.

    Args:
        dataset: a MONAI dataset; its ``transform`` is seeded too.
        batch_size: number of cases a batch and process.
        batches: number of batches an epoch.
        seed: random seed that, together with epoch and rank, decides on order and random transforms.
        weights: weight of each case, which decides how often it is drawn; None for equal weights.
    """

    def __init__(
        self, dataset: Dataset, batch_size: int, batches: int, seed: int = 0, weights: Sequence[float] | None = None
    ) -> None:
        self.order = torch.Generator()
        self.batches, self.seed = batches, seed
        self.weights = None if weights is None else list(weights)
        count = batches * batch_size
        sampler: Sampler[int]
        if weights is None:
            sampler = DrawnAtOnce(dataset, num_samples=count, generator=self.order)  # type: ignore[arg-type]
        else:
            sampler = WeightedRandomSampler(weights, count, generator=self.order)
        super().__init__(dataset, batch_size=batch_size, sampler=sampler, drop_last=True, num_workers=0)

    def attach(self, engine: Engine) -> None:
        """Seed at the start of every epoch of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._seed)

    def _seed(self, engine: Engine) -> None:
        seed = derive_seed(self.seed, "epoch", engine.state.epoch, idist.get_rank())
        self.order.set_state(seeded(seed).get_state())
        transform: Any = getattr(self.dataset, "transform", None)
        if isinstance(transform, Compose):
            seed_transforms(transform, seed)

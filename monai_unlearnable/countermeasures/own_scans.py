# SPDX-License-Identifier: Apache-2.0
"""Scans of the exploiter's own: those of another dataset, and synthetic ones where there are none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from monai.transforms import Compose
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_unlearnable.countermeasures.base import Step, image_of
from monai_unlearnable.countermeasures.learning import choose_cases
from monai_unlearnable.data import Case, check_alike, load_cases, read_scan
from monai_unlearnable.data.scan import filled_channels
from monai_unlearnable.errors import DatalistError, InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import seeded

__all__ = ["read_pairs", "read_scans", "synthetic_scans"]

WINDOW = (0.5, 99.5)  # percentiles of a synthetic channel that become 0 and 1
SIZE = {2: 128, 3: 48}  # voxels an axis of a synthetic scan


def read_scans(
    folder: str | Path, like: Tensor, intensity: Sequence[Step], count: int | None, seed: int
) -> list[Tensor]:
    """Images (C, spatial...) of another dataset, read and normalized as those of victims; labels are not read.

    Args:
        folder: folder of the dataset.
        like: an image (C, spatial...) of the wanted number of channels and axes.
        intensity: the victim's dictionary transforms of physical values to [0, 1].
        count: largest number of cases, chosen by the seed; None for all.
        seed: random seed of the choice.

    Raises:
        UnlearnableError: when there is no such dataset, or an image is of another kind than ``like``.
    """
    cases = load_cases(folder, require_labels=False)
    return [_read(case, like, intensity) for case in track(choose_cases(cases, count, seed), "loading case")]


def read_pairs(
    protected: str | Path,
    originals: str | Path,
    like: Tensor,
    intensity: Sequence[Step],
    count: int | None,
    seed: int,
) -> list[tuple[Tensor, Tensor]]:
    """Images of another dataset in both versions, those of equal case ids together.

    Args:
        protected: folder of the protected version.
        originals: folder of the dataset itself.
        like: an image (C, spatial...) of the wanted number of channels and axes.
        intensity: the victim's dictionary transforms of physical values to [0, 1].
        count: largest number of pairs, chosen by the seed; None for all.
        seed: random seed of the choice.

    Raises:
        UnlearnableError: when a folder is no dataset, they have no case in common, or images of a case differ in shape.
    """
    before = {case.case_id: case for case in load_cases(originals, require_labels=False)}
    common = [case for case in load_cases(protected, require_labels=False) if case.case_id in before]
    if not common:
        raise DatalistError(f"no case of it is in {originals} too", file=protected)
    pairs = []
    for case in track(choose_cases(common, count, seed), "loading case"):
        noisy, clean = (_read(version, like, intensity) for version in (case, before[case.case_id]))
        check_pair(noisy, clean, case.case_id)
        pairs.append((noisy, clean))
    return pairs


def check_pair(protected: Tensor, original: Tensor, case_id: str) -> None:
    """Refuse versions of one case that differ in shape.

    Raises:
        InputError: naming the case.
    """
    if protected.shape != original.shape:
        shapes = tuple(protected.shape), tuple(original.shape)
        raise InputError("the image has shape {}, its original {}".format(*shapes), case=case_id)


def _read(case: Case, like: Tensor, intensity: Sequence[Step]) -> Tensor:
    values = filled_channels([read_scan(case.root / name) for name in case.images], len(like)).astype(np.float32)
    check_alike(case, values.shape, like.shape, "those to change")
    return image_of(Compose(intensity)({CaseKeys.IMAGE: torch.from_numpy(values)}))


def synthetic_scans(like: Tensor, count: int, seed: int) -> list[Tensor]:
    """Images (C, spatial...) in [0, 1] with regions of smooth outline, texture in each, and a little noise.

    Args:
        like: an image (C, spatial...) of the wanted number of channels and axes.
        count: number of images.
        seed: random seed of what is drawn.
    """
    generator = np.random.default_rng(seeded(seed, "synthetic scans").initial_seed())
    dims = like.ndim - 1
    shape = (SIZE[dims],) * dims

    def field(sigma: float) -> np.ndarray:
        values = gaussian_filter(generator.standard_normal(shape), sigma, mode="wrap")
        return values / values.std()

    images = []
    for _ in range(count):
        regions = [field(sigma) > generator.uniform(0, 1) for sigma in generator.uniform(2, 8, 6)]
        channels = []
        for _ in range(len(like)):
            values = 0.15 * field(12) + sum(generator.uniform(-1, 1) * region for region in regions)
            values = gaussian_filter(values, generator.uniform(0.3, 1.0))
            values = values + generator.uniform(0.02, 0.3) * field(generator.uniform(0.6, 1.5))
            low, high = np.percentile(values, WINDOW)
            channels.append(((values - low) / (high - low)).clip(0, 1))
        images.append(torch.from_numpy(np.stack(channels)).float())
    return images

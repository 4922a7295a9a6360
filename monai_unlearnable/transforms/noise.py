# SPDX-License-Identifier: Apache-2.0
"""Noise inside a pipeline: stored noise put on and taken off, and noise made by a trained perturber."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, Transform
from monai.utils.enums import TransformBackends
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.budget import Budget, apply_change, apply_noise, undo_change
from monai_unlearnable.crypto.encrypted import Key
from monai_unlearnable.data.cases import kept_voxels
from monai_unlearnable.data.grids import Crop
from monai_unlearnable.data.scan import Scan, voxel_digest
from monai_unlearnable.errors import NoiseMismatchError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.perturbers import Perturber, load_perturber
from monai_unlearnable.perturbers.inference import WINDOW_VOXELS, generate_noise
from monai_unlearnable.transforms.io import (
    class_indices,
    grid_of,
    like,
    quantization_of,
    refuse_after_spatial,
    to_numpy,
)
from monai_unlearnable.utils.enums import CaseKeys, MetaKeys

__all__ = ["ApplyNoise", "ApplyNoiseD", "ApplyNoiseDict", "ApplyNoised"]
__all__ += ["RemoveNoise", "RemoveNoiseD", "RemoveNoiseDict", "RemoveNoised"]
__all__ += ["GenerateNoise", "GenerateNoiseD", "GenerateNoiseDict", "GenerateNoised"]


def _marked(img: Any, state: str, case_id: str) -> Any:
    if isinstance(img, MetaTensor):
        img.meta[MetaKeys.PROTECTION] = {"state": state, "case_id": case_id}
    return img


class _StoredNoise(Transform):
    """Common part of putting noise on and taking it off.

    Args:
        noise: the store, or its folder.
    """

    backend = [TransformBackends.NUMPY]
    removes: bool

    def __init__(self, noise: NoiseStore | str | Path) -> None:
        self.store = noise if isinstance(noise, NoiseStore) else NoiseStore(noise)

    def __call__(self, img: NDArray | Tensor, case_id: str) -> Any:  # type: ignore[override]
        """Change an image.

        Args:
            img: physical values as loaded, (C, spatial...): array or tensor, before any spatial or intensity transform.
            case_id: name of the case.

        Returns:
            The changed image, of the type, dtype and device of ``img``.

        Raises:
            NoiseError: when no noise is stored for the case.
            NoiseMismatchError: when the voxels are not those that the noise belongs to, bit for bit.
        """
        refuse_after_spatial(img)
        values, parts, start = to_numpy(img), [], 0
        for scan_id in self.store.of_case(case_id):
            entry, change = self.store.load(scan_id)
            part = values[start : start + entry.shape[0]]
            start += entry.shape[0]
            stored = entry.quantization.to_stored(part)
            if stored.shape != entry.shape:
                raise NoiseMismatchError(f"the image has shape {stored.shape}, the noise {entry.shape}", case=case_id)
            self.store.bind(entry, voxel_digest(stored), protected=self.removes)
            changed = undo_change(stored, change) if self.removes else apply_change(stored, change)
            parts.append(entry.quantization.to_physical(changed, values.dtype.type))
        if start != len(values):
            raise NoiseMismatchError(f"the image has {len(values)} channels, the noise {start}", case=case_id)
        return _marked(like(np.concatenate(parts), img), "clean" if self.removes else "protected", case_id)


class ApplyNoise(_StoredNoise):
    """Protect an image with its stored noise, as the published file has it.

    Args:
        noise: the store, or its folder where the noise is not encrypted.
    """

    removes = False


class RemoveNoise(_StoredNoise):
    """Give back the clean image of a protected one.

    Args:
        noise: the store, or its folder where the noise is not encrypted.
    """

    removes = True


class _StoredNoised(MapTransform):
    backend = _StoredNoise.backend
    array_transform: type[_StoredNoise]

    def __init__(
        self,
        keys: KeysCollection,
        noise: NoiseStore | str | Path,
        case_key: str = CaseKeys.CASE_ID,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.change, self.case_key = self.array_transform(noise), case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.change(d[key], d[self.case_key])
        return d


class ApplyNoised(_StoredNoised):
    """Dictionary version of :class:`ApplyNoise`.

    Args:
        keys: images, right after loading.
        noise: the store, or its folder.
        case_key: entry with the case id.
        allow_missing_keys: whether keys may be absent.
    """

    array_transform = ApplyNoise


class RemoveNoised(_StoredNoised):
    """Dictionary version of :class:`RemoveNoise`.

    Args:
        keys: images, right after loading.
        noise: the store, or its folder.
        case_key: entry with the case id.
        allow_missing_keys: whether keys may be absent.
    """

    array_transform = RemoveNoise


class GenerateNoise(Transform):
    """Protect an image with a perturber: one pass, in sliding windows where the image is large.

    Args:
        perturber: the object, or the file of its checkpoint.
        window: rule for the intensity window of each channel.
        budget: budget of the noise.
        device: device of a loaded checkpoint.
        window_voxels: largest number of voxels that go through the perturber at once.
        key: the owner's key, where the checkpoint is encrypted.
    """

    backend = [TransformBackends.TORCH]

    def __init__(
        self,
        perturber: Perturber | str | Path,
        window: WindowRule,
        budget: Budget,
        device: str = "cpu",
        window_voxels: int = WINDOW_VOXELS,
        key: Key | None = None,
    ) -> None:
        if not isinstance(perturber, Perturber):
            perturber = load_perturber(perturber, device, key)
        self.perturber = perturber.eval()
        self.window, self.budget, self.window_voxels = window, budget, window_voxels

    def __call__(
        self, img: NDArray | Tensor, label: NDArray | Tensor | Mapping[str, int] | int | None = None, case_id: str = ""
    ) -> Any:
        """Protect an image.

        Args:
            img: physical values as loaded, (C, spatial...). Where its ``meta`` tells how the file stores voxels
                (:class:`~monai_unlearnable.transforms.LoadScan`), the noise is what that file can hold.
            label: class indices of voxels, (1, spatial...), or the class of the whole image, or that of each of its
                tasks, by name or (tasks,) in the order of the names.
            case_id: name of the case, for errors.

        Returns:
            Physical values of the protected image, of the type, dtype and device of ``img``.

        Raises:
            LabelError: when the method needs a label.
            InputError: when the method needs to know where the voxels lie, and ``img`` does not, or it does not take
                the tasks of the label.
            BudgetError: when the budget is less than a storage step. A budget's fraction of voxels counts for each
                channel by itself; methods that select voxels select them for all channels.
        """
        refuse_after_spatial(img)
        values, pairs = to_numpy(img), zip(quantization_of(img), to_numpy(img), strict=True)
        # From stored numbers, as the file is protected: the precision of the image must not move the window.
        scans = [Scan(Path(case_id), own.to_stored(channel[None]), own) for own, channel in pairs]
        windows = [scan.window(self.window) for scan in scans]
        image = np.concatenate([scan.unit(window) for window, scan in zip(windows, scans, strict=True)])
        classes = None if label is None else class_indices(label)
        if isinstance(label, Mapping) and len(label) > 1:
            self.perturber.check_tasks(sorted(label))
        perturber = self.perturber
        if perturber.uses_grid:
            grid, crop = grid_of(img), perturber.crop
            left = grid if crop == Crop.NONE else grid.cropped(kept_voxels(crop, scans, image))
            perturber = perturber.for_grid(left)
        noise = generate_noise(perturber, image, case_id, classes, self.window_voxels)
        channels, case = [], case_id or None
        for window, scan, own in zip(windows, scans, noise, strict=True):
            protected, _ = apply_noise(
                scan.voxels, own[None], budget=self.budget, window=window, quantization=scan.quantization, case=case
            )
            channels.append(scan.quantization.to_physical(protected, values.dtype.type))
        return _marked(like(np.concatenate(channels), img), "protected", case_id)


class GenerateNoised(MapTransform):
    """Dictionary version of :class:`GenerateNoise`.

    Args:
        keys: images, right after loading.
        perturber, window, budget, device, window_voxels, key: see :class:`GenerateNoise`.
        label_key: class indices; None where the method needs none.
        case_key: entry with the case id, if there is one.
        allow_missing_keys: whether keys may be absent.
    """

    backend = GenerateNoise.backend

    def __init__(
        self,
        keys: KeysCollection,
        perturber: Perturber | str | Path,
        window: WindowRule,
        budget: Budget,
        label_key: str | None = CaseKeys.LABEL,
        case_key: str = CaseKeys.CASE_ID,
        device: str = "cpu",
        window_voxels: int = WINDOW_VOXELS,
        allow_missing_keys: bool = False,
        key: Key | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.generate = GenerateNoise(perturber, window, budget, device, window_voxels, key)
        self.label_key, self.case_key = label_key, case_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        for key in self.key_iterator(d):
            label = None if self.label_key is None else d[self.label_key]
            d[key] = self.generate(d[key], label, str(d.get(self.case_key, "")))
        return d


ApplyNoiseD = ApplyNoiseDict = ApplyNoised
RemoveNoiseD = RemoveNoiseDict = RemoveNoised
GenerateNoiseD = GenerateNoiseDict = GenerateNoised

# SPDX-License-Identifier: Apache-2.0
"""Stored noise put on, and taken off, inside a pipeline."""

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

from monai_unlearnable.budget import apply_change, undo_change
from monai_unlearnable.data.scan import voxel_digest
from monai_unlearnable.errors import NoiseMismatchError
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.transforms.utils import like, refuse_after_spatial, to_numpy
from monai_unlearnable.utils.enums import CaseKeys, MetaKeys

__all__ = [
    "ApplyNoise",
    "ApplyNoiseD",
    "ApplyNoiseDict",
    "ApplyNoised",
    "RemoveNoise",
    "RemoveNoiseD",
    "RemoveNoiseDict",
    "RemoveNoised",
]


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
            case_id: the case it is.

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
        result = like(np.concatenate(parts), img)
        if isinstance(result, MetaTensor):
            result.meta[MetaKeys.PROTECTION] = {"state": "clean" if self.removes else "protected", "case_id": case_id}
        return result


class ApplyNoise(_StoredNoise):
    """Protect an image with its stored noise, as the published file has it.

    Args:
        noise: the store, or its folder where the noise is not sealed.
    """

    removes = False


class RemoveNoise(_StoredNoise):
    """Give back the clean image of a protected one.

    Args:
        noise: the store, or its folder where the noise is not sealed.
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
        allow_missing_keys: do not raise where a key is absent.
    """

    array_transform = ApplyNoise


class RemoveNoised(_StoredNoised):
    """Dictionary version of :class:`RemoveNoise`.

    Args:
        keys: images, right after loading.
        noise: the store, or its folder.
        case_key: entry with the case id.
        allow_missing_keys: do not raise where a key is absent.
    """

    array_transform = RemoveNoise


ApplyNoiseD = ApplyNoiseDict = ApplyNoised
RemoveNoiseD = RemoveNoiseDict = RemoveNoised

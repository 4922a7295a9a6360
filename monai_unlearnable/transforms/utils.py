# SPDX-License-Identifier: Apache-2.0
"""Small helpers shared by the transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.utils import convert_to_numpy
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import NoiseMismatchError
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.enums import MetaKeys

__all__ = ["quantization_of", "like", "refuse_after_spatial", "to_numpy"]


def quantization_of(img: Any) -> list[StorageQuantization]:
    """How the file of an image stores each channel; float32 where the image does not know its file."""
    known = img.meta.get(MetaKeys.QUANTIZATION) if isinstance(img, MetaTensor) else None
    if known is None:
        return [StorageQuantization("<f4")] * len(img)
    return [StorageQuantization(**quantization) for quantization in known]


def refuse_after_spatial(img: Any) -> None:
    """Raise where an image was moved already: noise goes before the training transforms, never after.

    Raises:
        NoiseMismatchError: naming the transform.
    """
    done = [*getattr(img, "applied_operations", []), *getattr(img, "pending_operations", [])]
    for operation in done:
        # Only transforms of the grid record the size it had; random ones that did not act say so.
        if "orig_size" in operation and operation.get("do_transforms", True):
            raise NoiseMismatchError(
                f"{operation.get('class', 'a spatial transform')} was applied before the noise; "
                "put the noise right after loading",
                file=img.meta.get("filename_or_obj"),
            )


def like(values: NDArray, img: Any) -> Any:
    """``values`` as the type, device and meta data of ``img``."""
    if isinstance(img, np.ndarray):
        return values
    tensor = torch.as_tensor(np.ascontiguousarray(values), device=img.device if isinstance(img, Tensor) else None)
    return MetaTensor(tensor).copy_meta_from(img, copy_attr=True) if isinstance(img, MetaTensor) else tensor


def to_numpy(img: Any) -> NDArray:
    """The values of an image as a numpy array."""
    return np.asarray(convert_to_numpy(img))

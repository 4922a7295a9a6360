# SPDX-License-Identifier: Apache-2.0
"""What an exploiter does to the data before training: choose cases, learn from them, change images.

There are two kinds: those that learn from the data first (:class:`Countermeasure`), and changes of single images,
which are plain MONAI transforms of images in normalized intensity (:class:`NormalizedTransform`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from monai.utils import convert_to_dst_type, convert_to_numpy
from monai.utils.enums import TransformBackends
from numpy.lib.array_utils import normalize_axis_tuple
from numpy.typing import NDArray
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.pipelines import DictionaryTransform, percentile_window

__all__ = ["Countermeasure", "Material", "Prepared", "RandomStep", "for_test", "prepare"]
__all__ += ["NormalizedTransform", "NormalizedTransformD", "NormalizedTransformDict", "NormalizedTransformd"]

Sample = Mapping[str, Any]
Step = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Material:
    """The data of an exploiter.

    Args:
        cases: training cases on offer: ``image`` and ``label`` as file names (or a class number), ``case_id``.
        load: function that reads a case: ``image`` a tensor (C, spatial...) in [0, 1], ``label`` class indices
            (1, spatial...) or a class number.
        originals: clean originals of the cases by case id; only for countermeasures that assume a leak.
        seed: random seed of every choice.
        device: device to learn on.
        intensity: dictionary transforms by which ``load`` turns physical values into [0, 1], for scans from elsewhere.
    """

    cases: Sequence[Sample]
    load: Callable[[Sample], dict[str, Any]]
    originals: Mapping[str, Sample] = field(default_factory=dict)
    seed: int = 0
    device: str | torch.device = "cpu"
    intensity: Sequence[Step] = field(default_factory=percentile_window)


@dataclass(frozen=True)
class Prepared:
    """The data that an exploiter trains with.

    Args:
        cases: cases to train on.
        steps: dictionary transforms on images in [0, 1], for training and for test images, see :func:`for_test`.
    """

    cases: Sequence[Sample]
    steps: tuple[Step, ...] = ()


class RandomStep(ABC):
    """A step that is drawn anew for each training image; test images get a fixed version of it."""

    @abstractmethod
    def fixed(self) -> Step:
        """The step without chance."""


def for_test(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Steps as test images, and countermeasures that learn from images, get them: nothing is random."""
    return tuple(step.fixed() if isinstance(step, RandomStep) else step for step in steps)


class Countermeasure(ABC):
    """A countermeasure that learns from the data first; others are plain dictionary transforms."""

    @abstractmethod
    def prepare(self, material: Material) -> Prepared:
        """Decide on cases and transforms.

        Args:
            material: data of the exploiter; ``load`` applies the countermeasures that came before.

        Raises:
            InputError: when the material is not enough.
        """


def prepare(steps: Sequence[Countermeasure | Step], material: Material) -> Prepared:
    """Apply countermeasures in their order; each sees images as the ones before it leave them.

    Args:
        steps: countermeasures and dictionary transforms.
        material: data of the exploiter.
    """
    transforms: list[Step] = []
    for step in steps:
        new = step.prepare(material) if isinstance(step, Countermeasure) else Prepared(material.cases, (step,))
        transforms += new.steps
        material = replace(material, cases=new.cases, load=_chain(material.load, for_test(new.steps)))
    return Prepared(material.cases, tuple(transforms))


def _chain(load: Callable[[Sample], dict[str, Any]], steps: Sequence[Step]) -> Callable[[Sample], dict[str, Any]]:
    def chained(case: Sample) -> dict[str, Any]:
        sample = load(case)
        for step in steps:
            sample = step(sample)
        return sample

    return chained


class NormalizedTransform(Transform):
    """A deterministic change of images in normalized intensity; subclasses define :meth:`change` of one channel."""

    backend = [TransformBackends.NUMPY]

    @abstractmethod
    def change(self, channel: NDArray) -> NDArray:
        """The changed channel, of the same shape; what leaves [0, 1] is clipped afterwards.

        Args:
            channel: float32 (spatial...), 2D or 3D, in [0, 1].
        """

    def __call__(self, img: NDArray | Tensor) -> Any:  # type: ignore[override]
        """Change an image, each channel alone.

        Args:
            img: (C, spatial...) in [0, 1], two or three spatial axes: array or tensor.

        Returns:
            float32 in [0, 1], of the shape, type, device and meta data of ``img``.

        Raises:
            InputError: when the image has another number of axes.
        """
        values = np.asarray(convert_to_numpy(img), np.float32)
        if values.ndim not in (3, 4):
            raise InputError(f"expected an image (channel, 2 or 3 spatial axes), not one of shape {values.shape}")
        changed = np.stack([self.change(channel) for channel in values]).clip(0, 1)
        return convert_to_dst_type(changed, img, dtype=np.float32)[0]


NormalizedTransformd = NormalizedTransformD = NormalizedTransformDict = DictionaryTransform


def image_of(sample: Sample) -> Tensor:
    """The image of a loaded case as a plain float32 tensor (C, spatial...) on the CPU."""
    return torch.as_tensor(sample[CaseKeys.IMAGE]).detach().as_subclass(Tensor).to("cpu", torch.float32)


def label_of(sample: Sample) -> Tensor:
    """The label of a loaded case: class indices (1, spatial...), or the number () of its class.

    Raises:
        InputError: naming the case, when it has none, or several.
    """
    if sample.get(CaseKeys.LABEL) is None:
        raise InputError("there is no label to learn from", case=sample.get(CaseKeys.CASE_ID))
    label = torch.as_tensor(sample[CaseKeys.LABEL]).detach().as_subclass(Tensor).to("cpu", torch.long)
    if label.ndim == 1 and len(label) > 1:
        reason = f"this needs one label an image, and here are {len(label)}, one a task"
        raise InputError(reason, case=sample.get(CaseKeys.CASE_ID))
    return label.reshape(()) if label.numel() == 1 else label


def spatial_axes(axes: Sequence[int] | int | None, dims: int) -> tuple[int, ...]:
    """Numbers of spatial axes, counted from 0.

    Args:
        axes: one axis or several, negative ones counted from the end; None for all.
        dims: number of spatial axes of the image.

    Raises:
        InputError: when the image has no such axis, or one is named twice.
    """
    try:
        return normalize_axis_tuple(range(dims) if axes is None else axes, dims)
    except ValueError:
        reason = f"axes {axes} are not distinct axes of an image with {dims} spatial axes"
        raise InputError(reason) from None  # the root of a chain of errors is reported


def by_plane(channel: NDArray, axis: int, change: Callable[[NDArray], NDArray]) -> NDArray:
    """Change a volume slice by slice along an axis, or a plane as a whole."""
    if channel.ndim == 2:
        return change(channel)
    (axis,) = spatial_axes(axis, channel.ndim)
    return np.stack([change(plane) for plane in np.moveaxis(channel, axis, 0)], axis)

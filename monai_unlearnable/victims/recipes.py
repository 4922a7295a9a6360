# SPDX-License-Identifier: Apache-2.0
"""How exploiters train: recipes, their augmentation, and adversarial training."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
from monai.config import KeysCollection
from monai.engines.utils import default_prepare_batch
from monai.utils import convert_to_dst_type, convert_to_tensor
from monai.utils.enums import TransformBackends
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import evaluating
from monai_unlearnable.victims.patches import RandAffinePatchd
from monai_unlearnable.victims.tasks import Task

__all__ = ["AdversarialBatch", "RandChannelWiseD", "RandChannelWiseDict", "RandChannelWised"]
__all__ += ["Recipe", "mirroring", "nnunet_augmentation"]

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
        size: spatial size of the patch, that is of the network's input.
        keys: the image, and the label map (class indices) where there is one.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.
    """
    image = keys[0]
    upsample = "bilinear" if dims == 2 else "trilinear"
    return [
        RandAffinePatchd(keys, size, label_key=keys[1] if len(keys) > 1 else None),
        mt.RandGaussianNoised(image, prob=0.1, std=0.1),  # drawn from 0 to 0.1; "variance" in nnU-Net, in name only
        RandChannelWised(image, mt.RandGaussianSmooth((0.5, 1), (0.5, 1), (0.5, 1), prob=0.5), prob=0.2),
        RandChannelWised(image, mt.RandScaleIntensity(0.25, prob=1), prob=0.15),
        RandChannelWised(image, mt.RandScaleIntensityFixedMean(1, 0.25, preserve_range=True), prob=0.15),
        RandChannelWised(image, mt.RandSimulateLowResolution(0.5, "nearest-exact", upsample), prob=0.25),
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
    flips = (mt.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in range(dims))
    return [*flips, mt.EnsureTyped(keys, track_meta=False)]


def _gamma(invert: bool) -> mt.OneOf:
    """Exponents below and above 1 are equally frequent."""
    ranges = ((0.7, 1.0), (1.0, 1.5))
    return mt.OneOf([mt.RandAdjustContrast(1, gamma, invert_image=invert, retain_stats=True) for gamma in ranges])


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


RandChannelWiseD = RandChannelWiseDict = RandChannelWised


Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class AdversarialBatch:
    """Projected gradient ascent on the loss, inside a cube around each image (Madry et al., equation 2.1).

    The epsilon is a fraction of the range, maximum minus minimum, of each channel of each image as it comes. Images
    that were clipped to a window and z-scored span that window, so that ``4 / 255`` is 4/255 in normalized intensity.
    The result stays inside the range.

    Args:
        epsilon: largest change of a voxel, as a fraction of the intensity range.
        steps: gradient steps; each costs about as much as a training step.
        step_size: size of a step in the unit of ``epsilon``; by default 2.5 * epsilon / steps, so that the far side of
            the cube can be reached from any start.

    Raises:
        InputError: when the epsilon, the number of steps or the step size is not positive.
    """

    epsilon: float = 4 / 255
    steps: int = 7
    step_size: float | None = None

    def __post_init__(self) -> None:
        for name in ("epsilon", "steps", "step_size"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise InputError(f"{name} of adversarial training must be positive", value=value, limit=0)

    def bind(self, network: nn.Module, loss: Loss, seed: int) -> Callable[..., Any]:
        """A ``prepare_batch`` for MONAI's ``SupervisedTrainer``.

        Args:
            network: network whose loss is raised, in its current state.
            loss: loss of logits and labels.
            seed: random seed of the starts.
        """
        generator = seeded(seed)

        def prepare(*args: Any, **kwargs: Any) -> Any:
            batch: Any = default_prepare_batch(*args, **kwargs)
            image, label, *rest = batch
            return self.perturb(network, loss, image, label, generator), label, *rest

        return prepare

    def perturb(
        self, network: nn.Module, loss: Loss, image: Tensor, label: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Images on which the loss is higher.

        The network is in evaluation mode meanwhile, as in TRADES (Zhang et al., ICML 2019): running statistics do not
        change, and dropout and deep supervision are off. Instance norm is the same in both modes.

        Args:
            network: network; its parameters, their gradients and its mode are left alone.
            loss: loss of logits and labels.
            image: (B, C, spatial...).
            label: label as the loss takes it.
            generator: generator of the random start, on the CPU; without one the start is the image itself.
        """
        spatial = tuple(range(2, image.ndim))
        low, high = image.amin(spatial, keepdim=True), image.amax(spatial, keepdim=True)
        unit = high - low
        epsilon, step = self.epsilon * unit, (self.step_size or 2.5 * self.epsilon / self.steps) * unit
        low, high = torch.maximum(low, image - epsilon), torch.minimum(high, image + epsilon)
        result = image
        if generator is not None:
            start = torch.rand(image.shape, generator=generator).to(image)
            result = (image + (2 * start - 1) * epsilon).clamp(low, high)
        with evaluating(network), torch.enable_grad():
            for _ in range(self.steps):
                result = result.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(loss(network(result), label), result)
                result = (result + step * gradient.sign()).clamp(low, high)
        return result.detach()


Step = Callable[[dict[str, Any]], dict[str, Any]]


class _Spacing(mt.Transform):
    """Keeps the voxel size that later transforms forget."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        d = dict(data)
        dims = d["image"].ndim - 1
        d["spacing"] = d["image"].pixdim[:dims].float()
        return d


@dataclass(frozen=True)
class Recipe:
    """How a victim is trained: percentile window, z-score, AdamW with a one-cycle schedule, and these settings.

    Args:
        size: spatial size of the network input.
        iterations: training steps.
        batch_size: cases a step.
        learning_rate: peak of the one-cycle schedule.
        augmentation: MONAI dictionary transforms on z-scored images (and labels), drawn anew at each step.
        patches: whether images may stay larger than ``size``: the augmentation cuts patches out of them, and they are
            predicted by a sliding window. Else they are cropped around their center.
        weights: file to start from, see :func:`~monai_unlearnable.victims.weights.load_pretrained`.
        frozen: regular expression of parameter names that are not trained.
        adversary: attack that changes batches to the worst of their neighborhood.
        patience: validations without a better score on held-out training data after which to stop, with the weights
            that were best there; None trains to the end.
        name: name in tables.
    """

    size: tuple[int, ...]
    iterations: int = 500
    batch_size: int = 4
    learning_rate: float = 3e-3
    augmentation: Sequence[Any] = field(default_factory=tuple)
    patches: bool = False
    weights: str | None = None
    frozen: str | None = None
    adversary: AdversarialBatch | None = None
    patience: int | None = None
    name: str = "plain"

    def normalized_images(self, task: Task) -> mt.Compose:
        """Transforms from file names to images in [0, 1], the same for training and test."""
        return mt.Compose(
            [
                *task.loading(),
                _Spacing(),
                mt.ClipIntensityPercentilesd("image", 0.5, 99.5, channel_wise=True),
                mt.ScaleIntensityd("image", channel_wise=True),
                mt.EnsureTyped(task.keys, track_meta=False),
                mt.EnsureTyped("image", dtype=torch.float32, track_meta=False),
            ]
        )

    def preprocessing(self, task: Task, steps: Sequence[Step] = ()) -> mt.Compose:
        """Transforms from file names to network input, the same for training and test.

        Args:
            task: task that reads the labels.
            steps: countermeasures on images in [0, 1].
        """
        # Flat, because a CacheDataset takes a nested Compose for a random transform and would not cache its result.
        return mt.Compose(
            [
                *self.normalized_images(task).transforms,
                *steps,
                mt.NormalizeIntensityd("image", channel_wise=True),
                *task.fitting(self.size, whole=not self.patches),
                mt.EnsureTyped(task.keys, track_meta=False),
            ]
        )

    def augmented(self, task: Task, steps: Sequence[Step] = ()) -> mt.Compose:
        """Transforms from file names to training input."""
        return mt.Compose([*self.preprocessing(task, steps).transforms, *self.augmentation])

# SPDX-License-Identifier: Apache-2.0
"""What exploiters do to batches while they train: they take the worst of a neighborhood or of several augmentations."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import monai.transforms as mt
import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.precision import untracked
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import evaluating
from monai_unlearnable.victims.augmentation import mirroring

__all__ = ["AdversarialBatch", "BatchAttack", "LossMaximizing", "hard_augmentation"]

Loss = Callable[[Tensor, Tensor], Tensor]


class BatchAttack(Protocol):
    """Changes each batch before a training step, knowing the network."""

    def bind(self, network: nn.Module, loss: Loss, seed: int) -> Callable[..., Any]:
        """A ``prepare_batch`` for MONAI's ``SupervisedTrainer``.

        Args:
            network: network in training.
            loss: loss of logits and labels.
            seed: random seed of what is drawn.
        """


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


def hard_augmentation(
    dims: int, keys: Sequence[str] = ("image", "label"), strength: float = 1.0, mirror: bool = True
) -> list[Any]:
    """Augmentation for :class:`LossMaximizing`: strong, and all of it such as scans may meet.

    Smooth fields of bias and gamma stand for the plasma brightness and contrast of the published method; blur, low
    resolution and noise, one of them or none, for its policy ``TrivialAugment``; mirroring takes the place of the
    shuffle of color channels, which a scan does not have.

    Args:
        dims: 2 or 3.
        keys: the image, z-scored, and the label map where there is one.
        strength: factor of all ranges, above 0 and at most 1. In short trainings strong augmentation costs more than it
            teaches.
        mirror: whether to mirror each axis in half of the samples.

    Returns:
        Dictionary transforms: tensors (C, spatial...) in, of the same dtypes out.

    Raises:
        InputError: when the strength is out of its range.
    """
    if not 0 < strength <= 1:
        raise InputError("the strength of augmentation is not above 0 and at most 1", value=strength, limit=1)
    image = keys[0]
    upsample = "bilinear" if dims == 2 else "trilinear"
    sigma, gamma = (0.5 * strength, 1.5 * strength), (1 - 0.4 * strength, 1 + 0.7 * strength)
    one_of = mt.OneOf(
        [
            mt.RandGaussianSmoothd(image, sigma, sigma, sigma, prob=1),
            mt.RandSimulateLowResolutiond(
                image,
                prob=1,
                downsample_mode="nearest-exact",
                upsample_mode=upsample,
                zoom_range=(1 - 0.5 * strength, 1.0),
            ),
            mt.RandGaussianNoised(image, prob=1, mean=0, std=0.3 * strength),
            mt.Identityd(image),
        ]
    )
    return [
        mt.RandBiasFieldd(image, coeff_range=(-0.3 * strength, 0.3 * strength), prob=0.8),
        mt.RandAdjustContrastd(image, prob=0.8, gamma=gamma, retain_stats=True),
        one_of,
        *mirroring(dims if mirror else 0, keys),
    ]


@dataclass(frozen=True)
class LossMaximizing:
    """Draws several augmentations of each image and trains on the one with the largest loss.

    UEraser (Qin et al., Learning the Unlearnable: Adversarial Augmentations Suppress Unlearnable Example Attacks, 2023,
    arXiv:2303.15127): an image whose noise still tells its label has a small loss and is passed over. Published with
    several draws in the first epochs and one later, and as UEraser-Max with several throughout, which is the default
    here. The augmentation, :func:`hard_augmentation`, is ours.

    Args:
        augmentation: random dictionary transforms of ``image``, and of ``label`` where it is a map.
        draws: number of augmentations drawn for each image; each costs a pass through the network.
        steps: training steps after which one augmentation is drawn; None for never.

    Raises:
        InputError: when no augmentation is drawn.
    """

    augmentation: Sequence[Any] = field(default_factory=tuple)
    draws: int = 5
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError("at least one augmentation is drawn for each image", value=self.draws, limit=1)

    def bind(self, network: nn.Module, loss: Loss, seed: int) -> Callable[..., Any]:
        """A ``prepare_batch`` for MONAI's ``SupervisedTrainer``; see :class:`BatchAttack`."""
        augment = mt.Compose(list(self.augmentation)).set_random_state(seed)
        count = itertools.count()

        def prepare(batch: Any, *args: Any, **kwargs: Any) -> Any:
            draws = self.draws if self.steps is None or next(count) < self.steps else 1
            drawn = [_augmented(augment, batch) for _ in range(draws)]
            prepared: list[Any] = [default_prepare_batch(one, *args, **kwargs) for one in drawn]
            return prepared[0] if draws == 1 else self.hardest(network, loss, prepared)

        return prepare

    def hardest(self, network: nn.Module, loss: Loss, drawn: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        """Each sample as it was drawn with the largest loss.

        The network is in evaluation mode meanwhile: running statistics do not change.

        Args:
            network: network, left as it is.
            loss: loss of logits and labels.
            drawn: batches of the same samples: image (B, C, spatial...), label, and what else a batch holds.
        """
        with evaluating(network), torch.no_grad():
            losses = torch.stack([_sample_losses(network(image), label, loss) for image, label, *_ in drawn])
        chosen = losses.argmax(0).tolist()

        def taken(part: int) -> Tensor:
            return torch.stack([drawn[draw][part][sample] for sample, draw in enumerate(chosen)])

        return taken(0), taken(1), *drawn[0][2:]


def _augmented(augment: mt.Compose, batch: Mapping[str, Any]) -> dict[str, Any]:
    """A batch with each sample augmented alone."""
    keys = ("image", "label")
    pairs = zip(*(batch[key] for key in keys), strict=True)
    with untracked():
        samples = [augment(dict(zip(keys, pair, strict=True))) for pair in pairs]
    return {**batch, **{key: torch.stack([torch.as_tensor(sample[key]) for sample in samples]) for key in keys}}


def _sample_losses(logits: Tensor, label: Tensor, loss: Loss) -> Tensor:
    pairs = zip(logits.split(1), label.split(1), strict=True)
    return torch.stack([loss(one, target) for one, target in pairs])

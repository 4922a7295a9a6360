# SPDX-License-Identifier: Apache-2.0
"""Adversarial training: batches are replaced by the worst of their neighborhood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.engines.utils import default_prepare_batch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.tensors import evaluating

__all__ = ["AdversarialBatch"]

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

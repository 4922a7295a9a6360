# SPDX-License-Identifier: Apache-2.0
"""Where a surrogate looks: gradients of its loss by the image, and the mask of the sites where they are largest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import MaskProvider, Sparsity
from monai_unlearnable.perturbers.objectives import Objective
from monai_unlearnable.perturbers.padding import pad_to
from monai_unlearnable.perturbers.views import View
from monai_unlearnable.seeding import derive_seed

__all__ = ["SalientSites", "evaluating", "loss_gradient"]


def loss_gradient(
    networks: Sequence[nn.Module],
    image: Tensor,
    label: Tensor,
    objective: Objective,
    view: View,
    samples: int = 1,
    seed: int = 0,
    divisor: int = 1,
) -> tuple[Tensor, Tensor]:
    """The gradient of a loss by the image, summed over networks and draws of a random view.

    Args:
        networks: in evaluation mode.
        image: unit intensity, (B, C, spatial...).
        label: class indices, (B, 1, spatial...) or (B,).
        objective: the loss.
        view: what happens to the image first.
        samples: draws of a random view.
        seed: of these.
        divisor: networks see images padded evenly to a multiple of it.

    Returns:
        The gradient, shape of ``image``, and the mean loss of each case, (B,).
    """
    draws = samples if view.is_random else 1
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, because tensors that were made in inference mode have no gradient.
        image, label = image.detach().clone().requires_grad_(), label.clone()
        losses = torch.zeros(len(image), device=image.device)
        for draw in range(draws):
            seen, truth = view(*pad_to(image, label, divisor), derive_seed(seed, draw))
            for network in networks:
                losses = losses + objective.of_cases(network(seen).float(), truth)
        gradient = torch.autograd.grad(losses.sum(), image)[0]
    return gradient, losses.detach() / (draws * len(networks))


@contextmanager
def evaluating(networks: nn.Module) -> Iterator[None]:
    """Networks in evaluation mode, so that the noise of a case does not depend on those beside it."""
    modes = [(module, module.training) for module in networks.modules()]
    networks.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@dataclass(frozen=True)
class SalientSites(MaskProvider):
    """The sites where the loss of a network depends most on the intensity, as a mask for any method.

    What SALM (arXiv 2403.10573, our reading) selects, at the clean image and once: see
    :class:`~monai_unlearnable.perturbers.GradientNoise` for a selection that follows the noise.

    Args:
        network: a trained network of the task, such as a :class:`~monai_unlearnable.perturbers.Surrogate`.
        sparsity: how many sites, and the score.
        objective: the loss.
        view: what the network's pipeline does to images first.
        within: selects among the sites of another mask; None for all sites.
        divisor: of the spatial sizes that a network of class maps takes.

    Raises:
        InputError: when elements are to be selected: a mask is one of sites.
    """

    network: nn.Module
    sparsity: Sparsity = field(default_factory=Sparsity)
    objective: Objective = field(default_factory=Objective)
    view: View = field(default_factory=View)
    within: MaskProvider | None = None
    divisor: int = 8
    of_images = True

    def __post_init__(self) -> None:
        if self.sparsity.per != "site":
            raise InputError("a mask selects sites, not elements", value=self.sparsity.per)

    def networks(self) -> list[nn.Module]:
        return [self.network, *([] if self.within is None else self.within.networks())]

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        divisor = self.divisor if label.ndim > 1 else 1
        with evaluating(self.network):
            gradient, _ = loss_gradient([self.network], image, label, self.objective, self.view, divisor=divisor)
        support = None if self.within is None else self.within(image, label)
        chosen = self.sparsity.select(image, label, support, gradient)
        return chosen if support is None else chosen * support

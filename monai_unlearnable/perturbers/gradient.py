# SPDX-License-Identifier: Apache-2.0
"""Noise of each case found by signed gradients of surrogates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from monai_unlearnable.masks import Everywhere, MaskProvider
from monai_unlearnable.perturbers.base import Perturber
from monai_unlearnable.perturbers.objectives import Objective
from monai_unlearnable.perturbers.surrogate import Surrogate
from monai_unlearnable.perturbers.views import View
from monai_unlearnable.seeding import derive_seed

__all__ = ["GradientNoise"]


class GradientNoise(Perturber):
    r"""Error-minimizing or error-maximizing noise, a case at a time.

    .. math:: \delta \leftarrow \Pi_\epsilon\big(\delta - \alpha\, m \odot \mathrm{sign}\, \nabla_\delta
        \tfrac{1}{|F|} \textstyle\sum_{f \in F} \mathbb{E}_t\, \ell(f(t(x + \delta)), y)\big)

    from :math:`\delta = 0` (Huang et al., "Unlearnable examples", ICLR 2021, eq. 4; with :math:`\ell` negated or at
    another class, Fowl et al., NeurIPS 2021; the mean over surrogates of several ages after SEP, Chen et al., ICLR
    2023). All there is to keep are the surrogates: noise is made anew for every case, also for those that the
    surrogates have never seen, and memory does not depend on the number of cases.

    Args:
        networks: the surrogates; only their weights are learned, by
            :class:`~monai_unlearnable.engines.ProtectionTrainer`.
        epsilon: largest change of a site, in unit intensity.
        objective: what the noise goes down.
        steps: gradient steps.
        step_size: of a step, in unit intensity; by default a tenth of epsilon.
        support: where noise is allowed.
        view: what the exploiter does to images first.
        samples: draws of a random view that each gradient averages over.
        seed: of random views.
        divisor: of the spatial sizes that the surrogates take.
        batch_size: cases at once where a dataset is protected.
    """

    def __init__(
        self,
        networks: Sequence[Surrogate],
        epsilon: float = 8 / 255,
        objective: Objective | None = None,
        steps: int = 20,
        step_size: float | None = None,
        support: MaskProvider | None = None,
        view: View | None = None,
        samples: int = 1,
        seed: int = 0,
        divisor: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.epsilon, self.steps, self.step_size = epsilon, steps, epsilon / 10 if step_size is None else step_size
        self.objective = Objective() if objective is None else objective
        self.allowed = Everywhere() if support is None else support
        self.view = View() if view is None else view
        self.samples, self.seed = samples, seed
        self.divisor, self.batch_size = divisor, batch_size

    needs_label = True

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal perturber (weights apart)."""
        names = ("epsilon", "objective", "steps", "step_size", "view", "samples", "seed", "divisor", "batch_size")
        return {
            **{name: getattr(self, name) for name in names},
            "networks": list(self.networks),
            "support": self.allowed,
        }

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return self.allowed(image, label)

    def delta(self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None) -> Tensor:
        assert label is not None
        support, noise = self.allowed(image, label), torch.zeros_like(image)
        with _evaluating(self.networks), torch.enable_grad():
            for step in range(self.steps):
                gradient = self._gradient(image, noise, label, derive_seed(self.seed, step, *case_ids))
                noise = (noise - self.step_size * support * gradient.sign()).clamp(-self.epsilon, self.epsilon)
        return noise

    def _gradient(self, image: Tensor, noise: Tensor, label: Tensor, seed: int) -> Tensor:
        noise = noise.detach().requires_grad_()
        draws = self.samples if self.view.is_random else 1
        loss = torch.zeros((), device=image.device)
        for draw in range(draws):
            seen, truth = self.view(image + noise, label, derive_seed(seed, draw))
            for network in self.networks:
                loss = loss + self.objective(network(seen).float(), truth)
        return torch.autograd.grad(loss, noise)[0]


@contextmanager
def _evaluating(networks: nn.Module) -> Iterator[None]:
    """Networks in evaluation mode, so that the noise of a case does not depend on those beside it."""
    modes = [(module, module.training) for module in networks.modules()]
    networks.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training

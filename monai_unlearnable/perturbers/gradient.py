# SPDX-License-Identifier: Apache-2.0
"""Noise of each case found by signed gradients of surrogates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, MaskProvider
from monai_unlearnable.perturbers.base import Perturber, check_classes
from monai_unlearnable.perturbers.objectives import Objective
from monai_unlearnable.perturbers.surrogate import Surrogate
from monai_unlearnable.perturbers.views import View
from monai_unlearnable.seeding import derive_seed

__all__ = ["GradientNoise"]


class GradientNoise(Perturber):
    r"""Error-minimizing or error-maximizing noise, a case at a time.

    .. math:: \delta \leftarrow \Pi_\epsilon\big(\delta - \alpha\, m \odot \mathrm{sign}\, \nabla_\delta\,
        \mathbb{E}_t\, \ell(f(t(x + \delta)), y)\big)

    from :math:`\delta = 0`, with :math:`f` one surrogate after the other (Huang et al., "Unlearnable examples", ICLR
    2021, eq. 4; with :math:`\ell` negated or at another class, Fowl et al., NeurIPS 2021). The surrogates are snapshots
    of one training, young to old, which the published alternation of surrogate and noise passes through too; what is
    kept of it are the snapshots, not the noise. So noise is made anew for every case, also for those that were never
    seen, and memory does not depend on the number of cases. With ``average`` steps go down the mean over all snapshots
    (SEP, Chen et al., ICLR 2023).

    Args:
        networks: the surrogates; only their weights are learned, by
            :class:`~monai_unlearnable.engines.ProtectionTrainer`, and may be added later, by
            :class:`~monai_unlearnable.handlers.Snapshots`.
        epsilon: largest change of a site, in unit intensity.
        objective: what the noise goes down.
        steps: gradient steps on each surrogate.
        average: whether each step goes down the mean over the surrogates, rather than down one after the other.
        step_size: of a step, in unit intensity; by default an eighth of epsilon.
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
        steps: int = 8,
        step_size: float | None = None,
        support: MaskProvider | None = None,
        average: bool = False,
        view: View | None = None,
        samples: int = 1,
        seed: int = 0,
        divisor: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.epsilon, self.steps, self.average = epsilon, steps, average
        self.step_size = epsilon / 8 if step_size is None else step_size
        self.objective = Objective() if objective is None else objective
        self.allowed = Everywhere() if support is None else support
        self.view = View() if view is None else view
        self.samples, self.seed = samples, seed
        self.divisor, self.batch_size = divisor, batch_size

    needs_label = True

    def arguments(self) -> dict[str, Any]:
        """The arguments of the constructor that make an equal perturber (weights apart)."""
        names = ("epsilon", "objective", "steps", "step_size", "average", "view", "samples", "seed", "divisor")
        return {
            **{name: getattr(self, name) for name in (*names, "batch_size")},
            "networks": list(self.networks),
            "support": self.allowed,
        }

    def against(self, networks: Sequence[Surrogate]) -> GradientNoise:
        """An equal perturber against other surrogates, which it shares with whoever trains them."""
        return GradientNoise(**{**self.arguments(), "networks": networks})

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None and len(self.networks):
            check_classes(label, self.networks[0].num_classes)  # type: ignore[arg-type]
        return self.allowed(image, label)

    def delta(self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None) -> Tensor:
        assert label is not None
        if not len(self.networks):
            raise InputError("there are no surrogates yet: the noise needs training")
        support, noise = self.allowed(image, label), torch.zeros_like(image)
        own = support.flatten(1).any(dim=1)  # cases that are spared cost nothing
        if bool(own.any()):
            ids = [case_id for case_id, chosen in zip(case_ids, own.tolist(), strict=True) if chosen]
            noise[own] = self._descend(image[own], label[own], support[own], ids)
        return noise

    def _descend(self, image: Tensor, label: Tensor, support: Tensor, case_ids: Sequence[str]) -> Tensor:
        noise = torch.zeros_like(image)
        members = [list(self.networks)] if self.average else [[network] for network in self.networks]
        turns = [networks for networks in members for _ in range(self.steps)]
        with _evaluating(self.networks), torch.enable_grad():
            for step, networks in enumerate(turns):
                seed = derive_seed(self.seed, step, *case_ids)
                gradient = self._gradient(networks, image, noise, label, seed)
                noise = (noise - self.step_size * support * gradient.sign()).clamp(-self.epsilon, self.epsilon)
        return noise

    def _gradient(
        self, networks: Sequence[nn.Module], image: Tensor, noise: Tensor, label: Tensor, seed: int
    ) -> Tensor:
        noise = noise.detach().requires_grad_()
        loss = torch.zeros((), device=image.device)
        for draw in range(self.samples if self.view.is_random else 1):
            seen, truth = self.view(image + noise, label, derive_seed(seed, draw))
            for network in networks:
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

# SPDX-License-Identifier: Apache-2.0
"""Noise by gradients of surrogate networks, and the voxels that matter most to these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from monai.utils.enums import StrEnum
from torch import Tensor, nn

from monai_unlearnable.crypto.encrypted import Key
from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import Everywhere, MaskProvider, Sparsity
from monai_unlearnable.masks.sparsity import Unit
from monai_unlearnable.perturbers.augmentation import Augmentation
from monai_unlearnable.perturbers.base import Perturber, check_classes, load_perturber
from monai_unlearnable.perturbers.inference import pad_to
from monai_unlearnable.perturbers.surrogate import Objective, Surrogate
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.seeding import derive_seed
from monai_unlearnable.utils.tensors import evaluating
from monai_unlearnable.utils.values import check_at_least, check_whole

__all__ = ["GradientNoise", "MaskRefresh", "SalientVoxels", "load_surrogate", "loss_gradient"]


def loss_gradient(
    networks: Sequence[nn.Module],
    image: Tensor,
    label: Tensor,
    objective: Objective,
    augmentation: Augmentation,
    samples: int = 1,
    seed: int = 0,
    divisor: int = 1,
) -> tuple[Tensor, Tensor]:
    """The gradient of a loss by the image, summed over networks and draws of a random augmentation.

    Args:
        networks: networks in evaluation mode.
        image: normalized intensity, (B, C, spatial...).
        label: class indices, (B, 1, spatial...) or (B,).
        objective: the loss.
        augmentation: changes of the image before the network sees it.
        samples: number of draws of a random augmentation.
        seed: random seed of these draws.
        divisor: number that image sizes are padded evenly to a multiple of.

    Returns:
        The gradient, shape of ``image``, and the mean loss of each case, (B,).
    """
    draws = samples if augmentation.is_random else 1
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, because tensors that were made in inference mode have no gradient.
        image, label = image.detach().clone().requires_grad_(), label.clone()
        losses = torch.zeros(len(image), device=image.device)
        for draw in range(draws):
            seen, truth = augmentation(*pad_to(image, label, divisor), derive_seed(seed, draw))
            for network in networks:
                losses = losses + objective.of_cases(network(seen).float(), truth)
        gradient = torch.autograd.grad(losses.sum(), image)[0]
    return gradient, losses.detach() / (draws * len(networks))


@dataclass(frozen=True)
class SalientVoxels(MaskProvider):
    """The voxels where the loss of a network depends most on the intensity, as a mask for any method.

    This is the selection of SALM (arXiv 2403.10573, our reading), once and at the clean image. See
    :class:`~monai_unlearnable.perturbers.GradientNoise` for a selection that follows the noise.

    Args:
        network: a trained network of the task, such as a :class:`~monai_unlearnable.perturbers.Surrogate`.
        sparsity: number of voxels, and the score.
        objective: the loss.
        augmentation: changes that the network's pipeline makes to images.
        within: mask whose voxels are ranked; None for all voxels.
        divisor: divisor of the spatial sizes that a network of class maps takes.

    Raises:
        InputError: when elements are selected: a mask is one of voxels.
    """

    network: nn.Module
    sparsity: Sparsity = field(default_factory=Sparsity)
    objective: Objective = field(default_factory=Objective)
    augmentation: Augmentation = field(default_factory=Augmentation)
    within: MaskProvider | None = None
    divisor: int = 8
    of_images = True

    def __post_init__(self) -> None:
        if self.sparsity.per != Unit.VOXEL:
            raise InputError("a mask selects voxels, not elements", value=self.sparsity.per)

    def mask(self, image: Tensor, label: Tensor | None) -> Tensor:
        assert label is not None
        divisor = self.divisor if label.ndim > 1 else 1
        with evaluating(self.network):
            networks = [self.network]
            gradient, _ = loss_gradient(networks, image, label, self.objective, self.augmentation, divisor=divisor)
        support = None if self.within is None else self.within(image, label)
        chosen = self.sparsity.select(image, label, support, gradient)
        return chosen if support is None else chosen * support


class MaskRefresh(StrEnum):
    """When the voxels that carry noise are selected anew."""

    ONCE = "once"
    ROUND = "round"
    STEP = "step"


class GradientNoise(Perturber):
    r"""Error-minimizing or error-maximizing noise, a case at a time, dense or on its most significant voxels.

    .. math:: \delta \leftarrow \Pi_\epsilon\big(\delta - \alpha\, m \odot \mathrm{sign}\, \nabla_\delta\,
        \mathbb{E}_t\, \ell(f(t(x + \delta)), y)\big)

    from :math:`\delta = 0`, with :math:`f` one surrogate after the other (Huang et al., "Unlearnable examples", ICLR
    2021, eq. 4; with :math:`\ell` negated or at another class, Fowl et al., NeurIPS 2021). The surrogates are snapshots
    of one training, young to old, which the published alternation of surrogate and noise passes through too; we keep
    the snapshots instead of the noise. So noise is made anew for every case, also for those that were never
    seen, and memory does not depend on the number of cases. With ``average`` steps go down the mean over all snapshots
    (SEP, Chen et al., ICLR 2023).

    :math:`m` is the support. With ``sparsity`` it is the part of it that a score selects, by default the voxels with
    the largest gradient (SALM, arXiv 2403.10573, our reading), and :math:`\delta \leftarrow \delta \odot m` whenever
    the selection is renewed, so that the noise never touches more voxels than allowed.

    Args:
        networks: the surrogates; only their weights are learned, by
            :class:`~monai_unlearnable.training.ProtectionTrainer`, and may be added later, by
            :class:`~monai_unlearnable.training.Snapshots`.
        epsilon: largest change of a voxel, in normalized intensity.
        objective: loss that the noise minimizes.
        steps: number of gradient steps on each surrogate.
        average: whether each step goes down the mean over the surrogates, rather than down one after the other.
        step_size: size of a step, in normalized intensity; by default an eighth of epsilon.
        support: mask of where noise is allowed.
        sparsity: selection of the voxels of the support that carry noise; None for all.
        mask_refresh: time of their selection: ``"once"``, each ``"round"`` (surrogate), or each ``"step"``.
        fitted: loss below which a case is left as it is until the next round; None to continue with all cases.
        augmentation: changes that the exploiter's pipeline makes to images.
        samples: number of draws of a random augmentation that each gradient averages over.
        seed: random seed of the augmentation.
        divisor: divisor of the spatial sizes that the surrogates take.
        batch_size: number of cases at once where a dataset is protected.

    Attributes:
        case_steps: number of gradients computed so far, counted by case and network.

    Raises:
        InputError: when ``mask_refresh`` is unknown, a number of steps or draws is less than 1, or a step goes up.
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
        sparsity: Sparsity | None = None,
        mask_refresh: str = "round",
        fitted: float | None = None,
        augmentation: Augmentation | None = None,
        samples: int = 1,
        seed: int = 0,
        divisor: int = 1,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        check_whole("steps", steps, 1)
        check_whole("samples", samples, 1)
        if step_size is not None:
            check_at_least(0, step_size=step_size)
        self.networks = nn.ModuleList(networks)
        self.epsilon, self.steps, self.average = epsilon, steps, average
        self.step_size = epsilon / 8 if step_size is None else step_size
        self.objective = Objective() if objective is None else objective
        self.allowed = Everywhere() if support is None else support
        self.sparsity, self.fitted = sparsity, fitted
        self.mask_refresh = look_up("mask_refresh", mask_refresh, MaskRefresh)
        self.augmentation = Augmentation() if augmentation is None else augmentation
        self.samples, self.seed = samples, seed
        self.network_divisor, self.batch_size = divisor, batch_size
        self.case_steps = 0
        self._depend_on(self.allowed)
        # Voxels are counted on whole images as they are, without padding.
        self.windowed, self.divisor = sparsity is None, divisor if sparsity is None else 1

    needs_label = True
    held_as = {"support": "allowed", "divisor": "network_divisor"}

    def against(self, networks: Sequence[Surrogate]) -> GradientNoise:
        """An equal perturber against other surrogates, which it shares with whoever trains them."""
        return GradientNoise(**{**self.arguments(), "networks": networks})

    def support(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        if label is not None and len(self.networks):
            check_classes(label, self.networks[0].num_classes)  # type: ignore[arg-type]
        return super().support(image, label)

    def delta(
        self, image: Tensor, case_ids: Sequence[str], label: Tensor | None = None, support: Tensor | None = None
    ) -> Tensor:
        assert label is not None
        if not len(self.networks):
            raise InputError("there are no surrogates yet: the noise needs training")
        support = self.support(image, label) if support is None else support
        noise = torch.zeros_like(image)
        own = support.flatten(1).any(dim=1)  # unperturbed cases cost nothing
        if bool(own.any()):
            ids = [case_id for case_id, chosen in zip(case_ids, own.tolist(), strict=True) if chosen]
            with evaluating(self.networks):  # so that the noise of a case does not depend on those beside it
                noise[own] = self._descend(image[own], label[own], support[own], ids)
        return noise

    def _descend(self, image: Tensor, label: Tensor, support: Tensor, case_ids: Sequence[str]) -> Tensor:
        noise, mask = torch.zeros_like(image), support.expand_as(image).clone()
        members = [list(self.networks)] if self.average else [[network] for network in self.networks]
        for turn, networks in enumerate(members):
            active = torch.arange(len(image), device=image.device)  # the cases that are not fitted yet
            for step in range(self.steps):
                ids = [case_ids[index] for index in active.tolist()]
                seed = derive_seed(self.seed, turn * self.steps + step, *ids)
                seen, truth = image[active] + noise[active], label[active]
                gradient, losses = loss_gradient(
                    networks, seen, truth, self.objective, self.augmentation, self.samples, seed, self.network_divisor
                )
                self.case_steps += len(active) * len(networks)
                if self.fitted is not None and turn + step:  # all cases get a mask first
                    unfitted = losses >= self.fitted
                    active, gradient = active[unfitted], gradient[unfitted]
                    if not len(active):
                        break
                in_round = turn == 0 or self.mask_refresh == MaskRefresh.ROUND
                is_due = self.mask_refresh == MaskRefresh.STEP or (step == 0 and in_round)
                if self.sparsity is not None and is_due:
                    chosen = self.sparsity.select(image[active], label[active], support[active], gradient)
                    mask[active] = support[active] * chosen
                    noise[active] *= mask[active] > 0
                moved = noise[active] - self.step_size * mask[active] * gradient.sign()
                noise[active] = moved.clamp(-self.epsilon, self.epsilon)
        return noise


def load_surrogate(path: str | Path, index: int = -1, key: Key | None = None) -> Surrogate:
    """A surrogate of a :class:`GradientNoise` on disk, for example for
    :class:`~monai_unlearnable.perturbers.SalientVoxels`.

    Args:
        path: file of :func:`~monai_unlearnable.perturbers.save_perturber`.
        index: position of the surrogate, young to old.
        key: the owner's key, where the file is encrypted.

    Raises:
        InputError: naming the file, when it holds no such surrogate.
    """
    networks = getattr(load_perturber(path, key=key), "networks", ())
    if not -len(networks) <= index < len(networks):
        raise InputError(f"holds {len(networks)} surrogates, none at {index}", file=path)
    return networks[index]

# SPDX-License-Identifier: Apache-2.0
"""The trainer of perturbers: surrogates and noise in alternation, on MONAI's Ignite engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine
from monai.engines import Trainer
from monai.engines.utils import IterationEvents
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import Augmentation, Perturber, round_to_quantization
from monai_unlearnable.perturbers.surrogate import error_rate, task_loss
from monai_unlearnable.training.losses import Penalty
from monai_unlearnable.training.surrogates import SurrogatePool
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.seeding import derive_seed

__all__ = ["ProtectionTrainer"]


class ProtectionTrainer(Trainer):
    r"""Trains a perturber against surrogates, or surrogates against a perturber that needs no training of its own.

    .. math:: \min_\theta \min_\phi\; \mathbb{E}\, L\big(f_\theta(v(x + \delta_\phi(x))),\, y\big)

    (Huang et al., Unlearnable Examples, ICLR 2021, eq. 3; UMed minimizes the same over generators). In each iteration
    the surrogate whose turn it is sees a batch with its noise rounded to the storage quantization, and the perturber
    takes a step down the loss. In every ``surrogate_interval``-th round of the pool the surrogates take one too, from
    the same gradients.

    A perturber whose noise comes from the surrogates themselves (:class:`~monai_unlearnable.perturbers.GradientNoise`)
    has no optimizer. Without a perturber the surrogates are trained on clean images; with ``surrogate_interval`` None
    they are not trained at all. With these the trainer also prepares error-maximizing noise.

    The batch holds ``image`` (normalized intensity), ``label`` (class indices, (B, 1, spatial...) or (B,)), ``case_id``
    and, for integer files, ``step`` (storage steps). After each iteration ``engine.state.output`` holds ``loss``,
    ``error`` (:func:`~monai_unlearnable.perturbers.surrogate.error_rate` of the surrogate) and ``linf``, the largest
    noise.

    Args:
        device: where to train.
        max_epochs: number of epochs.
        train_data_loader: batches of cases.
        surrogates: the stand-ins for the exploiter's model, with their optimizers.
        perturber: makes the noise; None for clean images.
        perturber_optimizer: trains it; None where it needs no training.
        loss_function: the exploiter's loss, of logits and label.
        surrogate_interval: rounds of the pool for one step of each surrogate; None for no step.
        augmentation: what the exploiter's pipeline does to an image; z-score by default.
        penalties: further terms of the perturber's loss, which surrogates do not see.
        seed: of random augmentations.
        epoch_length: iterations an epoch; by default the length of the loader.
        train_handlers: Ignite handlers, attached to this engine.
        amp: compute in bfloat16 autocast, which needs no loss scaling; one code path with single precision.

    Raises:
        InputError: when there are penalties, and no perturber that is trained.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        surrogates: SurrogatePool,
        perturber: Perturber | None,
        perturber_optimizer: torch.optim.Optimizer | None,
        loss_function: Callable[[Tensor, Tensor], Tensor] = task_loss,
        surrogate_interval: int | None = 1,
        augmentation: Augmentation | None = None,
        penalties: Sequence[Penalty] = (),
        seed: int = 0,
        epoch_length: int | None = None,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
    ) -> None:
        if penalties and (perturber is None or perturber_optimizer is None):
            raise InputError("penalties are terms of the loss of a perturber, and none is trained")
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            decollate=False,
            amp=amp,
            handlers=train_handlers,
        )
        self.surrogates = surrogates
        self.perturber = None if perturber is None else perturber.to(device)
        self.perturber_optimizer, self.loss_function = perturber_optimizer, loss_function
        self.surrogate_interval, self.augmentation, self.seed = surrogate_interval, augmentation or Augmentation(), seed
        self.penalties = tuple(penalties)

    def run(self) -> None:  # type: ignore[override]
        """Train for ``max_epochs``; a resumed engine goes on from its epoch, and is left as it is after the last."""
        if self.state.epoch >= self.state.max_epochs:
            return  # Ignite would start once more, with the weights as they are
        # Trainer.run would make a CUDA gradient scaler, which bfloat16 does not need.
        super(Trainer, self).run()

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, float]:
        image, label, step, case_ids = self._prepare(batchdata)
        turn = engine.state.iteration - 1
        learns = self.surrogate_interval is not None
        surrogate = self.surrogates[turn] if learns else self.surrogates.networks[turn % self.surrogates.size]
        surrogate.train(learns)
        self.surrogates.zero_grad(turn)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            noise = round_to_quantization(self._noise(image, case_ids, label), step)
            seed = derive_seed(self.seed, "view", turn)
            seen, truth = self.augmentation(image + noise, label, seed)
            logits = surrogate(seen).float()
            own = self._penalty_gradients(
                noise, logits, lambda: surrogate(self.augmentation(image, label, seed)[0]).float()
            )
        loss = self.loss_function(logits, truth)
        loss.backward()
        for parameter, gradient in own:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        if self.perturber is not None and self.perturber_optimizer is not None:
            average_gradients(self.perturber)
            self.perturber_optimizer.step()
        if self.surrogate_interval is not None and turn // self.surrogates.size % self.surrogate_interval == 0:
            average_gradients(surrogate)
            self.surrogates.step(turn)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        largest = float(noise.detach().abs().max())
        return {"loss": float(loss.detach()), "error": error_rate(logits, truth), "linf": largest}

    def _penalty_gradients(
        self, noise: Tensor, logits: Tensor, clean: Callable[[], Tensor]
    ) -> list[tuple[nn.Parameter, Tensor]]:
        """The perturber's parameters, each with the gradient of the penalties by it."""
        if not self.penalties or self.perturber is None:
            return []
        value = torch.stack([penalty(noise, logits, torch.no_grad()(clean)) for penalty in self.penalties]).sum()
        parameters = [parameter for parameter in self.perturber.parameters() if parameter.requires_grad]
        gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(parameters, gradients, strict=True)
        return [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]

    def _noise(self, image: Tensor, case_ids: list[str], label: Tensor) -> Tensor:
        if self.perturber is None:
            return torch.zeros_like(image)
        self.perturber.train()
        if self.perturber_optimizer is not None:
            self.perturber_optimizer.zero_grad(set_to_none=True)
        noise = self.perturber.delta(image, case_ids, label).float()
        return noise.detach() if self.perturber_optimizer is None else noise

    def _prepare(self, batchdata: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor, list[str]]:
        device = self.state.device
        # Plain tensors: gradients by what comes from a MetaTensor are MetaTensors, which cannot be cut into pieces.
        image = convert_to_tensor(batchdata[CaseKeys.IMAGE], torch.float32, device, track_meta=False)
        label = convert_to_tensor(batchdata[CaseKeys.LABEL], torch.long, device, track_meta=False)
        step = batchdata.get(CaseKeys.STEP)
        step = torch.zeros(image.shape[:2]) if step is None else torch.as_tensor(step)
        return image, label, step.to(device), list(batchdata[CaseKeys.CASE_ID])


def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of each process by their mean; does nothing in a single process."""
    if idist.get_world_size() == 1:
        return
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    flat = torch.cat([parameter.grad.flatten() for parameter in parameters])  # type: ignore[union-attr]
    flat = torch.as_tensor(idist.all_reduce(flat)) / idist.get_world_size()
    start = 0
    for parameter in parameters:
        count = parameter.numel()
        parameter.grad = flat[start : start + count].view_as(parameter)
        start += count

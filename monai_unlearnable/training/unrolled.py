# SPDX-License-Identifier: Apache-2.0
"""Training of patterns through the coming training steps of surrogates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch import Tensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.perturbers import Augmentation, Perturber, round_to_quantization
from monai_unlearnable.perturbers.surrogate import error_rate, task_loss
from monai_unlearnable.training.surrogates import SurrogatePool
from monai_unlearnable.training.trainer import ProtectionTrainer, average_gradients
from monai_unlearnable.utils.seeding import derive_seed

__all__ = ["ForesightTrainer"]


class ForesightTrainer(ProtectionTrainer):
    r"""Trains a perturber for how fast its noise is learned, not for what the surrogates see in it already.

    .. math:: \min_\phi\; \frac{1}{|J|} \sum_{j \in J} L\big(f_{\theta_j(\phi)}(v(x_j + \delta_\phi(x_j))),\, y_j\big),
        \qquad \theta_{j+1}(\phi) = \theta_j(\phi) - \eta\, A\big(\nabla_\theta L(\theta_j(\phi); \delta_\phi)\big)

    with the later half :math:`J` of ``horizon`` training steps of a surrogate, which start from where it stands. The
    error-minimizing alternation (:class:`~monai_unlearnable.training.ProtectionTrainer`) takes weights for constants
    and so drops how noise shapes them, which is the very thing that protects. Our method; unrolling a training to
    differentiate through it is that of Maclaurin et al., "Gradient-based hyperparameter optimization through reversible
    learning", ICML 2015.

    After each step of the perturber the surrogate takes ``advance`` true ones, on the noise as it is then. What
    ``engine.state.output`` holds is that of :class:`~monai_unlearnable.training.ProtectionTrainer`.

    Args:
        device: where to train.
        max_epochs: number of epochs.
        train_data_loader: batches of ``horizon`` times as many cases as an exploiter takes a step on.
        surrogates: the stand-ins for the exploiter's model, with their optimizers.
        perturber: makes the noise.
        perturber_optimizer: trains it.
        horizon: training steps to look ahead, 2 at least.
        advance: true steps of the surrogate for one of the perturber, at most ``horizon``.
        loss_function: the exploiter's loss, of logits and label.
        augmentation: what the exploiter's pipeline does to an image; z-score by default.
        seed: of random augmentations.
        epoch_length: iterations an epoch; by default the length of the loader.
        train_handlers: Ignite handlers, attached to this engine.
        amp: compute in bfloat16 autocast.

    Raises:
        InputError: when ``horizon`` or ``advance`` is out of range.
    """

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        surrogates: SurrogatePool,
        perturber: Perturber,
        perturber_optimizer: torch.optim.Optimizer,
        horizon: int = 4,
        advance: int = 4,
        loss_function: Callable[[Tensor, Tensor], Tensor] = task_loss,
        augmentation: Augmentation | None = None,
        seed: int = 0,
        epoch_length: int | None = None,
        train_handlers: Sequence[Any] | None = None,
        amp: bool = False,
    ) -> None:
        if horizon < 2:
            raise InputError("looking ahead takes two steps at least", value=horizon, limit=2)
        if not 1 <= advance <= horizon:
            raise InputError("surrogates advance by one step at least, and no further than they look", value=advance)
        super().__init__(
            device,
            max_epochs,
            train_data_loader,
            surrogates,
            perturber,
            perturber_optimizer,
            loss_function,
            augmentation=augmentation,
            seed=seed,
            epoch_length=epoch_length,
            train_handlers=train_handlers,
            amp=amp,
        )
        self.horizon, self.advance = horizon, advance

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, float]:
        image, label, step, case_ids = self._prepare(batchdata)
        turn = engine.state.iteration - 1
        surrogate = self.surrogates[turn]
        surrogate.train()

        def seen(noise: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
            augmentations = self.augmentation(image + noise, label, derive_seed(self.seed, "view", turn))
            return zip(*(augmentation.chunk(self.horizon) for augmentation in augmentations), strict=True)

        assert self.perturber is not None and self.perturber_optimizer is not None
        noise = self._rounded_noise(image, case_ids, label, step)
        loss, error = self._look_ahead(turn, seen(noise))
        loss.backward(inputs=[parameter for parameter in self.perturber.parameters() if parameter.requires_grad])
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        average_gradients(self.perturber)
        self.perturber_optimizer.step()
        with torch.no_grad():
            noise = self._rounded_noise(image, case_ids, label, step)
        for _, batch in zip(range(self.advance), seen(noise), strict=False):
            self._advance(turn, *batch)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return {"loss": float(loss.detach()), "error": error, "linf": float(noise.abs().max())}

    def _rounded_noise(self, image: Tensor, case_ids: list[str], label: Tensor, step: Tensor) -> Tensor:
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            return round_to_quantization(self._noise(image, case_ids, label), step)

    def _look_ahead(self, turn: int, batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, float]:
        """The mean loss in the later half of the coming steps, and the fraction of errors in the last one."""
        ahead, losses, error = self.surrogates.look_ahead(turn), list[Tensor](), 0.0
        for image, label in batches:
            if losses:
                ahead.step(losses[-1])
            with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
                logits = ahead(image).float()
            losses.append(self.loss_function(logits, label))
            error = error_rate(logits, label)
        return torch.stack(losses[len(losses) // 2 :]).mean(), error

    def _advance(self, turn: int, image: Tensor, label: Tensor) -> None:
        surrogate = self.surrogates.networks[turn % self.surrogates.size]
        self.surrogates.zero_grad(turn)
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.amp):
            logits = surrogate(image).float()
        self.loss_function(logits, label).backward()
        average_gradients(surrogate)
        self.surrogates.step(turn)

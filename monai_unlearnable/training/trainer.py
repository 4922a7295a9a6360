# SPDX-License-Identifier: Apache-2.0
"""The trainer of perturbers, on MONAI's Ignite engine, and the strategies by which it takes its steps."""

from __future__ import annotations

import dataclasses
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from monai_unlearnable.training.data import EpochLoader
from monai_unlearnable.training.descent import Penalty
from monai_unlearnable.training.surrogates import SurrogatePool
from monai_unlearnable.utils.config import Described
from monai_unlearnable.utils.enums import CaseKeys
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed, seeded

__all__ = ["Alternating", "Batch", "ExchangedLabels", "ProtectionTrainer", "Strategy", "Unrolled"]


@dataclass(frozen=True)
class Batch:
    """A batch on the device of its trainer.

    Args:
        image: normalized intensity, (B, C, spatial...).
        label: class indices, (B, 1, spatial...) or (B,).
        step: storage steps in normalized intensity, (B, C); 0 for floating-point storage.
        case_ids: names of the cases.
        turn: number of the iteration, from 0.
    """

    image: Tensor
    label: Tensor
    step: Tensor
    case_ids: list[str]
    turn: int


class Strategy(Described, ABC):
    """How a trainer takes a step: what the perturber minimizes, and when surrogates learn."""

    def check(self, trainer: ProtectionTrainer) -> None:
        """Refuse a trainer that lacks what the strategy needs.

        Raises:
            InputError: when something is missing.
        """

    @abstractmethod
    def step(self, trainer: ProtectionTrainer, batch: Batch) -> dict[str, float]:
        """Take the step of a batch.

        Args:
            trainer: trainer with its networks, optimizers and losses.
            batch: batch on the device of the trainer.

        Returns:
            The content of ``engine.state.output``: ``loss``, ``error`` and ``linf``.
        """


class ProtectionTrainer(Trainer, Described):
    r"""Trains a perturber against surrogates, or surrogates against a perturber that needs no training of its own.

    In each iteration the strategy takes a step of the perturber, of the surrogate whose turn it is, or of both.
    Surrogates see each image with its noise, rounded to the storage quantization, through the augmentation.

    A perturber whose noise comes from the surrogates themselves (:class:`~monai_unlearnable.perturbers.GradientNoise`)
    has no optimizer. Without a perturber the surrogates are trained on clean images.

    The batch holds ``image`` (normalized intensity), ``label`` (class indices, (B, 1, spatial...) or (B,)), ``case_id``
    and, for integer files, ``step`` (storage steps). After each iteration ``engine.state.output`` holds ``loss``,
    ``error`` (:func:`~monai_unlearnable.perturbers.surrogate.error_rate` of the surrogate) and ``linf``, the largest
    noise.

    The description of a trainer (:func:`~monai_unlearnable.utils.descriptions.describe`) holds all that decides on the
    noise except the data: the length of the dataset, and those handlers that can tell how they were made.

    Args:
        device: device to train on.
        max_epochs: number of epochs.
        train_data_loader: batches of cases.
        surrogates: the stand-ins for the exploiter's model, with their optimizers.
        perturber: source of the noise; None for clean images.
        perturber_optimizer: optimizer of its parameters; None where it needs no training.
        loss_function: the exploiter's loss, of logits and label.
        strategy: way of taking steps; :class:`Alternating` by default.
        augmentation: changes that the exploiter's pipeline makes to images; z-score by default.
        penalties: further terms of the perturber's loss, which surrogates do not see.
        seed: random seed of the augmentation, and of what networks draw in training, such as dropout.
        epoch_length: iterations an epoch; by default the length of the loader.
        train_handlers: Ignite handlers, attached to this engine.
        amp: whether to compute in bfloat16 autocast, which needs no loss scaling; by default on a GPU.

    Raises:
        InputError: when there are penalties but no perturber in training, or the strategy lacks what it needs.

    Example:
        >>> optimizer = torch.optim.Adam(perturber.parameters(), 5e-3)
        >>> ProtectionTrainer("cuda", 10, loader, SurrogatePool(network), perturber, optimizer).run()
    """

    undescribed = ("device",)

    def __init__(
        self,
        device: str | torch.device,
        max_epochs: int,
        train_data_loader: Iterable[Any],
        surrogates: SurrogatePool,
        perturber: Perturber | None,
        perturber_optimizer: torch.optim.Optimizer | None,
        loss_function: Callable[[Tensor, Tensor], Tensor] = task_loss,
        strategy: Strategy | None = None,
        augmentation: Augmentation | None = None,
        penalties: Sequence[Penalty] = (),
        seed: int = 0,
        epoch_length: int | None = None,
        train_handlers: Sequence[Any] | None = None,
        amp: bool | None = None,
    ) -> None:
        if penalties and (perturber is None or perturber_optimizer is None):
            raise InputError("penalties are terms of the loss of a perturber, and none is trained")
        if max_epochs < 1 or (epoch_length is not None and epoch_length < 1):
            raise InputError("without epochs and iterations nothing is trained; both are at least 1", value=max_epochs)
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            data_loader=train_data_loader,
            epoch_length=epoch_length,
            decollate=False,
            amp=torch.device(device).type == "cuda" if amp is None else amp,
            handlers=train_handlers,
        )
        self.max_epochs, self.epoch_length, self.train_data_loader = max_epochs, epoch_length, train_data_loader
        self.surrogates = surrogates
        self.perturber = None if perturber is None else perturber.to(device)
        self.perturber_optimizer, self.loss_function = perturber_optimizer, loss_function
        self.strategy, self.augmentation, self.seed = strategy or Alternating(), augmentation or Augmentation(), seed
        self.penalties = tuple(penalties)
        handlers = [handler for handler in train_handlers or () if handler is not train_data_loader]
        self.train_handlers = [handler for handler in handlers if isinstance(handler, Described)]
        self.strategy.check(self)
        if isinstance(train_data_loader, EpochLoader):
            train_data_loader.attach(self)

    def stateful(self) -> dict[str, Any]:
        """What a checkpoint holds besides the engine, by name: everything that the training changes."""
        trained: dict[str, Any] = {"surrogates": self.surrogates}
        if self.perturber is not None and self.perturber_optimizer is not None:
            trained |= {"perturber": self.perturber, "optimizer": self.perturber_optimizer}
        handlers = [handler for handler in self.train_handlers if hasattr(handler, "load_state_dict")]
        return trained | {f"handler{index}": handler for index, handler in enumerate(handlers)}

    def run(self) -> None:  # type: ignore[override]
        """Train for ``max_epochs``; a resumed engine goes on from its epoch, and stops at once if it had finished."""
        if self.state.epoch >= self.state.max_epochs:
            return  # Ignite would start once more, with the weights as they are
        # Trainer.run would make a CUDA gradient scaler, which bfloat16 does not need.
        super(Trainer, self).run()

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> dict[str, float]:
        batch = self._prepare(batchdata)
        with isolated_seed(derive_seed(self.seed, "step", batch.turn, idist.get_rank())):  # networks draw, for dropout
            return self.strategy.step(self, batch)

    def _prepare(self, batchdata: dict[str, Any]) -> Batch:
        device = self.state.device
        # Plain tensors: gradients by what comes from a MetaTensor are MetaTensors, which cannot be cut into pieces.
        image = convert_to_tensor(batchdata[CaseKeys.IMAGE], torch.float32, device, track_meta=False)
        label = convert_to_tensor(batchdata[CaseKeys.LABEL], torch.long, device, track_meta=False)
        step = batchdata.get(CaseKeys.STEP)
        step = torch.zeros(image.shape[:2]) if step is None else torch.as_tensor(step)
        return Batch(image, label, step.to(device), list(batchdata[CaseKeys.CASE_ID]), self.state.iteration - 1)

    # The parts of a strategy.

    def autocast(self) -> torch.autocast:
        """The precision that networks compute in."""
        return torch.autocast(self.state.device.type, torch.bfloat16, enabled=self.amp)

    def noise(self, batch: Batch) -> Tensor:
        """The noise of a batch, rounded as files hold it; with a gradient where the perturber is trained."""
        if self.perturber is None:
            return torch.zeros_like(batch.image)
        self.perturber.train()
        if self.perturber_optimizer is not None:
            self.perturber_optimizer.zero_grad(set_to_none=True)
        noise = self.perturber.delta(batch.image, batch.case_ids, batch.label).float()
        return round_to_quantization(noise.detach() if self.perturber_optimizer is None else noise, batch.step)

    def seen(self, batch: Batch, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What surrogates see of a batch, with or without noise, and its label; both are augmented alike."""
        image = batch.image if noise is None else batch.image + noise
        return self.augmentation(image, batch.label, derive_seed(self.seed, "view", batch.turn))

    def step_perturber(self) -> None:
        """Take a step of the perturber with its gradients, if it is trained."""
        if self.perturber is not None and self.perturber_optimizer is not None:
            average_gradients(self.perturber)
            self.perturber_optimizer.step()

    def step_surrogate(self, turn: int) -> None:
        """Take a step of the surrogate whose turn it is with its gradients."""
        average_gradients(self.surrogates.networks[turn % self.surrogates.size])
        self.surrogates.step(turn)


@dataclass(frozen=True)
class Alternating(Strategy):
    r"""Surrogates and perturber take their steps in turn, from the same gradients.

    .. math:: \min_\theta \min_\phi\; \mathbb{E}\, L\big(f_\theta(v(x + \delta_\phi(x))),\, y\big)

    (Huang et al., Unlearnable Examples, ICLR 2021, eq. 3; UMed minimizes the same over generators). In each iteration
    the perturber takes a step down the loss, and in every ``surrogate_interval``-th round of the pool the surrogate
    takes one too. With surrogates that were trained on clean images and stay as they are, the same descent prepares
    error-maximizing noise.

    Args:
        surrogate_interval: rounds of the pool for one step of each surrogate, at least 1; None for no step.

    Raises:
        InputError: when the interval is out of range.
    """

    surrogate_interval: int | None = 1

    def __post_init__(self) -> None:
        if self.surrogate_interval is not None and self.surrogate_interval < 1:
            raise InputError("an interval is one round at least", value=self.surrogate_interval, limit=1)

    def step(self, trainer: ProtectionTrainer, batch: Batch) -> dict[str, float]:
        pool, turn, interval = trainer.surrogates, batch.turn, self.surrogate_interval
        surrogate = pool.networks[turn % pool.size] if interval is None else pool[turn]
        surrogate.train(interval is not None)
        pool.zero_grad(turn)
        with trainer.autocast():
            noise = trainer.noise(batch)
            seen, truth = trainer.seen(batch, noise)
            logits = surrogate(seen).float()
            own = _penalty_gradients(trainer, noise, logits, lambda: surrogate(trainer.seen(batch)[0]).float())
        loss = trainer.loss_function(logits, truth)
        loss.backward()
        for parameter, gradient in own:
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
        trainer.fire_event(IterationEvents.BACKWARD_COMPLETED)
        trainer.step_perturber()
        if interval is not None and turn // pool.size % interval == 0:
            trainer.step_surrogate(turn)
        trainer.fire_event(IterationEvents.MODEL_COMPLETED)
        largest = float(noise.detach().abs().max())
        return {"loss": float(loss.detach()), "error": error_rate(logits, truth), "linf": largest}


@dataclass(frozen=True)
class ExchangedLabels(Alternating):
    """The alternation with labels that images do not tell: those of each task are exchanged within a batch.

    Surrogates then learn from the noise alone. With true labels they learn what images show too, and noise that
    minimizes their error may only strengthen it. Our choice, for noise of classes of whole images that can be made for
    any of them.

    Args:
        surrogate_interval: see :class:`Alternating`.
    """

    def step(self, trainer: ProtectionTrainer, batch: Batch) -> dict[str, float]:
        labels = batch.label.reshape(len(batch.label), -1).T
        draw = seeded(trainer.seed, "labels", batch.turn)
        exchanged = [own[torch.randperm(len(own), generator=draw).to(own.device)] for own in labels]
        label = torch.stack(exchanged, dim=1).reshape(batch.label.shape)
        return super().step(trainer, dataclasses.replace(batch, label=label))


def _penalty_gradients(
    trainer: ProtectionTrainer, noise: Tensor, logits: Tensor, clean: Callable[[], Tensor]
) -> list[tuple[nn.Parameter, Tensor]]:
    """The perturber's parameters, each with the gradient of the penalties by it."""
    if not trainer.penalties or trainer.perturber is None:
        return []
    value = torch.stack([penalty(noise, logits, torch.no_grad()(clean)) for penalty in trainer.penalties]).sum()
    parameters = [parameter for parameter in trainer.perturber.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(parameters, gradients, strict=True)
    return [(parameter, gradient) for parameter, gradient in pairs if gradient is not None]


@dataclass(frozen=True)
class Unrolled(Strategy):
    r"""Trains the perturber for how fast its noise is learned, not for what surrogates already see in it.

    .. math:: \min_\phi\; \frac{1}{|J|} \sum_{j \in J} L\big(f_{\theta_j(\phi)}(v(x_j + \delta_\phi(x_j))),\, y_j\big),
        \qquad \theta_{j+1}(\phi) = \theta_j(\phi) - \eta\, A\big(\nabla_\theta L(\theta_j(\phi); \delta_\phi)\big)

    with the later half :math:`J` of ``horizon`` training steps of a surrogate, which start from where it stands. The
    error-minimizing alternation (:class:`Alternating`) takes weights for constants and so drops how noise shapes them,
    which is the very thing that protects. Our method; unrolling a training to differentiate through it is that of
    Maclaurin et al., "Gradient-based hyperparameter optimization through reversible learning", ICML 2015.

    A batch holds ``horizon`` times as many cases as an exploiter takes a step on. After each step of the perturber the
    surrogate takes ``advance`` true steps on the new noise.

    Args:
        horizon: number of unrolled training steps, at least 2.
        advance: number of true steps of the surrogate for one of the perturber, 1 to ``horizon``.

    Raises:
        InputError: when ``horizon`` or ``advance`` is out of range.
    """

    horizon: int = 4
    advance: int = 4

    def __post_init__(self) -> None:
        if self.horizon < 2:
            raise InputError("unrolling takes two steps at least", value=self.horizon, limit=2)
        if not 1 <= self.advance <= self.horizon:
            reason = "surrogates advance by one step at least, and no further than is unrolled"
            raise InputError(reason, value=self.advance, limit=self.horizon)

    def check(self, trainer: ProtectionTrainer) -> None:
        if trainer.perturber is None or trainer.perturber_optimizer is None:
            raise InputError("unrolled training needs a perturber and its optimizer")
        if trainer.penalties:
            raise InputError("unrolled training takes no penalties")

    def step(self, trainer: ProtectionTrainer, batch: Batch) -> dict[str, float]:
        surrogate, perturber = trainer.surrogates[batch.turn], trainer.perturber
        assert perturber is not None
        surrogate.train()
        noise = self._noise(trainer, batch)
        loss, error = self._unrolled_loss(trainer, batch.turn, self._parts(trainer, batch, noise))
        loss.backward(inputs=[parameter for parameter in perturber.parameters() if parameter.requires_grad])
        trainer.fire_event(IterationEvents.BACKWARD_COMPLETED)
        trainer.step_perturber()
        with torch.no_grad():
            noise = self._noise(trainer, batch)
        for image, label in itertools.islice(self._parts(trainer, batch, noise), self.advance):
            trainer.surrogates.zero_grad(batch.turn)
            with trainer.autocast():
                logits = surrogate(image).float()
            trainer.loss_function(logits, label).backward()
            trainer.step_surrogate(batch.turn)
        trainer.fire_event(IterationEvents.MODEL_COMPLETED)
        return {"loss": float(loss.detach()), "error": error, "linf": float(noise.abs().max())}

    def _noise(self, trainer: ProtectionTrainer, batch: Batch) -> Tensor:
        with trainer.autocast():
            return trainer.noise(batch)

    def _parts(self, trainer: ProtectionTrainer, batch: Batch, noise: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """What the surrogate sees in each of the coming steps, and the labels."""
        return zip(*(part.chunk(self.horizon) for part in trainer.seen(batch, noise)), strict=True)

    def _unrolled_loss(
        self, trainer: ProtectionTrainer, turn: int, parts: Iterable[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, float]:
        """The mean loss in the later half of the coming steps, and the fraction of errors in the last one."""
        unrolled, losses, error = trainer.surrogates.unroll(turn), list[Tensor](), 0.0
        for image, label in parts:
            if losses:
                unrolled.step(losses[-1])
            with trainer.autocast():
                logits = unrolled(image).float()
            losses.append(trainer.loss_function(logits, label))
            error = error_rate(logits, label)
        return torch.stack(losses[len(losses) // 2 :]).mean(), error


def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of each process by their mean; does nothing in a single process."""
    count = idist.get_world_size()
    for parameter in module.parameters() if count > 1 else ():
        if parameter.grad is not None:
            parameter.grad = torch.as_tensor(idist.all_reduce(parameter.grad)) / count

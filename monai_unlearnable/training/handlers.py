# SPDX-License-Identifier: Apache-2.0
"""Ignite handlers of protection runs: progress, budget, stopping, snapshots, checkpoints."""

from __future__ import annotations

import copy
import io
import logging
import math
import pickle
from collections.abc import Mapping
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint
from monai.handlers import TensorBoardStatsHandler
from torch import nn

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto.encrypted import Key, open_owned, place, write_owned
from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.utils.config import Described
from monai_unlearnable.utils.files import fingerprint
from monai_unlearnable.utils.progress import Stage
from monai_unlearnable.utils.values import check_whole

__all__ = ["BudgetAudit", "ResumableCheckpoint", "Snapshots", "StopAtError", "TensorBoardCurves"]
__all__ += ["TrainingProgress"]

logger = logging.getLogger(__name__)


class BudgetAudit:
    """Stops a run whose noise leaves the budget.

    Args:
        budget: budget that the noise of every iteration must keep to.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def attach(self, engine: Engine) -> None:
        """Check after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        # The relative slack is that of float32, in which noise is computed.
        self.budget.check(engine.state.output["linf"], step=self.budget.epsilon)  # type: ignore[index]


class TrainingProgress:
    """Tells of a training, with the current loss, as a stage that counts its epochs."""

    def attach(self, engine: Engine) -> None:
        """Tell of ``engine``."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        entered, length = ExitStack(), int(engine.state.epoch_length)  # type: ignore[arg-type]
        total = int(engine.state.max_epochs)  # type: ignore[arg-type]
        stage = entered.enter_context(Stage("training epoch", total, engine.state.iteration / length))

        def advance() -> None:
            stage.reach(engine.state.iteration / length, f"loss {engine.state.output['loss']:.3f}")  # type: ignore[index]

        def fail(error: BaseException) -> None:
            entered.close()
            raise error

        engine.add_event_handler(Events.ITERATION_COMPLETED, advance)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, entered.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, fail)


class TensorBoardCurves:
    """Loss curves for TensorBoard; written by the first process only.

    Args:
        log_dir: folder of the event files.

    Raises:
        InputError: when TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | Path) -> None:
        if not self.is_available():
            raise InputError("curves of the loss need TensorBoard: pip install 'monai_unlearnable[tensorboard]'")
        self.log_dir = str(log_dir)

    @staticmethod
    def is_available() -> bool:
        """Whether TensorBoard is installed."""
        return find_spec("tensorboard") is not None

    def attach(self, engine: Engine) -> None:
        """Log the loss of ``engine``."""
        if idist.get_rank() == 0:
            handler = TensorBoardStatsHandler(
                log_dir=self.log_dir, tag_name="loss", output_transform=lambda output: output["loss"]
            )
            handler.attach(engine)
            engine.add_event_handler(Events.COMPLETED, handler.close)


class StopAtError(Described):
    """Ends a run once surrogates make few errors on protected images, even before the last epoch.

    Args:
        threshold: mean of ``engine.state.output["error"]`` over an epoch at which to stop, in [0, 1]; published values
            are 0.01 for case-wise and 0.1 for class-wise noise (Huang et al., ICLR 2021). 0 never stops.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.errors: list[float] = []

    def attach(self, engine: Engine) -> None:
        """Watch the epochs of ``engine``."""
        engine.add_event_handler(Events.EPOCH_STARTED, self.errors.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note)

    def _note(self, engine: Engine) -> None:
        self.errors.append(engine.state.output["error"])  # type: ignore[index]
        # Before the epoch is completed, so that all handlers of its end know whether it is the last one.
        if engine.state.iteration % engine.state.epoch_length == 0:  # type: ignore[operator]
            self._decide(engine)

    def _decide(self, engine: Engine) -> None:
        error = sum(self.errors) / len(self.errors)
        error = float(idist.all_reduce(error)) / idist.get_world_size()
        if error < self.threshold:
            logger.info("surrogates err in %.1f%% of the cases after %d epochs", 100 * error, engine.state.epoch)
            engine.state.max_epochs = engine.state.epoch  # unlike a termination, checkpoints know of it


class Snapshots(Described):
    """Appends a copy of a network to a list every ``interval`` epochs, and always after the last one.

    A training that is terminated before its end leaves as many as a whole one.

    It has a state, so that a resumed run (:class:`~monai_unlearnable.training.ResumableCheckpoint`) has them all.

    Args:
        network: network in training.
        target: list that gets the copies, such as :attr:`GradientNoise.networks`.
        interval: epochs between two copies; 0 for the last one only.

    Raises:
        InputError: when the interval is no whole number from 0 on.
    """

    undescribed = ("network", "target")

    def __init__(self, network: nn.Module, target: nn.ModuleList, interval: int = 1) -> None:
        check_whole("interval of snapshots", interval, 0)
        self.network, self.target, self.interval = network, target, interval
        self.blank = copy.deepcopy(network)  # one that has run, such as MONAI's DynUNet, may not be copied any more

    def attach(self, engine: Engine) -> None:
        """Watch the epochs of ``engine``."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._collect)
        engine.add_event_handler(Events.TERMINATE, self._complete)

    def _collect(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs
        if epoch == last or (self.interval and epoch % self.interval == 0):
            self._append()

    def _complete(self, engine: Engine) -> None:
        """Make the copies that are missing: a dry run measures what noise against all of them takes."""
        epochs = engine.state.max_epochs
        count = math.ceil(epochs / self.interval) if self.interval else 1  # type: ignore[operator]
        while len(self.target) < count:
            self._append()

    def _append(self) -> None:
        snapshot = copy.deepcopy(self.blank).eval().requires_grad_(False)
        snapshot.load_state_dict(self.network.state_dict())
        self.target.append(snapshot)

    def state_dict(self) -> dict[str, Any]:
        """The weights of all copies."""
        return {"snapshots": [snapshot.state_dict() for snapshot in self.target]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Make the copies again."""
        while len(self.target):
            self.target.pop(-1)
        for weights in state["snapshots"]:
            self._append()
            self.target[-1].load_state_dict(weights)


class ResumableCheckpoint:
    """Saves the state of a run after each epoch, and loads it where the run has been before.

    Args:
        path: file of the checkpoint.
        objects: further objects to save, with ``state_dict`` and ``load_state_dict``.
        settings: JSON-ready settings; a checkpoint of a run with other ones is refused.
        interval: epochs between two saves.
        overwrite: whether to start anew instead of going on.
        key: the owner's key, to encrypt the checkpoint.

    Raises:
        OutputError: naming the file, when the settings differ or it cannot be read or written.
    """

    def __init__(
        self,
        path: str | Path,
        objects: Mapping[str, Any],
        settings: Any = None,
        interval: int = 1,
        overwrite: bool = False,
        key: Key | None = None,
    ) -> None:
        self.key = key
        self.path, self.objects, self.interval, self.overwrite = Path(path), dict(objects), interval, overwrite
        self.settings = {"fingerprint": fingerprint(settings)}

    def attach(self, engine: Engine) -> None:
        """Load when ``engine`` starts, save after its epochs."""
        content = {"engine": engine, **self.objects}
        # Ignite's own saver removes the file before it writes the next one: a run killed in between would start anew.
        checkpoint = Checkpoint(content, self._save, filename_pattern=self.path.name, n_saved=1)
        if place(self.path, self.key).is_file() and not self.overwrite:
            self._load(content)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval) | Events.COMPLETED, checkpoint)

    def _save(self, content: Mapping[str, Any], filename: str, metadata: Mapping[str, Any] | None = None) -> None:
        if idist.get_rank() == 0:
            stream = io.BytesIO()
            torch.save({**content, "settings": self.settings}, stream)
            write_owned(self.path, stream.getvalue(), self.key)

    def _load(self, content: dict[str, Any]) -> None:
        try:
            with open_owned(self.path, self.key) as stream:
                state = torch.load(stream, map_location="cpu", weights_only=True)
            if state["settings"] != self.settings:
                reason = "the checkpoint belongs to a run with other settings"
                raise OutputError(f"{reason}; choose another folder or set overwrite (--overwrite)", file=self.path)
            Checkpoint.load_objects(content, state)
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise OutputError(f"the checkpoint cannot be read: {error}", file=self.path) from error
        logger.info("going on from %s", self.path)

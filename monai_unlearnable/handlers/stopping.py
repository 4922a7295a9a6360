# SPDX-License-Identifier: Apache-2.0
"""When a protection run has done enough."""

from __future__ import annotations

import logging

import ignite.distributed as idist
from ignite.engine import Engine, Events

__all__ = ["StopAtError"]

logger = logging.getLogger(__name__)


class StopAtError:
    """Ends a run once surrogates make few errors on protected images; the number of epochs is the other limit.

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
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._decide)

    def _note(self, engine: Engine) -> None:
        self.errors.append(engine.state.output["error"])  # type: ignore[index]

    def _decide(self, engine: Engine) -> None:
        error = sum(self.errors) / len(self.errors)
        error = float(idist.all_reduce(error)) / idist.get_world_size()
        if error < self.threshold:
            logger.info("surrogates err in %.1f%% of the cases after %d epochs", 100 * error, engine.state.epoch)
            engine.state.max_epochs = engine.state.epoch  # unlike a termination, checkpoints know of it

# SPDX-License-Identifier: Apache-2.0
"""Handlers that watch a protection run: its budget, its progress, its curves."""

from __future__ import annotations

from pathlib import Path

import ignite.distributed as idist
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardStatsHandler

from monai_unlearnable.budget import Budget
from monai_unlearnable.progress import progress_bar

__all__ = ["BudgetAudit", "ProgressBar", "TensorBoardCurves"]


class BudgetAudit:
    """Stops a run whose noise leaves the budget.

    Args:
        budget: what the noise of every iteration is held against.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def attach(self, engine: Engine) -> None:
        """Check after every iteration of ``engine``."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        # The relative slack is that of float32, in which noise is computed.
        self.budget.check(engine.state.output["linf"], step=self.budget.radius)  # type: ignore[index]


class ProgressBar:
    """A progress bar over all iterations with the current loss; on the first process only.

    Args:
        description: shown beside the bar.
    """

    def __init__(self, description: str = "train") -> None:
        self.description = description

    def attach(self, engine: Engine) -> None:
        """Show the progress of ``engine``."""
        engine.add_event_handler(Events.STARTED, self._start)

    def _start(self, engine: Engine) -> None:
        context = progress_bar(disable=idist.get_rank() != 0)
        progress = context.__enter__()
        total = engine.state.max_epochs * engine.state.epoch_length  # type: ignore[operator]
        task = progress.add_task(self.description, total=total, completed=engine.state.iteration, note="")

        def advance() -> None:
            progress.update(task, advance=1, note=f"loss {engine.state.output['loss']:.3f}")  # type: ignore[index]

        def stop() -> None:
            context.__exit__(None, None, None)

        engine.add_event_handler(Events.ITERATION_COMPLETED, advance)
        engine.add_event_handler(Events.COMPLETED | Events.TERMINATE, stop)

        def fail(error: BaseException) -> None:
            stop()
            raise error

        engine.add_event_handler(Events.EXCEPTION_RAISED, fail)


class TensorBoardCurves:
    """Loss curves for TensorBoard; written by the first process only.

    Args:
        log_dir: folder of the event files.
    """

    def __init__(self, log_dir: str | Path) -> None:
        self.log_dir = str(log_dir)

    def attach(self, engine: Engine) -> None:
        """Log the loss of ``engine``."""
        if idist.get_rank() == 0:
            handler = TensorBoardStatsHandler(
                log_dir=self.log_dir, tag_name="loss", output_transform=lambda output: output["loss"]
            )
            handler.attach(engine)
            engine.add_event_handler(Events.COMPLETED, handler.close)

# SPDX-License-Identifier: Apache-2.0
"""A run that ends before anything is written: it understands the dataset, and measures what the run will take."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from ignite.engine import Events

from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import Perturber
from monai_unlearnable.publishing.plan import Cost, DatasetPlan
from monai_unlearnable.publishing.protect import Protection
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.writing import log_remarks
from monai_unlearnable.training import ProtectionTrainer
from monai_unlearnable.utils.files import below

__all__ = ["Rehearsal"]

TRIAL_CASES = 3  # the first one warms up
TRIAL_ITERATIONS, TRIAL_SECONDS = 30, 15.0


class _Trial(Publication):
    """Some of the cases, published to measure; what is remarkable about all of them is in the plan."""

    def _tell_remarks(self) -> None:
        pass


class Rehearsal(Protection):
    """Takes the place of :class:`Protection` in a bundle for ``--dry-run``: nothing is written to the output.

    The dataset is inspected as a whole. Each training takes a few steps, and the first cases are published to a
    temporary folder; the time and disk that this takes tell what all will.

    Args:
        dataset_dir: folder of the dataset.
        output_dir: folder of the output.
        epsilon: largest change of a voxel.
        **arguments: further arguments of :class:`Protection`.

    Attributes:
        plan: what :meth:`run` found.
    """

    def __init__(self, dataset_dir: str | Path, output_dir: str | Path, epsilon: float, **arguments: Any) -> None:
        self._began = time.monotonic()
        super().__init__(dataset_dir, output_dir, epsilon, **arguments)
        self.plan: DatasetPlan | None = None

    def begin(self, perturber: Perturber) -> None:
        """Inspect the cases, and refuse an output that is complete; nothing is made or locked."""
        self.check(perturber)

    def run(self, perturber: Perturber, trainers: Sequence[ProtectionTrainer] = ()) -> Manifest:  # type: ignore[return]
        """Measure instead of protecting; see :attr:`plan`."""
        self.begin(perturber)
        preparation = time.monotonic() - self._began
        training = sum(_training_time(trainer) for trainer in trainers)
        publication, disk, count = self._published(perturber)
        cost = Cost(preparation, training, publication, disk, _peaks(), count)
        self.plan = replace(self.understood(perturber), cost=cost)
        self._processes.close()

    def _published(self, perturber: Perturber) -> tuple[float, int, int]:
        """Seconds and bytes that all cases are expected to take, by publishing the first ones on trial."""
        sizes = dict(zip((case.case_id for case in self.cases), self.summary.sizes, strict=True))
        count = max(TRIAL_CASES, perturber.batch_size)
        warming, measured = self.cases[:1], self.cases[1:count] or self.cases[:1]
        values, total = self.summary.label_values or None, sum(sizes.values())
        remarks: set[str] = set()
        with TemporaryDirectory() as folder:
            for name, cases in (("first", warming), ("others", measured)):
                begin = time.monotonic()
                trial = _Trial(cases, perturber, Path(folder, name), self.window, self.budget, values, {}, key=self.key)
                trial.run()
                seconds = time.monotonic() - begin
                remarks |= trial.remarks
            written = sum(path.stat().st_size for path in below(Path(folder, "others")) if path.is_file())
        log_remarks(remarks)
        part = sum(sizes[case.case_id] for case in measured) / total
        return seconds / part, int(written / part), len(measured)


def _peaks() -> tuple[int, ...]:
    """Bytes of memory that this process took at its peak, and of the GPU where it used one."""
    unit = 1 if sys.platform == "darwin" else 1024
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return (own, peak) if peak else (own,)


def _training_time(trainer: ProtectionTrainer) -> float:
    """Seconds that a whole training is expected to take, by its first steps."""
    times: list[float] = []

    def note() -> None:
        times.append(time.monotonic())
        if len(times) > TRIAL_ITERATIONS or times[-1] - times[0] > TRIAL_SECONDS:
            trainer.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    begin = time.monotonic()
    trainer.run()
    length = trainer.state.max_epochs * trainer.state.epoch_length  # type: ignore[operator]
    if len(times) < 2:
        return (times[-1] - begin) * length
    return times[0] - begin + (times[-1] - times[0]) / (len(times) - 1) * (length - 1)

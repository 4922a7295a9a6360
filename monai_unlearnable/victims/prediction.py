# SPDX-License-Identifier: Apache-2.0
"""A victim examined on a set of cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from monai.transforms import Compose
from torch import Tensor, nn

from monai_unlearnable.errors import DatalistError
from monai_unlearnable.metrics.frontier import Scores
from monai_unlearnable.victims.tasks import Task

__all__ = ["Examiner"]


class Examiner:
    """Scores a network on cases that stay in memory.

    Args:
        network: what is examined.
        task: how outputs are read and scored.
        cases: dictionaries of file names.
        preprocessing: from file names to network input.
        size: of the network input; see :meth:`~monai_unlearnable.victims.tasks.Task.inferer`.
        device: of the network.

    Attributes:
        inputs: the cases as the network gets them.
        outputs: what the network said at the last examination, one a case.

    Raises:
        DatalistError: when there are no cases.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        cases: Sequence[Mapping[str, Any]],
        preprocessing: Compose,
        size: Sequence[int],
        device: torch.device,
    ) -> None:
        if not cases:
            raise DatalistError("there are no cases to score a model on")
        self.task, self.outputs = task, list[Tensor]()
        self.labels, self.spacings = list[Tensor](), list[Any]()
        self.inputs = CacheDataset(list(cases), preprocessing, progress=False)
        self.evaluator = SupervisedEvaluator(
            device=device,
            val_data_loader=DataLoader(self.inputs, batch_size=1, num_workers=0),
            network=network,
            inferer=task.inferer(size),
            decollate=False,
            amp=device.type == "cuda",
        )
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def predict(self) -> Examiner:
        """Predict all cases with the network as it is now."""
        for kept in (self.outputs, self.labels, self.spacings):
            kept.clear()
        self.evaluator.run()
        return self

    def score(self, full: bool = False) -> Scores:
        """Score what was predicted.

        Args:
            full: with the figures that take long, such as surface distances.
        """
        return self.task.score(self.outputs, self.labels, self.spacings if full else None)

    def _keep(self, engine: Engine) -> None:
        output: Any = engine.state.output
        for logits, label in zip(output["pred"], output["label"], strict=True):
            self.outputs.append(self.task.decode(logits).cpu())
            self.labels.append(torch.as_tensor(label).cpu())
        self.spacings += list(engine.state.batch["spacing"].cpu().numpy())  # type: ignore[call-overload, index]

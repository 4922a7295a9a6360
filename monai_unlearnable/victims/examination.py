# SPDX-License-Identifier: Apache-2.0
"""How a victim is scored on its way: when, on what, and what is noted of it."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator
from torch import Tensor, nn

from monai_unlearnable.countermeasures import for_test
from monai_unlearnable.errors import DatalistError
from monai_unlearnable.metrics.scores import Scores
from monai_unlearnable.victims.prediction import Placement
from monai_unlearnable.victims.preprocessing import SPACING, VIEW
from monai_unlearnable.victims.recipes import Recipe, Step
from monai_unlearnable.victims.tasks import Task

__all__ = ["Cases", "Examiner", "History", "validation_iterations"]

Cases = Sequence[Mapping[str, Any]]


@dataclass
class History:
    """Loss and scores on the way.

    Args:
        patience: validations without a better score on held-out training data after which to stop; None for never.
        early: number of early validations, which patience does not count.
        loss: loss of the last step.
        iterations: training steps taken at each of the following.
        test: scores on the test cases.
        validation: scores on held-out training data.
        best: weights at the best of these; None where they are not needed.
    """

    patience: int | None = None
    early: int = 0
    loss: float = math.nan
    iterations: list[int] = field(default_factory=list)
    test: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss is no longer a number."""
        return not math.isfinite(self.loss)

    def note(self, iteration: int, network: nn.Module, test: float, validation: float | None = None) -> bool:
        """Note the scores of a network in its current state, and say whether to stop.

        Args:
            iteration: training steps taken.
            network: network that was scored.
            test: score on the test cases.
            validation: score on held-out training data, if there are any.
        """
        self.iterations.append(iteration)
        self.test.append(test)
        if validation is not None:
            self.validation.append(validation)
        if validation is None or self.patience is None:
            return False
        if validation > max(self.validation[:-1], default=-math.inf):
            self.best = copy.deepcopy(network.state_dict())
        best = self.validation.index(max(self.validation))
        return len(self.validation) - max(best + 1, self.early) >= self.patience


def validation_iterations(iterations: int, num_validations: int) -> list[int]:
    """Numbers of training steps after which a victim is scored.

    They are evenly spaced; in front of the first come those of 50, 100, 250, 500, 1,000, 2,500, ... that are smaller,
    so that trainings of different lengths can be compared where they begin.

    Args:
        iterations: training steps in all, the last number.
        num_validations: how many are evenly spaced; a single one is the last.
    """
    count = max(1, min(num_validations, iterations))
    even = [iterations * (place + 1) // count for place in range(count)]
    early = (base * 10**power for power in range(1, len(str(iterations))) for base in (5, 10, 25))
    return [*(number for number in early if number < even[0] and count > 1), *even]


class Examiner:
    """Scores a network on cases that stay in memory.

    Args:
        network: network that is examined, in the state that it has then.
        task: task that it is trained for.
        recipe: recipe of its training, whose preprocessing its input has.
        cases: dictionaries of file names.
        steps: countermeasures on images in [0, 1]; of these the ones for test images are taken.
        device: device to predict on.

    Attributes:
        inputs: the cases as the network gets them, but for label maps, which stay as they are in the files.
        outputs: outputs of the network at the last examination, one a case.

    Raises:
        DatalistError: when there are no cases.
    """

    def __init__(
        self,
        network: nn.Module,
        task: Task,
        recipe: Recipe,
        cases: Cases,
        steps: Sequence[Step] = (),
        device: str | torch.device = "cpu",
    ) -> None:
        if not cases:
            raise DatalistError("there are no cases to score a model on")
        self.task, self.outputs = task, list[Tensor]()
        self.labels, self.spacings = list[Tensor](), list[Any]()
        transform = recipe.preprocessing(self.task, for_test(steps), scored=True)
        self.inputs = CacheDataset(list(cases), transform, progress=False)
        self.evaluator = SupervisedEvaluator(
            device=torch.device(device),
            val_data_loader=DataLoader(self.inputs, batch_size=1, num_workers=0),
            network=network,
            inferer=self.task.inferer(recipe.size, recipe.mirrored),
            decollate=False,
        )
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._keep)

    def predict(self) -> Examiner:
        """Predict all cases with the network in its current state."""
        for kept in (self.outputs, self.labels, self.spacings):
            kept.clear()
        self.evaluator.run()
        return self

    def score(self, full: bool = False) -> Scores:
        """Score the predictions.

        Args:
            full: whether to include the figures that take long, such as surface distances.
        """
        return self.task.score(self.outputs, self.labels, self.spacings if full else None)

    def _keep(self, engine: Engine) -> None:
        output: Any = engine.state.output
        batch: Any = engine.state.batch
        for logits, label, view in zip(output["pred"], output["label"], batch[VIEW], strict=True):
            self.outputs.append(self.task.decode(logits, Placement(view, tuple(label.shape[1:]))).cpu())
            self.labels.append(torch.as_tensor(label).cpu())
        self.spacings += list(batch[SPACING].cpu().numpy())

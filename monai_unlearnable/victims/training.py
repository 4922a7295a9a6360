# SPDX-License-Identifier: Apache-2.0
"""A victim trained and scored on its way."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from ignite.engine import Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedTrainer
from monai.handlers import LrScheduleHandler
from monai.inferers import SimpleInferer
from monai.transforms import Compose
from torch import Tensor, nn
from torch.utils.data import Dataset, RandomSampler

from monai_unlearnable.errors import DivergedError, InputError
from monai_unlearnable.metrics.frontier import Scores
from monai_unlearnable.utils.optimization import one_cycle
from monai_unlearnable.utils.progress import progress_bar
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed
from monai_unlearnable.victims.prediction import Examiner
from monai_unlearnable.victims.recipes import Recipe, Step
from monai_unlearnable.victims.tasks import Task
from monai_unlearnable.victims.weights import freeze, load_pretrained

__all__ = ["History", "Victim", "Trained"]


@dataclass
class History:
    """Loss and scores on the way.

    Args:
        patience: looks without a better score on held-out training data after which to stop; None for never.
        loss: of the last step.
        test: scores on the test cases.
        validation: scores on held-out training data.
        best: weights at the best of these; None where they are not needed.
    """

    patience: int | None = None
    loss: float = math.nan
    test: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best: dict[str, Any] | None = None

    @property
    def diverged(self) -> bool:
        """Whether the loss is no number any more."""
        return not math.isfinite(self.loss)

    def look(self, network: nn.Module, test: float, validation: float | None = None) -> bool:
        """Note the scores of a moment.

        Args:
            network: as it is now.
            test: its score on the test cases.
            validation: its score on held-out training data, where there are any.

        Returns:
            Whether to stop.
        """
        self.test.append(test)
        if validation is None:
            return False
        self.validation.append(validation)
        if self.patience is None:
            return False
        if validation > max(self.validation[:-1], default=-math.inf):
            self.best = copy.deepcopy(network.state_dict())
        best = self.validation.index(max(self.validation))
        return len(self.validation) - 1 - best >= self.patience


Cases = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Trained:
    """A victim after training.

    Args:
        scores: on the test cases, with the curve of training.
        outputs: what it predicts for each test case, as the task decodes it.
        inputs: the test cases as it gets them: ``image``, and ``label`` where it is a map.
        others: final scores on further sets of cases, by name.
    """

    scores: Scores
    outputs: list[Tensor]
    inputs: Dataset
    others: dict[str, Scores] = field(default_factory=dict)


@dataclass(frozen=True)
class Victim:
    """A model in training.

    Args:
        network: trained in place; its weights are those it comes with.
        task: what for.
        recipe: how.
        steps: countermeasures on images in [0, 1], for training and for test images.
        seed: of order, augmentation and dropout.
        device: where to train.
        num_validations: how often the held-out cases are scored on the way, evenly spaced; the last is the final score.
    """

    network: nn.Module
    task: Task
    recipe: Recipe
    steps: Sequence[Step] = ()
    seed: int = 0
    device: str | torch.device = "cpu"
    num_validations: int = 10

    def train_and_score(
        self,
        train: Cases,
        test: Cases,
        validation: Cases = (),
        others: Mapping[str, Cases] | None = None,
        description: str = "victim",
    ) -> Trained:
        """Train on one set of files and score on others.

        Args:
            train: dictionaries with file names under ``image`` and file name or class under ``label``.
            test: clean held-out cases of the same form.
            validation: held-out cases of the same kind as the training cases.
            others: further sets that are scored at the end.
            description: shown beside the progress bar.

        Raises:
            DivergedError: when the loss is no longer finite.
            InputError: when there is nothing to score on.
        """
        begin = time.monotonic()
        self._start()
        examine = self._examiner(test)
        history = self._train(train, examine, self._examiner(validation) if validation else None, description)
        if history.best is not None:
            self.network.load_state_dict(history.best)
            examine.predict()
        scores = dataclasses.replace(
            examine.score(full=True),
            curve=tuple(history.test),
            validation_curve=tuple(history.validation),
            final_loss=history.loss,
            seconds=time.monotonic() - begin,
        )
        rest = {name: self.score(cases) for name, cases in (others or {}).items()}
        return Trained(scores, examine.outputs, examine.inputs, rest)

    def score(self, cases: Cases) -> Scores:
        """Score the network as it is.

        Args:
            cases: of the form of training cases.

        Raises:
            InputError: when there is nothing to score on.
        """
        self.network.to(self.device)
        return self._examiner(cases).predict().score(full=True)

    def _start(self) -> None:
        """Bring the network to the device, with the weights that the recipe starts from."""
        recipe = self.recipe
        self.network.to(self.device)
        if recipe.weights == "":
            raise InputError(f"the recipe {recipe.name!r} starts from weights, and no file is named")
        if recipe.weights is not None:
            load_pretrained(self.network, recipe.weights)
        if recipe.frozen:
            freeze(self.network, recipe.frozen)

    def _train(self, cases: Cases, examine: Examiner, validate: Examiner | None, description: str) -> History:
        history, trainer = History(self.recipe.patience), self._trainer(cases)
        with progress_bar() as progress, isolated_seed(derive_seed(self.seed, "training")):
            task = progress.add_task(description, total=self.recipe.iterations, note="")

            def advance() -> None:
                history.loss = float(trainer.state.output[0]["loss"])
                if history.diverged:
                    trainer.terminate()
                progress.update(task, advance=1, note=f"loss {history.loss:.3f}")

            def look() -> None:
                if history.diverged:
                    return
                scores = [part.predict().score().value for part in (examine, validate) if part is not None]
                if history.look(self.network, *scores):
                    trainer.terminate()

            trainer.add_event_handler(Events.ITERATION_COMPLETED, advance)
            trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
            trainer.run()
        if history.diverged:
            raise DivergedError(f"the loss became {history.loss}", value=history.loss)
        return history

    def _examiner(self, cases: Cases) -> Examiner:
        preprocessing = self.recipe.preprocessing(self.task, self.steps)
        return Examiner(self.network, self.task, cases, preprocessing, self.recipe.size, torch.device(self.device))

    def _trainer(self, cases: Cases) -> SupervisedTrainer:
        recipe, num_validations = self.recipe, max(1, min(self.num_validations, self.recipe.iterations))
        weights = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        optimizer, schedule = one_cycle(weights, recipe.learning_rate, recipe.iterations)
        hook: dict[str, Any] = {}
        if recipe.adversary is not None:
            hook["prepare_batch"] = recipe.adversary.bind(
                self.network, self.task.loss, derive_seed(self.seed, "adversary")
            )
        return SupervisedTrainer(
            device=torch.device(self.device),
            max_epochs=num_validations,
            epoch_length=recipe.iterations // num_validations,
            train_data_loader=self._loader(cases),
            network=self.network,
            optimizer=optimizer,
            loss_function=self.task.loss,
            inferer=SimpleInferer(),
            train_handlers=[LrScheduleHandler(schedule, print_lr=False, epoch_level=False)],  # type: ignore[arg-type]
            amp=torch.device(self.device).type == "cuda",
            **hook,
        )

    def _loader(self, cases: Cases) -> DataLoader:
        transform: Compose = self.recipe.augmented(self.task, self.steps)
        transform.set_random_state(derive_seed(self.seed, "augmentation"))
        data = CacheDataset(list(cases), transform, progress=False)
        order = torch.Generator().manual_seed(derive_seed(self.seed, "order"))
        count = (self.recipe.iterations + 1) * self.recipe.batch_size
        sampler = RandomSampler(data, num_samples=count, generator=order)
        return DataLoader(data, batch_size=self.recipe.batch_size, sampler=sampler, num_workers=0)

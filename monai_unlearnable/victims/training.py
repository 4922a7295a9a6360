# SPDX-License-Identifier: Apache-2.0
"""Victims: models trained as an exploiter would train them, and scored on their way."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
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
from monai_unlearnable.metrics.scores import Scores
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.utils.optimization import one_cycle
from monai_unlearnable.utils.precision import Autocast, channels_last, fast_bfloat16, untracked
from monai_unlearnable.utils.progress import Stage
from monai_unlearnable.utils.seeding import derive_seed, isolated_seed, seeded
from monai_unlearnable.victims.examination import Cases, Examiner, History, validation_iterations
from monai_unlearnable.victims.recipes import Recipe, Step
from monai_unlearnable.victims.tasks import Task
from monai_unlearnable.victims.weight_attacks import WeightBall, WeightRecovery
from monai_unlearnable.victims.weights import freeze, load_pretrained, save_weights

__all__ = ["Trained", "Victim", "score_victim", "train_victim"]

logger = logging.getLogger(__name__)


class _TrainingCases(Dataset):
    """Cases in memory, augmented as plain tensors.

    Before the augmentation tensors know where they lie: random countermeasures come before changes of the grid.
    """

    def __init__(self, cases: Cases, preprocessing: Compose, augmentation: Compose) -> None:
        self.prepared, self.augmentation = CacheDataset(list(cases), preprocessing, progress=False), augmentation

    def __len__(self) -> int:
        return len(self.prepared)

    def __getitem__(self, index: int) -> Any:
        prepared = copy.deepcopy(self.prepared[index])
        with untracked():
            return self.augmentation(prepared)


@dataclass(frozen=True)
class Trained:
    """A victim after training.

    Args:
        scores: scores on the test cases, with the curve of training.
        outputs: prediction for each test case, as the task decodes it: maps on the voxels of the file.
        inputs: the test cases: ``image`` as it gets it, ``view`` that says where it lies in the file, and ``label``
            on the voxels of the file where it is a map.
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
        network: network that is trained in place, from the weights it comes with.
        task: task that it is trained for.
        recipe: recipe of the training.
        steps: countermeasures on images in [0, 1], for training and for test images.
        seed: random seed of order, augmentation and dropout.
        device: device to train on.
        num_validations: number of evenly spaced scorings of the held-out cases; the last is the final score. Unless it
            is the only one, there are early ones too, see
            :func:`~monai_unlearnable.victims.examination.validation_iterations`.
        amp: whether to compute in bfloat16 autocast, which needs no loss scaling; by default where
            :func:`~monai_unlearnable.utils.precision.fast_bfloat16` says that the device is fast at it.
    """

    network: nn.Module
    task: Task
    recipe: Recipe
    steps: Sequence[Step] = ()
    seed: int = 0
    device: str | torch.device = "cpu"
    num_validations: int = 10
    amp: bool | None = None

    @property
    def computing(self) -> nn.Module:
        """The network, computing in bfloat16 where that is wanted; its output is float32."""
        return Autocast(self.network, fast_bfloat16(self.device) if self.amp is None else self.amp)

    def examiner(self, cases: Cases) -> Examiner:
        """What scores the network, in the state it has then, on cases.

        Raises:
            DatalistError: when there are none.
        """
        return Examiner(self.computing, self.task, self.recipe, cases, self.steps, self.device)

    def train_and_score(
        self,
        train: Cases,
        test: Cases,
        validation: Cases = (),
        others: Mapping[str, Cases] | None = None,
        originals: Cases = (),
        description: str = "victim",
    ) -> Trained:
        """Train on one set of files and score on others.

        Args:
            train: dictionaries with file names under ``image`` and file name or class under ``label``.
            test: clean held-out cases of the same form.
            validation: held-out cases of the same kind as the training cases.
            others: further sets that are scored at the end, by name.
            originals: clean versions of training cases, of which a recipe with a recovery takes a few.
            description: what is trained, for the progress.

        Raises:
            DivergedError: when the loss is no longer finite.
            InputError: when there is nothing to score on, or no held-out cases for a recipe that stops by them.
        """
        begin = time.monotonic()
        if self.recipe.patience is not None and not validation:
            raise InputError(f"the recipe {self.recipe.name!r} stops by held-out training cases, and there are none")
        recovery = self.recipe.recovery
        clean = [] if recovery is None else recovery.choose(originals, derive_seed(self.seed, "recovery"))
        self._start()
        examine = self.examiner(test)
        if torch.device(self.device).type == "cpu":
            channels_last(self.network, (1, len(examine.inputs[0]["image"]), *self.recipe.size))
        history = self._train(train, examine, self.examiner(validation) if validation else None, description)
        if history.best is not None:
            self.network.load_state_dict(history.best)
        if recovery is not None:
            self._recover(recovery, clean)
        if history.best is not None or recovery is not None:
            examine.predict()
        scores = dataclasses.replace(
            examine.score(full=True),
            iterations=history.iterations[-1],
            curve=tuple(history.test),
            curve_iterations=tuple(history.iterations),
            validation_curve=tuple(history.validation),
            final_loss=history.loss,
            seconds=time.monotonic() - begin,
        )
        rest = {name: self.score(cases) for name, cases in (others or {}).items()}
        return Trained(scores, examine.outputs, examine.inputs, rest)

    def score(self, cases: Cases) -> Scores:
        """Score the network in its current state.

        Args:
            cases: cases in the form of training cases.

        Raises:
            InputError: when there is nothing to score on.
        """
        self.network.to(self.device)
        return self.examiner(cases).predict().score(full=True)

    def _start(self) -> None:
        """Bring the network to the device, with the weights that the recipe starts from."""
        recipe = self.recipe
        recipe.check_weights()
        self.network.to(self.device)
        loaded = None if recipe.weights is None else load_pretrained(self.network, recipe.weights).names
        if recipe.frozen:
            freeze(self.network, recipe.frozen, loaded)

    def _train(self, cases: Cases, examine: Examiner, validate: Examiner | None, description: str) -> History:
        moments, trainer = validation_iterations(self.recipe.iterations, self.num_validations), self._trainer(cases)
        history = History(self.recipe.patience, early=len(moments) - min(self.num_validations, len(moments)))
        with (
            Stage(f"{description}, step", self.recipe.iterations) as stage,
            isolated_seed(derive_seed(self.seed, "training")),
        ):

            def advance() -> None:
                history.loss = trainer.state.output["loss"].item()
                if history.diverged:
                    trainer.terminate()
                stage.advance(note=f"loss {history.loss:.3f}")

            def validate_now() -> None:
                if history.diverged:
                    return
                scores = [part.predict().score().value for part in (examine, validate) if part is not None]
                if history.note(trainer.state.iteration, self.network, *scores):
                    trainer.terminate()

            trainer.add_event_handler(Events.ITERATION_COMPLETED, advance)
            due = Events.ITERATION_COMPLETED(event_filter=lambda _, iteration: iteration in moments)
            trainer.add_event_handler(due, validate_now)
            trainer.run()
        if history.diverged:
            raise DivergedError(f"the loss became {history.loss}", value=history.loss)
        return history

    def _recover(self, recovery: WeightRecovery, clean: Cases) -> None:
        """Look for better weights around the trained ones, with clean cases."""
        seed, ball = derive_seed(self.seed, "recovery"), WeightBall(self.network, recovery.radius)
        recipe = dataclasses.replace(self.recipe, **recovery.tuning(self.recipe.learning_rate))
        tuned = dataclasses.replace(self, recipe=recipe, seed=seed, num_validations=1)
        examine = tuned.examiner(clean)
        recovery.search(ball, lambda: examine.predict().score().value, seed)
        trainer = tuned._trainer(clean)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, ball.project)
        with isolated_seed(derive_seed(seed, "training")):
            trainer.run()

    def _trainer(self, cases: Cases) -> SupervisedTrainer:
        recipe = self.recipe
        weights: Any = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        if recipe.pace is not None:
            weights = recipe.pace.groups(self.network, recipe.learning_rate)
        optimizer, schedule = one_cycle(weights, recipe.learning_rate, recipe.iterations)
        computing, hook = self.computing, dict[str, Any]()
        if recipe.adversary is not None:
            seed = derive_seed(self.seed, "adversary")
            hook["prepare_batch"] = recipe.adversary.bind(computing, self.task.loss, seed)
        return SupervisedTrainer(
            device=torch.device(self.device),
            max_epochs=1,
            epoch_length=recipe.iterations,
            train_data_loader=self._loader(cases),
            network=computing,
            optimizer=optimizer,
            loss_function=self.task.loss,
            inferer=SimpleInferer(),
            train_handlers=[LrScheduleHandler(schedule, print_lr=False, epoch_level=False)],  # type: ignore[arg-type]
            optim_set_to_none=True,
            decollate=False,
            **hook,
        )

    def _loader(self, cases: Cases) -> DataLoader:
        preprocessing = self.recipe.preprocessing(self.task, self.steps)
        augmentation = Compose(list(self.recipe.augmentation))
        data = _TrainingCases(cases, preprocessing, augmentation)
        order = seeded(self.seed, "order")
        count = (self.recipe.iterations + 1) * self.recipe.batch_size
        sampler = RandomSampler(data, num_samples=count, generator=order)
        loader = DataLoader(data, batch_size=self.recipe.batch_size, sampler=sampler, num_workers=0)
        # Last of all: loaders draw a seed of their own for the transforms when they are made.
        everything = Compose([*preprocessing.transforms, *augmentation.transforms])
        everything.set_random_state(derive_seed(self.seed, "augmentation"))
        return loader


def train_victim(victim: Victim, cases: Cases, test: Cases, output_dir: str | Path) -> Scores:
    """Train a victim and write ``model.safetensors`` and ``scores.json``.

    Args:
        victim: network with its task and recipe.
        cases: cases to train on.
        test: clean held-out cases.
        output_dir: folder to write to.

    Raises:
        DivergedError: when the loss is no longer finite.
    """
    scores = victim.train_and_score(cases, test).scores
    save_weights(victim.network, Path(output_dir) / "model.safetensors")
    return _write(scores, Path(output_dir))


def score_victim(victim: Victim, checkpoint: str | Path, cases: Cases, output_dir: str | Path) -> Scores:
    """Score a trained victim and write ``scores.json``.

    Args:
        victim: network like the trained one, with its task and recipe.
        checkpoint: weights that :func:`train_victim` wrote.
        cases: cases to score on.
        output_dir: folder to write to.

    Raises:
        InputError: when the weights are not those of such a network.
    """
    loaded = load_pretrained(victim.network, checkpoint)
    if loaded.fraction < 1:
        raise InputError(f"only {loaded.fraction:.0%} of the network's weights are in the file", file=checkpoint)
    return _write(victim.score(cases), Path(output_dir))


def _write(scores: Scores, folder: Path) -> Scores:
    write_json(folder / "scores.json", dataclasses.asdict(scores))
    interval = "" if math.isnan(scores.interval[0]) else f" ({scores.interval[0]:.1f} to {scores.interval[1]:.1f})"
    logger.warning("%s %.1f%s", scores.metric, scores.value, interval)
    return scores

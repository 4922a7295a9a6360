# SPDX-License-Identifier: Apache-2.0
"""Segmentation models that an exploiter would train, from a folder to scores on clean held-out cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import CacheDataset, DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice, ValidationHandler, from_engine
from monai.inferers import SimpleInferer
from monai.losses import DiceCELoss
from monai.transforms import AsDiscreted, Compose
from torch import nn
from torch.utils.data import RandomSampler

from monai_unlearnable.metrics.protection import Scores
from monai_unlearnable.progress import progress_bar
from monai_unlearnable.seeding import derive_seed, isolated_seed, reset_parameters
from monai_unlearnable.victims.recipes import Recipe

__all__ = ["train_and_score"]


def train_and_score(
    network: nn.Module,
    train_cases: Sequence[dict[str, Any]],
    test_cases: Sequence[dict[str, Any]],
    recipe: Recipe,
    label_values: Sequence[int],
    seed: int = 0,
    device: str | torch.device = "cpu",
    evaluations: int = 10,
    description: str = "victim",
) -> Scores:
    """Train a network from scratch on one set of files and score it on another.

    Args:
        network: its weights are drawn anew from the seed.
        train_cases: dictionaries with file names under ``image`` and ``label``.
        test_cases: clean held-out cases of the same form.
        recipe: preprocessing, augmentation and schedule.
        label_values: stored label value of each class, background first.
        seed: of weights, order and augmentation.
        device: where to train.
        evaluations: how often the test cases are scored on the way, evenly spaced; the last is the final score.
        description: shown beside the progress bar.

    Returns:
        Dice of every test case and class at the end, and the mean on the way.
    """
    begin = time.monotonic()
    reset_parameters(network, derive_seed(seed, "weights")).to(device)
    preprocessing, classes = recipe.preprocessing(label_values), len(label_values)
    # Flat, because a CacheDataset takes a nested Compose for a random transform and would not cache its result.
    augmentation = Compose([*preprocessing.transforms, *recipe.augmentation])
    augmentation.set_random_state(derive_seed(seed, "augmentation"))
    loader = _loader(train_cases, augmentation, recipe, seed)
    evaluator = _evaluator(network, test_cases, preprocessing, classes, torch.device(device))
    trainer = _trainer(network, loader, evaluator, recipe, max(1, min(evaluations, recipe.iterations)))
    curve: list[float] = []
    evaluator.add_event_handler(Events.COMPLETED, lambda engine: curve.append(float(np.nanmean(_details(engine)))))
    with progress_bar() as progress, isolated_seed(derive_seed(seed, "training")):
        task = progress.add_task(description, total=recipe.iterations, note="")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: progress.advance(task))
        trainer.run()
    return Scores(
        dice=_details(evaluator),
        curve=tuple(curve),
        final_loss=float(trainer.state.output[0]["loss"]),
        seconds=time.monotonic() - begin,
    )


def _trainer(
    network: nn.Module, loader: DataLoader, evaluator: SupervisedEvaluator, recipe: Recipe, epochs: int
) -> SupervisedTrainer:
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, total_steps=recipe.iterations + 1)
    return SupervisedTrainer(
        device=evaluator.state.device,
        max_epochs=epochs,
        epoch_length=recipe.iterations // epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=DiceCELoss(softmax=True, to_onehot_y=True, include_background=False),
        inferer=SimpleInferer(),
        train_handlers=[
            ValidationHandler(interval=1, validator=evaluator),
            LrScheduleHandler(schedule, print_lr=False, epoch_level=False),  # type: ignore[arg-type]
        ],
    )


def _loader(cases: Sequence[dict[str, Any]], transform: Compose, recipe: Recipe, seed: int) -> DataLoader:
    data = CacheDataset(list(cases), transform, progress=False)
    order = torch.Generator().manual_seed(derive_seed(seed, "order"))
    count = (recipe.iterations + 1) * recipe.batch_size
    sampler = RandomSampler(data, num_samples=count, generator=order)
    return DataLoader(data, batch_size=recipe.batch_size, sampler=sampler, num_workers=0)


def _evaluator(
    network: nn.Module, cases: Sequence[dict[str, Any]], transform: Compose, classes: int, device: torch.device
) -> SupervisedEvaluator:
    return SupervisedEvaluator(
        device=device,
        val_data_loader=DataLoader(CacheDataset(list(cases), transform, progress=False), batch_size=1, num_workers=0),
        network=network,
        inferer=SimpleInferer(),
        postprocessing=Compose(
            [AsDiscreted(("pred", "label"), argmax=(True, False), to_onehot=(classes, classes))],
        ),
        decollate=True,
        key_val_metric={"dice": MeanDice(include_background=False, output_transform=from_engine(["pred", "label"]))},
    )


def _details(engine: Engine) -> np.ndarray:
    """Dice of each case and class, (cases, classes - 1), NaN where a class is absent from the reference."""
    return engine.state.metric_details["dice"].cpu().numpy()  # type: ignore[no-any-return, attr-defined]

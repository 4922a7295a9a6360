# SPDX-License-Identifier: Apache-2.0
"""nnU-Net v2 as a victim: its own planning, preprocessing, training and prediction; our data and our scores."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import Dataset
from torch import Tensor

from monai_unlearnable.data.formats import read_label_scan
from monai_unlearnable.errors import DivergedError, InputError, OutputError, UnlearnableError
from monai_unlearnable.utils.files import named_by, write_atomic, write_json
from monai_unlearnable.utils.locks import locked
from monai_unlearnable.utils.progress import Stage
from monai_unlearnable.victims.external.commands import Commands
from monai_unlearnable.victims.external.raw import DATASET, Loading, RawFolder, Sample
from monai_unlearnable.victims.tasks import Segmentation, Task
from monai_unlearnable.victims.training import Trained

__all__ = ["NNUNet"]

CLASS = "MeasuredTrainer"
TRAINER = ("victims/external/trainer/measured_trainer.py", "utils/single_images.py")  # its file, and what it imports
NUMBER = int(DATASET[7:10])
FINAL = "checkpoint_final.pth"
STOCK_PLANS = "nnUNetPlans"
FEWEST_FEATURES, NARROWER, CPU_BATCH = 8, 4, 2  # of the preset for CPUs: a quarter of the features, batches of two
EPOCH = 250  # iterations of an epoch of nnU-Net, at most
VISIBLE = "CUDA_VISIBLE_DEVICES"
FEWEST_EPOCHS = 50  # so that the learning rate falls in small steps in short trainings, too


@dataclass(frozen=True)
class NNUNet:
    """A victim that nnU-Net trains.

    Args:
        trainer: name of one of nnU-Net's trainers: ``nnUNetTrainer``, ``nnUNetTrainerNoDA``, ...
        configuration: ``2d``, ``3d_fullres`` or another that nnU-Net plans for the data.
        preset: ``cpu``: a quarter of the planned features and batches of two; ``stock``: everything as planned, for a
            GPU.
        iterations: training steps.
        num_validations: number of evenly spaced moments of training at which the test cases are predicted.
        amp: whether its networks compute in bfloat16 autocast on a CPU; on a GPU nnU-Net always uses autocast.
        channel_names: names of the channels, see :class:`~monai_unlearnable.victims.external.raw.RawFolder`.

    Raises:
        InputError: when a number is below 1, or the preset is unknown.
    """

    trainer: str = "nnUNetTrainer"
    configuration: str = "3d_fullres"
    preset: str = "cpu"
    iterations: int = 500
    num_validations: int = 5
    amp: bool = False
    channel_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.preset not in ("cpu", "stock"):
            raise InputError(f"unknown preset {self.preset!r} of nnU-Net; known are cpu, stock")
        if min(self.iterations, self.num_validations) < 1:
            raise InputError("iterations and num_validations are at least 1")

    @property
    def version(self) -> str:
        """The version of nnU-Net; empty where it is not installed."""
        try:
            return Commands.find().version
        except UnlearnableError:
            return ""

    @property
    def moments(self) -> tuple[int, ...]:
        """The epochs after which the model is kept; the last is the number of epochs.

        An epoch has at most 250 iterations, as in nnU-Net; there are at least 50 epochs, or as many as
        iterations where these are fewer.
        """
        count = min(self.num_validations, self.iterations)
        epochs = max(math.ceil(self.iterations / EPOCH), min(FEWEST_EPOCHS, self.iterations))
        each = min(math.ceil(epochs / count), self.iterations // count)
        return tuple(each * moment for moment in range(1, count + 1))

    def check_task(self, task: Task) -> Segmentation:
        """The task, if nnU-Net can learn it.

        Raises:
            InputError: when it cannot.
        """
        if not isinstance(task, Segmentation):
            raise InputError("nnU-Net learns to segment, and these data have a class for each image")
        return task

    def check_program(self) -> None:
        """Check that nnU-Net is installed, in a version that can be used.

        Raises:
            InputError: when it is not, with what to do.
            CommandError: when its version cannot be told.
        """
        Commands.find().check()

    def train_and_score(
        self,
        task: Task,
        train: Sequence[Sample],
        test: Sequence[Sample],
        folder: Path,
        loading: Loading | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
        description: str = "nnU-Net",
    ) -> Trained:
        """Train on one set of files and score on others. What was begun in the folder goes on there.

        Args:
            task: task of the victim; nnU-Net segments.
            train: training cases: dictionaries with file names under ``image`` and ``label``.
            test: clean held-out cases of the same form.
            folder: folder for nnU-Net's files and ``log.txt``; the model stays in it.
            loading: what a countermeasure makes of the cases.
            seed: random seed of weights, order and augmentation.
            device: device to train on.
            description: text shown beside the progress bar.

        Raises:
            InputError: when nnU-Net is not installed, or cannot take the task or the configuration.
            CommandError: when one of its commands fails.
            OutputError: when the disk is full, or another process works in the folder.
            DivergedError: when the loss is no longer finite.
        """
        training = _Training(self, self.check_task(task), folder, seed, torch.device(device))
        self.check_program()
        try:
            with locked(folder):
                training.plan(train, test, loading)
                training.train(description)
                moments = [training.predict(f"checkpoint_{moment}.pth") for moment in self.moments[:-1]]
                trained = training.trained(test, [*moments, training.predict(FINAL)])
                training.remove_bulk()
        except OSError as error:
            if isinstance(error, UnlearnableError):
                raise
            raise OutputError(
                f"cannot be written: {error.strerror or error}", file=named_by(error) or folder
            ) from error
        return trained


@dataclass(frozen=True)
class _Training:
    """One training in its folder, whose stages are done once."""

    victim: NNUNet
    task: Segmentation
    folder: Path
    seed: int
    device: torch.device

    @cached_property
    def commands(self) -> Commands:
        """nnU-Net's commands, working in this folder.

        On a CPU the training process makes the batches itself, in a fixed order.
        """
        threads = str(torch.get_num_threads())
        variables = {
            "nnUNet_raw": str(self._raw.absolute()),
            "nnUNet_preprocessed": str(self._preprocessed.absolute()),
            "nnUNet_results": str(self._results.absolute()),
            "nnUNet_extTrainer": str((self.folder / "trainer").absolute()),
            "nnUNet_def_n_proc": threads,
            "OMP_NUM_THREADS": threads,
            **({"nnUNet_n_proc_DA": "0"} if self.device.type == "cpu" else {}),
            **_only_visible(self.device),
        }
        return Commands.find(variables, self.folder / "log.txt")

    @property
    def _raw(self) -> Path:
        return self.folder / "raw"

    @property
    def _preprocessed(self) -> Path:
        return self.folder / "preprocessed"

    @property
    def _results(self) -> Path:
        return self.folder / "results"

    @property
    def _plans(self) -> str:
        return STOCK_PLANS if self.victim.preset == "stock" else f"{self.victim.preset}Plans"

    @property
    def _model(self) -> Path:
        return self._results / DATASET / f"{CLASS}__{self._plans}__{self.victim.configuration}" / "fold_all"

    def _predictions(self, checkpoint: str) -> Path:
        return self.folder / "predictions" / checkpoint.removesuffix(".pth")

    def plan(self, train: Sequence[Sample], test: Sequence[Sample], loading: Loading | None) -> None:
        """Write the raw folder, let nnU-Net plan and preprocess, and edit the plans for the preset."""
        folder, done = self._preprocessed / DATASET, self._preprocessed / "done"
        if done.is_file() or self._predictions(FINAL).is_dir():
            return
        RawFolder(self._raw, self.task, loading, self.victim.channel_names).write(train, test)
        shutil.rmtree(self._preprocessed, ignore_errors=True)
        threads = torch.get_num_threads()
        planning = self.commands.with_variables(nnUNet_n_proc_DA=str(threads))  # which is a number of threads there
        options = ("-c", self.victim.configuration, "-npfp", threads, "-np", threads, "--verbose")
        planning.run("nnUNetv2_plan_and_preprocess", "-d", NUMBER, *options)
        plans = json.loads((folder / f"{STOCK_PLANS}.json").read_text(encoding="utf-8"))
        if self.victim.configuration not in plans["configurations"]:
            known = ", ".join(plans["configurations"])
            raise InputError(f"nnU-Net plans no {self.victim.configuration} for these data; it plans {known}")
        if self.victim.preset == "cpu":
            write_json(folder / f"{self._plans}.json", smaller(plans, self._plans))
        write_atomic(done, b"")

    def train(self, description: str) -> None:
        """Train to the end, from the last checkpoint if there is one."""
        victim = self.victim
        settings = {
            "trainer": victim.trainer,
            "iterations": victim.iterations,
            "epochs": victim.moments[-1],
            "moments": victim.moments[:-1],
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "device": self.device.type,
            "amp": victim.amp,
        }
        if not (self._model / FINAL).is_file():
            write_json(self.folder / "trainer" / "settings.json", settings)
            for source in map(files("monai_unlearnable").joinpath, TRAINER):
                write_atomic(self.folder / "trainer" / source.name, source.read_bytes())
            model = (NUMBER, victim.configuration, "all", "-tr", CLASS, "-p", self._plans, "-device", self.device.type)
            with Stage(f"{description}, epoch", victim.moments[-1], len(self._progress["losses"])) as stage:
                self.commands.run(
                    "nnUNetv2_train",
                    *model,
                    *(["--c"] if any(self._model.glob("checkpoint_*.pth")) else []),
                    meanwhile=lambda: stage.reach(len(self._progress["losses"])),
                )
        loss = self._progress["losses"][-1]
        if not math.isfinite(loss):
            raise DivergedError(f"the loss became {loss}", value=loss)

    @property
    def _progress(self) -> dict[str, Any]:
        """What the trainer noted: ``losses``, the mean of each epoch, and ``seconds``, the wall time of all epochs."""
        path, nothing = self._model / "progress.json", {"losses": [], "seconds": 0.0}
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else nothing

    def predict(self, checkpoint: str) -> Path:
        """Predict the test cases, and return the folder of the predictions."""
        done = self._predictions(checkpoint)
        if done.is_dir():
            return done
        unfinished = done.with_name(f"{done.name}.part")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        model = ("-d", NUMBER, "-tr", CLASS, "-p", self._plans, "-c", self.victim.configuration, "-f", "all")
        single = ("-npp", 0, "-nps", 0) if self.device.type == "cpu" else ()
        options = ("-chk", checkpoint, "-device", self.device.type, "--disable_progress_bar", *single)
        inputs = ("-i", (self._raw / DATASET / "imagesTs").absolute(), "-o", unfinished.absolute())
        self.commands.run("nnUNetv2_predict", *inputs, *model, *options)
        os.replace(unfinished, done)
        return done

    def trained(self, test: Sequence[Sample], predictions: Sequence[Path]) -> Trained:
        """Score predictions on the grid of the test files; the last are the final ones."""
        (read,) = self.task.loading()
        samples = [read(case) for case in test]
        for sample in samples:
            sample["view"] = torch.eye(sample["image"].ndim)  # of the file, as it is
        labels = [sample["label"].as_tensor() for sample in samples]
        spacings = [sample["image"].pixdim[: sample["image"].ndim - 1].numpy() for sample in samples]
        curve = [self.task.score(_outputs(folder), labels, None).value for folder in predictions]
        outputs = _outputs(predictions[-1])
        scores = self.task.score(outputs, labels, spacings)
        progress = self._progress
        iterations, moments = self.victim.iterations, self.victim.moments
        noted: dict[str, Any] = {"final_loss": progress["losses"][-1], "seconds": progress["seconds"]}
        noted["curve_iterations"] = tuple(round(iterations * moment / moments[-1]) for moment in moments)
        scores = dataclasses.replace(scores, curve=tuple(curve), iterations=iterations, **noted)
        return Trained(scores, outputs, Dataset(samples))

    def remove_bulk(self) -> None:
        """Remove what is no longer needed; logs, plans, predictions and the final model stay."""
        for folder in (self._raw, self._preprocessed):
            shutil.rmtree(folder, ignore_errors=True)
        for file in self._model.glob("checkpoint_*.pth"):
            if file.name != FINAL:
                file.unlink()


def _only_visible(device: torch.device) -> dict[str, str]:
    """The variable that hides all GPUs but one; nothing where none is chosen."""
    if device.type != "cuda" or device.index is None:
        return {}
    visible = [name for name in os.environ.get(VISIBLE, "").split(",") if name]
    return {VISIBLE: visible[device.index] if device.index < len(visible) else str(device.index)}


def _outputs(folder: Path) -> list[Tensor]:
    """The predictions (spatial...) in a folder, in the order of the test cases."""
    found = sorted(path for path in folder.iterdir() if path.name[:5].isdigit())
    return [torch.from_numpy(np.ascontiguousarray(read_label_scan(path, ()).voxels[0])) for path in found]


def smaller(plans: dict[str, Any], name: str) -> dict[str, Any]:
    """nnU-Net's plans with a quarter of the features, at least 8, and batches of two; all else stays.

    Args:
        plans: content of nnU-Net's plans file.
        name: name of the new plans.
    """
    plans = copy.deepcopy({**plans, "plans_name": name})
    for configuration in plans["configurations"].values():
        if "architecture" in configuration:  # others inherit from one that has it
            architecture = configuration["architecture"]["arch_kwargs"]
            features = architecture["features_per_stage"]
            architecture["features_per_stage"] = [max(FEWEST_FEATURES, count // NARROWER) for count in features]
            configuration["batch_size"] = CPU_BATCH
    return plans

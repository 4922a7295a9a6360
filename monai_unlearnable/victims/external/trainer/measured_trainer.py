# SPDX-License-Identifier: Apache-2.0
"""One of nnU-Net's trainers with another length, seeded, and with copies of the model on the way.

nnU-Net imports this file in its own environment, from a folder that ``nnUNet_extTrainer`` names; ``settings.json`` lies
beside it. Nothing else of the training differs from the trainer that it extends, but for what takes time and changes
no weights: one validation batch an epoch where nnU-Net takes 50, no plot of the progress, and no prediction of the
training cases at the end. On a CPU weights of convolutions lie channels last, and single images are convolved as those
of batches are, which takes less time; with ``amp`` the network trains and predicts in mixed precision there, too, as
nnU-Net's networks do on a GPU.
"""

import json
import os
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from single_images import SingleImages

SETTINGS = json.loads(Path(__file__).with_name("settings.json").read_text(encoding="utf-8"))
EPOCH = 250  # iterations of an epoch of nnU-Net: about as many are lost when a training is stopped
PARENT = os.getppid()
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
TIMES = ("epoch_start_timestamps", "epoch_end_timestamps")

Trainer: Any = recursive_find_trainer_class_by_name(SETTINGS["trainer"])


def faster(build: Callable[..., Any]) -> Callable[..., Any]:
    """A function that builds networks, for training and for prediction, which a CPU is faster at.

    With ``amp`` they compute in bfloat16 where that is exact enough, and return float32.
    """
    if SETTINGS["device"] != "cpu":
        return build

    @wraps(build)
    def built(*arguments: Any, **named: Any) -> Any:
        torch.set_num_threads(SETTINGS["threads"])  # nnU-Net takes all cores
        network = build(*arguments, **named)
        for parameter in network.parameters():
            if parameter.ndim in CHANNELS_LAST:
                parameter.data = parameter.data.contiguous(memory_format=CHANNELS_LAST[parameter.ndim])
        forward = network.forward

        def faster_forward(image: Any) -> Any:
            single = SingleImages() if len(image) == 1 else nullcontext()
            with single, torch.autocast("cpu", torch.bfloat16, enabled=SETTINGS["amp"]):
                outputs = forward(image)
            return [output.float() for output in outputs] if isinstance(outputs, (list, tuple)) else outputs.float()

        network.forward = faster_forward
        return network

    return built


class MeasuredTrainer(Trainer):
    """The trainer that ``settings.json`` names, for ``iterations`` steps in ``epochs`` epochs.

    The learning rate falls with the epoch, as in nnU-Net. Each epoch draws from a seed of its own, so that on a CPU a
    training that goes on from a checkpoint takes the steps that it would have taken without the break. ``moments`` are
    epochs after which the model is kept as ``checkpoint_EPOCH.pth``.
    """

    build_network_architecture = staticmethod(faster(Trainer.build_network_architecture))

    # The names of the arguments matter: nnU-Net looks them up.
    def __init__(self, plans: Any, configuration: str, fold: Any, dataset_json: Any, device: Any) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = SETTINGS["epochs"]
        self.num_val_iterations_per_epoch = 1
        self.save_every = max(1, round(EPOCH * self.num_epochs / SETTINGS["iterations"]))
        self.logger.plot_progress_png = lambda folder: None

    @staticmethod
    def get_training_transforms(*arguments: Any, **named: Any) -> Any:
        """The augmentation, which blurs in one way: nnU-Net takes the faster of two, and their last bits differ."""
        transforms = Trainer.get_training_transforms(*arguments, **named)
        for step in transforms.transforms:
            inner = getattr(step, "transform", step)
            if hasattr(inner, "benchmark"):
                inner.benchmark = False
        return transforms

    def initialize(self) -> None:
        self._seed(-1)
        super().initialize()

    def on_train_epoch_start(self) -> None:
        done = [round(SETTINGS["iterations"] * (self.current_epoch + end) / self.num_epochs) for end in (0, 1)]
        self.num_iterations_per_epoch = done[1] - done[0]
        self._seed(self.current_epoch)
        super().on_train_epoch_start()

    def _seed(self, epoch: int) -> None:
        drawn = int(np.random.SeedSequence([SETTINGS["seed"], epoch + 1]).generate_state(1)[0])
        random.seed(drawn)
        np.random.seed(drawn)  # noqa: NPY002 - which nnU-Net draws from
        torch.manual_seed(drawn)

    def train_step(self, batch: Any) -> Any:
        if os.getppid() != PARENT:
            raise SystemExit("the program that started this training has ended")
        return super().train_step(batch)

    def on_epoch_end(self) -> None:
        super().on_epoch_end()  # counts the epoch
        folder = Path(self.output_folder)
        if self.current_epoch in SETTINGS["moments"]:
            network: Any = getattr(self.network, "_orig_mod", self.network)  # which torch.compile wraps
            kept = {
                "network_weights": network.state_dict(),
                "init_args": self.my_init_kwargs,
                "trainer_name": type(self).__name__,
                "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
            }
            whole(folder / f"checkpoint_{self.current_epoch}.pth", lambda path: torch.save(kept, path))
        logged = self.logger.get_checkpoint()
        begin, end = (np.array(logged[name][: self.current_epoch], np.float64) for name in TIMES)
        progress = {"losses": [float(loss) for loss in logged["train_losses"]], "seconds": float((end - begin).sum())}
        whole(folder / "progress.json", lambda path: path.write_text(json.dumps(progress), encoding="utf-8"))

    def save_checkpoint(self, filename: str) -> None:
        save = super().save_checkpoint
        whole(Path(filename), lambda path: save(str(path)))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Nothing: the cases to validate on are those of the training."""


def whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a file that is never seen half-written."""
    unfinished = path.with_name(path.name + ".part")
    write(unfinished)
    os.replace(unfinished, path)

# SPDX-License-Identifier: Apache-2.0
"""What an entry says, in words for readers."""

from __future__ import annotations

from typing import Any, Protocol

from monai_unlearnable.evidence.entries import Entry
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.report.words import catalog_words, program_words

__all__ = ["dataset_words", "exploiter_words", "iterations_words", "noise_words", "recipe_words", "size_words"]
__all__ += ["times", "victim_words"]

DATASETS = {
    "adrenalmnist3d": "AdrenalMNIST3D",
    "brain_tumor_mri": "brain tumor MRI",
    "brain_tumor_mri in color": "brain tumor MRI in color",
    "pneumoniamnist": "PneumoniaMNIST",
}  # others are told by their names
EARLIER_RECIPES = {
    "nnunet augmentation": "nnU-Net's augmentation",
    "shifts": "patches shifted by up to 8 voxels",
    "shifts and mirror": "patches shifted by up to 8 voxels, mirroring, changes of intensity",
}  # of earlier versions, and of code that is no part of this program


class Figure(Protocol):
    """What a figure is a figure of."""

    @property
    def dataset(self) -> str: ...
    @property
    def method(self) -> str: ...
    @property
    def epsilon(self) -> str | None: ...
    @property
    def settings(self) -> dict[str, Any]: ...
    @property
    def victim(self) -> str: ...
    @property
    def recipe(self) -> str: ...
    @property
    def countermeasure(self) -> str: ...


def dataset_words(entry: Figure) -> str:
    """The dataset."""
    return DATASETS.get(entry.dataset, entry.dataset.replace("_", " "))


def victim_words(entry: Figure) -> str:
    """The network, or the program that trains one."""
    return program_words(entry.victim)


def recipe_words(entry: Figure) -> str:
    """How the victim was trained; empty for a program that brings its own training."""
    if entry.recipe == OWN_RECIPE:
        return ""
    return {**catalog_words("recipes"), **EARLIER_RECIPES}.get(entry.recipe, f"`{entry.recipe}`")


def exploiter_words(entry: Figure) -> str:
    """What the exploiter did: ``"UNet, mirroring, after `median`"``."""
    after = "" if entry.countermeasure == NO_COUNTERMEASURE else f"after `{entry.countermeasure}`"
    return ", ".join(filter(None, (victim_words(entry), recipe_words(entry), after)))


def noise_words(entry: Figure) -> str:
    """What protected the data: ``"`foresight` `--recipe mirror`, 8/255"``."""
    name = entry.method if " " in entry.method else f"`{entry.method}`"
    options = "".join(f" {_setting(key, str(value))}" for key, value in entry.settings.items())
    return f"{name}{options}" + (f", {entry.epsilon}" if entry.epsilon else "")


def _setting(name: str, value: str) -> str:
    """An option of the command line, or words where it is none."""
    return f"{name} {value}" if " " in name or value.count(" ") > 2 else f"`--{name} {value}`"


def iterations_words(entry: Entry) -> str:
    """The length of the training, such as ``"2,500"`` or ``"300 to 400"``; empty where it is not known."""
    counts = [count for count in (entry.fewest_iterations, entry.iterations) if count is not None]
    return " to ".join(f"{count:,}" for count in counts)


def size_words(entry: Entry) -> str:
    """The size of the network's input, such as ``"48x64x48"``; empty where it is not known."""
    return times(entry.victim_settings.get("size"))


def times(value: Any) -> str:
    """A value as text, that of a list such as ``"48x64x48"``; empty for None."""
    return "x".join(map(str, value)) if isinstance(value, list | tuple) else "" if value is None else str(value)

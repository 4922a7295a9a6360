# SPDX-License-Identifier: Apache-2.0
"""The matrix of the laboratory: data × victims × recipes × countermeasures × seeds, as names."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.files import write_json

__all__ = ["Cell", "Matrix"]

NAME = "laboratory.json"


@dataclass(frozen=True)
class Cell:
    """One training of one victim."""

    data: str
    victim: str
    recipe: str
    countermeasure: str
    seed: int

    def command(self, folder: str | Path) -> str:
        """The shell command that runs this cell alone."""
        words = ["python", "-m", "monai_unlearnable", "cell", str(folder)]
        for name, value in dataclasses.asdict(self).items():
            words += [f"--{name}", str(value)]
        return shlex.join(words)


@dataclass(frozen=True)
class Matrix:
    """What the laboratory is to find out; all of it plain values, so that it can be kept beside the results.

    Args:
        dataset_dir: the originals.
        protected: folders with data that stand for the originals, by the name they get in tables.
        datalist: of the originals, see :func:`~monai_unlearnable.data.load_cases`.
        test_dir: clean held-out cases; by default section ``test`` of the datalist.
        control: whether to add random noise with the epsilon of the first of ``protected`` that records one.
        originals: whether to train on the originals too.
        victims: names of networks.
        recipes: names of recipes.
        countermeasures: names of countermeasures; ``"all"`` for all of the catalog.
        seeds: of the trainings; a number stands for so many.
        size: network input; by default the median size of the training scans, rounded up to a multiple of 8.
        width: channels of the first layer of the networks: 8 for two cores, 32 for full size.
        iterations: training steps.
        batch_size: cases a step.
        learning_rate: peak of the schedule.
        num_validations: how often held-out cases are scored during training.
        validation_fraction: fraction of the training cases that is held out to pick a model by.
        weights: file that recipes which fine-tune start from.
        catalog: YAML file with more networks, recipes and countermeasures.
        authorized: whether to ask how a model trained on originals does on protected scans.
        detectors: whether to ask how well protected scans can be told from clean ones.
        device: where to train.
        key: file of the owner's key, where outputs among ``protected`` are sealed.
    """

    dataset_dir: str
    protected: dict[str, str] = field(default_factory=dict)
    datalist: str | None = None
    test_dir: str | None = None
    control: bool = True
    originals: bool = True
    victims: tuple[str, ...] = ("UNet",)
    recipes: tuple[str, ...] = ("plain",)
    countermeasures: tuple[str, ...] = ("none",)
    seeds: tuple[int, ...] = (0,)
    size: tuple[int, ...] | None = None
    width: int = 8
    iterations: int = 500
    batch_size: int = 4
    learning_rate: float = 3e-3
    num_validations: int = 10
    validation_fraction: float = 0.1
    weights: str | None = None
    catalog: str | None = None
    authorized: bool = False
    detectors: bool = False
    device: str = "cpu"
    key: str | None = None

    def __post_init__(self) -> None:
        for name in ("victims", "recipes", "countermeasures", "seeds", "size"):
            object.__setattr__(self, name, _listed(name, getattr(self, name)))
        if not 0 <= self.validation_fraction < 1:
            raise InputError("validation_fraction is not in [0, 1)", value=self.validation_fraction, limit=1)
        if min(self.iterations, self.batch_size, self.width, self.num_validations) < 1:
            raise InputError("iterations, batch_size, width and looks are at least 1")

    @classmethod
    def of(cls, **settings: Any) -> Matrix:
        """A matrix from settings by name.

        Raises:
            InputError: when a setting is unknown or missing.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"unknown setting {name!r} of the laboratory; known are {', '.join(known)}")
        return cls(**settings)

    def cells(self, data: list[str]) -> Iterator[Cell]:
        """All cells; those of one victim and recipe stand together.

        Args:
            data: names of the training data.
        """
        kinds = itertools.product(self.victims, self.recipes, self.countermeasures, data, self.seeds)
        for victim, recipe, countermeasure, name, seed in kinds:
            yield Cell(name, victim, recipe, countermeasure, seed)

    def save(self, folder: Path) -> None:
        """Write ``laboratory.json``; atomic."""
        write_json(folder / NAME, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Matrix:
        """Read ``laboratory.json``.

        Raises:
            InputError: naming the file, when it is missing or broken.
        """
        try:
            content: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
            return cls.of(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"the settings of the laboratory cannot be read: {error}", file=folder / NAME) from error


def _listed(name: str, value: Any) -> tuple[Any, ...] | None:
    """Lists as they are, ``"a,b"`` as two names, 3 seeds as 0, 1, 2."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, int):
        if name != "seeds":
            raise InputError(f"{name} is {value!r}; give a list")
        return tuple(range(value))
    return None if value is None else tuple(value)

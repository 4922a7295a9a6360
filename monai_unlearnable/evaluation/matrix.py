# SPDX-License-Identifier: Apache-2.0
"""The matrix of the laboratory: data × victims × recipes × countermeasures × seeds, in plain values."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from monai_unlearnable.errors import InputError, told
from monai_unlearnable.report.rows import CLEAN, OWN_RECIPE, PROTECTED, RANDOM
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.distributed import check_device, default_device
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.utils.grouping import distinct
from monai_unlearnable.utils.precision import fast_bfloat16
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.utils.values import PATHS, check_number, check_path, check_switch, check_whole, check_wholes

__all__ = ["FILE", "LENGTHS", "Matrix", "Published", "Run", "listed", "training_length"]

FILE = "laboratory.json"
LENGTHS = {"short": 500, "standard": 2500, "long": 10000}  # training steps by name
NAMES = ("victims", "recipes", "countermeasures")
AXES = (*NAMES, "seeds")
COUNTS = ("iterations", "batch_size", "width", "num_validations")
PLAIN = "plain"  # the recipe where none is named


@dataclass(frozen=True)
class Run:
    """One training of one victim."""

    data: str
    victim: str
    recipe: str
    countermeasure: str
    seed: int

    def command(self, folder: str | Path) -> str:
        """The shell command that runs this training alone."""
        settings = [part for name, value in dataclasses.asdict(self).items() for part in (f"--{name}", str(value))]
        return shlex.join(["python", "-m", "monai_unlearnable", "run", str(folder), *settings])


@dataclass(frozen=True)
class Published:
    """A folder of published data that stand for the originals, and what is known of it.

    Args:
        folder: folder with the same cases as the originals.
        role: ``"protected"``, or ``"random noise"`` for a control.
        method: name of what made the data; the points of one frontier share it. By default the name of the data,
            without a budget such as ``8/255`` at its end.
        epsilon: largest change that was allowed, in normalized intensity; None where it is unknown.
        window: description of the rule for the intensity window in which fidelity is measured, as
            :func:`~monai_unlearnable.utils.descriptions.describe` gives it; percentiles by default.

    Raises:
        InputError: when the role is unknown.
    """

    folder: str
    role: str = PROTECTED
    method: str = ""
    epsilon: float | None = None
    window: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.role not in (PROTECTED, RANDOM):
            raise InputError(f"unknown role {self.role!r} of published data; known are {PROTECTED}, {RANDOM}")


@dataclass(frozen=True)
class Matrix:
    """The settings of a laboratory; all of them plain values, so that they can be kept beside the results.

    These are the defaults of every evaluation.

    Args:
        dataset_dir: folder of the originals.
        protected: data that stand for the originals, by the name they get in tables: a folder, or a :class:`Published`.
        datalist: list of the originals, see :func:`~monai_unlearnable.data.load_cases`.
        omitted: ids of cases of the originals that are omitted, such as those that could not be protected.
        test_dir: folder of clean held-out cases; by default section ``test`` of the datalist.
        originals: whether to train on the originals too.
        victims: names of networks, or of victims that other programs train, such as ``nnunetv2``; by default a network
            that fits the task, ``UNet`` or ``ResNet18``.
        recipes: names of recipes, ``plain`` by default; victims of other programs are trained in their own way. Where
            recipes are named and no network is, the usual network is trained by them too.
        countermeasures: names of countermeasures; ``"all"`` for all of the catalog.
        seeds: random seeds of the trainings; a number n stands for 0 to n - 1.
        size: spatial size of the network input; by default the median size of the training scans, rounded up to a
            multiple of 8, and 16 voxels where all sides are smaller; for the recipe ``monai`` a smaller cube or square.
        width: channels of the first layer of the networks: 8 for a CPU, 32 for full size.
        length: name of a number of training steps: ``"short"`` (500, the default), ``"standard"`` (2,500) or ``"long"``
            (10,000).
        iterations: training steps, where none of these is meant.
        batch_size: cases a step.
        learning_rate: peak of the schedule.
        num_validations: number of evenly spaced times that held-out cases are scored during training; long trainings
            are scored at a few small numbers of steps too, see :class:`~monai_unlearnable.victims.Victim`.
        validation_fraction: fraction of the training cases that is held out to pick a model by, in [0, 1).
        weights: file with the weights that fine-tuning recipes start from.
        other_dir: folder of another dataset that the exploiter has; for the countermeasures that learn from it.
        other_protected_dir: the same dataset as the exploiter protected it himself.
        catalog: YAML file with more networks, recipes and countermeasures.
        authorized: whether to measure how a model trained on originals does on protected scans.
        detectors: whether to measure how well protected scans can be told from clean ones.
        device: device to train on; by default a GPU if there is one.
        amp: whether victims compute in bfloat16 autocast; by default where the device is fast at it.

    Raises:
        InputError: when a setting is out of its range, length and iterations contradict each other, or a name of data
            is taken.
    """

    dataset_dir: str
    protected: dict[str, Published] = field(default_factory=dict)
    datalist: str | None = None
    omitted: tuple[str, ...] = ()
    test_dir: str | None = None
    originals: bool = True
    victims: tuple[str, ...] = ()
    recipes: tuple[str, ...] = ()
    countermeasures: tuple[str, ...] = ("none",)
    seeds: tuple[int, ...] = (0,)
    size: tuple[int, ...] | None = None
    width: int = 8
    length: str | None = None
    iterations: int | None = None
    batch_size: int = 4
    learning_rate: float = 3e-3
    num_validations: int = 10
    validation_fraction: float = 0.1
    weights: str | None = None
    other_dir: str | None = None
    other_protected_dir: str | None = None
    catalog: str | None = None
    authorized: bool = True
    detectors: bool = True
    device: str = field(default_factory=default_device)
    amp: bool | None = None

    def __post_init__(self) -> None:
        for name in (each.name for each in dataclasses.fields(self)):
            object.__setattr__(self, name, _plain(getattr(self, name)))
        for name in (*AXES, "size", "omitted"):
            object.__setattr__(self, name, _plain(listed(name, getattr(self, name))))
        object.__setattr__(self, "victims", self.victims or ())
        object.__setattr__(self, "recipes", self.recipes or ())
        object.__setattr__(self, "omitted", self.omitted or ())
        self._check_kinds()
        for name in AXES:  # a training that is named twice is one, and no second seed
            object.__setattr__(self, name, tuple(distinct(getattr(self, name))))
        protected = {name: _published(name, data) for name, data in self.protected.items()}
        object.__setattr__(self, "protected", protected)
        # What is kept beside the results says what was done, on whatever machine they are read.
        object.__setattr__(self, "amp", fast_bfloat16(self.device) if self.amp is None else self.amp)
        if CLEAN in protected or (RANDOM in protected and protected[RANDOM].role != RANDOM):
            raise InputError(f"protected data cannot be called {CLEAN!r} or {RANDOM!r}")
        if not 0 <= self.validation_fraction < 1:
            raise InputError("validation_fraction is not in [0, 1)", value=self.validation_fraction, limit=1)
        length, iterations = training_length(self.length, self.iterations)
        object.__setattr__(self, "length", length)
        object.__setattr__(self, "iterations", iterations)

    def _check_kinds(self) -> None:
        """Check what the settings are, before what they say; paths become text."""
        if not isinstance(self.protected, Mapping):
            raise InputError(f"protected is {self.protected!r}; give folders by name, such as {{'umed': 'OUT'}}")
        check_wholes("seeds", self.seeds)
        for name in NAMES:
            given = getattr(self, name) or ()
            if not all(isinstance(each, str) for each in given):
                raise InputError(f"{name} are {list(given)!r}; give names")
        for name in COUNTS:
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name), 1)
        if self.size is not None:
            check_wholes("size", self.size, 1)
        for name in ("learning_rate", "validation_fraction"):
            check_number(name, getattr(self, name))
        for name in ("originals", "authorized", "detectors", *(("amp",) if self.amp is not None else ())):
            check_switch(name, getattr(self, name))
        for name in (each.name for each in dataclasses.fields(self) if each.name in PATHS):
            path = getattr(self, name)
            check_path(name, path)
            object.__setattr__(self, name, path if path is None else str(path))
        check_device(self.device)
        if not self.countermeasures:
            raise InputError("countermeasures are none at all; the name of no countermeasure is 'none'")
        if self.learning_rate <= 0:
            raise InputError(f"learning_rate is {self.learning_rate}, not above 0", value=self.learning_rate, limit=0)

    @classmethod
    def of(cls, **settings: Any) -> Matrix:
        """A matrix from settings by name.

        Raises:
            InputError: when a setting is unknown or missing.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for name in settings:
            if name not in known:
                raise InputError(f"unknown setting {name!r} of the laboratory{alternatives(name, known)}")
        if "dataset_dir" not in settings:
            raise InputError("the laboratory has no dataset_dir, the folder of the originals")
        return cls(**settings)

    def completed(self, usual: str) -> Matrix:
        """The matrix with victims and recipes where none are named.

        Args:
            usual: network that fits the task.
        """
        victims = self.victims
        if not victims or (self.recipes and not self.networks):
            victims = (usual, *victims)
        matrix = dataclasses.replace(self, victims=victims)
        return dataclasses.replace(matrix, recipes=self.recipes or (PLAIN,)) if matrix.networks else matrix

    @cached_property
    def external(self) -> frozenset[str]:
        """Names of victims that other programs train."""
        return frozenset(Catalog.load("external", self.catalog).names())

    @property
    def networks(self) -> tuple[str, ...]:
        """The victims that this program trains."""
        return tuple(name for name in self.victims if name not in self.external)

    def runs(self, data: Iterable[str]) -> Iterator[Run]:
        """All runs; those of one victim and recipe are adjacent.

        Args:
            data: names of the training data.
        """
        data = list(data)
        for victim in self.victims:
            recipes = (OWN_RECIPE,) if victim in self.external else self.recipes
            kinds = itertools.product(recipes, self.countermeasures, data, self.seeds)
            for recipe, countermeasure, name, seed in kinds:
                yield Run(name, victim, recipe, countermeasure, seed)

    @property
    def first_kind(self) -> tuple[str, str, str, int]:
        """Victim, recipe, countermeasure and seed of the first run, which is pictured."""
        run = next(self.runs([""]))
        return run.victim, run.recipe, run.countermeasure, run.seed

    @property
    def first_recipe(self) -> str:
        """The recipe of checks that need one."""
        return self.recipes[0] if self.recipes else PLAIN

    def save(self, folder: Path) -> None:
        """Write ``laboratory.json``; atomic."""
        write_json(folder / FILE, dataclasses.asdict(self))

    @classmethod
    def load(cls, folder: Path) -> Matrix:
        """Read ``laboratory.json``.

        Raises:
            InputError: naming the file, when it is missing, broken or of an earlier release.
        """
        file = folder / FILE
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if "control" in content:
                reason = "the laboratory is of an earlier release; run it again, which keeps what it has trained"
                raise InputError(reason, file=file)
            return cls.of(**content)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            if isinstance(error, InputError) and error.file is not None:
                raise
            raise InputError(f"the settings of the laboratory cannot be read: {told(error)}", file=file) from error


def training_length(length: str | None, iterations: int | None) -> tuple[str | None, int]:
    """The name of a number of training steps, if it has one, and the number.

    Raises:
        InputError: when the name is unknown, or means another number than the one that is given.
    """
    if length is None and iterations is not None:
        return next((name for name, count in LENGTHS.items() if count == iterations), None), iterations
    name = length or "short"
    found: int = look_up("length", name, LENGTHS)
    if iterations not in (None, found):
        reason = f"length {name!r} means {found} iterations, and iterations are {iterations}; give one of them"
        raise InputError(reason)
    return name, found


def listed(name: str, value: Any) -> tuple[Any, ...] | None:
    """Lists as they are, ``"a,b"`` as two names, 3 seeds as 0, 1, 2."""
    if isinstance(value, str):
        names = tuple(part.strip() for part in value.split(","))
        if not all(names):
            raise InputError(f"{name} is {value!r}; give a list")
        return names
    if isinstance(value, int):
        if name != "seeds":
            raise InputError(f"{name} is {value!r}; give a list")
        check_whole(name, value, 1)
        return tuple(range(value))
    if value is not None and not isinstance(value, Iterable):
        raise InputError(f"{name} is {value!r}; give a list")
    return None if value is None else tuple(value)


def _plain(value: Any) -> Any:
    """A number of numpy, or those in a tuple, as Python's, which JSON holds."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    return value.item() if isinstance(value, np.generic) else value


def _published(name: str, data: Any) -> Published:
    """Published data given as such, as a folder, or as ``laboratory.json`` holds them."""
    if isinstance(data, Published):
        return data
    if isinstance(data, dict):
        return Published(**data)
    check_path(f"protected {name!r}", data)
    return Published(str(data))

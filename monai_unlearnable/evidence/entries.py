# SPDX-License-Identifier: Apache-2.0
"""One measured figure with all that it depends on, as a JSON file. What is not known is null, never guessed."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.report.rows import LATER, NO_COUNTERMEASURE, read_object
from monai_unlearnable.utils.files import write_atomic

__all__ = ["BY_OTHERS", "OWN_CODE", "OWN_FOLDER", "PROGRAM", "Entry", "Overstated", "Score"]
__all__ += ["as_text", "format_epsilon", "load_entries", "own_entries", "parse_epsilon", "save_entry"]

OWN_FOLDER = Path(__file__).parent / "entries"
EPSILON = re.compile(r"(\d+(?:\.\d+)?)/255")
SHA256 = re.compile(r"[0-9a-f]{64}")
LIST = re.compile(r"\[\n([^\[\]{}]*?)\s*\]")  # text in JSON has no line breaks
ROUNDING = 0.11  # points by which the mean of rounded scores may miss a rounded mean
PROGRAM, OWN_CODE, BY_OTHERS = MEASURED_BY = ("this program", "throw-away code", "others")


@dataclass(frozen=True, kw_only=True)
class Score:
    """A score over seeds, in percent.

    Args:
        mean: mean over the seeds.
        by_seed: score of each seed; empty where only the mean is known.
        seeds: number of each seed, in the order of ``by_seed``; empty where it is not known.
        interval: lowest and highest score over seeds; of a single seed the 95% interval over test cases; None where it
            is not known.

    Raises:
        ValueError: when the numbers contradict each other.
    """

    mean: float
    by_seed: tuple[float, ...] = ()
    seeds: tuple[int, ...] = ()
    interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        values = (self.mean, *self.by_seed, *(self.interval or ()))
        if not all(math.isfinite(value) and -100 <= value <= 100 for value in values):
            raise ValueError("a score is not a percentage")
        if self.by_seed and self.seeds and len(self.by_seed) != len(self.seeds):
            raise ValueError(f"there are {len(self.by_seed)} scores of {len(self.seeds)} seeds")
        if self.by_seed and abs(sum(self.by_seed) / len(self.by_seed) - self.mean) > ROUNDING:
            raise ValueError(f"{self.mean:g} is not the mean of its seeds")
        if self.interval and not self.interval[0] <= self.mean + ROUNDING <= self.interval[1] + 2 * ROUNDING:
            raise ValueError(f"{self.mean:g} lies outside of its interval")

    @property
    def highest(self) -> float:
        """The highest of the seeds, or else the mean."""
        return max(self.by_seed, default=self.mean)

    @property
    def count(self) -> int | None:
        """Number of trainings; None where it is not known."""
        return len(self.by_seed) or len(self.seeds) or None


@dataclass(frozen=True, kw_only=True)
class Overstated:
    """That a stronger run found more than an entry claims.

    Args:
        by: name of the entry of the stronger run.
        remark: what it found, in a sentence.
        by_hand: whether an author set it; others are found anew whenever something is recorded.
    """

    by: str
    remark: str
    by_hand: bool = field(default=False, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What one kind of exploiter reaches with data that one method protected.

    Args:
        method: name of the method, such as ``"umed"``, or ``"random noise"`` for the control alone.
        epsilon: largest change in normalized intensity, such as ``"14/255"``; None where it is not known.
        settings: settings of the method other than its defaults.
        psnr: PSNR of the training scans, whole volumes in units of the window, in dB.
        ssim: SSIM of the training scans.
        ssim_roi: SSIM inside the label.
        dataset: name of the dataset.
        dataset_sha256: SHA-256 over the files of its training cases.
        training_cases: number of training cases.
        test_cases: number of test cases.
        victim: name of the network, or of the program that trains one.
        victim_settings: settings of its training by name: ``size`` and ``width`` of the network, ``batch_size``, ...
        recipe: name of the training recipe; ``"own"`` for a program that brings its own.
        countermeasure: name of what was done to the training scans first.
        iterations: training steps; the most where seeds stopped at different ones.
        fewest_iterations: the fewest then; None where all seeds took as many.
        length: name of the preset that the iterations come from, if there is one.
        metric: name of the score, such as ``"Dice"`` or ``"balanced accuracy"``.
        chance: score of a model that learned nothing, in percent.
        score: score at the end of training on clean held-out scans.
        peak: best score on the way, in percent, mean over seeds.
        moving: whether the score still moved at the end of training; None where it is not known.
        extras: other scores by name, in percent or millimeters, means over seeds.
        clean: score of the same training on the originals, measured beside it.
        random: score of the same training on random noise of equal epsilon, measured beside it.
        version: version of this program.
        date: day of the measurement, ISO 8601.
        measured_by: who measured: ``"this program"``, ``"throw-away code"`` of its authors, or ``"others"``.
        source: command, document or publication that the figure comes from.
        overstated: stronger run that found more; None where none is known.
        remark: remark for readers, a sentence.

    Raises:
        ValueError: when a value is out of its range.
    """

    method: str
    epsilon: str | None
    settings: dict[str, Any] = field(default_factory=dict)
    psnr: float | None = None
    ssim: float | None = None
    ssim_roi: float | None = None
    dataset: str
    dataset_sha256: str | None = None
    training_cases: int | None = None
    test_cases: int | None = None
    victim: str
    victim_settings: dict[str, Any] = field(default_factory=dict)
    recipe: str
    countermeasure: str = NO_COUNTERMEASURE
    iterations: int | None
    fewest_iterations: int | None = field(default=None, metadata=LATER)
    length: str | None = None
    metric: str
    chance: float = 0.0
    score: Score
    peak: float | None = None
    moving: bool | None = None
    extras: dict[str, float] = field(default_factory=dict)
    clean: Score | None = None
    random: Score | None = None
    version: str | None = None
    date: str | None = None
    measured_by: str = PROGRAM
    source: str
    overstated: Overstated | None = None
    remark: str = ""

    def __post_init__(self) -> None:
        for name in ("method", "dataset", "victim", "recipe", "countermeasure", "metric", "source"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")
        if self.epsilon is not None and not EPSILON.fullmatch(self.epsilon):
            raise ValueError(f"epsilon is {self.epsilon!r}; it is given as N/255")
        if self.dataset_sha256 is not None and not SHA256.fullmatch(self.dataset_sha256):
            raise ValueError("dataset_sha256 is not a SHA-256")
        if self.measured_by not in MEASURED_BY:
            raise ValueError(f"measured_by is {self.measured_by!r}; known are {', '.join(MEASURED_BY)}")
        if self.date is not None:
            datetime.date.fromisoformat(self.date)
        if not 0 <= self.chance < 100:
            raise ValueError("chance is not in [0, 100)")
        for name in ("iterations", "fewest_iterations", "training_cases", "test_cases"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} is less than 1")

    @property
    def data(self) -> tuple[Any, ...]:
        """What was trained on: the same for all exploiters of one protected dataset."""
        return self.dataset, self.method, self.epsilon, _plain(self.settings)

    @property
    def exploiter(self) -> tuple[Any, ...]:
        """What the exploiter did, whatever the length."""
        return self.victim, self.recipe, self.countermeasure, _plain(self.victim_settings)

    @property
    def key(self) -> tuple[Any, ...]:
        """What the figure is a figure of: a later one of the same key replaces it."""
        return *self.data, *self.exploiter, self.iterations, self.measured_by

    @property
    def slug(self) -> str:
        """A readable name for its file."""
        size = self.victim_settings.get("size")
        parts: list[Any] = [self.dataset, self.method, self.epsilon, *(f"{k}_{v}" for k, v in self.settings.items())]
        parts += [self.victim, self.recipe, None if self.countermeasure == NO_COUNTERMEASURE else self.countermeasure]
        parts += [self.iterations, "x".join(map(str, size)) if isinstance(size, list) else None]
        words = (re.sub(r"[^\w+.]+", "_", str(part)).strip("_") for part in parts if part is not None)
        return "-".join(words)

    @classmethod
    def from_json(cls, text: str | bytes, file: Path | None = None) -> Entry:
        """An entry from JSON text.

        Raises:
            InputError: naming the file, when it is broken, incomplete or contradicts itself.
        """
        try:
            return read_object(cls, json.loads(text), "the entry")
        except (ValueError, TypeError) as error:
            raise InputError(f"the entry cannot be read: {error}", file=file) from error

    def to_json(self) -> str:
        """JSON text, in the order of the fields; a list of numbers takes one line."""
        return as_text(self)


def as_text(entry: Any) -> str:
    """JSON text of a dataclass, in the order of its fields; a list of numbers takes one line."""
    text = json.dumps(dataclasses.asdict(entry), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    return LIST.sub(lambda match: f"[{' '.join(match[1].split())}]", text)


def load_entries(folder: str | Path) -> dict[str, Entry]:
    """All entries of a folder, by the names of their files.

    Raises:
        InputError: when there is no such folder; naming the file, when one is broken, has the key of another, or is
            overstated by none that is there.
    """
    if not Path(folder).is_dir():
        raise InputError("there is no such folder of entries", file=folder)
    try:
        files = sorted(Path(folder).glob("*.json"))
        found = {file.stem: Entry.from_json(file.read_bytes(), file) for file in files}
    except OSError as error:
        raise InputError(f"the entries cannot be read: {error.strerror or error}", file=folder) from error
    keys: dict[Any, str] = {}
    for name, entry in found.items():
        file = Path(folder) / f"{name}.json"
        if (other := keys.setdefault(entry.key, name)) != name:
            raise InputError(f"the entry is of the same run as {other}.json", file=file)
        if entry.overstated and entry.overstated.by not in found:
            raise InputError(
                f"the entry names {entry.overstated.by!r} as the stronger run, and there is no such entry", file=file
            )
    return found


@cache
def own_entries() -> Mapping[str, Entry]:
    """The entries that come with the package."""
    return load_entries(OWN_FOLDER)


def save_entry(entry: Entry, folder: str | Path, known: Mapping[str, Entry]) -> str:
    """Write an entry to a folder; one of the same key is replaced.

    Args:
        entry: the entry.
        folder: folder to write to; made if it does not exist.
        known: entries of the folder by name.

    Returns:
        Its name.
    """
    name = next((name for name, other in known.items() if other.key == entry.key), None)
    if name is None:
        name, number = entry.slug, 1
        while name in known:
            number += 1
            name = f"{entry.slug}-{number}"
    write_atomic(Path(folder) / f"{name}.json", entry.to_json().encode())
    return name


def parse_epsilon(text: str | None) -> float | None:
    """``"14/255"`` as a number."""
    match = EPSILON.fullmatch(text or "")
    return float(match[1]) / 255 if match else None


def format_epsilon(value: float | None) -> str | None:
    """A number as ``"14/255"``."""
    return None if value is None else f"{255 * value:.4g}/255"


def _plain(content: Any) -> str:
    return json.dumps(content, sort_keys=True)

# SPDX-License-Identifier: Apache-2.0
"""The scores of one run: one victim, trained once on one kind of data. Scores are in percent throughout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass, field
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np

from monai_unlearnable.errors import InputError

if TYPE_CHECKING:
    from monai_unlearnable.metrics.scores import Scores

__all__ = [
    "CLEAN",
    "DIVERGED",
    "DONE",
    "FAILED",
    "LATER",
    "NO_COUNTERMEASURE",
    "OWN_RECIPE",
    "PROTECTED",
    "RANDOM",
    "TRAININGS",
]
__all__ += ["VictimRow", "read_as", "read_object"]

CLEAN, PROTECTED, RANDOM = TRAININGS = ("clean", "protected", "random noise")
NO_COUNTERMEASURE = "none"
OWN_RECIPE = "own"  # of victims that other programs train
DONE, DIVERGED, FAILED = "done", "diverged", "failed: "
NAN = math.nan
MOVED = 5.0  # points; a curve that moved by more within the last fifth of training is still moving
SAME_SCORE = 0.05  # points; a curve that ends further from the score is of other weights
LATE = 0.8  # fraction of the training after which the last fifth begins
TUPLES = ("per_class", "by_case", "curve", "curve_iterations")
SAME = (
    *("metric", "interval", "per_class", "by_case", "peak", "iterations", "curve", "curve_iterations"),
    *("extras", "final_loss", "seconds"),
)  # fields that scores have too
LATER = {"later": True}  # metadata of fields that the first files lack
JSON: dict[type, tuple[Any, str]] = {
    str: (str, "text"),
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    dict: (dict, "an object"),
    bool: (bool, "true or false"),
}  # what the parser gives for a type, and its name in errors

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class VictimRow:
    """One run: the training data of the victim, and how well it does on clean held-out scans.

    Args:
        training: ``"clean"``, ``"protected"`` or ``"random noise"``, the control with noise of equal size.
        data: name of the training data in the matrix, such as ``"umed 8/255"``; the same as ``training`` by default.
        victim: name of the network.
        recipe: name of the training recipe; ``"own"`` for a victim that another program trains in its own way.
        countermeasure: name of what was done to the training scans first; ``"none"`` for nothing.
        seed: random seed of the training.
        metric: name of the score, such as ``"Dice"`` or ``"balanced accuracy"``.
        chance: score of a model that learned nothing, in percent.
        score: score at the end of training, in percent; NaN unless the run is done.
        interval: 95% interval of the score over test cases, in percent.
        per_class: score of each class, in percent, NaN where a class is absent from the test cases.
        by_case: score of each test case, in percent, in the order of the test cases; what paired tests need.
        peak: best score on the way, in percent.
        selected: score of the model that held-out cases of the training data pick, in percent; None without such.
        iterations: training steps taken; 0 where it is not known.
        curve: score on the way, the last at the end of training, in percent.
        curve_iterations: training steps taken at each point of the curve; empty where they are evenly spaced.
        extras: other scores by name: ``hd95`` in millimeters, ``accuracy`` and ``auc`` in percent.
        final_loss: training loss of the last step.
        psnr: PSNR of the training scans in dB, None for clean ones.
        ssim: SSIM of the training scans, None for clean ones.
        ssim_roi: SSIM inside the label, None for clean scans.
        method: name of what made the noise; the points of one frontier share it. The same as ``training`` by default.
        epsilon: largest change that was allowed, in normalized intensity; None for clean scans.
        status: ``"done"``, ``"diverged"`` or ``"failed: reason"``.
        command: shell command that repeats this run alone.
        seconds: wall time of training and scoring.
        date: day on which the run ended, ISO 8601; empty where it is not known.
        program_version: version of the other program that trained the victim; empty for those of this program.

    Raises:
        InputError: when ``training`` is none of the three, ``status`` is not of its forms, or the curve and its
            iterations differ in number.
    """

    training: str
    data: str = ""
    victim: str
    recipe: str
    countermeasure: str = NO_COUNTERMEASURE
    seed: int
    metric: str = "Dice"
    chance: float = 0.0
    score: float = NAN
    interval: tuple[float, float] = (NAN, NAN)
    per_class: tuple[float, ...] = ()
    by_case: tuple[float, ...] = ()
    peak: float = NAN
    selected: float | None = None
    iterations: int = field(default=0, metadata=LATER)
    curve: tuple[float, ...] = ()
    curve_iterations: tuple[int, ...] = field(default=(), metadata=LATER)
    extras: dict[str, float] = field(default_factory=dict)
    final_loss: float = NAN
    psnr: float | None = None
    ssim: float | None = None
    ssim_roi: float | None = None
    method: str = ""
    epsilon: float | None = None
    status: str = DONE
    command: str = ""
    seconds: float = 0.0
    date: str = field(default="", metadata=LATER)
    program_version: str = field(default="", metadata=LATER)

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise InputError(f"unknown training data {self.training!r}; known are {', '.join(TRAININGS)}")
        if self.status not in (DONE, DIVERGED) and not self.status.startswith(FAILED):
            raise InputError(f"unknown status {self.status!r}; known are done, diverged and 'failed: reason'")
        if len(self.curve_iterations) not in (0, len(self.curve)):
            raise InputError(f"a curve of {len(self.curve)} scores, and iterations of {len(self.curve_iterations)}")
        changes: dict[str, Any] = {name: tuple(getattr(self, name)) for name in TUPLES}
        changes["interval"] = (self.interval[0], self.interval[1])
        changes["data"], changes["method"] = self.data or self.training, self.method or self.training
        if self.status == DONE and not math.isfinite(self.score):
            changes["status"] = f"{FAILED}no score"
        if self.status != DONE or not math.isfinite(self.score):
            changes.update(score=NAN, interval=(NAN, NAN), peak=NAN, selected=None)
        for name, value in changes.items():
            object.__setattr__(self, name, value)

    @property
    def done(self) -> bool:
        """Whether there is a score."""
        return self.status == DONE

    @property
    def progress(self) -> tuple[float, ...]:
        """Fraction of the training that was done at each point of the curve, more than 0 and up to 1."""
        taken = self.curve_iterations or range(1, len(self.curve) + 1)
        return tuple(count / taken[-1] for count in taken)

    @property
    def moving(self) -> bool | None:
        """Whether the curve moved by more than 5 points within its last fifth: more iterations may change the score.

        None where that is not known: the curve has a single point, or does not end at the score, since weights other
        than the last were scored.
        """
        if len(self.curve) < 2 or not abs(self.curve[-1] - self.score) <= SAME_SCORE:
            return None
        late = [score for done, score in zip(self.progress, self.curve, strict=True) if done > LATE]
        late.append(float(np.interp(LATE, self.progress, self.curve)))
        return max(late) - min(late) > MOVED

    @classmethod
    def from_scores(cls, scores: Scores, **fields: Any) -> VictimRow:
        """The row of measured scores.

        Args:
            scores: scores of the victim; a value that is not finite makes the row diverged.
            **fields: the arguments of the class that scores do not hold: ``training``, ``victim``, ``recipe``,
                ``seed``, ``chance``, ``data``, ``countermeasure``, ``psnr``, ``command``, ...
        """
        measured: dict[str, Any] = {name: getattr(scores, name) for name in SAME}
        measured["score"] = float(scores.value)
        measured["selected"] = scores.selected if math.isfinite(scores.selected) else None
        measured["status"] = DONE if math.isfinite(scores.value) else DIVERGED
        return cls(**{**measured, **fields})

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> VictimRow:
        """The row of ``dataclasses.asdict``, as JSON gives it back: lists for tuples, null for NaN.

        Raises:
            ValueError: when something is missing or of the wrong type.
        """
        return read_object(cls, content, "a row")


def read_object(kind: type[T], content: Any, name: str, optional: Collection[str] = ()) -> T:
    """A dataclass from an object of parsed JSON, every value checked against the type of its field.

    Args:
        kind: the dataclass.
        content: content of the JSON.
        name: name of the object, for the error.
        optional: names of fields that may be missing.

    Raises:
        ValueError: when something is missing, unknown or of the wrong type.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{name} is not an object")
    kinds = get_type_hints(kind)
    later = {one.name for one in dataclasses.fields(kind) if one.metadata.get("later")}  # type: ignore[arg-type]
    missing = [name for name in kinds if name not in content and name not in later.union(optional)]
    unknown = [name for name in content if name not in kinds]
    if missing or unknown:
        raise ValueError(f"{name} {'lacks' if missing else 'has unknown'} {', '.join(map(repr, missing or unknown))}")
    return kind(**{key: read_as(kinds[key], value, key) for key, value in content.items()})


def read_as(kind: Any, value: Any, name: str) -> Any:
    """A value of parsed JSON as a type: null is NaN where a number is expected, lists become tuples.

    Args:
        kind: ``str``, ``int``, ``float``, ``bool``, ``Any``, a dataclass, or ``X | None``, a tuple, a list or a
            dictionary of these.
        value: value in the JSON.
        name: name of the field, for the error.

    Raises:
        ValueError: naming the field, when the value is not of the type.
    """
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return read_object(kind, value, f"an entry of {name}")  # type: ignore[arg-type]
    if kind is float and value is None:
        return NAN
    origin, parts = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else read_as(parts[0], value, name)
    expected, words = JSON.get(origin or kind, (list, "a list"))
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, expected):
        raise ValueError(f"{name} is not {words}")
    if origin is dict:
        return {key: read_as(parts[1], item, f"{name} of {key!r}") for key, item in value.items()}
    if origin in (list, tuple):
        if origin is tuple and parts[-1] is not Ellipsis and len(value) != len(parts):
            raise ValueError(f"{name} has {len(value)} values, not {len(parts)}")
        return origin(read_as(parts[0], item, name) for item in value)
    return kind(value)

# SPDX-License-Identifier: Apache-2.0
"""What one victim reached: one cell of the matrix with one seed. Scores are in percent throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.report.values import read_number, read_numbers, read_tree, require

if TYPE_CHECKING:
    from monai_unlearnable.metrics.frontier import Scores

__all__ = ["CLEAN", "PROTECTED", "RANDOM", "TRAININGS", "WORDS", "NO_COUNTERMEASURE", "DONE", "DIVERGED", "VictimRow"]

CLEAN, PROTECTED, RANDOM = TRAININGS = ("clean", "protected", "random noise")
WORDS = {CLEAN: "originals", PROTECTED: "protected", RANDOM: "random noise"}
NO_COUNTERMEASURE = "none"
DONE, DIVERGED, FAILED = "done", "diverged", "failed: "
NAN = math.nan


@dataclass(frozen=True, kw_only=True)
class VictimRow:
    """One victim: what it was trained on, and how well it does on clean held-out scans.

    Args:
        training: ``"clean"``, ``"protected"`` or ``"random noise"``, the control with noise of equal size.
        data: name of the training data in the matrix, such as ``"umed 8/255"``; the same as ``training`` by default.
        victim: name of the network.
        recipe: name of the training recipe.
        countermeasure: what was done to the training scans first; ``"none"`` for nothing.
        seed: of the training.
        metric: what the score is, such as ``"Dice"`` or ``"balanced accuracy"``.
        chance: score of a model that learned nothing, in percent.
        score: at the end of training, in percent; NaN unless the row is done.
        interval: 95% interval of the score over test cases, in percent.
        per_class: score of each class, in percent, NaN where a class is absent from the test cases.
        by_case: score of each test case, in percent, in the order of the test cases; what paired tests need.
        peak: best score on the way, in percent.
        selected: score of the model that held-out cases of the training data pick, in percent; None without such.
        curve: score at evenly spaced moments of training, the last at its end, in percent.
        extras: other scores by name: ``hd95`` in millimeters, ``accuracy`` and ``auc`` in percent.
        final_loss: training loss of the last step.
        psnr: of the training scans in dB, None for clean ones.
        ssim: of the training scans, None for clean ones.
        ssim_roi: the same inside the label.
        method: what made the noise; the points of one frontier share it. The same as ``training`` by default.
        epsilon: largest change that was allowed, in normalized intensity; None for clean scans.
        status: ``"done"``, ``"diverged"`` or ``"failed: reason"``.
        command: shell command that runs this cell alone.
        seconds: wall time of training and scoring.

    Raises:
        InputError: when ``training`` is none of the three, or ``status`` is not of its forms.
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
    curve: tuple[float, ...] = ()
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

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise InputError(f"unknown training data {self.training!r}; known are {', '.join(TRAININGS)}")
        if self.status not in (DONE, DIVERGED) and not self.status.startswith(FAILED):
            raise InputError(f"unknown status {self.status!r}; known are done, diverged and 'failed: reason'")
        changes: dict[str, Any] = {name: tuple(getattr(self, name)) for name in ("per_class", "by_case", "curve")}
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

    @classmethod
    def from_scores(cls, scores: Scores, **fields: Any) -> VictimRow:
        """The row of measured scores.

        Args:
            scores: what the victim reached; a value that is not finite makes the row diverged.
            **fields: the arguments of the class that scores do not hold: ``training``, ``victim``, ``recipe``,
                ``seed``, ``chance``, ``data``, ``countermeasure``, ``psnr``, ``command``, ...
        """
        selected = float(scores.selected)
        measured = {
            "metric": scores.metric,
            "score": float(scores.value),
            "interval": scores.interval,
            "per_class": scores.per_class,
            "by_case": scores.by_case,
            "peak": float(scores.peak),
            "selected": selected if math.isfinite(selected) else None,
            "curve": scores.curve,
            "extras": dict(scores.extras),
            "final_loss": float(scores.final_loss),
            "seconds": scores.seconds,
            "status": DONE if math.isfinite(scores.value) else DIVERGED,
        }
        return cls(**{**measured, **fields})

    @classmethod
    def failed(cls, reason: str, **fields: Any) -> VictimRow:
        """The row of a training that ended without a score.

        Args:
            reason: one sentence, or ``"diverged"``.
            **fields: the other arguments of the class.
        """
        status = DIVERGED if reason == DIVERGED else FAILED + " ".join(reason.split())
        return cls(**{**fields, "status": status})

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> VictimRow:
        """The row of ``dataclasses.asdict``, as JSON gives it back: lists for tuples, null for NaN.

        Raises:
            ValueError, KeyError, TypeError: saying what is missing or of the wrong type.
        """
        row = {**content}
        for name in ("training", "data", "victim", "recipe", "countermeasure", "metric", "method", "status", "command"):
            require(isinstance(row[name], str), f"values of {name!r}")
        for name in ("chance", "score", "peak", "final_loss", "seconds"):
            row[name] = read_number(row[name], name)
        for name in ("selected", "psnr", "ssim", "ssim_roi", "epsilon"):
            row[name] = None if row[name] is None else read_number(row[name], name)
        for name in ("interval", "per_class", "by_case", "curve"):
            row[name] = read_numbers(row[name], name)
        require(len(row["interval"]) == 2, "values of 'interval'")
        row["extras"] = read_tree(row["extras"], "extras", 1)
        return cls(**row)

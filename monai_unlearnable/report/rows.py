# SPDX-License-Identifier: Apache-2.0
"""What one victim reached, and what the victims of a kind reached together. Dice is in percent throughout."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.protection import Scores

__all__ = ["CLEAN", "PROTECTED", "RANDOM", "TRAININGS", "WORDS", "VictimRow", "Summary", "summarize"]

CLEAN, PROTECTED, RANDOM = TRAININGS = ("clean", "protected", "random noise")
WORDS = {CLEAN: "originals", PROTECTED: "protected", RANDOM: "random noise"}


@dataclass(frozen=True)
class VictimRow:
    """One victim: what it was trained on, and how well it does on clean held-out scans.

    Args:
        training: ``"clean"``, ``"protected"`` or ``"random noise"``, the control with noise of equal size.
        victim: name of the network.
        recipe: name of the training recipe.
        seed: of the training.
        dice: at the end of training, mean over cases and classes, in percent.
        interval: confidence interval of ``dice`` over the test cases, in percent.
        per_class: Dice of each class without background, in percent, NaN where a class is absent.
        peak: best Dice on the way, in percent.
        curve: Dice at evenly spaced moments of training, the last at its end, in percent.
        final_loss: training loss of the last step.
        psnr: of the training scans in dB, None for clean ones.
        ssim: of the training scans, None for clean ones.

    Raises:
        InputError: when ``training`` is none of the three.
    """

    training: str
    victim: str
    recipe: str
    seed: int
    dice: float
    interval: tuple[float, float]
    per_class: list[float]
    peak: float
    curve: list[float]
    final_loss: float
    psnr: float | None = None
    ssim: float | None = None

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise InputError(f"unknown training data {self.training!r}; known are {', '.join(TRAININGS)}")

    @classmethod
    def from_scores(
        cls,
        training: str,
        victim: str,
        recipe: str,
        seed: int,
        scores: Scores,
        psnr: float | None = None,
        ssim: float | None = None,
    ) -> VictimRow:
        """The row of measured scores, whose curve of fractions becomes one of percents; other arguments as above."""
        return cls(
            training=training,
            victim=victim,
            recipe=recipe,
            seed=seed,
            dice=scores.mean,
            interval=scores.interval,
            per_class=scores.per_class,
            peak=scores.peak,
            curve=[100 * float(value) for value in scores.curve],
            final_loss=scores.final_loss,
            psnr=psnr,
            ssim=ssim,
        )


@dataclass(frozen=True)
class Summary:
    """Victims that differ by their seed only, as means.

    Args:
        training: what they were trained on.
        victim: name of the network.
        recipe: name of the training recipe.
        finals: final Dice of each seed.
        interval: lowest and highest final Dice over seeds; of a single seed, its interval over test cases.
        per_class: mean final Dice of each class.
        peak: mean over seeds of the best Dice on the way.
        curves: Dice on the way, one curve a seed.
        psnr: mean over seeds, None where no seed has one.
        ssim: mean over seeds, None where no seed has one.
    """

    training: str
    victim: str
    recipe: str
    finals: tuple[float, ...]
    interval: tuple[float, float]
    per_class: tuple[float, ...]
    peak: float
    curves: tuple[tuple[float, ...], ...]
    psnr: float | None
    ssim: float | None

    @property
    def dice(self) -> float:
        """Mean final Dice over seeds, in percent."""
        return float(np.mean(self.finals))

    @property
    def seeds(self) -> int:
        """How many victims are summarized."""
        return len(self.finals)


def summarize(rows: Iterable[VictimRow]) -> list[Summary]:
    """One :class:`Summary` for each victim, recipe and training data; victims as they come, clean training first."""
    groups: dict[tuple[str, str], dict[str, list[VictimRow]]] = {}
    for row in rows:
        groups.setdefault((row.victim, row.recipe), {}).setdefault(row.training, []).append(row)
    return [
        _summary(by_training[training])
        for by_training in groups.values()
        for training in TRAININGS
        if training in by_training
    ]


def _summary(rows: Sequence[VictimRow]) -> Summary:
    first, finals = rows[0], tuple(row.dice for row in rows)
    return Summary(
        training=first.training,
        victim=first.victim,
        recipe=first.recipe,
        finals=finals,
        interval=(min(finals), max(finals)) if len(rows) > 1 else first.interval,
        per_class=tuple(np.mean([row.per_class for row in rows], axis=0).tolist()),
        peak=float(np.mean([row.peak for row in rows])),
        curves=tuple(tuple(row.curve) for row in rows),
        psnr=_mean_known(row.psnr for row in rows),
        ssim=_mean_known(row.ssim for row in rows),
    )


def _mean_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None

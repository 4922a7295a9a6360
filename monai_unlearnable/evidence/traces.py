# SPDX-License-Identifier: Apache-2.0
"""How surely traces found models that were trained on protected scans: one JSON file a model, and their table."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import as_text
from monai_unlearnable.evidence.words import dataset_words, noise_words, recipe_words, victim_words
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, read_object
from monai_unlearnable.report.tables import Table
from monai_unlearnable.utils.files import write_atomic

__all__ = ["OWN_TRACES", "TraceEntry", "load_traces", "own_traces", "render_traces", "save_trace"]

OWN_TRACES = Path(__file__).parent / "traces"
PART = re.compile(r"([a-z_]+)=(.*)")
STATISTICS = {"dice": "Dice", "log_probability": "log-probability", "accuracy": "accuracy"}
PERCENT = ("dice", "accuracy")  # statistics that are told in percent
SETTING = ("Dataset", "Model", "Marked by", "Iterations", "PSNR", "Marked part", "Score", "Statistic")
HEADINGS = (*SETTING, "Unmarked", "Owner's mark", "Others: mean, sd (best)", "Other marks", "Probes", "p")
WORDS = 3  # leading columns that hold words
SHARED = ("Dataset", "Model", "Marked by", "Iterations", "PSNR", "Marked part", "Statistic", "Other marks", "Probes")
NOTE = "One training each. A row with few other marks was ended early, since as many scored higher."


@dataclass(frozen=True, kw_only=True)
class TraceEntry:
    """What a model answered to the owner's mark and to others.

    Args:
        dataset: name of the dataset.
        method: name of the method that marked it.
        settings: settings of the method other than its defaults.
        epsilon: largest change in normalized intensity, such as ``"13/255"``.
        shown: largest change in the probes, where it is another.
        psnr: PSNR of the marked scans, in dB.
        fraction: fraction of the training cases that were marked; 0 for an innocent model.
        victim: name of the network, or of the program that trains one.
        recipe: name of the training recipe.
        countermeasure: what was done to the training scans, or to the model or its answers.
        iterations: training steps.
        seed: random seed of the training.
        score: score of the model on clean test scans, in percent.
        statistic: how answers were scored.
        probes: number of probes.
        unmarked: statistic of the probes without a mark.
        own: statistic of the owner's mark.
        others: statistics of the other marks that were asked.
        p: the p-value.
        date: day of the measurement, ISO 8601.
        source: command that it comes from.

    Raises:
        ValueError: when a value is out of its range.
    """

    dataset: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    epsilon: str
    shown: str | None = None
    psnr: float
    fraction: float
    victim: str
    recipe: str
    countermeasure: str = NO_COUNTERMEASURE
    iterations: int
    seed: int = 0
    score: float
    statistic: str
    probes: int
    unmarked: float
    own: float
    others: tuple[float, ...]
    p: float
    date: str
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.fraction <= 1:
            raise ValueError("fraction is not in [0, 1]")
        if not 0 < self.p <= 1:
            raise ValueError("p is not in (0, 1]")
        if self.statistic not in STATISTICS:
            raise ValueError(f"statistic is {self.statistic!r}; known are {', '.join(STATISTICS)}")
        if not self.others or self.probes < 1:
            raise ValueError("no other mark, or no probe, was asked")

    @property
    def slug(self) -> str:
        """The name of its file: a later figure of the same model and marks replaces it."""
        settings = "-".join(f"{name}_{value}" for name, value in self.settings.items())
        noise = (self.method, self.epsilon, self.shown or "", settings)
        parts = (self.dataset, *noise, f"{self.fraction:g}", self.victim, self.recipe)
        treated = "" if self.countermeasure == NO_COUNTERMEASURE else self.countermeasure
        ends = (treated, self.iterations, self.seed, self.statistic, self.probes)
        return "-".join(re.sub(r"[^\w+.]+", "_", str(part)).strip("_") for part in (*parts, *ends) if part != "")


def load_traces(folder: str | Path) -> dict[str, TraceEntry]:
    """All traces of a folder, by the names of their files.

    Raises:
        InputError: naming the file, when one is broken, incomplete or contradicts itself.
    """
    found = {}
    for file in sorted(Path(folder).glob("*.json")):
        try:
            found[file.stem] = read_object(TraceEntry, json.loads(file.read_bytes()), "the trace")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"the trace cannot be read: {error}", file=file) from error
    return found


@cache
def own_traces() -> Mapping[str, TraceEntry]:
    """The traces that come with the package."""
    return load_traces(OWN_TRACES)


def save_trace(entry: TraceEntry, folder: str | Path) -> Path:
    """Write a trace to a folder; that of the same model and marks is replaced."""
    path = Path(folder) / f"{entry.slug}.json"
    write_atomic(path, as_text(entry).encode())
    return path


def render_traces(text: str, entries: Iterable[TraceEntry]) -> str:
    """The table of the traces that meet conditions, as Markdown, the surest first.

    Args:
        text: conditions ``NAME=VALUE,VALUE`` on fields, separated by spaces; all must hold.
        entries: traces.

    Raises:
        InputError: when a part is no condition, names no field, or no trace meets all.
    """
    known = {one.name for one in dataclasses.fields(TraceEntry)}
    conditions = []
    for part in shlex.split(text):
        match = PART.fullmatch(part)
        if match is None or match[1] not in known:
            raise InputError(f"{part!r} is no condition; they read NAME=VALUE,VALUE with a field of a trace")
        conditions.append((match[1], match[2].split(",")))
    chosen = [one for one in entries if all(_text(getattr(one, name)) in values for name, values in conditions)]
    if not chosen:
        raise InputError("no trace meets the conditions")
    chosen.sort(key=lambda one: (one.dataset, one.recipe, one.victim, -one.fraction, one.iterations, one.p))
    return _table(chosen)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _table(entries: Sequence[TraceEntry]) -> str:
    """Markdown; what all rows have in common is said once, below."""
    rows = [_row(entry) for entry in entries]
    columns = zip(HEADINGS, zip(*rows, strict=True), strict=True)
    common = [len(rows) > 1 and name in SHARED and len(set(texts)) == 1 for name, texts in columns]
    shown = [index for index, is_common in enumerate(common) if not is_common]
    words = sum(index < WORDS for index in shown)
    cells = [[row[index] for index in shown] for row in rows]
    table = Table("", [HEADINGS[index] for index in shown], cells, words).to_markdown()
    told = [f"{HEADINGS[index]}: {rows[0][index]}." for index, is_common in enumerate(common) if is_common]
    return f"{table}\n{' '.join([*told, NOTE])}\n"


def _row(entry: TraceEntry) -> tuple[str, ...]:
    after = "" if entry.countermeasure == NO_COUNTERMEASURE else entry.countermeasure
    model = ", ".join(filter(None, (victim_words(entry), recipe_words(entry), after)))
    return (
        dataset_words(entry),
        model,
        noise_words(entry),
        f"{entry.iterations:,}",
        f"{entry.psnr:.1f} dB",
        f"{entry.fraction:.0%}",
        f"{entry.score:.1f}",
        STATISTICS[entry.statistic],
        _figure(entry, entry.unmarked),
        _figure(entry, entry.own) + (f" at {entry.shown}" if entry.shown else ""),
        _spread(entry),
        str(len(entry.others)),
        str(entry.probes),
        f"{entry.p:.3g}",
    )


def _spread(entry: TraceEntry) -> str:
    mean, deviation, best = (_figure(entry, summed(entry.others)) for summed in (fmean, pstdev, max))
    return f"{mean}, {deviation} ({best})"


def _figure(entry: TraceEntry, value: float) -> str:
    return f"{100 * value:.2f}" if entry.statistic in PERCENT else f"{value:.4f}"

# SPDX-License-Identifier: Apache-2.0
"""Entries made from the results of a laboratory."""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import PROGRAM, Entry, Score, format_epsilon, load_entries, save_entry
from monai_unlearnable.evidence.judging import with_overstated
from monai_unlearnable.report.controlled import ControlledSummaries
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, OWN_RECIPE, RANDOM
from monai_unlearnable.report.summaries import Summary

__all__ = ["VICTIM_SETTINGS", "entries_from", "record"]

VICTIM_SETTINGS = ("width", "batch_size", "learning_rate", "validation_fraction")  # of the laboratory
DIGITS = 2  # after the point
BRIEF = 8  # digits of a SHA-256 that readers are shown


def entries_from(
    results: Results,
    *,
    date: str = "",
    dataset: str = "",
    source: str = "",
    remark: str = "",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Entry]:
    """One entry for each protected dataset or random noise, victim, recipe and countermeasure that has a score.

    Args:
        results: results of a laboratory.
        date: day of the measurement, ISO 8601; by default that on which the last of an entry's trainings ended.
        dataset: name of the dataset; that of its folder by default.
        source: where the figures come from; by default that they are of the laboratory.
        remark: remark for readers, a sentence.
        settings: settings other than the defaults, by what the laboratory calls a method: for
            ``{"foresight mirror": {"recipe": "mirror"}}`` entries are of the first word, ``foresight``, with these.

    Raises:
        InputError: when the date is none, or the laboratory has no such method.
    """
    try:
        datetime.date.fromisoformat(date or "2000-01-01")
    except ValueError as error:
        raise InputError(f"the date is {date!r}; give it as YYYY-MM-DD") from error
    known = {*(row.method for row in results.rows), *results.method.split(", ")}  # some may not have been trained yet
    for name in settings or {}:
        if name not in known:
            raise InputError(f"the laboratory has no method {name!r}; known are {', '.join(sorted(known))}")
    if not (dataset or results.dataset):
        raise InputError("the dataset has no name; give it one, with --dataset")
    controlled = ControlledSummaries(results.summaries())
    shared = {"dataset": dataset or results.dataset, "remark": remark, "measured_by": PROGRAM}
    shared["source"] = source or "monai-unlearnable laboratory"
    return [
        _entry(
            controlled,
            s,
            results.settings,
            {**_method(s.method, settings or {}), **shared, "date": date or _last_day(s)},
        )
        for s in controlled.summaries
        if s.training != CLEAN and s.done
    ]


def _method(name: str, settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {"method": name.split()[0], "settings": dict(settings[name])} if name in settings else {"method": name}


def _entry(
    controlled: ControlledSummaries, summary: Summary, settings: Mapping[str, Any], shared: Mapping[str, Any]
) -> Entry:
    random = None if summary.training == RANDOM else controlled.random(summary)
    iterations = max(summary.iterations, default=settings.get("iterations"))
    return Entry(
        epsilon=format_epsilon(summary.epsilon),
        psnr=_number(summary.psnr),
        ssim=_number(summary.ssim, 4),
        ssim_roi=_number(summary.ssim_roi, 4),
        dataset_sha256=settings.get("dataset_sha256"),
        training_cases=settings.get("training cases"),
        test_cases=settings.get("test cases"),
        victim=summary.victim,
        victim_settings=_kept(settings, summary.recipe, summary.countermeasure),
        recipe=summary.recipe,
        countermeasure=summary.countermeasure,
        iterations=iterations,
        fewest_iterations=summary.iterations[0] if len(summary.iterations) > 1 else None,
        length=settings.get("length") if iterations == settings.get("iterations") else None,
        metric=summary.metric,
        chance=summary.chance,
        score=_score(summary),
        peak=_number(summary.peak),
        moving=summary.moving,
        extras={name: value for name, mean in summary.extras.items() if (value := _number(mean)) is not None},
        clean=None if (control := controlled.control(summary)) is None else _score(control),
        random=None if random is None else _score(random),
        version=settings.get("version"),
        **shared,
    )


def _last_day(summary: Summary) -> str | None:
    return max((run.date for run in summary.scored), default="") or None


def _kept(settings: Mapping[str, Any], recipe: str, countermeasure: str) -> dict[str, Any]:
    """Settings of a victim's training; of a program that chooses its own, the precision alone.

    Weights and scans that the exploiter brings are told apart by the first digits of their SHA-256.
    """
    brought = settings.get("brought_sha256", {})
    files = {
        "weights": brought.get("weights", {}).get(recipe),
        "own_scans": brought.get("own_scans", {}).get(countermeasure),
    }
    more = {name: digest[:BRIEF] for name, digest in files.items() if digest}
    more |= {"amp": True} if settings.get("amp") else {}  # entries without it are of float32
    if recipe == OWN_RECIPE:
        return more
    size = settings.get("sizes", {}).get(recipe, settings.get("size"))
    known = {"size": size, **{name: settings.get(name) for name in VICTIM_SETTINGS}}
    return {name: value for name, value in known.items() if value is not None} | more


def _score(summary: Summary) -> Score:
    low, high = summary.interval
    return Score(
        mean=round(summary.score, DIGITS),
        by_seed=tuple(round(score, DIGITS) for score in summary.finals),
        seeds=tuple(run.seed for run in summary.scored),
        interval=(round(low, DIGITS), round(high, DIGITS)) if math.isfinite(low + high) else None,
    )


def _number(value: float, digits: int = DIGITS) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def record(results: Results, folder: str | Path, **settings: Any) -> tuple[list[str], list[str]]:
    """Write the entries of a laboratory's results to a folder, and mark those that a stronger run refutes.

    Args:
        results: results of a laboratory.
        folder: folder of the entries; made if it does not exist. An entry of the same key is replaced; where its score
            is the same, it keeps the remark and the controls that are not known here.
        **settings: settings of :func:`entries_from`.

    Returns:
        Names of the entries that were written, and of those that are marked as overstated and were not before. Marks
        that are no longer true are taken away.

    Raises:
        InputError: naming the file, when an entry that is there cannot be read; or when entries that are there are of
            another dataset of the same name.
        OutputError: naming the file, when an entry cannot be written.
    """
    known = load_entries(folder) if Path(folder).exists() else {}
    written = []
    for entry in entries_from(results, **settings):
        _refuse_namesake(entry, known, folder)
        earlier = next((other for other in known.values() if other.key == entry.key), None)
        if earlier is not None:
            entry = _renewed(entry, earlier)
        name = save_entry(entry, folder, known)
        known[name] = entry
        written.append(name)
    changed = with_overstated(known)
    for entry in changed.values():
        save_entry(entry, folder, known)
    return written, [name for name, entry in changed.items() if entry.overstated and not known[name].overstated]


def _renewed(entry: Entry, earlier: Entry) -> Entry:
    """An entry with what an earlier one of the same key knows beside it."""
    known: dict[str, Any] = {"overstated": earlier.overstated}
    if entry.score == earlier.score:  # of the same trainings
        fields = ("clean", "random", "remark")
        known |= {name: getattr(entry, name) or getattr(earlier, name) for name in fields}
    return dataclasses.replace(entry, **known)


def _refuse_namesake(entry: Entry, known: Mapping[str, Entry], folder: str | Path) -> None:
    """Refuse an entry whose dataset is another than that of the same name: figures would be mixed up."""
    for name, other in known.items():
        hashes = {entry.dataset_sha256, other.dataset_sha256} - {None}
        if other.dataset == entry.dataset and (len(hashes) > 1 or other.metric != entry.metric):
            reason = f"the entry is of another dataset named {entry.dataset!r}; give yours another name, with --dataset"
            raise InputError(reason, file=Path(folder) / f"{name}.json")

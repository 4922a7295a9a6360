# SPDX-License-Identifier: Apache-2.0
"""Tables of entries in Markdown: what all rows have in common is said once, below."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import PROGRAM, Entry, Score
from monai_unlearnable.evidence.judging import (
    RECIPES,
    STOPPED,
    claim,
    exploiter_words,
    size_words,
    victim_words,
)
from monai_unlearnable.evidence.queries import ENTRIES, EXPLOITERS, Query
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.report.summaries import distinct
from monai_unlearnable.report.tables import NONE, Table, format_number

__all__ = ["COLUMNS", "noise_words", "render"]

OVERSTATED, ELSEWHERE, MOVING = "†", "‡", "~"  # signs beside scores, which footnotes explain
SETTINGS = {"size": "input of {}", "width": "width {}", "batch_size": "batches of {}"}  # of victims, in words


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        heading: its heading; ``{metric}`` stands for the name of the score.
        text: text of an entry.
        shared: what is said below the table where all rows have the same text; empty where the column is shown all the
            same.
        words: whether it holds words, not figures.
    """

    heading: str
    text: Callable[[Entry], str]
    shared: str = ""
    words: bool = False


def _decibels(value: float | None) -> str:
    return "" if value is None else f"{value:.1f} dB"


def _mean(score: Score | None) -> str:
    return NONE if score is None else f"{score.mean:.1f}"


def _score(entry: Entry) -> str:
    """The mean with its seeds, in bold where the exploiter was stopped, with signs for what footnotes say."""
    mean, score = f"{entry.score.mean:.1f}", entry.score
    signs = (OVERSTATED if entry.overstated else "") + (ELSEWHERE if entry.measured_by != PROGRAM else "")
    signs += MOVING if entry.moving else ""
    seeds = ", ".join(f"{one:.1f}" for one in score.by_seed)
    count = {None: "", 1: " (one seed)"}.get(score.count, f" ({seeds or f'{score.count} seeds'})")
    return (f"**{mean}**" if claim(entry) == STOPPED else mean) + signs + count


def noise_words(entry: Entry) -> str:
    """What protected the data, in words: ``"`foresight` --recipe mirror, 8/255"``."""
    name = entry.method if " " in entry.method else f"`{entry.method}`"
    options = "".join(f" {_setting(key, str(value))}" for key, value in entry.settings.items())
    return f"{name}{options}" + (f", {entry.epsilon}" if entry.epsilon else "")


def _setting(name: str, value: str) -> str:
    """An option of the command line, or words where it is none."""
    return f"{name} {value}" if " " in name or value.count(" ") > 2 else f"`--{name} {value}`"


def _iterations(entry: Entry) -> str:
    return "" if entry.iterations is None else f"{entry.iterations:,}"


def _recipe(entry: Entry) -> str:
    return "" if entry.recipe == OWN_RECIPE else RECIPES.get(entry.recipe, f"`{entry.recipe}`")


def _countermeasure(entry: Entry) -> str:
    return "" if entry.countermeasure == NO_COUNTERMEASURE else f"`{entry.countermeasure}`"


COLUMNS = {
    "dataset": Column("Dataset", lambda e: e.dataset.replace("_", " "), "{}", words=True),
    "exploiter": Column("The exploiter", exploiter_words, "{}", words=True),
    "victim": Column("Victim", victim_words, "{}", words=True),
    "recipe": Column("Recipe", _recipe, "{}", words=True),
    "countermeasure": Column("Countermeasure", _countermeasure, "after {}", words=True),
    "noise": Column("Protected by", noise_words, "protected by {}", words=True),
    "psnr": Column("PSNR", lambda e: _decibels(e.psnr), "PSNR {}"),
    "ssim_roi": Column("SSIM in the region", lambda e: format_number(e.ssim_roi, ".3f"), "SSIM in the region {}"),
    "size": Column("Input", size_words, "input of {}", words=True),
    "score": Column("{metric}", _score),
    "peak": Column("Peak", lambda e: format_number(e.peak)),
    "auc": Column("AUC", lambda e: format_number(e.extras.get("auc"))),
    "clean": Column("Originals", lambda e: _mean(e.clean)),
    "random": Column("Random noise", lambda e: _mean(e.random)),
    "iterations": Column("Iterations", _iterations, "{} iterations"),
    "claim": Column("The exploiter is", claim, words=True),
    "date": Column("Measured", lambda e: e.date or "", "measured {}"),
}
FIGURES = ("noise", "psnr", "score", "clean", "random", "iterations", "claim", "date")
USUAL = {
    ENTRIES: ("dataset", "victim", "recipe", "countermeasure", *FIGURES),
    EXPLOITERS: ("dataset", "exploiter", *FIGURES),
}  # columns by the kind of rows


def render(query: Query, entries: Mapping[str, Entry]) -> str:
    """A table of the entries that a query chooses, with what they have in common and footnotes below it.

    Raises:
        InputError: when no entry meets the conditions, or a column is unknown.
    """
    chosen = query.choose(entries.values())
    for name in query.columns:
        if name not in COLUMNS:
            raise InputError(f"there is no column {name!r}; known are {', '.join(COLUMNS)}")
    names = query.columns or USUAL[query.rows]
    shown, shared = _columns(names, chosen)
    told = {*names, *(("victim", "recipe", "countermeasure") if "exploiter" in names else ())}
    shared += _columns([name for name in USUAL[ENTRIES] if name not in told], chosen)[1]
    if "iterations" not in names and (several := {entry.iterations for entry in chosen if entry.iterations}):
        shared += [f"{min(several):,} to {max(several):,} iterations"] if len(several) > 1 else []
    metric = "/".join(distinct(entry.metric for entry in chosen))
    texts = [[COLUMNS[name].text(entry) or NONE for name in shown] for entry in chosen]
    heads = [COLUMNS[name].heading.format(metric=metric[:1].upper() + metric[1:]) for name in shown]
    words = len(list(takewhile(lambda name: COLUMNS[name].words, shown)))
    notes = " ".join(_notes(names, shared, chosen))
    return f"{Table('', heads, texts, words).to_markdown()}\n{notes}\n"


def _columns(names: Sequence[str], chosen: Sequence[Entry]) -> tuple[list[str], list[str]]:
    """Names of the columns that are shown, and what all rows have in common in words."""
    shown, shared = [], []
    for name in names:
        column = COLUMNS[name]
        texts = {column.text(entry) for entry in chosen}
        if not column.shared or len(texts) > 1:
            shown += [name] if texts - {"", NONE} else []
        elif text := texts.pop():
            shared.append(column.shared.format(text))
    return shown, shared


def _notes(names: Collection[str], shared: Sequence[str], chosen: Sequence[Entry]) -> Iterable[str]:
    """The sentences below a table with columns of these names."""
    common = [*shared, *_settings(chosen, names)]
    if common:
        text = ", ".join(common)
        yield f"{text[:1].upper()}{text[1:]}."
    chances = distinct(f"{entry.chance:g}" for entry in chosen)
    chance = "" if chances == ["0"] else f" (chance {', '.join(chances)})"
    means = ", means (each seed)" if any(len(entry.score.by_seed) > 1 for entry in chosen) else ""
    yield f"Scores in percent{chance} on clean held-out scans at the end of training{means}."
    if any(claim(entry) == STOPPED for entry in chosen):
        yield "Bold: at most half of what the originals teach is left."
    if any(entry.overstated for entry in chosen):
        several = len({noise_words(entry) for entry in chosen}) > 1
        stronger = distinct(
            f"{noise_words(entry)}: {entry.overstated.remark}" if several else entry.overstated.remark
            for entry in chosen
            if entry.overstated
        )
        because = "Overstated, since a stronger run on the same method and dataset found more:"
        yield f"{OVERSTATED} {because} {' '.join(stronger)}"
    if elsewhere := distinct(entry.measured_by for entry in chosen if entry.measured_by != PROGRAM):
        yield f"{ELSEWHERE} Measured by {' and by '.join(elsewhere)}, not by this program."
    if any(entry.moving for entry in chosen):
        yield f"{MOVING} The score still moved at the end of training."
    yield from distinct(sentence for entry in chosen for sentence in re.split(r"(?<=\.) ", entry.remark) if sentence)


def _settings(chosen: Sequence[Entry], told: Collection[str]) -> list[str]:
    """What the trainings of all victims have in common, in words, other than what is told already."""
    found = []
    for name, words in SETTINGS.items():
        if name in told:
            continue
        texts = {_text(entry.victim_settings.get(name)) for entry in chosen}
        if len(texts) == 1 and (text := texts.pop()):
            found.append(words.format(text))
    return found


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)

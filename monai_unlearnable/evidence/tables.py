# SPDX-License-Identifier: Apache-2.0
"""Tables of entries in Markdown: what all rows have in common is said once, below."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import PROGRAM, Entry, Score
from monai_unlearnable.evidence.judging import claim
from monai_unlearnable.evidence.queries import ENTRIES, EXPLOITERS, MATRIX, Query
from monai_unlearnable.evidence.words import (
    dataset_words,
    exploiter_words,
    iterations_words,
    noise_words,
    recipe_words,
    size_words,
    times,
    victim_words,
)
from monai_unlearnable.metrics.judgement import POOR, STOPPED
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, OWN_RECIPE
from monai_unlearnable.report.tables import NONE, Table, format_number
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["COLUMNS", "ELSEWHERE", "MOVING", "OVERSTATED", "render", "score_words"]

OVERSTATED, ELSEWHERE, MOVING = "†", "‡", "~"  # signs beside scores, which footnotes explain
SETTINGS = {
    "size": "input of {}",
    "width": "width {}",
    "batch_size": "batches of {}",
}  # of victims, in words
NETWORK = ("size", "width")  # settings of the network, with a column each
COMMON = (*NETWORK, "batch_size", "amp")  # settings that are told below a table where all rows have them


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


def score_words(entry: Entry) -> str:
    """The mean with its seeds, in bold where the exploiter was stopped, with signs for what footnotes say."""
    mean, score = f"{entry.score.mean:.1f}", entry.score
    signs = (OVERSTATED if entry.overstated else "") + (ELSEWHERE if entry.measured_by != PROGRAM else "")
    signs += MOVING if entry.moving else ""
    seeds = ", ".join(f"{one:.1f}" for one in score.by_seed)
    count = {None: "", 1: " (one seed)"}.get(score.count, f" ({seeds or f'{score.count} seeds'})")
    return (f"**{mean}**" if claim(entry) == STOPPED else mean) + signs + count


def _training(entry: Entry) -> str:
    """Settings of the victim's training other than those of its network, in words."""
    return ", ".join(_setting(name, value) for name, value in entry.victim_settings.items() if name not in NETWORK)


def _setting(name: str, value: Any) -> str:
    """One of them in words."""
    if name == "amp":
        return "in bfloat16"
    if name == "validation_fraction":
        return f"{value:.0%} of the cases held out" if value else "no case held out"
    return SETTINGS.get(name, f"{name.replace('_', ' ')} {{}}").format(times(value))


def _countermeasure(entry: Entry) -> str:
    return "" if entry.countermeasure == NO_COUNTERMEASURE else f"`{entry.countermeasure}`"


COLUMNS = {
    "dataset": Column("Dataset", dataset_words, "{}", words=True),
    "exploiter": Column("The exploiter", exploiter_words, "{}", words=True),
    "victim": Column("Victim", victim_words, "{}", words=True),
    "recipe": Column("Recipe", recipe_words, "{}", words=True),
    "countermeasure": Column("Countermeasure", _countermeasure, "after {}", words=True),
    "noise": Column("Protected by", noise_words, "protected by {}", words=True),
    "psnr": Column("PSNR", lambda e: _decibels(e.psnr), "PSNR {}"),
    "ssim_roi": Column("SSIM in the region", lambda e: format_number(e.ssim_roi, ".3f"), "SSIM in the region {}"),
    "size": Column("Input", size_words, "input of {}", words=True),
    "width": Column("Width", lambda e: times(e.victim_settings.get("width")), "width {}", words=True),
    "training": Column("Trained with", _training, "{}", words=True),
    "score": Column("{metric}", score_words),
    "peak": Column("Peak", lambda e: format_number(e.peak)),
    "auc": Column("AUC", lambda e: format_number(e.extras.get("auc"))),
    "clean": Column("Originals", lambda e: _mean(e.clean)),
    "random": Column("Random noise", lambda e: _mean(e.random)),
    "iterations": Column("Iterations", iterations_words, "{} iterations"),
    "claim": Column("The exploiter is", claim, words=True),
    "date": Column("Measured", lambda e: e.date or "", "measured {}"),
}
FIGURES = ("noise", "psnr", "score", "clean", "random", "iterations", "claim", "date")
USUAL = {
    ENTRIES: ("dataset", "victim", "recipe", "countermeasure", *FIGURES),
    EXPLOITERS: ("dataset", "exploiter", *FIGURES),
}  # columns by the kind of rows
CONTROLS = ("clean", "random")
PARTS = {"exploiter": ("victim", "recipe", "countermeasure")}  # columns that tell what others do
FACETS = (victim_words, recipe_words, noise_words, exploiter_words)  # may tell rows from the others
DETAILS = ("noise", "size", "width", "training", "iterations")  # columns that tell rows of one exploiter apart
NAME = "nnU-Net"
TELLING = (
    "dataset",
    "victim",
    "recipe",
    "countermeasure",
    "noise",
    "size",
    "width",
    "iterations",
)  # must not differ unseen


def render(query: Query, entries: Mapping[str, Entry]) -> str:
    """A table of the entries that a query chooses, with what they have in common and footnotes below it.

    Raises:
        InputError: when no entry meets the conditions, or a column is unknown.
    """
    chosen = query.choose(entries.values())
    for name in query.columns:
        if name not in COLUMNS:
            raise InputError(f"there is no column {name!r}; known are {', '.join(COLUMNS)}")
    if query.rows == MATRIX:
        return _matrix(chosen)
    names = _completed(query.columns or USUAL[query.rows], chosen)
    shown, shared = _columns(names, chosen)
    shared += _columns(_untold(names), chosen)[1]
    metric = "/".join(distinct(entry.metric for entry in chosen))
    texts = [[COLUMNS[name].text(entry) or NONE for name in shown] for entry in chosen]
    heads = [COLUMNS[name].heading.format(metric=metric[:1].upper() + metric[1:]) for name in shown]
    words = len(list(takewhile(lambda name: COLUMNS[name].words, shown)))
    notes = " ".join(_notes(names, shared, chosen))
    return f"{Table('', heads, texts, words).to_markdown()}\n{notes}\n"


def _matrix(chosen: Sequence[Entry]) -> str:
    """A row for each kind of exploiter, a column for each way of protecting one dataset.

    Raises:
        InputError: when entries are of several datasets, or two have the same place.
    """
    if len(datasets := distinct(entry.dataset for entry in chosen)) > 1:
        raise InputError(f"a matrix is of one dataset, and the entries are of {', '.join(datasets)}")
    columns = dict(sorted(grouped(chosen, noise_words).items()))
    texts = []
    for words, members in grouped(chosen, partial(_row_words, chosen)).items():
        cells = {noise_words(entry): _cell(entry) for entry in members}
        if len(cells) < len(members):
            raise InputError(f"several entries of {words!r} have one place in the matrix: add conditions")
        texts.append([words, _clean(members), _random(members, chosen), *(cells.get(name, NONE) for name in columns)])
    ways = [_protected_words(*way) for way in columns.items()]
    heads = [COLUMNS["exploiter"].heading, *(COLUMNS[name].heading for name in CONTROLS), *ways]
    names = ("exploiter", "noise", "psnr", "score", *CONTROLS, "claim")
    notes = " ".join(_notes(names, _columns(_untold(names), chosen)[1], chosen))
    return f"{Table('', heads, texts, 1).to_markdown()}\n{notes}\n"


def _clean(members: Sequence[Entry]) -> str:
    """What the originals teach the exploiter of a row."""
    return "/".join(sorted({_mean(entry.clean) for entry in members} - {NONE})) or NONE


def _random(members: Sequence[Entry], chosen: Sequence[Entry]) -> str:
    """What random noise leaves him, with its epsilon where a matrix has several: not all of its columns have it."""
    several = len({entry.epsilon for entry in chosen}) > 1
    controlled = [entry for entry in members if entry.random]
    return ", ".join(distinct(_mean(e.random) + (f" ({e.epsilon})" if several else "") for e in controlled)) or NONE


def _row_words(chosen: Sequence[Entry], entry: Entry) -> str:
    """The exploiter of an entry, with what tells him from others of that kind: network, length, training."""
    words = exploiter_words(entry)
    alike = [one for one in chosen if exploiter_words(one) == words]
    columns = [COLUMNS[name] for name in (*NETWORK, "iterations", "training")]
    differing = [column for column in columns if len({column.text(one) for one in alike}) > 1]
    told = (column.shared.format(text) for column in differing if (text := column.text(entry)))
    return ", ".join([words, *told])


def _protected_words(noise: str, entries: Sequence[Entry]) -> str:
    """What protected the data of entries, and how faithful they are: ``"`umed`, 14/255 (39.1 dB)"``."""
    found = distinct(_decibels(psnr) for psnr in sorted(entry.psnr for entry in entries if entry.psnr))
    return f"{noise} ({' to '.join(found[:1] + found[1:][-1:])})" if found else noise


def _cell(entry: Entry) -> str:
    """The mean, in bold where the exploiter was stopped."""
    return score_words(entry).partition(" ")[0]


def _untold(names: Iterable[str]) -> list[str]:
    """Names of the usual columns that columns of these names do not hold."""
    return [name for name in USUAL[ENTRIES] if name not in _told(names)]


def _told(names: Iterable[str]) -> set[str]:
    """Names of the columns whose text columns of these names hold."""
    return {*names, *(part for name in names for part in PARTS.get(name, ()))}


def _completed(names: Sequence[str], chosen: Sequence[Entry]) -> list[str]:
    """The columns with those that are needed to tell what a row means, each before the first that comes later."""
    found, here = list(names), _trained_here(chosen)
    for name in TELLING:
        told = here if name in NETWORK else chosen
        if name not in _told(found) and len({COLUMNS[name].text(entry) for entry in told}) > 1:
            _insert(name, found)
    rows = {(*(COLUMNS[name].text(entry) for name in TELLING), entry.measured_by) for entry in chosen}
    if len(rows) < len(chosen) or len({bool(entry.victim_settings.get("amp")) for entry in here}) > 1:
        _insert("training", found)
    return found


def _insert(name: str, names: list[str]) -> None:
    """Put the name of a column before the first that comes later in the usual order, unless it is there."""
    places = list(COLUMNS)
    later = (place for place, one in enumerate(names) if places.index(one) > places.index(name))
    if name not in names:
        names.insert(next(later, len(names)), name)


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
        yield f"{_capital(', '.join(common))}."
    chances = distinct(f"{entry.chance:g}" for entry in chosen)
    chance = "" if chances == ["0"] else f" (chance {', '.join(chances)})"
    means = ", means (each seed)" if any(len(entry.score.by_seed) > 1 for entry in chosen) else ""
    yield f"Scores in percent{chance} on clean held-out scans at the end of training{means}."
    if any(claim(entry) == STOPPED for entry in chosen):
        each = " with each seed" if means else ""
        yield f"Bold: at most half of what the originals teach is left{each}."
    if any(entry.overstated for entry in chosen):
        several = len({noise_words(entry) for entry in chosen}) > 1
        stronger = distinct(
            f"{noise_words(entry)}: {entry.overstated.remark}" if several else entry.overstated.remark
            for entry in chosen
            if entry.overstated
        )
        because = "Overstated, since a stronger run on the same method and dataset found more."
        yield f"{OVERSTATED} {because} {' '.join(stronger)}"
    if elsewhere := distinct(entry.measured_by for entry in chosen if entry.measured_by != PROGRAM):
        yield f"{ELSEWHERE} Measured by {' and by '.join(elsewhere)}, not by this program."
    if any(entry.moving for entry in chosen):
        yield f"{MOVING} The score still moved at the end of training."
    if "claim" in names and any(claim(entry) == POOR for entry in chosen):
        yield f"{POOR.capitalize()}: originals teach it little, so that the comparison proves nothing."
    for sentence in distinct(sentence for entry in chosen for sentence in _sentences(entry)):
        rows = _rows_with(sentence, chosen)
        yield f"{rows}: {sentence}" if rows else sentence


def _sentences(entry: Entry) -> list[str]:
    """The sentences of an entry's remark."""
    return [sentence for sentence in re.split(r"(?<=\.) ", entry.remark) if sentence]


def _rows_with(sentence: str, chosen: Sequence[Entry]) -> str:
    """The rows whose remark has a sentence, in the fewest words that tell them from the others; empty if all have."""
    having = [entry for entry in chosen if sentence in _sentences(entry)]
    others = [entry for entry in chosen if sentence not in _sentences(entry)]
    if not others:
        return ""
    for words in FACETS:
        found = distinct(map(words, having))
        if "" not in found and not set(found) & set(map(words, others)):
            return _capital("; ".join(found))
    differing = [name for name in DETAILS if len({COLUMNS[name].text(entry) for entry in chosen}) > 1]
    rows = [
        f"{words} ({'; '.join(_words(differing, e) for e in members)})"
        for words, members in grouped(having, exploiter_words).items()
    ]
    return _capital("; ".join(rows))


def _words(names: Iterable[str], entry: Entry) -> str:
    """What columns of these names say of an entry."""
    texts = [(COLUMNS[name].shared, COLUMNS[name].text(entry)) for name in names]
    return ", ".join(words.format(text) for words, text in texts if text)


def _capital(text: str) -> str:
    """A text that begins with a capital, unless it begins with a name that has none."""
    return text if text.startswith(NAME) else f"{text[:1].upper()}{text[1:]}"


def _settings(chosen: Sequence[Entry], told: Collection[str]) -> list[str]:
    """What the trainings of all victims have in common, in words, other than what is told already."""
    found, here = [], _trained_here(chosen)
    for name in COMMON if "training" not in told else NETWORK:
        texts = {times(entry.victim_settings.get(name)) for entry in here}
        if name not in told and len(texts) == 1 and (text := texts.pop()):
            found.append(_setting(name, text))
    if found and len(here) < len(chosen):
        found[-1] += f" (other than {NAME} itself)"
    return found


def _trained_here(chosen: Sequence[Entry]) -> list[Entry]:
    """Entries of victims whose settings are ours: other programs choose their own."""
    return [entry for entry in chosen if entry.recipe != OWN_RECIPE]

# SPDX-License-Identifier: Apache-2.0
"""The tables of a report: one type for the terminal, for Markdown and for the page, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import rich.table
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group
from rich.text import Text

from monai_unlearnable.metrics.scores import TASK
from monai_unlearnable.report.controlled import ControlledSummaries, difference_test
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, RANDOM
from monai_unlearnable.report.summaries import MOVING_WORDS, Summary, iterations_of, victim_name
from monai_unlearnable.utils.grouping import distinct, grouped

__all__ = ["LONG", "NONE", "Table", "heading"]
__all__ += ["format_digits", "format_interval", "format_number", "format_p", "format_score"]
__all__ += ["markdown_table", "matrix_tables", "p50_table", "points_table", "rivals_table", "tested_score"]
__all__ += ["victim_table"]

NONE = "–"
LONG = 24  # rows of all tables of a kind together that are shown unfolded
NAMES = 2  # leading columns of the matrix that hold words
LISTED_CLASSES = 4
LEAST_P = 0.001
EXTRAS = {"hd95": "HD95 (mm)", "hd95_missing": "Missed (%)", "auc": "AUC (%)", "accuracy": "Accuracy (%)"}
ROOMY = ("Selected", "SSIM in label")  # columns that a terminal has no room for; narrow ones have none for the next
DISPENSABLE = ("Missed (%)", "HD95 (mm)", "Per class", "AUC (%)", "Accuracy (%)", "SSIM", "Peak", "Interval", "p")
WIDE = 1000  # characters; more than any table has
TESTED = {"balanced accuracy": "accuracy"}  # scores over classes, and the one over cases that paired tests compare
STYLES = {CLEAN: "green", PROTECTED: "bold yellow", RANDOM: "cyan"}

SummaryColumn = tuple[str, Callable[[Summary], str]]


@dataclass(frozen=True)
class Table:
    """Text in rows and columns.

    Args:
        title: title of the table.
        columns: names.
        rows: texts of each row, one a column.
        words: number of leading columns that hold words, not figures.
        roles: role of the training data of each row, which colors it; such rows are grouped by their first text. Empty
            where rows have none.
        caption: remark below it on the terminal.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: int = 1
    roles: Sequence[str] = ()
    caption: str = ""

    def groups(self) -> list[tuple[str, list[tuple[str, Sequence[str]]]]]:
        """Neighbors of equal first text: that text, and role and further texts of each row."""
        pairs = zip(self.roles or [""] * len(self.rows), self.rows, strict=True)
        neighbors = groupby(pairs, key=lambda pair: pair[1][0])
        return [(name, [(role, row[1:]) for role, row in members]) for name, members in neighbors]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[rich.table.Table]:
        yield self.fitted(options.max_width).to_rich(options.max_width)

    def fitted(self, width: int) -> Table:
        """The table, without some of its less important columns where these many characters cannot hold all words."""
        fitted = self
        for name in DISPENSABLE:
            if sum(least for least, _ in fitted._extents()) + fitted._frame > width:
                fitted = fitted._without(name)
        return fitted if fitted is self else replace(fitted, caption=f"{self.caption}; more in the report".lstrip("; "))

    def _without(self, column: str) -> Table:
        kept = [place for place, name in enumerate(self.columns) if name != column]
        columns, *rows = ([texts[place] for place in kept] for texts in (self.columns, *self.rows))
        return replace(self, columns=columns, rows=rows)

    @property
    def _frame(self) -> int:
        """Characters that the lines between columns and the space beside them take."""
        return 3 * len(self.columns) + 1

    def _extents(self) -> list[tuple[int, int]]:
        """The length of the longest word and of the longest text of each column."""
        columns = list(zip(self.columns, *self.rows, strict=True))
        return [
            (max(cell_len(word) for text in texts for word in (*text.split(), "")), max(map(cell_len, texts)))
            for texts in columns
        ]

    def _widths(self, width: int) -> list[int]:
        """The widths of the columns: no word is cut, and what is left goes to the first ones."""
        extents = self._extents()
        left = max(0, width - self._frame - sum(least for least, _ in extents))
        widths = []
        for least, most in extents:
            more = min(most - least, left)
            left -= more
            widths.append(least + more)
        return widths

    def to_rich(self, width: int = WIDE) -> rich.table.Table:
        """The table for a terminal of so many characters; no text is taken for markup."""
        caption = Text(self.caption, style="table.caption") if self.caption else None
        table = rich.table.Table(title=Text(self.title, style="table.title"), caption=caption)
        for column, (name, extent) in enumerate(zip(self.columns, self._widths(width), strict=True)):
            table.add_column(Text(name), justify="left" if column < self.words else "right", width=extent)
        for name, members in self.groups():
            for place, (role, texts) in enumerate(members):
                first = "" if place and self.roles else name
                table.add_row(*map(Text, (first, *texts)), style=STYLES.get(role))
            if self.roles:
                table.add_section()
        return table

    def to_markdown(self) -> str:
        """The table for documents that quote measured figures; lines that end with a newline."""
        rule = ["---" if column < self.words else "---:" for column in range(len(self.columns))]
        lines = [[text.replace("|", "\\|").replace("\n", " ") for text in row] for row in (self.columns, *self.rows)]
        lines.insert(1, rule)
        return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def format_number(value: float | None, spec: str = ".1f") -> str:
    """A number, or a dash where there is none."""
    return NONE if value is None or math.isnan(value) else format(value, spec)


def format_digits(value: float, digits: int = 2) -> str:
    """A number with so many significant digits, never in powers of ten: 100, not 1e+02; a dash where there is none."""
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:.{places}f}"
    return text.rstrip("0").rstrip(".") if places else text


def format_interval(interval: tuple[float, float], spec: str = ".1f") -> str:
    """Both ends of an interval, or a dash where one is unknown."""
    low, high = (format_number(value, spec) for value in interval)
    return NONE if NONE in (low, high) else f"{low} to {high}"


def format_score(summary: Summary) -> str:
    """The mean score, with ``~`` where a curve still moved; or ``diverged`` or ``failed``."""
    return summary.failure or f"{format_number(summary.score)}{summary.mark}"


def format_p(value: float) -> str:
    """A p-value to three places."""
    return f"< {LEAST_P:g}" if value < LEAST_P else format_number(value, ".3f")


def tested_score(summaries: Iterable[Summary]) -> str:
    """The score that paired tests compare where it is not the one of the tables; otherwise empty.

    A test over cases counts each case alike, balanced accuracy counts each class alike: with rare classes one may rise
    while the other falls.
    """
    return next((TESTED[s.metric] for s in summaries if s.metric in TESTED), "")


def heading(countermeasure: str) -> str:
    """A countermeasure as a heading."""
    return "Without countermeasure" if countermeasure == NO_COUNTERMEASURE else f"Countermeasure: {countermeasure}"


def matrix_tables(results: Results, brief: bool = False) -> dict[str, Table]:
    """The matrix: a row for each setting, by countermeasure; all tables have the same columns, those that are filled.

    Args:
        results: scores are in percent on clean held-out scans; p is that of the paired test against the clean control.
        brief: whether to omit what a terminal has no room for.
    """
    summaries, tables = results.summaries(), {}
    columns = [
        (name, write)
        for place, (name, write) in enumerate(_columns(results, summaries, brief))
        if place < NAMES or any(write(s) != NONE for s in summaries)
    ]
    about = f"{results.metric} on clean held-out scans, in percent"
    for countermeasure, group in grouped(summaries, lambda s: s.countermeasure).items():
        rows, roles = [[write(s) for _, write in columns] for s in group], [s.training for s in group]
        names = [name for name, _ in columns]
        caption = "; ".join([about, *_explained(group)])
        tables[countermeasure] = Table(heading(countermeasure), names, rows, NAMES, roles, caption)
    return tables


def _columns(results: Results, summaries: Sequence[Summary], brief: bool) -> list[SummaryColumn]:
    controlled = ControlledSummaries(summaries)
    extras = distinct(name for s in summaries for name in s.extras)
    columns: list[SummaryColumn] = [
        ("Victim", lambda s: victim_name(s, summaries)),
        ("Trained on", lambda s: s.words),
        (f"Final {results.metric}", format_score),
        ("Iterations", lambda s: iterations_of([s]) or NONE),
        ("Interval", lambda s: format_interval(s.interval)),
        ("Peak", lambda s: format_number(s.peak)),
        ("Selected", lambda s: format_number(s.selected)),
        ("Per class", lambda s: _classes(s.per_class)),
        *((EXTRAS.get(name, name), _extra(name)) for name in extras),
        ("p", lambda s: format_p(controlled.p_value(s))),
        ("PSNR (dB)", lambda s: format_number(s.psnr)),
        ("SSIM", lambda s: format_number(s.ssim, ".4f")),
        ("SSIM in label", lambda s: format_number(s.ssim_roi, ".4f")),
        ("Seeds", lambda s: f"{s.seeds} ({s.note})" if s.note else str(s.seeds)),
    ]
    return [(name, write) for name, write in columns if not (brief and name in ROOMY)]


def _explained(summaries: Sequence[Summary]) -> list[str]:
    return [MOVING_WORDS] if any(s.mark for s in summaries) else []


def _tasks(summary: Summary) -> list[str]:
    """The names of the scores of single tasks among the extras."""
    return [name for name in summary.extras if name.startswith(TASK)]


def _extra(name: str) -> Callable[[Summary], str]:
    return lambda s: format_number(s.extras.get(name))


def _classes(values: Sequence[float]) -> str:
    if len(values) <= LISTED_CLASSES:
        return " / ".join(map(format_number, values)) or NONE
    known = [value for value in values if not math.isnan(value)]
    return f"{len(values)} classes, {min(known):.1f} to {max(known):.1f}" if known else NONE


def rivals_table(results: Results) -> Table:
    """Method against method: paired tests between every two protected data that the same victim was trained on alike.

    Pairs whose test cases are not known are omitted.
    """
    summaries = results.summaries()
    tested = [
        (first, second, difference_test(second, first)) for first, second in ControlledSummaries(summaries).rivals()
    ]
    other = tested_score(first for first, _, _ in tested)
    rows = [
        (
            victim_name(first, summaries),
            first.countermeasure,
            first.words,
            second.words,
            format_number(first.score - second.score, "+.1f"),
            *([format_number(test.difference, "+.1f")] if other else []),
            format_interval(test.interval, "+.1f"),
            format_p(test.p_value),
        )
        for first, second, test in tested
        if test.cases
    ]
    figures = ("Difference", *([f"In {other}"] if other else []), "95% interval", "p")
    columns = ("Victim", "Countermeasure", "Method", "Against", *figures)
    about = f"first method less the other, in points; paired tests{f' of {other}' if other else ''} over test cases"
    return Table("Method against method", columns, rows, 4, caption=about)


def p50_table(results: Results, brief: bool = False) -> Table:
    """P50 of each method, victim and recipe, beside chance and the clean control.

    Args:
        results: scores are in percent.
        brief: whether the points that P50 comes from are in the last column, for want of a table of their own, as on
            the terminal.
    """
    more = (f"{results.metric} at PSNR (dB)",) if brief else ("Half-way SSIM in label", "Strengths")
    rows = []
    for line in results.frontier():
        points = ", ".join(f"{format_score(point)} at {point.psnr:.1f}" for point in line.points)
        last = (points,) if brief else (line.ssim_words, str(len(line.points)))
        length = iterations_of(line.points) or NONE
        figures = (line.words, format_number(line.chance), format_number(line.clean), length, *last)
        rows.append((line.method, line.victim, line.recipe, *figures))
    columns = ("Method", "Victim", "Recipe", "P50", "Chance", "Clean control", "Iterations", *more)
    about = ["P50: highest PSNR at which half of the usual score is lost"]
    about += _explained([point for line in results.frontier() for point in line.points]) if brief else []
    return Table("Frontier", columns, rows, 3, caption="; ".join(about))


def points_table(results: Results) -> Table:
    """Every point of the frontier."""
    figures = ("ε (of 255)", "PSNR (dB)", "SSIM in label", results.metric, "Iterations", "Interval", "Seeds")
    rows = [
        (
            line.method,
            line.victim,
            line.recipe,
            NONE if point.epsilon is None else format_digits(255 * point.epsilon, 3),
            format_number(point.psnr),
            format_number(point.ssim_roi, ".4f"),
            format_score(point),
            iterations_of([point]) or NONE,
            format_interval(point.interval),
            str(point.seeds),
        )
        for line in results.frontier()
        for point in line.points
    ]
    return Table("Points of the frontier", ("Method", "Victim", "Recipe", *figures), rows, 3)


def victim_table(results: Results) -> Group:
    """The matrix for the terminal: training data by victim, means over seeds, a table for each countermeasure.

    Where there are several protected data, a table of the paired tests between them follows, unless it is long.
    """
    tables, rivals = [*matrix_tables(results, brief=True).values()], rivals_table(results)
    tables += [rivals] if 0 < len(rivals.rows) <= LONG else []
    return Group(Text(results.title, style="italic"), *tables)


def markdown_table(results: Results) -> str:
    """The matrix as Markdown: a row for each victim, recipe and training data, a column for each countermeasure.

    Shown are the mean score in percent with its interval and the scores of several tasks, and ``~`` where a curve still
    moved, explained below the table; seeds without a score are named.
    """
    summaries = results.summaries()
    countermeasures, victims = (distinct(getattr(s, name) for s in summaries) for name in ("countermeasure", "victim"))
    found: dict[tuple[str, str, str], dict[str, Summary]] = {}
    for s in sorted(summaries, key=lambda s: victims.index(s.victim)):
        found.setdefault((s.victim, s.recipe, s.words), {})[s.countermeasure] = s
    rows = []
    for names, tried in found.items():
        psnr = format_number(next(iter(tried.values())).psnr)
        scores = [_score(tried[name]) if name in tried else NONE for name in countermeasures]
        seeds = " / ".join(distinct(str(s.seeds) for s in tried.values()))
        rows.append((*names, psnr, *scores, iterations_of(tried.values()) or NONE, seeds))
    heads = [results.metric if name == NO_COUNTERMEASURE else name for name in countermeasures]
    columns = ("Victim", "Recipe", "Trained on", "PSNR (dB)", *heads, "Iterations", "Seeds")
    notes = "".join(f"\n{note}\n" for note in _explained(summaries))
    return Table("", columns, rows, 3).to_markdown() + notes


def _score(summary: Summary) -> str:
    """The mean score with its interval, the scores of tasks, and a note."""
    low, high = map(format_number, summary.interval)
    tasks = [f", {name.removeprefix(TASK)} {format_number(summary.extras[name])}" for name in _tasks(summary)]
    note = "".join(tasks) + (f", {summary.note}" if summary.note else "")
    return summary.failure or f"{summary.score:.1f}{summary.mark} ({low} to {high}{note})"

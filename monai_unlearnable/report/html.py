# SPDX-License-Identifier: Apache-2.0
"""The report as files: results.json, the pictures, and pages that hold everything; their look is in the templates."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from monai_unlearnable import __version__
from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics.judgement import SMALL_DROP
from monai_unlearnable.report import comparison, fidelity, tables
from monai_unlearnable.report.answers import answer, count_answers
from monai_unlearnable.report.results import RESULTS, Results
from monai_unlearnable.report.rows import NO_COUNTERMEASURE, PROTECTED
from monai_unlearnable.report.spreadsheets import spreadsheets
from monai_unlearnable.report.summaries import MOVING_WORDS, Summary, iterations_of, victim_name
from monai_unlearnable.report.tables import LONG, Table, format_digits, heading
from monai_unlearnable.utils.files import write_atomic
from monai_unlearnable.utils.grouping import distinct, grouped

if TYPE_CHECKING:
    from monai_unlearnable.report.viewer import ViewedScan  # imports matplotlib

__all__ = ["compare_page", "pictures_by_kind", "render", "render_page", "write_comparison", "write_report"]

PICTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Kinds of pictures, by the start of their names.
KINDS = ("before", "heat", "frontier", "bars", "curves", "prediction", "montage")
# Names of those that the laboratory makes.
MADE = re.compile(r"(before-and-after|(heat|montage|prediction)(-\d+)+|frontier-\d+-\w+?|bars|curves)(_dark)?\.png")
SHRINK = 0.49  # pixels of the page a pixel of a picture
DESCRIBED = 12  # settings that the alternative text of a chart names
FEW = 6  # answers that the page begins with
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; script-src"


def render_page(
    results: Results,
    pictures: Mapping[str, bytes],
    background: Table | None = None,
    viewed: Sequence[ViewedScan] = (),
) -> str:
    """The page as HTML: no scripts but its own, nothing loaded from elsewhere.

    Args:
        results: results to report.
        pictures: PNG bytes by name, shown in this order; ``x_dark`` replaces ``x`` on dark screens. Names that begin
            with one of ``KINDS``, such as ``heat`` or ``montage``, get the place and the caption of their kind, others
            come last.
        background: table of what was measured before.
        viewed: scans of the slice viewer.
    """
    summaries, lines = results.summaries(), results.frontier()
    known = any(math.isfinite(line.clean) for line in lines)
    return render(
        "report",
        results=results,
        metric=results.metric[:1].upper() + results.metric[1:],
        scripts=("viewer", "tables") if viewed else ("tables",),
        answers=answer(summaries),
        count=count_answers,
        small_drop=round(SMALL_DROP),
        length=iterations_of(s for s in summaries if s.training == PROTECTED),
        few=FEW,
        fidelity=fidelity.fidelity_words(results),
        viewed=viewed,
        scans=fidelity.scan_table(results),
        dates=_dates(results),
        trained=_trained(results),
        pictures=pictures_by_kind(pictures),
        scores=_scores(results, summaries),
        frontier=tables.p50_table(results),
        strengths=max(len(line.points) for line in lines) if known else 0,
        points=tables.points_table(results),
        matrix=_matrix(results, summaries),
        moving=MOVING_WORDS,
        chances=sorted({row.chance for row in results.rows}),
        has={
            "selected": any(row.selected is not None for row in results.rows),
            "by_case": any(row.by_case for row in results.rows),
            "failures": any(not row.done for row in results.rows),
            "moving": any(s.mark for s in summaries),
        },
        background=background,
        rivals=tables.rivals_table(results),
        tested=tables.tested_score(summaries),
        figures=fidelity.figure_table(results),
        meanings=fidelity.meanings(results),
        regions=fidelity.region_tables(results),
        authorized=fidelity.authorized_table(results),
        detectors=fidelity.detector_table(results),
        settings=list(_flat(results.settings).items()),
        commands=_commands(summaries),
        tried={name: _tried(results, name) for name in ("recipe", "victim", "countermeasure")},
    )


def write_report(
    results: Results,
    pictures: Mapping[str, bytes],
    folder: str | Path,
    background: Table | None = None,
    viewed: Sequence[ViewedScan] = (),
) -> None:
    """Write ``results.json``, CSV files, a PNG for each picture and ``index.html``; each write is atomic.

    Pictures of an earlier report that are no longer among them are removed: they may show scans. The page comes last.
    It holds the voxels of the scans that are viewed: it is meant for their owner.

    Args:
        results: results to report.
        pictures: PNG bytes by name, as in :func:`render_page`; names are letters, digits, ``_`` and ``-``.
        folder: folder to write to; made if it does not exist.
        background: table of what was measured before.
        viewed: scans of the slice viewer.

    Raises:
        InputError: when the name of a picture cannot be a file name.
        OutputError: naming the file that cannot be written.
    """
    for name in pictures:
        if not PICTURE_NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a picture; use letters, digits, _ and -")
    target, page = Path(folder), render_page(results, pictures, background, viewed)
    write_atomic(target / RESULTS, results.to_json().encode())
    for name, text in spreadsheets(results).items():
        write_atomic(target / name, text.encode("utf-8", "backslashreplace"))
    for name, content in pictures.items():
        write_atomic(target / f"{name}.png", content)
    for earlier in target.glob("*.png"):
        if MADE.fullmatch(earlier.name) and earlier.stem not in pictures:
            earlier.unlink()
    write_atomic(target / "index.html", page.encode("utf-8", "backslashreplace"))


def compare_page(first: Results, second: Results) -> str:
    """Two reports side by side as one page: no scripts, nothing loaded from elsewhere."""
    found = comparison.compare(first, second)
    return render(
        "comparison",
        found=found,
        pairs=_pairs(found),
        tested=tables.tested_score(pair.first for pair in found.pairs),
        frontiers=comparison.frontiers_table(first, second),
        figures=comparison.figures_table(first, second),
        only_first=[comparison.setting_name(setting) for setting in found.only_first],
        only_second=[comparison.setting_name(setting) for setting in found.only_second],
    )


def write_comparison(first: Results, second: Results, path: str | Path) -> None:
    """Write :func:`compare_page` of two reports to the file at ``path``, atomically.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    write_atomic(Path(path), compare_page(first, second).encode("utf-8", "backslashreplace"))


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("monai_unlearnable.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, scripts: Sequence[str] = (), **content: Any) -> str:
    """A page from a template, with scripts of the package by name; its policy lets no others run, and loads nothing."""
    texts = [_script(name) for name in scripts]
    policy = " ".join([POLICY, *([f"'sha256-{_sha256(text)}'" for text in texts] or ["'none'"])])
    page = _environment().get_template(f"{template}.html.j2")
    return page.render(**content, scripts=texts, policy=policy, long=LONG, version=__version__)


@cache
def _script(name: str) -> Markup:
    environment = _environment()
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, f"{name}.js")[0])  # noqa: S704 - a file of the package


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _dates(results: Results) -> str:
    """The first and the last day of training; empty where none is known."""
    days = sorted({row.date for row in results.rows if row.date})
    return " to ".join(distinct((days[0], days[-1]))) if days else ""


def _trained(results: Results) -> list[tuple[str, str]]:
    """What to know of the trainings before all settings, in words."""
    known = {
        "Date": _dates(results),
        "Version": _text(results.settings.get("version", "")),
        "Networks": _tried(results, "victim"),
        "Recipes": _tried(results, "recipe"),
        "Countermeasures": _tried(results, "countermeasure"),
        "Iterations": iterations_of(results.summaries()),
        "Seeds": ", ".join(map(str, sorted({row.seed for row in results.rows}))),
        "Training cases": _text(results.settings.get("training cases", "")),
        "Test cases": _text(results.settings.get("test cases", "")),
    }
    return [(name, text) for name, text in known.items() if text]


def _tried(results: Results, name: str) -> str:
    return ", ".join(distinct(value for row in results.rows if (value := getattr(row, name)) != NO_COUNTERMEASURE))


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Args:
        name: name of its file.
        light: PNG as a data URI.
        dark: the same for dark screens, empty where there is none.
        width: width on the page, in pixels.
        height: height on the page, in pixels.
    """

    name: str
    light: str
    dark: str
    width: int
    height: int


def pictures_by_kind(images: Mapping[str, bytes]) -> dict[str, list[Picture]]:
    """Pictures by their kind, each with its dark version."""
    found: dict[str, list[Picture]] = {kind: [] for kind in (*KINDS, "other")}
    for name, content in images.items():
        if name.endswith("_dark") and name.removesuffix("_dark") in images:
            continue
        dark = images.get(f"{name}_dark")
        picture = Picture(name, _data_uri(content), _data_uri(dark) if dark else "", *_size(content))
        found[next((kind for kind in KINDS if name.startswith(kind)), "other")].append(picture)
    return found


def _data_uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _size(content: bytes) -> tuple[int, int]:
    """Width and height on the page, from the head of a PNG."""
    if content[12:16] != b"IHDR":
        return 200, 200  # of others nothing is known
    width, height = struct.unpack(">II", content[16:24])
    return round(width * SHRINK), round(height * SHRINK)


def _scores(results: Results, summaries: Sequence[Summary]) -> str:
    """The content of charts in text, for readers that hear the page."""
    values = (f"{s.victim}, {s.recipe}, {s.words}: {tables.format_score(s)}" for s in summaries[:DESCRIBED])
    return f" of {results.metric} in percent. At the end: {'; '.join(values)}. The tables hold the same figures."


def _matrix(results: Results, summaries: Sequence[Summary]) -> list[tuple[str, Table, list[str], bool]]:
    """Of each countermeasure: title, table, reasons of failures, whether it is unfolded; a short one has no title."""
    found, blocks = tables.matrix_tables(results), []
    groups = grouped(summaries, lambda s: s.countermeasure)
    for place, (table, group) in enumerate(zip(found.values(), groups.values(), strict=True)):
        failures = [f"{victim_name(s, summaries)}, {s.words}: {why}" for s in group for why in distinct(s.statuses)]
        scores = [s.score for s in group if s.training == PROTECTED and s.done]
        without = sum(not s.done for s in group)
        notes = [f"protected {min(scores):.1f} to {max(scores):.1f}"] if scores else []
        notes += [f"{without} without score"] if without else []
        title = f"{table.title} ({', '.join(notes)})" if notes else table.title
        title = title if len(found) > 1 or len(summaries) > LONG else ""
        blocks.append((title, table, failures, not place or len(summaries) <= LONG))
    return blocks


def _pairs(found: comparison.Comparison) -> list[tuple[str, Table, bool]]:
    """Of each countermeasure: title, table, whether it is unfolded; a single table has no title."""
    blocks = []
    for place, (name, pairs) in enumerate(found.groups().items()):
        known = [pair.difference for pair in pairs if math.isfinite(pair.difference)]
        title = heading(name) + (f" (differences {min(known):+.1f} to {max(known):+.1f})" if known else "")
        unfolded = not place or len(found.pairs) <= LONG
        blocks.append((title if len(found.groups()) > 1 else "", comparison.pair_table(name, pairs), unfolded))
    return blocks


def _commands(summaries: Sequence[Summary]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """The commands of all runs: by countermeasure, and there by victim and training data."""
    known = [(s, commands) for s in summaries if (commands := [run.command for run in s.runs if run.command])]
    return [
        (heading(name), [(f"{victim_name(s, summaries)}, {s.words}", commands) for s, commands in members])
        for name, members in grouped(known, lambda pair: pair[0].countermeasure).items()
    ]


def _flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings by dotted names, as text."""
    items: dict[str, str] = {}
    for key, value in content.items():
        if isinstance(value, Mapping) and value:
            items.update(_flat(value, f"{prefix}{key}."))
        elif isinstance(value, (list, tuple)) and not any(isinstance(part, (list, tuple, dict)) for part in value):
            items[f"{prefix}{key}"] = ", ".join(map(_text, value)) or "none"
        else:
            items[f"{prefix}{key}"] = _text(value)
    return items


def _text(value: Any) -> str:
    if isinstance(value, float) and math.isfinite(value):
        return format_digits(value, 6)
    return value if isinstance(value, str) else json.dumps(value, default=str)

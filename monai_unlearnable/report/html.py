# SPDX-License-Identifier: Apache-2.0
"""The report as files: results.json, the pictures, and pages that hold everything; their look is in the templates."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from monai_unlearnable import __version__
from monai_unlearnable.errors import InputError
from monai_unlearnable.report import comparison, fidelity, tables
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, TRAININGS
from monai_unlearnable.report.summaries import (
    MOVING_WORDS,
    Matrix,
    Summary,
    attempt,
    distinct,
    grouped,
    iterations_of,
    victim_name,
)
from monai_unlearnable.report.tables import LONG, Table, format_digits, heading
from monai_unlearnable.utils.files import write_atomic

__all__ = ["compare_page", "pictures_by_kind", "render", "render_page", "write_comparison", "write_report"]

PICTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
KINDS = ("heat", "frontier", "bars", "curves", "prediction", "montage")  # of pictures, by the start of their names
SHRINK = 0.49  # pixels of the page a pixel of a picture
DESCRIBED = 12  # settings that the alternative text of a chart names
TILE_METHODS = 3  # methods that get a tile each
TILE_WORDS = dict(zip(TRAININGS, ("originals", "protected scans", "scans with random noise"), strict=True))

Tile = tuple[str, str, str]  # value, role of the training data that gives its color, words


def render_page(results: Results, pictures: Mapping[str, bytes], background: Table | None = None) -> str:
    """The page as HTML: no scripts, nothing loaded from elsewhere.

    Args:
        results: results to report.
        pictures: PNG bytes by name, shown in this order; ``x_dark`` replaces ``x`` on dark screens. Names that begin
            with ``heat``, ``frontier``, ``bars``, ``curves``, ``prediction`` or ``montage`` get the place and the
            caption of their kind, others come last.
        background: table of what was measured before.
    """
    summaries, lines = results.summaries(), results.frontier()
    known = any(math.isfinite(line.clean) for line in lines)
    return render(
        "report",
        results=results,
        metric=results.metric[:1].upper() + results.metric[1:],
        tiles=_tiles(results),
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
    results: Results, pictures: Mapping[str, bytes], folder: str | Path, background: Table | None = None
) -> None:
    """Write ``results.json``, a PNG for each picture and ``index.html``; each write is atomic, the page comes last.

    Args:
        results: results to report.
        pictures: PNG bytes by name, as in :func:`render_page`; names are letters, digits, ``_`` and ``-``.
        folder: folder to write to; made if it does not exist.
        background: table of what was measured before.

    Raises:
        InputError: when the name of a picture cannot be a file name.
        OutputError: naming the file that cannot be written.
    """
    for name in pictures:
        if not PICTURE_NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a picture; use letters, digits, _ and -")
    target, page = Path(folder), render_page(results, pictures, background)
    write_atomic(target / "results.json", results.to_json().encode())
    for name, content in pictures.items():
        write_atomic(target / f"{name}.png", content)
    write_atomic(target / "index.html", page.encode("utf-8", "backslashreplace"))


def compare_page(first: Results, second: Results) -> str:
    """Two reports side by side as one page: no scripts, nothing loaded from elsewhere."""
    found = comparison.compare(first, second)
    return render(
        "comparison",
        found=found,
        pairs=_pairs(found),
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


def render(template: str, **content: Any) -> str:
    """A page from a template."""
    return _environment().get_template(f"{template}.html.j2").render(**content, long=LONG, version=__version__)


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


def _tiles(results: Results) -> list[Tile]:
    """Mean final scores without countermeasures, the strongest attempt against the protection, and P50."""
    matrix = Matrix(results.summaries())
    baselines = [s for s in matrix.summaries if s.done and matrix.is_baseline(s)]
    tiles = []
    for training in TRAININGS:
        found = [s for s in baselines if s.training == training]
        methods = distinct(s.method for s in found)
        apart = training == PROTECTED and 1 < len(methods) <= TILE_METHODS
        for method in methods if apart else [""] * bool(found):
            shown = [s for s in found if method in ("", s.method)]
            if len(distinct(s.data for s in shown)) > 1:
                continue  # of several strengths the mean says nothing
            words = f"{method} scans" if method else TILE_WORDS[training]
            score = f"{np.mean([s.score for s in shown]):.1f}{max(s.mark for s in shown)}"
            tiles.append((score, training, f"{results.metric} (%) when trained on {words}{_after(shown)}"))
    if best := matrix.strongest():
        words = f"{results.metric} (%) after the strongest attempt: {attempt(best)} ({best.victim}){_after([best])}"
        tiles.append((f"{best.score:.1f}{best.mark}", PROTECTED, words))
    return tiles + _p50_tiles(results, matrix)


def _after(summaries: Sequence[Summary]) -> str:
    length = iterations_of(summaries)
    return f", {length} iterations" if length else ""


def _p50_tiles(results: Results, matrix: Matrix) -> list[Tile]:
    """P50 of each method against the victim that it holds least against, where several strengths were tried."""
    tiles = []
    for method in matrix.methods[:TILE_METHODS]:
        lines = [line for line in results.frontier() if (line.method, line.recipe) == (method, matrix.recipe)]
        if any(len(line.points) > 1 for line in lines):
            worst = min(lines, key=lambda line: -1.0 if line.p50 is None else line.p50)
            words = f"P50 of {method} ({worst.victim}): highest PSNR at which half of the score is lost"
            words += _after(worst.points)
            tiles.append((worst.words.replace("at least", "≥"), CLEAN, words))
    return tiles


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

# SPDX-License-Identifier: Apache-2.0
"""Headline figures, settings and limits of the page; every string from outside is escaped here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from monai_unlearnable.report.matrix import Matrix, attempt, distinct
from monai_unlearnable.report.matrix_page import kind
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import CLEAN, NO_COUNTERMEASURE, PROTECTED, TRAININGS
from monai_unlearnable.report.tags import NOTHING

__all__ = ["tiles", "settings", "limits"]

TILE_WORDS = dict(zip(TRAININGS, ("originals", "protected scans", "scans with random noise"), strict=True))
METHODS = 3  # that get a tile each


def tiles(results: Results) -> str:
    """Mean final scores without countermeasures, the strongest attempt against the protection, and P50."""
    matrix = Matrix(results.summaries())
    cells = [s for s in matrix.summaries if s.done and matrix.is_baseline(s)]
    items = []
    for training in TRAININGS:
        found = [s for s in cells if s.training == training]
        methods = distinct(s.method for s in found)
        apart = training == PROTECTED and 1 < len(methods) <= METHODS
        for method in methods if apart else [""] * bool(found):
            shown = [s for s in found if method in ("", s.method)]
            if len(distinct(s.data for s in shown)) > 1:
                continue  # of several strengths the mean says nothing
            words = f"{method} scans" if method else TILE_WORDS[training]
            score = f"{np.mean([s.score for s in shown]):.1f}"
            items.append((score, kind(training), f"{results.metric} (%) when trained on {words}"))
    best = matrix.strongest()
    if best is not None:
        where = f"{attempt(best)} ({best.victim})"
        items.append(
            (f"{best.score:.1f}", kind(PROTECTED), f"{results.metric} (%) after the strongest attempt: {where}")
        )
    items += _crossings(results, matrix)
    content = "".join(
        f'<li><strong class="{look}">{escape(value)}</strong><span>{escape(words)}</span></li>'
        for value, look, words in items
    )
    return f'<ul class="tiles">{content}</ul>' if items else ""


def _crossings(results: Results, matrix: Matrix) -> list[tuple[str, str, str]]:
    """The lowest P50 of each method over the victims, where several strengths were tried."""
    found = []
    for method in matrix.methods[:METHODS]:
        lines = [s for s in results.frontier() if s.method == method and s.recipe == matrix.recipe]
        if not lines or max(len(line.points) for line in lines) < 2:
            continue
        worst = min(lines, key=lambda line: line.p50 if line.p50 is not None else -1.0)
        found.append(
            (
                worst.words.replace("at least", "≥"),
                kind(CLEAN),
                f"P50 of {method} ({worst.victim}): highest PSNR at which half of the score is lost",
            )
        )
    return found


def settings(results: Results) -> str:
    """Settings as a definition list; nested ones by dotted names."""
    items = _flat(results.settings)
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items.items())
    return f"<dl>{entries}</dl>" if entries else NOTHING


def _flat(content: Mapping[Any, Any], prefix: str = "") -> dict[str, str]:
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
    if isinstance(value, float):
        return f"{value:.6g}"
    return value if isinstance(value, str) else json.dumps(value, default=str)


def limits(results: Results) -> str:
    """What must not be concluded from the report."""
    recipes, networks, attempts = (
        ", ".join(distinct(getattr(row, name) for row in results.rows if getattr(row, name) != NO_COUNTERMEASURE))
        for name in ("recipe", "victim", "countermeasure")
    )
    tried = f"these countermeasures: {attempts}" if attempts else "no countermeasure"
    notes = (
        f"Only these recipes were tried: {recipes or 'none'}; only these networks: {networks or 'none'}; {tried}. "
        "Others may learn more.",
        "Stronger augmentation, smoothing, denoising, adversarial training or more epochs may break the protection.",
        "The protected scans still show people what they showed before: this is no anonymization, no access control.",
        "Whoever has the original scans, or enough similar scans of their own, can train without the protected ones.",
        "The figures hold for this dataset and this budget; intervals cover seeds or test cases, not other hospitals.",
    )
    return f'<ul class="limits">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'

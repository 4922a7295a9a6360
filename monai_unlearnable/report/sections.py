# SPDX-License-Identifier: Apache-2.0
"""The sections of the report as HTML fragments; every string from outside is escaped here."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import numpy as np

from monai_unlearnable.metrics import LOSSLESS_PSNR
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import TRAININGS, WORDS
from monai_unlearnable.report.table import COLUMNS, victim_cells

__all__ = ["tiles", "victims", "figures", "pictures", "settings", "limits"]

NONE = '<p class="note">None.</p>'
TILE_WORDS = ("trained on originals", "trained on protected scans", "trained with random noise")


def _percent(value: float) -> str:
    return f"{100 * value:.2g}%"


def _decibels(value: float) -> str:
    return "unchanged" if value >= LOSSLESS_PSNR else f"{value:.1f} dB"


def _typical(value: float) -> str:
    if value >= LOSSLESS_PSNR:
        return "no change"
    return f"a typical change is {100 * 10 ** (-value / 20):.2g}% of the window"


# Key of the figure: its name, how it is written, and what it means.
FIGURES: dict[str, tuple[str, Callable[[float], str], Callable[[float], str]]] = {
    "psnr": (
        "PSNR",
        _decibels,
        lambda value: (
            "Peak signal-to-noise ratio over all voxels, with the width of the intensity window (what a viewer shows "
            f"from black to white) as the peak: {_typical(value)} (root mean square). Higher is closer."
        ),
    ),
    "psnr_roi": ("PSNR in the label", _decibels, lambda value: f"Inside the labeled region: {_typical(value)}."),
    "ssim": (
        "SSIM",
        lambda value: f"{value:.4f}",
        lambda _: "Structural similarity as seen through the window; 1 is identical.",
    ),
    "ssim_roi": ("SSIM in the label", lambda value: f"{value:.4f}", lambda _: "The same inside the labeled region."),
    "linf": ("Largest change", _percent, lambda _: "Of any voxel, as a share of the intensity window."),
    "linf_sigma": (
        "Largest change in σ",
        lambda value: f"{value:.2g} σ",
        lambda _: "The same in standard deviations of the scan's intensities.",
    ),
    "l0": ("Voxels changed", _percent, lambda _: "Share of all voxels; the others are those of the original."),
}

CAPTIONS = {
    "montage": "A scan before and after protection, seen through its intensity window, their difference magnified, and "
    "the label with the voxels that were changed.",
    "bars": "Dice on clean held-out scans at the end of training. Lines span the seeds, dots are the seeds; with one "
    "seed, the line is the interval over test scans.",
    "curves": "Dice on clean held-out scans during training, averaged over seeds; bands span the seeds.",
}


def _kind(training: str) -> str:
    return training.split()[0]


def tiles(results: Results) -> str:
    """The headline figures: mean final Dice for each kind of training data."""
    items = []
    for training, words in zip(TRAININGS, TILE_WORDS, strict=True):
        finals = [s.dice for s in results.summaries() if s.training == training and math.isfinite(s.dice)]
        if finals:
            mean = f'<strong class="{_kind(training)}">{np.mean(finals):.1f}</strong>'
            items.append(f"<li>{mean}<span>Dice (%) when {words}</span></li>")
    return f'<ul class="tiles">{"".join(items)}</ul>' if items else ""


def victims(results: Results) -> str:
    """The table of victims."""
    rows = victim_cells(results)
    if not rows:
        return NONE
    head = "".join(f'<th scope="col"{_words(column)}>{escape(name)}</th>' for column, name in enumerate(COLUMNS))
    body = []
    for summary, (name, training, *cells) in rows:
        first = f'<td class="words {_kind(summary.training)}">{escape(training)}</td>'
        others = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{escape(name)}</th>{first}{others}</tr>')
    note = (
        "Dice on clean held-out scans in percent: 100 is perfect overlap with the expert's label. Intervals span the "
        "seeds; with one seed, they are 95% intervals over test scans. Peak is the best moment of training."
    )
    return f'{_table("Victims", head, body)}<p class="note">{note}</p>'


def _words(column: int) -> str:
    return ' class="words"' if column < 2 else ""


def _table(label: str, head: str, body: list[str], kind: str = "victims") -> str:
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">{table}</div>'


def figures(results: Results) -> str:
    """Fidelity, with what each figure means."""
    body = []
    for key, value in sorted(results.figures.items(), key=lambda item: (*FIGURES, item[0]).index(item[0])):
        name, write, explain = FIGURES.get(key, (key, lambda number: f"{number:.4g}", lambda _: ""))
        shown, meaning = (write(value), explain(value)) if math.isfinite(value) else ("–", "")
        body.append(f'<tr><th scope="row">{escape(name)}</th><td>{escape(shown)}</td><td>{escape(meaning)}</td></tr>')
    head = '<th scope="col">Figure</th><th scope="col">Mean over scans</th><th scope="col" class="words">Meaning</th>'
    return _table("Fidelity", head, body, "figures") if body else NONE


def pictures(results: Results, images: Mapping[str, bytes]) -> str:
    """Figures with captions, the PNG inside the page; ``x_dark`` is shown in place of ``x`` on dark screens."""
    shown = []
    for name, content in images.items():
        if name.endswith("_dark") and name.removesuffix("_dark") in images:
            continue
        kind = next((known for known in CAPTIONS if name.startswith(known)), None)
        caption = CAPTIONS[kind] if kind else name.replace("_", " ")
        dark = images.get(f"{name}_dark")
        source = f'<source media="(prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark else ""
        image = f'<img src="{_data(content)}" alt="{escape(_alternative(kind, caption, results))}">'
        look = "frame chart" if kind in ("bars", "curves") else "frame"
        frame = f'<div class="{look}" tabindex="0"><picture>{source}{image}</picture></div>'
        shown.append(f"<figure>{frame}<figcaption>{escape(caption)}</figcaption></figure>")
    return "\n".join(shown) or NONE


def _data(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


def _alternative(kind: str | None, caption: str, results: Results) -> str:
    if kind not in ("bars", "curves"):
        return caption
    values = "; ".join(f"{s.victim}, {WORDS[s.training]}: {s.dice:.1f}" for s in results.summaries())
    return f"{'Learning curves' if kind == 'curves' else 'Bars'} of Dice in percent. At the end: {values}."


def settings(results: Results) -> str:
    """Settings as a definition list; nested ones by dotted names."""
    items = _flat(results.settings)
    entries = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in items.items())
    return f"<dl>{entries}</dl>" if entries else NONE


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
    recipes = ", ".join(dict.fromkeys(row.recipe for row in results.rows)) or "none"
    networks = ", ".join(dict.fromkeys(row.victim for row in results.rows)) or "none"
    notes = (
        f"Only these recipes were tried: {recipes}; only these networks: {networks}. Others may learn more.",
        "Stronger augmentation, smoothing, denoising, adversarial training or more epochs may break the protection.",
        "The protected scans still show people what they showed before: this is no anonymization, no access control.",
        "Whoever has the original scans, or enough similar scans of their own, can train without the protected ones.",
        "The figures hold for this dataset and this budget; intervals cover seeds or test scans, not other hospitals.",
    )
    return f'<ul class="limits">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'

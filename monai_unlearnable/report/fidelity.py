# SPDX-License-Identifier: Apache-2.0
"""How close the protected scans are to the originals, as tables of the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from html import escape

from monai_unlearnable.metrics.fidelity import LOSSLESS_PSNR
from monai_unlearnable.report.columns import NONE, capital, format_number
from monai_unlearnable.report.matrix import distinct
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.tags import details, note, table, text_table

__all__ = ["authorized", "detectors", "figure_name", "figures", "regions", "write_figure"]

Writer = Callable[[float], str]


def _percent(value: float) -> str:
    return f"{100 * value:.2g}%"


def _decibels(value: float) -> str:
    return "unchanged" if value >= LOSSLESS_PSNR else f"{value:.1f} dB"


def _four(value: float) -> str:
    return f"{value:.4f}"


def _typical(value: float) -> str:
    if value >= LOSSLESS_PSNR:
        return "no change"
    return f"a typical change is {100 * 10 ** (-value / 20):.2g}% of the window"


# Key of the figure: its name, how it is written, and what it means.
FIGURES: dict[str, tuple[str, Writer, str]] = {
    "psnr": (
        "PSNR",
        _decibels,
        "Peak signal-to-noise ratio over all voxels, with the width of the intensity window (what a viewer shows from "
        "black to white) as the peak. Higher is closer.",
    ),
    "psnr_roi": ("PSNR in the label", _decibels, "Inside the labeled region."),
    "psnr_range": ("PSNR of the range", _decibels, "With the scan's own range, maximum minus minimum, as the peak."),
    "psnr_5sigma": ("PSNR of ±5σ", _decibels, "With ten standard deviations of the scan's intensities as the peak."),
    "ssim": ("SSIM", _four, "Structural similarity as seen through the window; 1 is identical."),
    "ssim_roi": ("SSIM in the label", _four, "The same inside the labeled region."),
    "linf": ("Largest change", _percent, "Of any voxel, as a fraction of the intensity window."),
    "linf_sigma": (
        "Largest change in σ",
        lambda value: f"{value:.2g} σ",
        "The same in standard deviations of the scan's intensities.",
    ),
    "l0": ("Voxels changed", _percent, "Share of all voxels; the others are those of the original."),
    "changed": ("Scans changed", _percent, "Share of all scans; figures are means over these."),
    "noise_ratio": (
        "Noise ratio",
        lambda value: f"{value:.2g}",
        "Standard deviation of the change over that of the scan's own noise, estimated robustly; below 1 the change is "
        "weaker than the noise.",
    ),
}
TYPICAL = ("psnr", "psnr_roi")


def figures(results: Results) -> str:
    """Means over the scans, with what each figure means."""
    known = {data: values for data, values in results.figures.items() if values}
    found = {name for values in known.values() for name in values}
    names = [name for name in FIGURES if name in found] + sorted(found - FIGURES.keys())
    if not known:
        return ""
    if len(known) == 1:
        (data, values), *_ = known.items()
        return _one(data, {name: values[name] for name in names})
    rows = [
        (data, *(write_figure(name, values.get(name, math.nan)) for name in names)) for data, values in known.items()
    ]
    meanings = "".join(
        f"<dt>{escape(FIGURES[name][0])}</dt><dd>{escape(FIGURES[name][2])}</dd>" for name in names if name in FIGURES
    )
    shown = text_table("Fidelity", ("Data", *(figure_name(name) for name in names)), rows)
    return shown + note("Means over the scans.") + details("What the figures mean", f"<dl>{meanings}</dl>")


def _one(data: str, values: Mapping[str, float]) -> str:
    """Figures of the only data below each other, each with its meaning."""
    body = []
    for name, value in values.items():
        meaning = FIGURES[name][2] if name in FIGURES and math.isfinite(value) else ""
        typical = f" Here {_typical(value)} (root mean square)." if name in TYPICAL and meaning else ""
        cells = f"<td>{escape(write_figure(name, value))}</td><td>{escape(meaning + typical)}</td>"
        body.append(f'<tr><th scope="row">{escape(figure_name(name))}</th>{cells}</tr>')
    head = '<th scope="col">Figure</th><th scope="col">Mean over scans</th><th scope="col" class="words">Meaning</th>'
    return table(f"Fidelity of {data}", head, body, "figures")


def figure_name(name: str) -> str:
    """Name of a figure in words."""
    return FIGURES[name][0] if name in FIGURES else name


def write_figure(name: str, value: float) -> str:
    """Value of a figure with its unit, or a dash."""
    if not math.isfinite(value):
        return NONE
    return FIGURES[name][1](value) if name in FIGURES else f"{value:.4g}"


def regions(results: Results) -> str:
    """Relative change of what is measured in each region, a table for each data."""
    tables = []
    for data, classes in results.regions.items():
        names = distinct(name for values in classes.values() for name in values)
        rows = [
            (str(index), *(_change(values.get(name, math.nan)) for name in names)) for index, values in classes.items()
        ]
        heads = ("Class", *(name.replace("_", " ") for name in names))
        tables.append((data, text_table(f"Regions of {data}", heads, rows)))
    if not tables:
        return ""
    text = (
        "Does the scan still measure the same? Mean relative change of first-order statistics inside each class. "
        "Figures that are near 0 by nature, such as skewness, change much in these terms."
    )
    blocks = [details(data, shown, unfolded=not place) for place, (data, shown) in enumerate(tables)]
    return f"<h3>What regions measure</h3>{''.join(blocks)}{note(text)}"


def _change(value: float) -> str:
    return NONE if not math.isfinite(value) else "0%" if value == 0 else f"{100 * value:.2g}%"


def authorized(results: Results) -> str:
    """Whether models that were trained on clean scans still work on protected ones."""
    rows = [
        (
            entry["data"],
            entry["victim"],
            *(format_number(entry[name], ".1f") for name in ("clean", "protected")),
            format_number(entry["protected"] - entry["clean"], "+.1f"),
        )
        for entry in results.authorized
    ]
    if not rows:
        return ""
    names = ("Data", "Model", "On clean scans", "On protected scans", "Difference")
    text = (
        f"{capital(results.metric)} in percent of models trained on clean scans: do protected scans still serve those "
        "who may use models?"
    )
    return f"<h3>Authorized models</h3>{text_table('Authorized models', names, rows, 2)}{note(text)}"


def detectors(results: Results) -> str:
    """How well protected scans can be told from clean ones."""
    names = distinct(name for found in results.detectors.values() for name in found)
    rows = [(data, *(_area(found.get(name)) for name in names)) for data, found in results.detectors.items()]
    if not names:
        return ""
    text = (
        "Area under the curve with its 95% interval of detectors that tell protected scans from clean ones: 0.5 is a "
        "guess, 1 is certain."
    )
    return f"<h3>Detectors</h3>{text_table('Detectors', ('Data', *names), rows)}{note(text)}"


def _area(values: list[float] | None) -> str:
    if values is None or not math.isfinite(values[0]):
        return NONE
    area, low, high = values
    return f"{area:.2f}" if math.isnan(low + high) else f"{area:.2f} ({low:.2f} to {high:.2f})"

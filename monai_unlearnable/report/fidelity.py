# SPDX-License-Identifier: Apache-2.0
"""How close the protected scans are to the originals: names and meanings of the figures, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from monai_unlearnable.metrics.fidelity import LOSSLESS_PSNR
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.rows import PROTECTED
from monai_unlearnable.report.tables import NONE, Table, format_digits, format_number
from monai_unlearnable.utils.grouping import distinct

__all__ = ["authorized_table", "detector_table", "figure_name", "figure_table"]
__all__ += ["fidelity_words", "format_figure", "format_percent", "meanings", "region_tables", "scan_table"]


@dataclass(frozen=True)
class Figure:
    """A figure of fidelity.

    Args:
        name: name in words.
        write: function that writes its value with the unit.
        meaning: explanation in one or two sentences.
    """

    name: str
    write: Callable[[float], str]
    meaning: str


def format_percent(fraction: float) -> str:
    """A fraction in percent; a dash where there is none."""
    return f"{format_digits(100 * fraction)}%" if math.isfinite(fraction) else NONE


def _decibels(value: float) -> str:
    return "unchanged" if value >= LOSSLESS_PSNR else f"{value:.1f} dB"


FIGURES = {
    "psnr": Figure(
        "PSNR",
        _decibels,
        "Peak signal-to-noise ratio over all voxels, with the width of the intensity window (what a viewer shows from "
        "black to white) as the peak. Higher is closer.",
    ),
    "psnr_roi": Figure("PSNR in the label", _decibels, "Inside the labeled region."),
    "psnr_range": Figure(
        "PSNR of the range", _decibels, "With the scan's own range, maximum minus minimum, as the peak."
    ),
    "psnr_5sigma": Figure(
        "PSNR of ±5σ", _decibels, "With ten standard deviations of the scan's intensities as the peak."
    ),
    "ssim": Figure("SSIM", "{:.4f}".format, "Structural similarity as seen through the window; 1 is identical."),
    "ssim_roi": Figure("SSIM in the label", "{:.4f}".format, "The same inside the labeled region."),
    "linf": Figure("Largest change", format_percent, "Of any voxel, as a fraction of the intensity window."),
    "linf_sigma": Figure(
        "Largest change in σ",
        lambda value: f"{format_digits(value)} σ",
        "The same in standard deviations of the scan's intensities.",
    ),
    "l0": Figure("Voxels changed", format_percent, "Fraction of all voxels; the others are those of the original."),
    "nodata": Figure(
        "Voxels without data",
        format_percent,
        "Fraction of voxels that are NaN or padding: never changed, and left out of all other figures.",
    ),
    "changed": Figure("Scans changed", format_percent, "Fraction of all scans; figures are means over these."),
    "noise_ratio": Figure(
        "Noise ratio",
        format_digits,
        "Standard deviation of the change over that of the scan's own noise, estimated robustly; below 1 the change is "
        "weaker than the noise.",
    ),
}
BY_SCAN = ("psnr", "psnr_roi", "ssim", "ssim_roi", "linf", "l0", "noise_ratio")  # figures of the table of scans
TYPICAL = ("psnr", "psnr_roi")  # figures that tell the size of a typical change


def figure_name(name: str) -> str:
    """Name of a figure in words."""
    return FIGURES[name].name if name in FIGURES else name


def format_figure(name: str, value: float) -> str:
    """Value of a figure with its unit, or a dash."""
    if not math.isfinite(value):
        return NONE
    return FIGURES[name].write(value) if name in FIGURES else format_digits(value, 4)


def figure_table(results: Results) -> Table:
    """Means over the scans: below each other, each with its meaning, where there is one data; else a row for each."""
    known = {data: values for data, values in results.figures.items() if values}
    names = _figure_names(results)
    if len(known) == 1:
        ((data, values),) = known.items()
        rows = [(figure_name(name), format_figure(name, values[name]), _meaning(name, values[name])) for name in names]
        return Table(f"Fidelity of {data}", ("Figure", "Mean over scans", "Meaning"), rows)
    by_data = [(data, *(format_figure(name, one.get(name, math.nan)) for name in names)) for data, one in known.items()]
    return Table("Fidelity", ("Data", *map(figure_name, names)), by_data)


def _figure_names(results: Results) -> list[str]:
    found = {name for values in results.figures.values() for name in values}
    return [name for name in FIGURES if name in found] + sorted(found - FIGURES.keys())


def meanings(results: Results) -> list[tuple[str, str]]:
    """Name and meaning of each figure."""
    return [(FIGURES[name].name, FIGURES[name].meaning) for name in _figure_names(results) if name in FIGURES]


def _meaning(name: str, value: float) -> str:
    """The meaning of a value, with a typical change at the end."""
    if name not in FIGURES or not math.isfinite(value):
        return ""
    if name not in TYPICAL:
        return FIGURES[name].meaning
    size = format_percent(10 ** (-value / 20))
    typical = "no change" if value >= LOSSLESS_PSNR else f"a typical change is {size} of the window"
    return f"{FIGURES[name].meaning} Here {typical} (root mean square)."


def _protected(results: Results) -> list[str]:
    """Names of the protected data."""
    return distinct(row.data for row in results.rows if row.training == PROTECTED)


def fidelity_words(results: Results) -> str:
    """Does a protected scan look the same? One sentence with PSNR and epsilon; empty where nothing was measured."""
    found = {data: results.figures[data] for data in _protected(results) if results.figures.get(data)}
    psnr = [one["psnr"] for one in found.values() if math.isfinite(one.get("psnr", math.nan))]
    if not psnr:
        return ""
    largest = [one["linf"] for one in found.values() if math.isfinite(one.get("linf", math.nan))]
    epsilons = [row.epsilon for row in results.rows if row.data in found and row.epsilon is not None]
    at = f" at epsilon {_span([255 * epsilon for epsilon in epsilons], format_digits)}/255" if epsilons else ""
    typical = _span([10 ** (-value / 20) for value in psnr], format_percent)
    most = f", and the voxel that changes most by {_span(largest, format_percent)}" if largest else ""
    if min(psnr) >= LOSSLESS_PSNR:
        return "No voxel differs from the originals."
    return f"PSNR {_span(psnr, _decibels)}{at}: a typical voxel changes by {typical} of the intensity window{most}."


def _span(values: Sequence[float], write: Callable[[float], str]) -> str:
    return " to ".join(distinct(write(value) for value in (min(values), max(values))))


def scan_table(results: Results) -> Table:
    """Figures of each protected scan, with the data in front where there are several."""
    found = {data: results.scans[data] for data in _protected(results) if data in results.scans}
    known = {name for scans in found.values() for figures in scans.values() for name in figures}
    names, lead = [name for name in BY_SCAN if name in known], ("Data",) * (len(found) > 1)
    rows = [
        (*(data for _ in lead), scan, *(format_figure(name, figures.get(name, math.nan)) for name in names))
        for data, scans in found.items()
        for scan, figures in scans.items()
    ]
    return Table("Scan by scan", (*lead, "Scan", *map(figure_name, names)), rows, len(lead) + 1)


def region_tables(results: Results) -> dict[str, Table]:
    """Relative change of the statistics of each region, a table for each data."""
    tables = {}
    for data, classes in results.regions.items():
        names = distinct(name for values in classes.values() for name in values)
        rows = [(index, *(format_percent(one.get(name, math.nan)) for name in names)) for index, one in classes.items()]
        tables[data] = Table(f"Regions of {data}", ("Class", *(name.replace("_", " ") for name in names)), rows)
    return tables


def authorized_table(results: Results) -> Table:
    """Whether models that were trained on clean scans still work on protected ones."""
    rows = []
    for entry in results.authorized:
        clean, protected = entry["clean"], entry["protected"]
        scores = (format_number(clean), format_number(protected), format_number(protected - clean, "+.1f"))
        rows.append((entry["data"], entry["victim"], *scores))
    columns = ("Data", "Model", "On clean scans", "On protected scans", "Difference")
    return Table("Authorized models", columns, rows, 2)


def detector_table(results: Results) -> Table:
    """How well protected scans can be told from clean ones, a column for each detector."""
    names = distinct(name for found in results.detectors.values() for name in found)
    rows = [(data, *(_area(found.get(name)) for name in names)) for data, found in results.detectors.items() if names]
    return Table("Detectors", ("Data", *names), rows)


def _area(values: Sequence[float] | None) -> str:
    if values is None or not math.isfinite(values[0]):
        return NONE
    area, low, high = values
    return f"{area:.2f}" if math.isnan(low + high) else f"{area:.2f} ({low:.2f} to {high:.2f})"

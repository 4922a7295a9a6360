# SPDX-License-Identifier: Apache-2.0
"""The report as files: results.json, the pictures, and one page that holds everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from html import escape
from pathlib import Path

from monai_unlearnable import __version__
from monai_unlearnable.errors import InputError
from monai_unlearnable.report import fidelity, matrix_page, sections, versus
from monai_unlearnable.report.gallery import gallery
from monai_unlearnable.report.page import PAGE
from monai_unlearnable.report.results import Results
from monai_unlearnable.report.tags import NOTHING, section
from monai_unlearnable.utils.files import write_atomic

__all__ = ["write_report", "render_page"]

PICTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def render_page(results: Results, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML: no scripts, nothing loaded from elsewhere.

    Args:
        results: what to report.
        pictures: PNG bytes by name, shown in this order; ``x_dark`` replaces ``x`` on dark screens. Names that begin
            with ``heat``, ``frontier``, ``bars``, ``curves``, ``prediction`` or ``montage`` get the place and the
            caption of their kind, others come last.
    """
    show = partial(gallery, results, pictures)
    parts = (
        section("The matrix", show("heat")),
        section("The frontier", show("frontier"), matrix_page.frontier(results)),
        section("What models learn", show("bars"), matrix_page.victims(results), versus.section(results)),
        section(
            "How close the protected scans are to the originals",
            fidelity.figures(results) or NOTHING,
            fidelity.regions(results),
            fidelity.authorized(results),
            fidelity.detectors(results),
        ),
        section("Learning curves", show("curves")),
        section("Pictures", show("prediction"), show("montage"), show("")),
        section("Settings", sections.settings(results)),
        section("Commands", matrix_page.commands(results)),
        section("What this does not show", sections.limits(results)),
    )
    return PAGE.substitute(
        title=escape(results.title),
        meta=escape(f"Method {results.method}, dataset {results.dataset}"),
        lead=f'<p class="verdict">{escape(results.verdict())}</p>\n{sections.tiles(results)}',
        content="\n".join(part for part in parts if part),
        source="results.json, which holds every figure",
        version=escape(__version__),
    )


def write_report(results: Results, pictures: Mapping[str, bytes], folder: str | Path) -> None:
    """Write ``results.json``, a PNG for each picture and ``index.html``; each write is atomic, the page comes last.

    Args:
        results: what to report.
        pictures: PNG bytes by name, as in :func:`render_page`; names are letters, digits, ``_`` and ``-``.
        folder: where to; made if it does not exist.

    Raises:
        InputError: when the name of a picture cannot be a file name.
        OutputError: naming the file that cannot be written.
    """
    for name in pictures:
        if not PICTURE_NAME.fullmatch(name):
            raise InputError(f"{name!r} cannot name a picture; use letters, digits, _ and -")
    target, page = Path(folder), render_page(results, pictures)
    write_atomic(target / "results.json", results.to_json().encode())
    for name, content in pictures.items():
        write_atomic(target / f"{name}.png", content)
    write_atomic(target / "index.html", page.encode())

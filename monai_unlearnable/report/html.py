# SPDX-License-Identifier: Apache-2.0
"""The report as files: results.json, the pictures, and one page that holds everything."""

from __future__ import annotations

import re
from collections.abc import Mapping
from html import escape
from pathlib import Path

from monai_unlearnable import __version__
from monai_unlearnable.errors import InputError
from monai_unlearnable.report import sections
from monai_unlearnable.report.page import PAGE
from monai_unlearnable.report.results import Results
from monai_unlearnable.scans.atomic import write_atomic

__all__ = ["write_report", "render_page"]

PICTURE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def render_page(results: Results, pictures: Mapping[str, bytes]) -> str:
    """The page as HTML: no scripts, nothing loaded from elsewhere.

    Args:
        results: what to report.
        pictures: PNG bytes by name, shown in this order; ``x_dark`` replaces ``x`` on dark screens. Names that begin
            with ``montage``, ``bars`` or ``curves`` get the caption of their kind.
    """
    return PAGE.substitute(
        title=escape(results.title),
        method=escape(results.method),
        dataset=escape(results.dataset),
        verdict=escape(results.verdict()),
        tiles=sections.tiles(results),
        victims=sections.victims(results),
        figures=sections.figures(results),
        pictures=sections.pictures(results, pictures),
        settings=sections.settings(results),
        limits=sections.limits(results),
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

# SPDX-License-Identifier: Apache-2.0
"""The pages in a browser: what a reader sees, hears and does, on a screen, a telephone and paper."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.report import compare_page
from monai_unlearnable.report.charts import bars
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.slices import before_and_after
from monai_unlearnable.report.traces import trace_page
from monai_unlearnable.report.viewer import view_scan

from .browser import Browser, Tab, chromium, needs_chromium
from .samples import FIGURES, matrix, results, scan, trace
from .test_page import MORE

pytestmark = needs_chromium

WINDOW = IntensityWindow((0.0,), (200.0,))
SHAPE = (24, 20, 16)
SCANS = 60
TELEPHONE, SCREEN, PAPER = 390, 1280, 718  # pixels of width; A4 with margins of 1 cm
CONTROLS = ("button", "checkbox", "combobox", "DisclosureTriangle", "image", "link", "radio", "searchbox", "slider")


def body() -> tuple[Scan, Scan, NDArray]:
    """A dark body, stored toward the left, the back and the head, with one bright voxel at the patient's left."""
    voxels = np.full((1, *SHAPE), 20, np.int16)
    voxels[0, 20, 4, 12] = 200  # x to the left, y to the back, z to the head
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    label = (voxels[0] > 100).astype(np.uint8)
    noisy = np.where(voxels > 100, voxels, voxels + 10).astype(np.int16)
    pair = (Scan(Path("scan.nii"), array, StorageQuantization("<i2"), affine) for array in (voxels, noisy))
    return (*pair, label)


def report() -> str:
    """A report with all that it can have: scans to look at, charts, and tables of every kind."""
    clean, protected, label = body()
    scans = {f"scan_{number}": {**FIGURES, "psnr": 30.0 + (7 * number) % SCANS} for number in range(SCANS)}
    one_figure = {name: content for name, content in MORE.items() if name != "figures"}
    found = matrix(scans={"umed": scans}, **one_figure)
    viewed = [view_scan(name, clean, protected, label, WINDOW) for name in ("first", "second")]
    pictures = {"bars": bars(found), "bars_dark": bars(found, dark=True)}
    pictures |= {"before-and-after": before_and_after(clean, protected, label, WINDOW), "heat-1": pictures["bars"]}
    return render_page(found, pictures, viewed=viewed)


PAGES = {
    "report": report,
    "comparison": lambda: compare_page(matrix(), dataclasses.replace(results(), title="Other")),
    "trace": lambda: trace_page(trace()),
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The files of all pages, by name."""
    folder, found = tmp_path_factory.mktemp("pages"), {}
    for name, write in PAGES.items():
        found[name] = folder / f"{name}.html"
        found[name].write_text(write(), encoding="utf-8")
    return found


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, browser: Browser, files: dict[str, Path]) -> Iterator[Tab]:
    """A page that is only looked at, all of it unfolded."""
    tab = browser.open(files[request.param])
    if request.param == "report":
        tab.run("examine.ready")
    tab.run("for (const part of document.querySelectorAll('details')) part.open = true")
    yield tab
    assert tab.complaints == []
    assert len(tab.requests) == 1, "the page itself"
    tab.close()


@pytest.fixture
def viewer(browser: Browser, files: dict[str, Path]) -> Iterator[Tab]:
    """The report, to be used by a reader on a telephone."""
    tab = browser.open(files["report"], TELEPHONE, touch=True)
    tab.run("examine.ready")
    yield tab
    assert tab.complaints == []
    tab.close()


def planes(tab: Tab) -> dict[str, Any]:
    return {plane["name"]: plane for plane in tab.run("examine.planes()")}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_and_controls_stand_out(page: Tab, scheme: str) -> None:
    page.media(scheme)
    texts, controls = page.run("examine.faint()"), page.run("examine.dull()")
    assert texts["count"] > 30 and texts["found"] == []
    assert controls["found"] == []


def test_the_place_of_the_keyboard_is_seen(page: Tab) -> None:
    page.press("Tab")
    for scheme in ("light", "dark"):
        page.media(scheme)
        found = page.run("examine.unmarked()")
        assert found["count"] > 0 and found["found"] == [], scheme


@pytest.mark.parametrize("width", [TELEPHONE, SCREEN])
def test_nothing_is_wider_than_the_window(page: Tab, width: int) -> None:
    page.media()
    page.resize(width)
    assert page.run("examine.overflowing()") == []
    assert page.run("examine.tiny()") == []


def test_readers_who_hear_the_page_are_told_everything(page: Tab) -> None:
    page.media()
    assert page.run("document.documentElement.lang") == "en"
    tree = page.tree()
    levels = [node["level"] for node in tree if node["role"] == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert [node for node in tree if node["role"] in (*CONTROLS, "region") and not node["name"]] == []
    assert page.run("[...document.images].filter((image) => !image.alt).length") == 0


def test_paper_is_white_and_shows_all(page: Tab) -> None:
    page.run("for (const part of document.querySelectorAll('details')) part.open = false")
    page.resize(PAPER)
    page.media("dark", "print")
    with Image.open(io.BytesIO(page.picture("h1"))) as picture:
        assert picture.getpixel((2, 2))[:3] == (255, 255, 255)
    assert page.run("examine.faint()")["found"] == []
    assert page.run("examine.overflowing()") == [] and page.run("examine.cutting()") == []
    folded = "[...document.querySelectorAll('details table, details dd')].filter((part) => !part.offsetHeight).length"
    assert page.run(folded) == 0
    assert page.run("[...document.images].every((image) => image.currentSrc === image.src)"), "light charts"


def test_paper_shows_the_slices_and_says_what_they_are(viewer: Tab) -> None:
    viewer.click("[value=protected]")
    viewer.click("[name=contours]")
    viewer.resize(PAPER)
    viewer.media("dark", "print")
    assert len({plane["bottom"] for plane in planes(viewer).values()}) == 1, "three planes in one row"
    assert viewer.run("examine.all('#viewer input, #viewer select, #viewer button').length") == 0
    told = viewer.run("examine.all('.still').map((line) => line.textContent).join()")
    assert told.startswith("first: protected, contours of the label, level 100, width 200.")
    slices = viewer.run("examine.all('.plane output').map((line) => line.textContent)")
    assert slices == [plane["slice"] for plane in planes(viewer).values()] and len(slices) == 3


def test_left_is_right_in_three_planes(viewer: Tab) -> None:
    found = planes(viewer)
    assert list(found) == ["axial", "coronal", "sagittal"]
    assert found["axial"]["sides"] == ["R", "L", "A", "P"]
    x, y = found["axial"]["bright"]
    assert x == pytest.approx(20.5 / 24, abs=0.01), "at the side that is marked L"
    assert y == pytest.approx(4.5 / 20, abs=0.01), "at the side that is marked A"
    assert found["coronal"]["sides"] == ["R", "L", "S", "I"]
    assert found["coronal"]["bright"] == pytest.approx([20.5 / 24, 1 - 12.5 / 16], abs=0.01)
    assert found["sagittal"]["sides"] == ["A", "P", "S", "I"]
    assert found["sagittal"]["bright"] == pytest.approx([4.5 / 20, 1 - 12.5 / 16], abs=0.01)
    assert found["coronal"]["shape"] == pytest.approx(24 / (16 * 3), rel=0.02), "voxels are in proportion"


def test_keys_show_the_protected_scan_and_other_slices(viewer: Tab) -> None:
    viewer.click(".plane canvas")
    assert planes(viewer)["axial"]["first"] == round(255 * 20 / 200)
    viewer.press(" ")
    assert planes(viewer)["axial"]["first"] == pytest.approx(255 * 30 / 200, abs=1)
    slices = []
    for key in ("Home", "PageUp", "ArrowDown", "End"):
        viewer.press(key)
        slices.append(planes(viewer)["axial"]["slice"])
    assert slices == ["1 of 16", "11 of 16", "10 of 16", "16 of 16"]


def test_a_finger_changes_the_slice(viewer: Tab) -> None:
    viewer.swipe(".plane canvas", -100)
    place = int(planes(viewer)["axial"]["slice"].split()[0])
    assert place < 13
    viewer.swipe(".plane canvas", 60)
    assert place < int(planes(viewer)["axial"]["slice"].split()[0]) < 16


def test_the_mouse_changes_the_window(viewer: Tab) -> None:
    viewer.resize(SCREEN)
    viewer.drag(".plane canvas", -90, 0)
    assert viewer.run("Number(document.querySelector('[name=width]').value)") == pytest.approx(0.7, abs=0.02)
    viewer.click("[name=reset]")
    assert viewer.run("document.querySelector('[data-value=width]').textContent") == "200"


def test_planes_of_a_screen_end_on_one_line(viewer: Tab) -> None:
    viewer.resize(SCREEN)
    viewer.frame()
    assert len({plane["bottom"] for plane in planes(viewer).values()}) == 1


def test_table_of_scans_is_searched_and_sorted(viewer: Tab) -> None:
    viewer.click(".searched [type=search]")
    viewer.call("Input.insertText", text="scan_7")
    assert viewer.run("examine.all('.searched tbody tr').length") == 1
    assert viewer.run("document.querySelector('.searched output').textContent") == f"1 of {SCANS}"
    for _ in "scan_7":
        viewer.press("Backspace")
    viewer.run("document.querySelectorAll('.searched th button')[1].click()")
    first = viewer.run("document.querySelector('.searched tbody th').textContent")
    assert first == "scan_0", "the lowest PSNR"


def test_a_large_page_opens_at_once(browser: Browser, tmp_path: Path) -> None:
    """200 scans and three volumes: at most 15 MB, and less than a second of work until the slices are drawn."""
    clean, protected = scan((1, 128, 128, 120))
    viewed = [view_scan("volume", clean, protected, None, WINDOW)] * 3
    scans = {"umed": {f"scan_{number}": FIGURES for number in range(200)}}
    path = tmp_path / "large.html"
    path.write_text(render_page(matrix(scans=scans), {}, viewed=viewed), encoding="utf-8")
    assert 10e6 < path.stat().st_size <= 15e6
    tab = browser.open(path)
    tab.run("examine.ready")
    assert tab.work() < 1
    tab.close()

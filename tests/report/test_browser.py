# SPDX-License-Identifier: Apache-2.0
"""The page in a browser: what a reader sees and does. Chromium alone is needed, no driver of it.

The page is shown as it is, policy included, in a frame of another one whose script uses and examines it.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.report.charts import bars
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.viewer import view_scan

from .samples import FIGURES, matrix

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")

WINDOW = IntensityWindow((0.0,), (200.0,))
SHAPE = (24, 20, 16)
EXAMINE = """
const page = document.querySelector("iframe");
const tell = (found) => { document.querySelector("pre").textContent = JSON.stringify(found); };
page.onload = async () => {
  const own = page.contentDocument, viewer = own.getElementById("viewer");
  const ready = () => viewer.dataset.state === "ready";
  await new Promise((done) => {
    new MutationObserver(() => { if (ready()) done(); }).observe(viewer, { attributes: true });
    if (ready()) done();
  });
  const frame = () => new Promise((done) => page.contentWindow.requestAnimationFrame(done));  // the page asked before
  // Middle of the brightest pixels, as fractions of width and height.
  const copy = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const pixels = (canvas) => {
    [copy.canvas.width, copy.canvas.height] = [canvas.width, canvas.height];
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(0, 0, canvas.width, canvas.height).data;
  };
  const bright = (canvas) => {
    const { width, height } = canvas, data = pixels(canvas);
    let count = 0, x = 0, y = 0;
    for (let i = 0; i < width * height; i += 1) {
      if (data[4 * i] > 250) { count += 1; x += i % width; y += Math.floor(i / width); }
    }
    return count ? [x / count / width, y / count / height] : null;
  };
  const figures = [...own.querySelectorAll(".plane")], canvas = (place) => figures[place].querySelector("canvas");
  const pixel = () => pixels(canvas(0))[0];
  const screen = own.documentElement, found = { overflow: screen.scrollWidth - screen.clientWidth };
  found.planes = figures.map((figure) => ({
    name: figure.querySelector("[data-name]").textContent,
    bright: bright(figure.querySelector("canvas")),
    sides: [...figure.querySelectorAll("[data-side]")].map((side) => side.textContent),
    shape: figure.querySelector("canvas").clientWidth / figure.querySelector("canvas").clientHeight,
  }));
  const press = async (key) => {
    canvas(0).dispatchEvent(new page.contentWindow.KeyboardEvent("keydown", { key, cancelable: true }));
    await frame();
  };
  found.original = pixel();
  await press(" ");
  found.protected = pixel();
  found.slices = [];
  for (const key of ["Home", "PageUp", "ArrowDown", "End"]) {
    await press(key);
    found.slices.push(figures[0].querySelector("output").textContent);
  }
  const search = own.querySelector("[type=search]"), rows = [...own.querySelectorAll(".searched tbody tr")];
  search.value = "scan_7";
  search.dispatchEvent(new page.contentWindow.Event("input"));
  found.searched = rows.filter((row) => !row.hidden).length;
  search.value = "";
  search.dispatchEvent(new page.contentWindow.Event("input"));
  own.querySelectorAll(".searched th button")[1].click();
  found.first = own.querySelector(".searched tbody tr th").textContent;
  tell(found);
};
"""


def body() -> tuple[Scan, Scan, np.ndarray]:
    """A dark body, stored toward the left, the back and the head, with one bright voxel at the patient's left."""
    voxels = np.full((1, *SHAPE), 20, np.int16)
    voxels[0, 20, 4, 12] = 200  # x to the left, y to the back, z to the head
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    label = (voxels[0] > 100).astype(np.uint8)
    noisy = np.where(voxels > 100, voxels, voxels + 10).astype(np.int16)
    pair = (Scan(Path("scan.nii"), array, StorageQuantization("<i2"), affine) for array in (voxels, noisy))
    return (*pair, label)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What the script in :data:`EXAMINE` found on a page that is 390 pixels wide."""
    scans = {"umed": {f"scan_{number}": {**FIGURES, "psnr": 30.0 + (7 * number) % 60} for number in range(60)}}
    clean, protected, label = body()
    viewed = [view_scan(name, clean, protected, label, WINDOW) for name in ("first", "second")]
    text = render_page(matrix(scans=scans), {"bars": bars(matrix())}, viewed=viewed)
    frame = f'<iframe style="width:390px;height:800px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    folder = tmp_path_factory.mktemp("browser")
    (folder / "outer.html").write_text(f"<body>{frame}<pre></pre><script>{EXAMINE}</script>", encoding="utf-8")
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    command = [
        BROWSER,
        "--headless",
        *sandbox,
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=20000",
    ]
    command += [f"--user-data-dir={folder / 'profile'}", "--dump-dom", (folder / "outer.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    answer = re.search("<pre>(.*?)</pre>", done.stdout)
    assert answer and answer[1], done.stderr
    return {**json.loads(html.unescape(answer[1])), "log": re.findall(".*CONSOLE.*", done.stderr)}


def test_nothing_goes_wrong_in_the_console(found):
    assert found["log"] == []


def test_page_is_no_wider_than_a_telephone(found):
    assert found["overflow"] == 0


def test_left_is_right_in_three_planes(found):
    planes = {plane["name"]: plane for plane in found["planes"]}
    assert list(planes) == ["axial", "coronal", "sagittal"]
    assert planes["axial"]["sides"] == ["R", "L", "A", "P"]
    x, y = planes["axial"]["bright"]
    assert x == pytest.approx(20.5 / 24, abs=0.01), "at the side that is marked L"
    assert y == pytest.approx(4.5 / 20, abs=0.01), "at the side that is marked A"
    assert planes["coronal"]["sides"] == ["R", "L", "S", "I"]
    assert planes["coronal"]["bright"] == pytest.approx([20.5 / 24, 1 - 12.5 / 16], abs=0.01)
    assert planes["sagittal"]["sides"] == ["A", "P", "S", "I"]
    assert planes["sagittal"]["bright"] == pytest.approx([4.5 / 20, 1 - 12.5 / 16], abs=0.01)
    assert planes["coronal"]["shape"] == pytest.approx(24 / (16 * 3), rel=0.02), "voxels are in proportion"


def test_keys_show_the_protected_scan_and_other_slices(found):
    assert found["original"] == round(255 * 20 / 200)
    assert found["protected"] == pytest.approx(255 * 30 / 200, abs=1)
    assert found["slices"] == ["1 of 16", "11 of 16", "10 of 16", "16 of 16"]


def test_table_of_scans_is_searched_and_sorted(found):
    assert found["searched"] == 1
    assert found["first"] == "scan_0", "the lowest PSNR"

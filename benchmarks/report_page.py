# SPDX-License-Identifier: Apache-2.0
"""How large a report's page is, and how fast it opens: 200 scans in its table, three volumes in its viewer.

The volumes are phantoms with noise of 8/255 in the labels. Chromium opens the page anew each time, from disk and
without a window. Times are those of the browser's clock since the opening began, in milliseconds: the median of all
tries, with their range. Work is the processor time of the page's main thread until the viewer has drawn, which a busy
machine does not lengthen.

    python -m benchmarks.report_page OUT [--size 192,192,128] [--tries 5]    # in a checkout, whose tests drive Chromium
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from monai_unlearnable.data import load_cases, read_case
from monai_unlearnable.data.cases import Case
from monai_unlearnable.intensity import AutoWindow
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.report.charts import result_pictures
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.viewer import MOST_SCANS, ViewedScan, view_scan
from tests.report.browser import chromium
from tests.report.samples import FIGURES, matrix

SCANS = 200
EPSILON = 8 / 255
TIMES = """(() => {
    const [opened] = performance.getEntriesByType("navigation");
    const [paint] = performance.getEntriesByName("first-contentful-paint");
    const { domContentLoadedEventEnd: content, loadEventEnd: load } = opened;
    return { "first paint": paint?.startTime ?? NaN, DOMContentLoaded: content, load, viewer: examine.times.viewer };
})()"""


def view(case: Case) -> ViewedScan:
    """A phantom for the viewer, with noise in its label."""
    loaded = read_case(case, AutoWindow())
    (scan,), (window,), label = loaded.scans, loaded.windows, loaded.label
    assert label is not None
    signs = np.random.default_rng(0).choice((-1, 1), scan.voxels.shape)
    noise = signs * (label > 0) * EPSILON * (window.high[0] - window.low[0])
    return view_scan(case.case_id, scan, replace(scan, voxels=scan.voxels + noise.astype(np.int16)), label, window)


def main() -> None:
    """Write the page, and open it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="192,192,128", help="matrix of the phantoms")
    parser.add_argument("--tries", type=int, default=5)
    options = parser.parse_args()
    x, y, z = map(int, options.size.split(","))
    data, page = options.out / f"phantoms_{x}_{y}_{z}", options.out / "index.html"
    write_phantom_dataset(data, count=MOST_SCANS, test_count=0, size=(x, y, z))
    figures = {f"scan_{number:03d}": {**FIGURES, "psnr": 38 + number / SCANS} for number in range(SCANS)}
    results = matrix(scans={"umed": figures})
    viewed = [view(case) for case in load_cases(data)]
    page.write_text(render_page(results, result_pictures(results), viewed=viewed), encoding="utf-8")
    found = []
    with chromium(options.out) as browser:
        for _ in range(options.tries):
            tab = browser.open(page)
            tab.run("examine.ready")
            found.append({**tab.run(TIMES), "work": 1000 * tab.work()})
            tab.close()
    sys.stdout.write(f"size {page.stat().st_size / 1e6:.1f} MB\n")
    for name in found[0]:
        times = [entry[name] for entry in found]
        sys.stdout.write(f"{name} {median(times):.0f} ms ({min(times):.0f} to {max(times):.0f})\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.report import Results, compare_page, html, write_comparison, write_report
from monai_unlearnable.report.charts import bars
from monai_unlearnable.report.html import render_page
from monai_unlearnable.report.slices import prediction_montage

from .samples import FIGURES, Page, matrix, results, row, sweep

MORE = {
    "figures": {"umed": FIGURES, "random noise": {**FIGURES, "psnr": 39.9, "noise_ratio": 0.61}},
    "regions": {"umed": {"1": {"mean": 0.0012, "standard_deviation": 0.0, "entropy": float("nan")}}},
    "authorized": [{"data": "umed", "victim": "UNet", "clean": 80.0, "protected": 78.5}],
    "detectors": {"umed": {"linear": [0.91, 0.85, 0.97]}, "random noise": {"bent": [0.5, float("nan"), float("nan")]}},
}
EXTERNAL = re.compile(r"(?:src|href|srcset|action)\s*=\s*[\"']?(?:https?:|//|file:)|url\(|@import|<script[^>]+src")
OWN_SCRIPTS = {path.read_text(encoding="utf-8") for path in (Path(html.__file__).parent / "templates").glob("*.js")}
SCANS = {"umed": {"liver_1": FIGURES, "liver_2": {**FIGURES, "psnr": 41.5}}}
EVIL = """<script>alert('x & "y"')</script>' onload=' " onload=" {{ results.title }} {% for x in x %}"""


@pytest.fixture(scope="module")
def drawn() -> bytes:
    """A chart as PNG bytes."""
    return bars(results())


class TestReport:
    def test_detectors_are_told_apart(self):
        areas = {
            "protected from clean scans (linear)": [0.9, 0.8, 1.0],
            "labels from residuals (linear)": [0.6, 0.5, 0.7],
        }
        page = " ".join(render_page(results(detectors={"umed": areas}), {}).split())
        assert "tell protected scans from clean ones, and labels from residuals" in page

    def test_page_is_self_contained(self, tmp_path, drawn):
        names = (
            "heat-1",
            "heat-1_dark",
            "frontier-1-psnr",
            "bars",
            "bars_dark",
            "curves",
            "montage-1",
            "other_picture",
        )
        pictures = dict.fromkeys(names, drawn)
        truth = np.eye(12, dtype=np.uint8)
        pictures["prediction-1"] = prediction_montage(np.eye(12), truth, {"clean": truth})
        write_report(results(), pictures, tmp_path)
        assert Results.load(tmp_path / "results.json") == results()
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert not EXTERNAL.search(text)
        for name, content in pictures.items():
            assert (tmp_path / f"{name}.png").read_bytes() == content
            assert base64.b64encode(content).decode() in text
        tags = Page(text).tags
        images = [attrs for tag, attrs in tags if tag == "img"]
        assert len(images) == 7
        assert all(attrs["alt"] and int(attrs["width"]) > 100 for attrs in images)
        assert sum(tag == "source" for tag, _ in tags) == 2
        assert results().verdict() in text
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".html", ".json", *[".png"] * 9]

    def test_no_scripts_run_but_those_of_the_package(self):
        text = render_page(matrix(scans=SCANS), {})
        found = Page(text)
        policy = found.policy
        digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in found.scripts}
        assert set(found.scripts) <= OWN_SCRIPTS
        assert digests == set(re.findall("'sha256-(.*?)'", policy))
        assert "default-src 'none'" in policy
        assert "script-src 'none'" in Page(compare_page(results(), results())).policy

    def test_the_answers_come_first_and_in_order_of_what_the_owner_must_know(self):
        text = render_page(matrix(), {})
        badges = re.findall('<strong class="badge [^>]*>(.*?)</strong>', text)
        assert badges == [*["weakened"] * 3, *["stopped"] * 3, *["no answer"] * 2]
        assert text.index("badge") < text.index(matrix().verdict()) < text.index("What models learn")
        assert "8 pipelines, trained for 500 iterations: 3 weakened, 3 stopped, 2 no answer." in text

    def test_scans_are_a_table_that_a_reader_can_search(self):
        text = render_page(matrix(scans=SCANS), {})
        assert '<th scope="row">liver_2</th><td>41.5 dB</td>' in text
        assert 'type="search"' in text
        assert "Scan by scan" not in render_page(matrix(), {})

    def test_pictures_of_an_earlier_report_do_not_stay(self, tmp_path, drawn):
        names = ("before-and-after", "montage-1-2", "prediction-1", "heat-2_dark", "frontier-1-ssim_roi", "bars")
        (tmp_path / "logo.png").write_bytes(drawn)
        write_report(results(), dict.fromkeys(names, drawn), tmp_path)
        write_report(results(), {"bars": drawn}, tmp_path)
        assert {path.name for path in tmp_path.glob("*.png")} == {"bars.png", "logo.png"}

    def test_spreadsheets_hold_all_digits_and_run_no_formula(self, tmp_path):
        exact = {"protected": {"=HYPERLINK(1)": {"psnr": 38.123456789012345, "ssim": float("nan")}}}
        write_report(results(scans=exact), {}, tmp_path)
        (scan,) = csv.DictReader((tmp_path / "scans.csv").read_text().splitlines())
        assert float(scan["psnr"]) == exact["protected"]["=HYPERLINK(1)"]["psnr"]
        assert (scan["scan"], scan["ssim"]) == ("'=HYPERLINK(1)", "")
        runs = list(csv.DictReader((tmp_path / "runs.csv").read_text().splitlines()))
        assert [float(run["score"]) for run in runs] == [row.score for row in results().rows]
        for name in ("runs.csv", "scans.csv", "results.json"):
            assert f'href="{name}"' in (tmp_path / "index.html").read_text(encoding="utf-8")

    def test_pages_of_the_documentation_that_it_names_are_there(self):
        named = re.findall(r"<code>(docs/[\w/-]+\.md)</code>", render_page(results(), {}))
        assert len(named) >= 5 and all((Path(__file__).parents[2] / name).is_file() for name in named)

    def test_every_section(self):
        text = render_page(matrix(**MORE), {})
        headings = re.findall("<h[23]>(.*?)</h[23]>", text)
        assert headings == [
            "Does it stop exploiters?",
            "Does it look the same?",
            "What models learn",
            "How close the protected scans are to the originals",
            "What regions measure",
            "Authorized models",
            "Detectors",
            "How it was trained",
            "Commands",
            "What this does not show",
            "Read on in the documentation",
        ]
        for part in ("PSNR in the label", "39.9 dB", "0.61", "7.5", "0.12%", "-1.5", "0.91 (0.85 to 0.97)", "0.50"):
            assert part in text
        Page(text)

    def test_failures_and_commands(self):
        text = render_page(matrix(), {})
        assert '<td class="failed">diverged</td>' in text
        assert "SegResNet, plain, umed: failed: no memory &lt;left&gt;" in text
        assert "1 (1 of 2 diverged)" in text
        assert text.count("<code>python -m monai_unlearnable run UNet &#39;protected&#39;</code>") == 8
        assert "<td>0.0</td>" not in text.replace("<td>0.0</td><td>78.5</td>", "")  # chance beside the clean control

    def test_only_data_have_their_meanings_beside_them(self):
        text = render_page(results(), {})
        assert "a typical change is 1.2% of the window" in text
        assert text.count("<h3>") == 0

    def test_p50_is_shown(self):
        text = render_page(sweep({"umed": 37.0, "tap": 60.0, "weak": -40.0}), {})
        for words in ("<td>37.0 dB</td>", "<td>at least 46.0 dB</td>", "<td>not reached</td>"):
            assert words in text
        assert "P50 is the highest PSNR" in text

    def test_methods_are_compared(self):
        text = render_page(sweep({"umed": 37.0, "tap": 60.0}, ("UNet", "SegResNet")), {})
        assert "<h3>Method against method</h3>" in text
        assert text.count('<td class="words">umed 8/255</td><td class="words">tap 8/255</td>') == 2
        assert "8 pairs" not in text  # unfolded
        many = results(rows=[row("protected", 9.0, data=name, method=name) for name in "abcdefgh"])
        assert "<summary>28 pairs</summary>" in render_page(many, {})

    def test_metric_and_chance(self):
        rows = [dataclasses.replace(r, metric="balanced accuracy", chance=50.0) for r in results().rows]
        text = render_page(results(rows=rows), {})
        assert "Dice" not in text
        assert "and 50 is chance" in text

    def test_strings_are_escaped(self, tmp_path, drawn):
        rows = [
            dataclasses.replace(r, victim=EVIL, recipe=EVIL, countermeasure=EVIL, data=EVIL, method=EVIL, command=EVIL)
            for r in results().rows
        ]
        rows.append(dataclasses.replace(rows[0], metric=EVIL, status=f"failed: {EVIL}", extras={EVIL: 1.0}))
        hostile = results(
            title=EVIL,
            method=EVIL,
            dataset=EVIL,
            rows=rows,
            settings={EVIL: [EVIL]},
            figures={EVIL: {EVIL: 1.0}, "b": {}},
            regions={EVIL: {EVIL: {EVIL: 1.0}}},
            authorized=[{"data": EVIL, "victim": EVIL, "clean": 1.0, "protected": 1.0}],
            detectors={EVIL: {EVIL: [1.0, 1.0, 1.0]}},
        )
        write_report(hostile, {"bars": drawn, "unknown": drawn}, tmp_path)
        write_comparison(hostile, results(), tmp_path / "compare.html")
        for name in ("index.html", "compare.html"):
            text = (tmp_path / name).read_text(encoding="utf-8")
            assert "&lt;script&gt;" in text
            assert "{{ results.title }} {% for" in text, "texts are no templates"
            tags = Page(text).tags
            assert set(Page(text).scripts) <= OWN_SCRIPTS
            assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]

    def test_what_is_inside_every_tag_is_what_was_said(self):
        texts = ("<b>", "</style>", "&lt;", "\"'", "<!--")
        rows = [dataclasses.replace(r, victim=text, command=text) for text in texts for r in results().rows]
        text = render_page(results(title="</title>", rows=rows, settings={"<i>": "<u>"}), {})
        tags = Page(text).tags
        assert not {"b", "i", "u"} & {tag for tag, _ in tags}
        assert "<code>&amp;lt;</code>" in text
        assert "<h1>&lt;/title&gt;</h1>" in text

    def test_no_number_is_in_powers_of_ten(self):
        found = {
            "l0": 1.0,
            "changed": 1.0,
            "linf": 1.5,
            "linf_sigma": 123.0,
            "noise_ratio": 150.0,
            "invented": 123456.0,
        }
        text = render_page(
            results(
                figures={"umed": found},
                regions={"umed": {"1": {"mean": 1.0, "entropy": 12.3}}},
                settings={"iterations": 1234567.0, "weight_decay": 1e-05},
            ),
            {},
        )
        for part in (
            "<td>100%</td>",
            "<td>150%</td>",
            "<td>123 σ</td>",
            "<td>150</td>",
            "<td>123456</td>",
            "<td>1230%</td>",
        ):
            assert part in text
        assert "<dd>1234567</dd>" in text
        assert "<dd>0.00001</dd>" in text
        assert not re.search(r"\de[+-]\d", text)

    def test_empty_results(self, tmp_path):
        write_report(Results("Empty", "none", "none"), {}, tmp_path)
        assert "No verdict" in (tmp_path / "index.html").read_text(encoding="utf-8")

    def test_nothing_but_failures(self):
        text = render_page(results(rows=[row("clean", 0.0, status="diverged")]), {})
        assert "No verdict" in text
        assert "1 diverged" in text

    @pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden"])
    def test_picture_names_are_checked(self, tmp_path, name):
        with pytest.raises(InputError, match="cannot name a picture"):
            write_report(results(), {name: b""}, tmp_path)
        assert not list(tmp_path.iterdir())


class TestComparison:
    def test_page(self, tmp_path):
        write_comparison(
            matrix(title="One"), results(title="Two", rows=matrix().rows[:12], **MORE), tmp_path / "c.html"
        )
        text = (tmp_path / "c.html").read_text(encoding="utf-8")
        assert not EXTERNAL.search(text)
        Page(text)
        assert "<title>One and Two</title>" in text
        assert "Only in the first" in text
        assert "Only in the second" not in text
        assert "SegResNet, nnunet, umed, median" in text

    def test_differences(self):
        text = compare_page(results(), results(protected=10.1))
        assert "<td>8.1</td><td>10.1</td><td>+2.0</td><td>+2.0 to +2.0</td>" in text
        assert "largest difference is +2.0 points (UNet, plain, protected: 8.1 and 10.1)" in text


def test_no_training_stack_is_imported():
    code = (
        "import sys, monai_unlearnable.report as r; assert 'matplotlib' not in sys.modules; "
        "r.write_report; import monai_unlearnable.report.charts, monai_unlearnable.report.slices; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'ignite', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import dataclasses
import io
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import IntensityWindow, StorageLattice
from monai_unlearnable.metrics.protection import Scores
from monai_unlearnable.report.html import write_report
from monai_unlearnable.report.pictures import bars, curves, montage, result_pictures
from monai_unlearnable.report.results import Results, VictimRow
from monai_unlearnable.report.rows import TRAININGS
from monai_unlearnable.report.table import victim_table
from monai_unlearnable.scans.scan import Scan

FIGURES = {
    "psnr": 38.2,
    "ssim": 0.971,
    "ssim_roi": 0.93,
    "psnr_roi": 33.0,
    "linf": 0.031,
    "linf_sigma": 0.12,
    "l0": 0.4,
}
VOID = {"meta", "img", "source", "link", "br", "hr", "input"}


def row(training: str, dice: float, victim: str = "UNet", seed: int = 0, recipe: str = "plain") -> VictimRow:
    return VictimRow(
        training=training,
        victim=victim,
        recipe=recipe,
        seed=seed,
        dice=dice,
        interval=(dice - 2, dice + 2),
        per_class=[dice + 1, dice - 1],
        peak=dice + 3,
        curve=[dice / 2, dice + 3, dice],
        final_loss=0.1,
        psnr=None if training == "clean" else 38.2,
        ssim=None if training == "clean" else 0.97,
    )


def results(clean: float = 84.0, protected: float = 8.1, random: float | None = 83.5, **fields) -> Results:
    finals = [
        (kind, dice) for kind, dice in zip(TRAININGS, (clean, protected, random), strict=True) if dice is not None
    ]
    rows = [row(kind, dice + shift, seed=seed) for kind, dice in finals for seed, shift in enumerate((-0.5, 0.5))]
    defaults = {"title": "A report", "method": "umed", "dataset": "Phantom", "figures": FIGURES, "rows": rows}
    return Results(**{**defaults, "settings": {"epsilon": 8 / 255, "masks": {"roi": True}}, **fields})


def scan(shape: tuple[int, ...], spacing: tuple[float, ...] = (1, 1, 1)) -> tuple[Scan, Scan]:
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 200, shape, dtype=np.int16)
    noisy = voxels + rng.integers(-5, 6, shape, dtype=np.int16)
    affine = np.diag([*spacing, 1.0])
    pair = (Scan(Path("scan.nii"), content, StorageLattice("<i2"), affine) for content in (voxels, noisy))
    return tuple(pair)


def picture(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        image.load()
        return image


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


class TestResults:
    def test_round_trip(self):
        original = results()
        assert Results.from_json(original.to_json()) == original

    def test_nan_survives(self):
        broken = dataclasses.replace(row("clean", 80.0), per_class=[80.0, math.nan])
        text = results(rows=[broken]).to_json()
        assert "NaN" not in text
        first, second = Results.from_json(text).rows[0].per_class
        assert first == 80.0
        assert math.isnan(second)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{",
            '{"schema_version": 2}',
            '{"schema_version": 1}',
            '{"schema_version": 1, "rows": [{}]}',
            "\xff",
        ],
    )
    def test_broken_json_names_the_file(self, tmp_path, text):
        path = tmp_path / "results.json"
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(InputError, match=r"results\.json: the results cannot be read"):
            Results.load(path)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            ('"dice": 83.5', '"dice": "high"'),
            ('"training": "clean"', '"training": "dirty"'),
            ('"psnr": 38.2', '"psnr": []'),
            ('"title"', '"headline"'),
            ('"figures": {', '"figures": [], "others": {'),
        ],
    )
    def test_wrong_content(self, old, new):
        text = results().to_json()
        assert old in text
        with pytest.raises(InputError, match="cannot be read"):
            Results.from_json(text.replace(old, new, 1))

    def test_missing_file(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.json"):
            Results.load(tmp_path / "none.json")

    def test_unknown_training(self):
        with pytest.raises(InputError, match="dirty"):
            row("dirty", 1.0)

    def test_row_of_scores_is_in_percent(self):
        scores = Scores(np.array([[0.8, 0.6], [0.9, 0.7]]), (0.2, 0.75), 0.1)
        made = VictimRow.from_scores("clean", "UNet", "plain", 0, scores)
        assert made.dice == pytest.approx(75)
        assert made.curve == pytest.approx([20, 75])
        assert made.peak == pytest.approx(75)

    def test_seeds_are_summarized_and_recipes_kept_apart(self):
        mixed = results(rows=[row("clean", 80.0), row("clean", 84.0, seed=1), row("clean", 50.0, recipe="nnunet")])
        first, second = mixed.summaries()
        assert (first.seeds, first.dice, first.interval) == (2, 82.0, (80.0, 84.0))
        assert (second.seeds, second.recipe, second.interval) == (1, "nnunet", (48.0, 52.0))


class TestVerdict:
    def test_protection_holds(self):
        assert results().verdict() == (
            "Models trained on the protected scans reach Dice 8.1 on clean scans, against 84.0 for models trained on "
            "the originals; equal-size random noise leaves 83.5."
        )

    @pytest.mark.parametrize("protected", [80.0, 84.0, 90.0])
    def test_protection_failed(self, protected):
        assert "The protection failed" in results(protected=protected).verdict()

    def test_protection_failed_against_one(self):
        rows = [row("clean", 84.0, "SegResNet"), row("protected", 83.0, "SegResNet"), *results().rows]
        verdict = results(rows=rows).verdict()
        assert "failed against SegResNet:" in verdict
        assert "2 kinds of model" in verdict

    def test_protection_is_partial(self):
        assert "does not prevent" in results(protected=60.0).verdict()

    def test_control_drops_as_much(self):
        assert "cannot be credited" in results(random=12.0).verdict()

    def test_control_drops_in_part(self):
        assert "owed to its size" in results(random=60.0).verdict()

    def test_no_control(self):
        assert "no control" in results(random=None).verdict()

    def test_nothing_learned_anyway(self):
        assert "proves nothing" in results(clean=12.0, random=11.0).verdict()

    def test_single_run(self):
        rows = [row("clean", 84.0), row("protected", 8.0), row("random noise", 83.0)]
        assert "single training run" in results(rows=rows).verdict()

    @pytest.mark.parametrize("rows", [[], [row("clean", 84.0)], [row("clean", 84.0), row("protected", math.nan)]])
    def test_no_verdict(self, rows):
        assert results(rows=rows).verdict().startswith("No verdict")


def test_table():
    console = Console(width=140, file=io.StringIO())
    console.print(victim_table(results(title="[red]Title")))
    text = console.file.getvalue()
    assert "[red]Title" in text
    for cell in ("originals", "protected", "random noise", "83.5 to 84.5", "85.0 / 83.0", "38.2", "0.9700"):
        assert cell in text


class TestPictures:
    def test_volume_in_three_planes(self):
        clean, protected = scan((1, 20, 24, 10), (1.0, 1.0, 3.0))
        label = np.zeros((1, 20, 24, 10), np.uint8)
        label[:, 5:12, 6:14, 3:7] = 1
        label[:, 5:12, 14:18, 3:7] = 2
        wide = picture(montage(clean, protected, label, IntensityWindow((0.0,), (200.0,))))
        flat = picture(montage(*scan((1, 20, 24, 10)), label[0], IntensityWindow((0.0,), (200.0,))))
        assert wide.width == flat.width > 1000
        assert wide.height > flat.height > 700  # taller voxels, taller planes

    @pytest.mark.parametrize("channels", [1, 3])
    def test_image_in_one_row(self, channels):
        clean, protected = scan((channels, 40, 30))
        window = IntensityWindow((0.0,) * channels, (200.0,) * channels)
        image = picture(montage(clean, protected, np.eye(40, 30, dtype=np.uint8), window))
        assert image.width > 1000
        assert 200 < image.height < image.width / 2

    def test_without_label_or_change(self):
        clean, _ = scan((1, 12, 12, 6))
        assert picture(montage(clean, clean, None, IntensityWindow((0.0,), (200.0,)))).width > 1000

    def test_degenerate_affine(self):
        clean, protected = scan((1, 12, 12, 6), (0, 0, 0))
        assert picture(montage(clean, protected, None, IntensityWindow((0.0,), (200.0,)))).width > 1000

    def test_orientation_does_not_depend_on_storage(self):
        clean, protected = scan((1, 12, 16, 8))
        flip = np.diag([-1.0, -1, 1, 1])
        flipped = [dataclasses.replace(s, voxels=s.voxels[:, ::-1, ::-1], affine=flip) for s in (clean, protected)]
        label = np.zeros((12, 16, 8), np.uint8)
        label[3:6, 4:9, 2:4] = 1
        window = IntensityWindow((0.0,), (200.0,))
        assert montage(*flipped, label[::-1, ::-1], window) == montage(clean, protected, label, window)

    @pytest.mark.parametrize("draw", [bars, curves])
    @pytest.mark.parametrize("dark", [False, True])
    def test_charts(self, draw, dark):
        rows = [
            *results().rows,
            row("clean", 80.0, "SegResNet"),
            row("protected", 5.0, "SegResNet"),
            row("clean", 1.0, "X"),
        ]
        image = picture(draw(results(rows=rows), dark))
        assert image.width > 1000
        assert image.height > 400
        assert (np.asarray(image.convert("L"))[0, 0] < 100) == dark


class TestReport:
    def test_page_is_self_contained(self, tmp_path):
        pictures = {"montage": montage(*scan((1, 30, 20)), None, IntensityWindow((0.0,), (200.0,)))}
        pictures.update(result_pictures(results()))
        write_report(results(), pictures, tmp_path)
        assert Results.load(tmp_path / "results.json") == results()
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert not re.search(r"(?:src|href|srcset|action)\s*=\s*[\"']?(?:https?:|//|file:)|url\(|@import|<script", text)
        for name, content in pictures.items():
            assert (tmp_path / f"{name}.png").read_bytes() == content
            assert base64.b64encode(content).decode() in text
        images = [attrs for tag, attrs in Page(text).tags if tag == "img"]
        assert len(images) == 3
        assert all(attrs["alt"] for attrs in images)
        assert results().verdict() in text
        assert sorted(path.suffix for path in tmp_path.iterdir()) == [".html", ".json", *[".png"] * 5]

    def test_strings_are_escaped(self, tmp_path):
        evil = "<script>alert('x & \"y\"')</script> $title ${title}"
        rows = [dataclasses.replace(r, victim=evil, recipe=evil) for r in results().rows]
        hostile = results(
            title=evil, method=evil, dataset=evil, rows=rows, settings={evil: [evil]}, figures={evil: 1.0}
        )
        write_report(hostile, {"bars": bars(results())}, tmp_path)
        text = (tmp_path / "index.html").read_text(encoding="utf-8")
        assert "<script" not in text
        assert "&lt;script&gt;" in text
        assert "script" not in [tag for tag, _ in Page(text).tags]

    def test_empty_results(self, tmp_path):
        empty = Results("Empty", "none", "none")
        write_report(empty, result_pictures(empty), tmp_path)
        assert "No verdict" in (tmp_path / "index.html").read_text(encoding="utf-8")

    @pytest.mark.parametrize("name", ["../escape", "", "a/b", ".hidden"])
    def test_picture_names_are_checked(self, tmp_path, name):
        with pytest.raises(InputError, match="cannot name a picture"):
            write_report(results(), {name: b""}, tmp_path)
        assert not list(tmp_path.iterdir())


def test_no_training_stack_is_imported():
    code = (
        "import sys, monai_unlearnable.report.html, monai_unlearnable.report.pictures; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'ignite', 'matplotlib.pyplot')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

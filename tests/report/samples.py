# SPDX-License-Identifier: Apache-2.0
"""Results, scans and readers of pages that the tests of the report share."""

from __future__ import annotations

import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.report import Results, VictimRow
from monai_unlearnable.report.rows import TRAININGS

FIGURES = {
    "psnr": 38.2,
    "ssim": 0.971,
    "ssim_roi": 0.93,
    "psnr_roi": 33.0,
    "linf": 0.031,
    "linf_sigma": 0.12,
    "l0": 0.4,
    "invented": 7.5,
}
VOID = {"meta", "img", "source", "link", "br", "hr", "input"}


def row(training: str, score: float, victim: str = "UNet", seed: int = 0, recipe: str = "plain", **fields) -> VictimRow:
    """A row whose other scores follow from its final one."""
    clean = training == "clean"
    values: dict[str, Any] = {
        "interval": (score - 2, score + 2),
        "per_class": (score + 1, score - 1),
        "by_case": tuple(score + np.linspace(-1, 1, 8)),
        "peak": score + 3,
        "iterations": 500,
        "curve": (score / 2, score + 3, score),
        "extras": {"hd95": 4.5},
        "final_loss": 0.1,
        "psnr": None if clean else 38.2,
        "ssim": None if clean else 0.97,
        "command": f"python -m monai_unlearnable run {victim} {training!r}",
    }
    return VictimRow(training=training, score=score, victim=victim, seed=seed, recipe=recipe, **{**values, **fields})


def results(clean: float = 84.0, protected: float = 8.1, random: float | None = 83.5, **fields) -> Results:
    """Two seeds of one victim on all kinds of data."""
    finals = [
        (kind, score) for kind, score in zip(TRAININGS, (clean, protected, random), strict=True) if score is not None
    ]
    rows = [row(kind, score + shift, seed=seed) for kind, score in finals for seed, shift in enumerate((-0.5, 0.5))]
    defaults = {"title": "A report", "method": "umed", "dataset": "Phantom", "figures": {"umed": FIGURES}, "rows": rows}
    return Results(**{**defaults, "settings": {"epsilon": 8 / 255, "masks": {"roi": True}}, **fields})


def matrix(**fields) -> Results:
    """Two victims, two recipes, two countermeasures; one setting diverged, one failed, and one lacks a seed."""
    rows = []
    for countermeasure, gain in (("none", 0), ("median", 20)):
        for victim in ("UNet", "SegResNet"):
            for recipe, more in (("plain", 0), ("nnunet", 30)):
                kind = {"victim": victim, "recipe": recipe, "countermeasure": countermeasure}
                for seed in (0, 1):
                    rows.append(row("clean", 78.0 + seed, seed=seed, **kind))
                    rows.append(row("random noise", 76.0 + seed, seed=seed, epsilon=8 / 255, **kind))
                    rows.append(
                        row(
                            *("protected", 10.0 + gain + more + seed),
                            **{"seed": seed, "data": "umed", "method": "umed", "epsilon": 8 / 255, **kind},
                        )
                    )
    rows = [spoil(r) for r in rows]
    return results(rows=rows, **fields)


def spoil(good: VictimRow) -> VictimRow:
    """Some rows of :func:`matrix` without a score."""
    setting = (good.data, good.victim, good.recipe, good.countermeasure)
    if setting == ("umed", "SegResNet", "nnunet", "median"):
        return dataclasses.replace(good, status="diverged")
    if setting == ("umed", "SegResNet", "plain", "median"):
        return dataclasses.replace(good, status="failed: no memory <left>")
    if setting == ("umed", "UNet", "plain", "median") and good.seed:
        return dataclasses.replace(good, status="diverged")
    return good


def sweep(middles: dict[str, float], victims: tuple[str, ...] = ("UNet",)) -> Results:
    """Methods at four strengths; the score passes half-way at the PSNR given for each."""
    rows = []
    for victim in victims:
        rows += [row("clean", 80.0, victim, seed) for seed in (0, 1)]
        for method, middle in middles.items():
            training = method if method in TRAININGS else "protected"
            for epsilon, psnr in ((2, 46.0), (4, 40.0), (8, 34.0), (16, 28.0)):
                score = float(np.clip(40 + 4 * (psnr - middle), 2, 80))
                fields = {"psnr": psnr, "ssim_roi": 1 - epsilon / 100, "method": method, "epsilon": epsilon / 255}
                rows += [
                    row(training, score + shift, victim, seed, data=f"{method} {epsilon}/255", **fields)
                    for seed, shift in enumerate((-1.0, 1.0))
                ]
    return results(rows=rows)


def trace() -> dict[str, Any]:
    """What ``result.json`` of a trace holds, of a model with a long name and a mark that stands out."""
    own, *others = statistics = [0.81, *(0.6 + 0.001 * (7 * number % 99) for number in range(99))]
    plan = {
        **{"mark_sha256": "a3" * 32, "statistic": "dice", "epsilon": 4 / 255, "others": 99, "stop_after": 99},
        "probes": ["0" * 64] * 4,
        "model": "python /models/of/the/other/hospital/segmentation_of_liver_and_spleen/predict_with_model_3.py",
    }
    return {
        "format": "monai_unlearnable trace 1",
        "plan": plan,
        "result": {"p": 0.01, "others": len(others), "exceeding": 0, "own": own, "unmarked": 0.62},
        "statistics": statistics,
        "sentence": "Evidence that the model was trained on the set: p = 0.01",
        "probes": 4,
        "seconds": 1234.5,
        "date": "2026-12-01",
    }


def scan(shape: tuple[int, ...], spacing: tuple[float, ...] = (1, 1, 1)) -> tuple[Scan, Scan]:
    """A scan and a copy with noise."""
    rng = np.random.default_rng(0)
    voxels = rng.integers(0, 200, shape, dtype=np.int16)
    noisy = voxels + rng.integers(-5, 6, shape, dtype=np.int16)
    affine = np.diag([*spacing, 1.0])
    pair = (Scan(Path("scan.nii"), content, StorageQuantization("<i2"), affine) for content in (voxels, noisy))
    return tuple(pair)


def picture(content: bytes) -> Image.Image:
    """A decoded PNG that is not blank."""
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        image.load()
        low, high = image.convert("L").getextrema()
        assert high - low > 50
        return image


class Page(HTMLParser):
    """Tags of a page whose elements are all closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.open: list[str] = []
        self.scripts: list[str] = []  # texts of what runs
        self._runs = False
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script" and dict(attrs).get("type") != "text/plain":
            self.scripts.append("")
            self._runs = True

    def handle_data(self, data):
        if self.open[-1:] == ["script"] and self._runs:
            self.scripts[-1] += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._runs = False

    @property
    def policy(self) -> str:
        """What the page may load and run."""
        (found,) = (attrs["content"] for _, attrs in self.tags if attrs.get("http-equiv") == "Content-Security-Policy")
        return found

# SPDX-License-Identifier: Apache-2.0
"""Entries that the tests of the evidence share."""

from __future__ import annotations

import dataclasses
from typing import Any

from monai_unlearnable.evidence import Entry, Score
from monai_unlearnable.report import Results
from tests.report.samples import results, row

SETTINGS = {
    "size": [48, 64, 48],
    "width": 8,
    "batch_size": 4,
    "iterations": 500,
    "training cases": 140,
    "test cases": 40,
    "dataset_sha256": "ab" * 32,
    "version": "0.1.0",
    "detectors": True,
}


def entry(mean: float = 8.0, clean: float | None = 84.0, **fields: Any) -> Entry:
    """An entry of ``umed`` on a plainly trained UNet."""
    known: dict[str, Any] = {
        "method": "umed",
        "epsilon": "14/255",
        "psnr": 39.1,
        "dataset": "hippocampus",
        "victim": "UNet",
        "recipe": "plain",
        "iterations": 500,
        "metric": "Dice",
        "score": Score(mean=mean),
        "clean": None if clean is None else Score(mean=clean),
        "date": "2026-11-20",
        "source": "a test",
    }
    return Entry(**{**known, **fields})


def measured(nnunet: float = 79.0, **fields: Any) -> Results:
    """Two seeds of two recipes on originals, on umed and on random noise of the same epsilon."""
    rows = []
    for recipe, score in (("plain", 8.0), ("nnunet", nnunet)):
        for seed, shift in enumerate((-0.5, 0.5)):
            kind = {"recipe": recipe, "seed": seed}
            noise = {"method": "umed", "data": "umed 14/255", "epsilon": 14 / 255}
            rows.append(row("clean", 84.0 + shift, **kind))
            rows.append(row("protected", score + shift, **kind, **noise))
            rows.append(row("random noise", 83.0 + shift, epsilon=14 / 255, **kind))
    return dataclasses.replace(results(rows=rows, settings=SETTINGS), dataset="Phantom", **fields)

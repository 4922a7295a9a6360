# SPDX-License-Identifier: Apache-2.0
"""Small pictures with several labels that have nothing to do with each other."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import zoom

TASKS = {"brightness": ("bright", "dark"), "shape": ("disc", "square"), "stripes": ("along", "across")}
SIZE = 24


def draw_picture(rng: Generator, brightness: str, shape: str, stripes: str) -> NDArray:
    """A faint disc or square, brighter or darker than its surroundings, on fainter stripes and a cloud, with noise."""
    places = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij"))
    cloud = zoom(rng.normal(120, 6, (3, 3)), SIZE / 3, order=3)
    wave = 9 * np.sin(2 * np.pi * (places[0 if stripes == "along" else 1] / 6 + rng.random()))
    away = np.abs(places - rng.integers(9, SIZE - 9, 2)[:, None, None])
    inside = np.hypot(*away) <= 6 if shape == "disc" else away.max(axis=0) <= 6
    raised = np.where(inside, 10 if brightness == "bright" else -10, 0)
    return (cloud + wave + raised + rng.normal(0, 3, wave.shape)).round().clip(0, 255).astype(np.uint8)


def write_pictures(
    root: Path, count: int = 96, test_count: int = 48, tasks: tuple[str, ...] = tuple(TASKS), seed: int = 0
) -> Path:
    """PNG files and ``labels.csv`` with a column for each task; all combinations of classes are equally frequent."""
    rows = []
    for index in range(count + test_count):
        rng = np.random.default_rng([seed, index])
        names = {task: kinds[index >> place & 1] for place, (task, kinds) in enumerate(TASKS.items())}
        file = f"{'train' if index < count else 'test'}/{index:03d}.png"
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_picture(rng, **names)).save(root / file)
        rows.append([file, *(names[task] for task in tasks), file.split("/")[0]])
    with (root / "labels.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["image", *(f"label_{task}" for task in tasks), "split"], *rows])
    return root

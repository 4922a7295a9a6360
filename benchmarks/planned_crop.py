# SPDX-License-Identifier: Apache-2.0
"""What exploiters who crop and resample see of planned carriers, by what was guessed of their crop.

Carriers of all axes in scans with borders of zeros, of 0 to 6 voxels at each end: the crop of nnU-Net or MONAI, their
resampling to a spacing that is 1.2 to 1.8 times as wide, and the amplitude of the checkerboard that is left, of 1.

    python benchmarks/planned_crop.py
"""

from __future__ import annotations

import logging
from collections import defaultdict
from statistics import mean

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Spacing
from rich.console import Console
from rich.table import Table

from monai_unlearnable.data import Grid
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import NyquistCarriers, PlannedGrid
from monai_unlearnable.victims import ResampleSpacingd

SHAPE, DRAWS, WIDEST = (48, 44, 40), 20, 6
RULES = {"nnU-Net": "edges", "MONAI": "centers"}
GUESSES = {"crop": "nonzero", "no crop": "none", "native": None}


def seen(noise: torch.Tensor, inside: torch.Tensor, spacing: tuple[float, ...], rule: str, crops: bool) -> float:
    """The amplitude of the checkerboard in the resampled noise, 0 to 1."""
    data = {"noise": MetaTensor(noise, affine=torch.eye(4)), "image": inside}
    if crops:
        data = CropForegroundd(("noise", "image"), "image")(data)
    image = data["noise"]
    resampled = ResampleSpacingd("noise", spacing)({"noise": image})["noise"] if rule == "edges" else None
    values = np.asarray(Spacing(spacing)(image) if resampled is None else resampled)[0]
    return abs(float((values * (-1.0) ** np.indices(values.shape).sum(axis=0)).mean()))


def main() -> None:
    logging.getLogger("monai").setLevel(logging.ERROR)
    random, found = np.random.default_rng(0), defaultdict(list)
    for _ in range(DRAWS):
        spacing = tuple(random.uniform(1.2, 1.8, 3).tolist())
        borders = random.integers(0, WIDEST + 1, (len(SHAPE), 2))
        box = tuple(slice(low, extent - high) for extent, (low, high) in zip(SHAPE, borders, strict=True))
        inside = torch.zeros(1, *SHAPE)
        inside[(0, *box)] = 1
        grid = Grid.of(SHAPE, np.eye(4))
        for pipeline, rule in RULES.items():
            for guess, crop in GUESSES.items():
                plan = None if crop is None else PlannedGrid(spacing, rule, crop)
                carriers = NyquistCarriers(2, 3, 1.0, Everywhere(), carriers=[(), (0, 1, 2)], grid=plan)
                placed = carriers.for_grid(grid.cropped(inside.numpy() > 0) if crop == "nonzero" else grid)
                noise = placed.delta(torch.zeros(1, 1, *SHAPE), ["a"], torch.tensor([1]))[0] * inside
                for crops in (True, False):
                    found[pipeline, crops, guess].append(seen(noise, inside, spacing, rule, crops))
    table = Table("exploiter", *(f"planned: {guess}" for guess in GUESSES))
    for pipeline in RULES:
        for crops in (True, False):
            cells = (f"{mean(found[pipeline, crops, guess]):.2f}" for guess in GUESSES)
            table.add_row(f"{pipeline}, {'crops' if crops else 'does not crop'}", *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()

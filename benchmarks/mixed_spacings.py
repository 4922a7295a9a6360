# SPDX-License-Identifier: Apache-2.0
"""What carriers leave of exploiters who resample scans of mixed spacings, by the grid that was planned for.

Phantoms, each of a protocol of its own: thick slices in three directions, or voxels of 3 to 3.6 mm. ``carrier`` is
written on the grid of the files, on that of MONAI's tutorials, on that of nnU-Net, and on one that was guessed wrong.

    python benchmarks/mixed_spacings.py WORK [--workers 2] [settings of the matrix: --iterations 500 ...]
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from rich.console import Console

from monai_unlearnable.cli import parse_overrides
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.proof import laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report import victim_table

CASES = (60, 20)  # for training, for testing
EPSILON = 14 / 255
GRIDS = {"native": "native", "median": "median", "nnunet": "nnunet", "wrong": [3.6, 3.6, 3.6]}
SETTINGS = {
    "victims": ["UNet"],
    "recipes": ["monai"],
    "countermeasures": ["none"],
    "width": 8,
    "seeds": 2,
    "iterations": 2500,
    "batch_size": 2,
    "authorized": False,
    "detectors": False,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--grids", nargs="+", default=["native", "median", "wrong"], choices=GRIDS)
    parser.add_argument("--carriers", help="of the method, such as [0,1,2]; its own choice by default")
    arguments, settings = parser.parse_known_args()
    carriers = parse_overrides([] if arguments.carriers is None else ["--carriers", arguments.carriers])
    logging.basicConfig(format="%(message)s")
    data, outputs = arguments.work / "phantoms", {}
    write_phantom_dataset(data, *CASES, size=None)
    for name in arguments.grids:
        output = outputs[f"carrier {name}"] = arguments.work / name
        if not Layout(output).records:
            paths = {"dataset_dir": str(data), "output_dir": str(output)}
            run_bundle("carrier", epsilon=EPSILON, grid=GRIDS[name], **carriers, **paths)
    chosen = {**SETTINGS, **parse_overrides(settings)}
    results, page = laboratory(data, arguments.work / "laboratory", outputs, workers=arguments.workers, **chosen)
    Console(width=150).print(victim_table(results), results.verdict(), str(page), sep="\n")


if __name__ == "__main__":
    sys.exit(main())

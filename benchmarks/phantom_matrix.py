# SPDX-License-Identifier: Apache-2.0
"""The whole laboratory on phantoms: 3 victims x 2 recipes x 4 countermeasures x {clean, umed, random noise}.

python benchmarks/phantom_matrix.py OUT [--workers 2] [settings of the matrix: --iterations 100 ...]
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

from rich.console import Console

from monai_unlearnable.cli import parse_overrides
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.proof import laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import victim_table

SETTINGS = {
    "victims": ["UNet", "BasicUNet", "UNet2D"],
    "recipes": ["plain", "nnunet"],
    "countermeasures": ["none", "binomial", "median", "jpeg"],
    "iterations": 100,
    "batch_size": 2,
    "num_validations": 4,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    arguments, settings = parser.parse_known_args()
    console = Console(width=150)
    logging.basicConfig(format="%(message)s")
    begin = time.monotonic()
    data, output = arguments.out / "phantoms", arguments.out / "umed"
    write_phantom_dataset(data)
    if not Layout(output).manifest.is_file():
        run_bundle("umed", dataset_dir=str(data), output_dir=str(output))
    verify(output, data)
    console.print(f"phantoms protected: {time.monotonic() - begin:.0f} s")
    begin = time.monotonic()
    known = {"workers": arguments.workers, "report_dir": arguments.out / "report"}
    chosen = {**known, **SETTINGS, **parse_overrides(settings)}
    results, page = laboratory(data, arguments.out / "laboratory", {"umed": output}, **chosen)
    console.print(victim_table(results), results.verdict(), sep="\n")
    console.print(f"{len(results.rows)} runs and their report: {time.monotonic() - begin:.0f} s, {page}")


if __name__ == "__main__":
    sys.exit(main())

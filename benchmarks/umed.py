# SPDX-License-Identifier: Apache-2.0
"""UMed on a dataset: what it costs, what it does to the scans, what it leaves to victims.

Protects the first cases by name through the bundle, trains victims on clean, protected and random-noise files, and
scores them on the other cases. Every figure comes from files reloaded from disk.

    python benchmarks/umed.py DATA/hippocampus OUT [bundle settings: --epsilon 0.03 ...]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from pathlib import Path

from rich.console import Console

from monai_unlearnable.cli import parse_overrides, parse_value
from monai_unlearnable.data import load_cases
from monai_unlearnable.proof import evaluate
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import victim_table


def write_datalist(data: Path, path: Path, count: int) -> Path:
    """The split by name: the first ``count`` cases are for training, the others for testing."""
    entries = [{"image": case.images[0], "label": case.label} for case in load_cases(data)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"training": entries[:count], "test": entries[count:]}))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--training_cases", type=int, default=140)
    parser.add_argument("--matrix", type=parse_value, default={"size": [40, 56, 40], "seeds": 2}, help="a dictionary")
    arguments, settings = parser.parse_known_args()
    console = Console(width=150)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("monai_unlearnable").setLevel(logging.INFO)
    datalist = write_datalist(arguments.data, arguments.out / "split.json", arguments.training_cases)
    output = arguments.out / "umed"
    known = {"dataset_dir": str(arguments.data), "datalist": str(datalist), "output_dir": str(output)}
    begin = time.monotonic()
    run_bundle("umed", **known, overwrite=True, **parse_overrides(settings))
    protecting = time.monotonic() - begin
    manifest = verify(output, arguments.data)
    console.print(f"protecting {len(manifest.scans)} scans: {protecting:.0f} s")
    begin = time.monotonic()
    results, page = evaluate(output, arguments.data, datalist=str(datalist), **arguments.matrix)
    console.print(victim_table(results), results.verdict(), results.figures, f"report: {page}", sep="\n")
    console.print(f"{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    sys.exit(main())

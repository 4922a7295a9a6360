# SPDX-License-Identifier: Apache-2.0
"""How strong a countermeasure may be, if it may cost a victim of originals 2 points at most; and what it undoes.

python benchmarks/countermeasure_strength.py DATASET OUT --datalist LIST --protected "{'umed': 'OUT'}" [--only NAME,...]

Settings of the laboratory may follow (--iterations 500 ...). OUT is a laboratory: nothing is trained twice.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from monai_unlearnable.cli import parse_overrides
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix, Run
from monai_unlearnable.report.rows import CLEAN

COST = 2.0  # points of the score that a countermeasure may cost a victim of originals
COUNTERMEASURES = "monai_unlearnable.countermeasures"
SETTINGS = {
    "size": [48, 64, 48],
    "batch_size": 2,
    "iterations": 500,
    "num_validations": 2,
    "authorized": False,
    "detectors": False,
}


def image_step(name: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"_target_": f"{COUNTERMEASURES}.{name}", "keys": "image", **settings}]


def learned(name: str, **settings: Any) -> list[dict[str, Any]]:
    return [{"_target_": f"{COUNTERMEASURES}.{name}", **settings}]


# From weak to strong: the words of a table, and the entry of a catalog.
LADDERS: dict[str, dict[str, Any]] = {
    "sharpen_lowpass": {
        f"kept {kept}": image_step("RandSharpenLowPassd", center=2.0, kept=kept) for kept in (0.7, 0.5, 0.4, 0.3)
    },
    "kspace_clip": {
        f"factor {factor}": image_step("ClipSpectrumd", factor=factor, inner=0.2) for factor in (3.0, 2.0, 1.5, 1.0)
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--protected", default="{}")
    parser.add_argument("--only", default=",".join(LADDERS))
    arguments, settings = parser.parse_known_args()
    logging.basicConfig(format="%(message)s")
    chosen: dict[str, Any] = {**SETTINGS, **parse_overrides(["--protected", arguments.protected, *settings])}
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = Table("countermeasure", "setting", "originals", *chosen["protected"])
    scores: dict[tuple[str, str], float] = {}
    for kind in arguments.only.split(","):
        laboratory = ladder(arguments, kind, chosen)

        def score(name: str, data: str, laboratory: Laboratory = laboratory, kind: str = kind) -> float:
            if (name, data) not in scores:
                recipe, countermeasure = ("plain", name)
                scores[name, data] = laboratory.train(Run(data, "UNet", recipe, countermeasure, 0)).score
            return scores[name, data]

        bare = score("none", CLEAN)
        affordable = ""
        for words in LADDERS[kind]:
            value = score(f"{kind} {words}", CLEAN)
            if bare - value > COST:
                table.add_row(kind, words, f"{value:.1f}")
                break
            affordable = words
            table.add_row(kind, words, f"{value:.1f}")
        for name, words in {"none": "", f"{kind} {affordable}": affordable}.items():
            found = [f"{score(name, data):.1f}" for data in (CLEAN, *chosen["protected"])]
            table.add_row(kind if words else "none", words, *found)
        Console(width=120).print(table)


def ladder(arguments: argparse.Namespace, kind: str, settings: dict[str, Any]) -> Laboratory:
    """A laboratory whose catalog holds all strengths of one countermeasure."""
    entries = {f"{kind} {words}": entry for words, entry in LADDERS[kind].items()}
    file = arguments.out / f"{kind}.yaml"
    file.write_text(yaml.safe_dump({"countermeasures": entries}), encoding="utf-8")
    matrix = Matrix.of(dataset_dir=arguments.dataset, catalog=str(file), **settings)
    return Laboratory(matrix, arguments.out)


if __name__ == "__main__":
    sys.exit(main())

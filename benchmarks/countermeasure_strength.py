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
COUNTERMEASURES, VICTIMS = "monai_unlearnable.countermeasures", "monai_unlearnable.victims"
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


def recipe(**settings: Any) -> dict[str, Any]:
    own = ("iterations", "batch_size", "learning_rate")
    values = {name: f"@{name}" for name in own} | {"size": "$tuple(@size)", "name": "tried"}
    return {"_target_": f"{VICTIMS}.Recipe", **values, **settings}


def part(name: str, **settings: Any) -> dict[str, Any]:
    return {"_target_": f"{VICTIMS}.{name}", **settings}


HARD = part("hard_augmentation", dims="@dims", keys="@keys")
FOLDERS = {"protected": "$@other_protected_dir or ''", "originals": "$@other_dir or ''"}

# From strong to weak: the words of a table, and the entry of a catalog.
LADDERS: dict[str, tuple[str, dict[str, Any]]] = {
    "kspace_clip": (
        "countermeasures",
        {f"factor {f}": image_step("ClipSpectrumd", factor=f, inner=0.2) for f in (1.0, 1.5, 2.0, 3.0)},
    ),
    "sharpen_lowpass": (
        "countermeasures",
        {f"kept {k}": image_step("RandSharpenLowPassd", center=2.0, kept=k) for k in (0.3, 0.4, 0.5, 0.7)},
    ),
    "denoiser": (
        "countermeasures",
        {f"amplitude {a}/255": learned("Denoiser", scans="@other_dir", amplitude=a / 255) for a in (64, 32, 16, 8)},
    ),
    "remover": ("countermeasures", {"64 pairs": learned("Remover", **FOLDERS)}),
    "loss_maximizing": (
        "recipes",
        {
            f"{draws} draws of {strength}": recipe(
                adversary=part("LossMaximizing", augmentation={**HARD, **how}, draws=draws)
            )
            for draws, strength, how in (
                (5, "all", {}),
                (5, "half, not mirrored", {"strength": 0.5, "mirror": False}),
                (2, "half, not mirrored", {"strength": 0.5, "mirror": False}),
                (2, "a quarter, not mirrored", {"strength": 0.25, "mirror": False}),
            )
        },
    ),
    "slow_stem": ("recipes", {f"slow {f}": recipe(pace=part("SlowStem", slow=f)) for f in (0, 0.01, 0.1)}),
    "weight_recovery": (
        "recipes",
        {f"radius {r}": recipe(recovery=part("WeightRecovery", radius=r)) for r in (0.5, 0.2, 0.1)},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("out", type=Path)
    parser.add_argument("--protected", default="{}")
    parser.add_argument("--only", default=",".join(LADDERS))
    arguments, settings = parser.parse_known_args()
    logging.basicConfig(format="%(message)s")
    logging.getLogger("monai_unlearnable").setLevel(logging.INFO)
    words = ["--protected", arguments.protected, *settings]
    chosen: dict[str, Any] = {**SETTINGS, **parse_overrides(words)}
    arguments.out.mkdir(parents=True, exist_ok=True)
    table = Table("what is tried", "setting", "originals", *chosen["protected"])
    for name in arguments.only.split(","):
        rungs = Rungs(name, arguments.dataset, arguments.out, chosen)
        bare = rungs.score("", CLEAN)
        for setting in LADDERS[name][1]:
            if (clean := rungs.score(setting, CLEAN)) >= bare - COST:
                table.add_row(name, setting, *(f"{rungs.score(setting, data):.1f}" for data in rungs.data))
                break
            table.add_row(name, setting, f"{clean:.1f}", *["costs too much"] * (len(rungs.data) - 1))
        Console(width=120).print(table)
    table.add_row("nothing", "", *(f"{rungs.score('', data):.1f}" for data in rungs.data))
    Console(width=120).print(table)


class Rungs:
    """All strengths of one countermeasure or recipe, in a laboratory that keeps what was trained."""

    def __init__(self, name: str, dataset: str, out: Path, settings: dict[str, Any]) -> None:
        self.name, (self.kind, entries) = name, LADDERS[name]
        file = out / f"{name}.yaml"
        file.write_text(yaml.safe_dump({self.kind: {f"{name} {key}": entry for key, entry in entries.items()}}))
        self.laboratory = Laboratory(Matrix.of(dataset_dir=dataset, catalog=str(file), **settings), out)
        self.data = [CLEAN, *settings["protected"]]

    def score(self, setting: str, data: str) -> float:
        """The score of a victim with a setting, or with none."""
        names = {"recipes": "plain", "countermeasures": "none"}
        if setting:
            names[self.kind] = f"{self.name} {setting}"
        return self.laboratory.train(Run(data, "UNet", names["recipes"], names["countermeasures"], 0)).score


if __name__ == "__main__":
    sys.exit(main())

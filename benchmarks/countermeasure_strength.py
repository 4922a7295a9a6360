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
from monai_unlearnable.report import VictimRow
from monai_unlearnable.report.rows import CLEAN

VICTIM, SEED = "UNet", 0
NOTHING = {"recipes": "plain", "countermeasures": "none"}
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
        {f"kept {k}": image_step("RandSharpenLowPassd", center=2.0, kept=k) for k in (0.2, 0.25, 0.3, 0.4, 0.5, 0.7)},
    ),
    "denoiser": (
        "countermeasures",
        {
            f"amplitude {a}/255": learned("Denoiser", scans="@other_dir", amplitude=a / 255)
            for a in (255, 128, 64, 32, 16, 8)
        },
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
        {f"radius {r}": recipe(recovery=part("WeightRecovery", radius=r)) for r in (1.0, 0.5, 0.2, 0.1)},
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
    laboratory = prepared(arguments.dataset, arguments.out, chosen)
    data = list(laboratory.sources)
    bare = train(laboratory, CLEAN)
    if not bare.done:
        sys.exit(f"a victim of the originals has no score, which all others are compared with: {bare.status}")
    title = f"{bare.metric} in percent, {bare.iterations} iterations, seed {SEED}"
    table = Table("what is tried", "setting", "originals", *data[1:], title=title)
    for name in arguments.only.split(","):
        for setting in LADDERS[name][1]:
            clean = train(laboratory, CLEAN, name, setting)
            if clean.done and clean.score >= bare.score - COST:
                table.add_row(name, setting, *(told(train(laboratory, one, name, setting)) for one in data))
                break
            verdict = "costs too much" if clean.done else ""
            table.add_row(name, setting, told(clean), *[verdict] * (len(data) - 1))
        Console(width=120).print(table)
    table.add_row("nothing", "", *(told(train(laboratory, one)) for one in data))
    Console(width=120).print(table)


def prepared(dataset: str, out: Path, settings: dict[str, Any]) -> Laboratory:
    """The laboratory of all ladders, which ``report`` and ``evidence record`` open; it keeps what was trained."""
    entries: dict[str, dict[str, Any]] = {"recipes": {}, "countermeasures": {}}
    for name, (kind, ladder) in LADDERS.items():
        entries[kind] |= {f"{name} {setting}": entry for setting, entry in ladder.items()}
    out.mkdir(parents=True, exist_ok=True)
    catalog = out / "catalog.yaml"
    catalog.write_text(yaml.safe_dump(entries))
    names = {kind: (first, *entries[kind]) for kind, first in NOTHING.items()}
    fixed = {"dataset_dir": dataset, "catalog": str(catalog), "victims": [VICTIM], "seeds": [SEED], **names}
    laboratory = Laboratory(Matrix.of(**{**settings, **fixed}), out)
    laboratory.matrix.save(out)
    return laboratory


def train(laboratory: Laboratory, data: str, name: str = "", setting: str = "") -> VictimRow:
    """The row of a victim with a setting, or with none."""
    names = dict(NOTHING)
    if name:
        names[LADDERS[name][0]] = f"{name} {setting}"
    return laboratory.train(Run(data, VICTIM, names["recipes"], names["countermeasures"], SEED))


def told(row: VictimRow) -> str:
    """The score of a row, or why it has none."""
    return f"{row.score:.1f}" if row.done else row.status


if __name__ == "__main__":
    sys.exit(main())

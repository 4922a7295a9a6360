# SPDX-License-Identifier: Apache-2.0
"""The three anti-learning perturbations and their controls on one dataset, in one table.

Protects the training part with every method at one epsilon, trains classifiers on each, and scores them on clean
held-out images. Every figure comes from files reloaded from disk.

    python benchmarks/anti_learning.py DATA/pneumoniamnist/pneumoniamnist.npz OUT [--seeds 3 or other of the matrix]
    python benchmarks/anti_learning.py DATA/brain_tumor_mri OUT [--side 96] [--methods lsp,error_minimizing]

A folder of classes is converted to grey PNG of one side first, and split by the hash of each of these: a fifth is for
testing. Patients are not identified there, so that both parts may hold images of one. Data that other code protected
take part with --others "{'public_em': 'FOLDER'}"; they have the same relative names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from rich.console import Console

from monai_unlearnable.budget import Budget
from monai_unlearnable.cli import parse_overrides, parse_value
from monai_unlearnable.data import load_cases, unpack_archive
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.proof import laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report import Results, victim_table

WHOLE: dict[str, Any] = {"unperturbed": None}  # noise in the images of all classes
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "error_minimizing": ("error_minimizing", {}),
    "error_minimizing_all": ("error_minimizing", WHOLE),
    "error_minimizing_class_all": ("error_minimizing_class", WHOLE),
    "error_maximizing_all": ("error_maximizing", WHOLE),
    "error_maximizing_untargeted_all": ("error_maximizing_untargeted", WHOLE),
    "lsp": ("lsp", {}),
    **{f"{pattern}_all": (pattern, WHOLE) for pattern in ("lsp", "ar", "cuda", "ops", "lattice", "linear")},
}
CONTROLS = ("sign", "uniform", "gaussian", "low_pass")
MATRIX = {
    "victims": ["ResNet18"],
    "iterations": 500,
    "batch_size": 32,
    "seeds": 2,
    "num_validations": 5,
    "control": False,
    "authorized": False,
    "detectors": False,
}


def convert(source: Path, folder: Path, side: int, mode: str = "L") -> None:
    """Images of class folders as PNG of one size, grey or RGB, with a datalist; equal images go to the same part."""
    sections: dict[str, list[dict[str, Any]]] = {"training": [], "test": []}
    for case in load_cases(source):
        path = folder / f"{case.case_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(source / case.images[0]) as image:
            image.convert(mode).resize((side, side), Image.Resampling.BILINEAR).save(path)
        digest = int(hashlib.sha256(path.read_bytes()).hexdigest(), 16)
        section = "test" if digest % 5 == 0 else "training"
        sections[section].append({"image": f"{case.case_id}.png", "label": case.target})
    (folder / "datalist.json").write_text(json.dumps(sections))


def prepare(source: Path, folder: Path, side: int, mode: str = "L") -> Path:
    """A dataset of files with a datalist in ``folder``: an archive unpacked, or class folders converted.

    An archive without a part for testing is tested on the one for validation, which nothing else uses.
    """
    datalist = folder / "datalist.json"
    if not datalist.is_file():
        if source.suffix == ".npz":
            unpack_archive(source, folder)
            sections = json.loads(datalist.read_text())
            datalist.write_text(json.dumps({"test": sections.get("validation", []), **sections}))
        else:
            convert(source, folder, side, mode)
    return folder


def protect(data: Path, out: Path, methods: list[str], epsilon: float, console: Console) -> dict[str, str]:
    """Protect ``data`` with each method and control; returns the folders by name."""
    folders = {}
    for name in [*methods, *(f"random_{kind}" for kind in CONTROLS)]:
        folder = out / name
        begin = time.monotonic()
        if not Layout(folder).manifest.is_file():
            if name in METHODS:
                method, settings = METHODS[name]
                run_bundle(method, dataset_dir=str(data), output_dir=str(folder), epsilon=epsilon, **settings)
            else:
                noise = RandomNoise(epsilon, Everywhere(), distribution=name.removeprefix("random_"))
                Publication(load_cases(data), noise, folder, DtypeWindow(), Budget(epsilon)).run()
            console.print(f"{name}: protected in {time.monotonic() - begin:.0f} s")
        folders[name] = str(folder)
    return folders


def examine(
    data: Path, protected: Mapping[str, str], out: Path, settings: list[str], workers: int
) -> tuple[Results, Path]:
    """Train classifiers on everything, as :data:`MATRIX` says unless ``settings`` do; returns results and report."""
    chosen = {"workers": workers, "report_dir": out / "report", **MATRIX, **parse_overrides(settings)}
    return laboratory(data, out / "laboratory", protected, **chosen)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--epsilon", type=float, default=8 / 255)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--others", type=parse_value, default={}, help="folders of other code's data, by name")
    parser.add_argument("--workers", type=int, default=2)
    arguments, settings = parser.parse_known_args()
    console = Console(width=150)
    logging.basicConfig(format="%(message)s")
    data = prepare(arguments.data, arguments.out / "data", arguments.side)
    folders = protect(data, arguments.out, arguments.methods.split(","), arguments.epsilon, console)
    protected = {**folders, **arguments.others}
    results, page = examine(data, protected, arguments.out, settings, arguments.workers)
    console.print(victim_table(results), results.verdict(), f"report: {page}", sep="\n")


if __name__ == "__main__":
    sys.exit(main())

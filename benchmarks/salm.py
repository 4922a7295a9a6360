# SPDX-License-Identifier: Apache-2.0
"""Noise on K percent of the voxels, chosen in several ways: what it costs and what it protects.

Protects the training part of a classification dataset with the ``salm`` bundle for every K, choice of voxels and
epsilon, trains classifiers on each, and scores them on clean held-out images. Figures are those of files reloaded from
disk.

    python benchmarks/salm.py DATA/brain_tumor_mri OUT [--scores gradient,random] [--epsilons 8,16] [--percents 5,20]
    python benchmarks/salm.py DATA/pneumoniamnist/pneumoniamnist.npz OUT [--seeds 3 or other of the matrix]
    python benchmarks/salm.py DATA/brain_tumor_mri OUT --variants "{'step': {'mask_refresh': 'step'}}" --percents 20

Everything is kept in OUT: a run that was stopped goes on. Each variant is a set of further settings of the bundle.
Times are those of one of --workers processes that run side by side.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from anti_learning import examine, prepare
from rich.console import Console
from rich.table import Table

from monai_unlearnable.cli import parse_value
from monai_unlearnable.data import load_cases, read_case
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore
from monai_unlearnable.perturbers import GradientNoise, load_input_settings, load_perturber
from monai_unlearnable.perturbers.inference import generate_noises
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report import Results

PERCENTS = "1,2,5,10,20,50,100"
COLUMNS = (
    "Noise",
    "Radius",
    "Voxels",
    "Victim",
    "Score",
    "Seeds",
    "AUC",
    "PSNR",
    "SSIM",
    "L0",
    "Bytes",
    "Steps",
    "Time",
)
CHECKPOINT, COSTS = "perturber.safetensors", "costs.json"
SAMPLE = 64  # images that gradient steps are counted on


@dataclass(frozen=True)
class Setting:
    """One way to protect the dataset."""

    score: str
    percent: float
    epsilon: float
    variant: str = ""

    @property
    def name(self) -> str:
        return " ".join(filter(None, (self.score, self.variant, f"{self.percent:g}% {self.epsilon:g}/255")))

    @property
    def folder(self) -> str:
        return self.name.replace(" ", "_").replace("/255", "").replace("%", "")


def settings_of(arguments: argparse.Namespace) -> list[Setting]:
    """All that is to be compared; on all voxels there is nothing to choose."""
    found = []
    for epsilon in map(float, arguments.epsilons.split(",")):
        for percent in map(float, arguments.percents.split(",")):
            for score in arguments.scores.split(",") if percent < 100 else ("gradient",):
                found += [Setting(score, percent, epsilon, variant) for variant in arguments.variants or ("",)]
    return found


def protect(data: Path, folder: Path, setting: Setting, further: Mapping[str, Any]) -> None:
    """Protect ``data`` in one way, unless it was done before, and note what it cost and what the files say."""
    if (folder / COSTS).is_file():
        return
    costs: dict[str, float] = {}
    if not Layout(folder).manifest.is_file():
        begin = time.monotonic()
        choice = {"score": setting.score, "fraction": setting.percent / 100, "epsilon": setting.epsilon / 255}
        run_bundle("salm", dataset_dir=str(data), output_dir=str(folder), **choice, **further)
        costs["seconds"] = time.monotonic() - begin
    (folder / COSTS).write_text(json.dumps({**costs, **figures(data, folder)}))


def figures(data: Path, folder: Path) -> dict[str, float]:
    """What the files say, means over the images that changed: PSNR, SSIM, fraction of pixels changed, bytes of a noise
    file, gradient steps for the noise of an image."""
    layout = Layout(folder)
    manifest, store, checkpoint = Manifest.load(layout.manifest), NoiseStore(layout.noise), layout.models / CHECKPOINT
    changed = [entry for entry in manifest.scans if entry.measured["l0"]]
    found = {name: float(np.mean([entry.measured[name] for entry in changed])) for name in ("psnr", "ssim", "l0")}
    found["bytes"] = float(np.mean([store.path(entry.scan_id).stat().st_size for entry in changed]))
    perturber = cast(GradientNoise, load_perturber(checkpoint))
    if perturber.fitted is None:
        found["steps"] = perturber.steps * len(perturber.networks)
    else:
        found["steps"] = counted_steps(perturber, data, checkpoint, changed)
    return found


def counted_steps(perturber: GradientNoise, data: Path, checkpoint: Path, changed: Sequence[NoiseEntry]) -> float:
    """Gradient steps for the noise of an image, where fitted images take fewer: the mean over some."""
    window, wanted = load_input_settings(checkpoint).window, {entry.case_id for entry in changed[:SAMPLE]}
    cases = [read_case(case, window) for case in load_cases(data) if case.case_id in wanted]
    generate_noises(perturber, *zip(*((case.image, case.case.case_id, case.target) for case in cases), strict=True))
    return perturber.case_steps / len(cases)


def protect_all(data: Path, folders: Mapping[Setting, Path], variants: Mapping[str, Any], workers: int) -> None:
    """Protect ``data`` in all ways, so many at a time."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, torch.set_num_threads, (threads,)) as pool:
        jobs = [
            pool.submit(protect, data, folder, setting, variants.get(setting.variant, {}))
            for setting, folder in folders.items()
        ]
        for job in jobs:
            job.result()


def shown_costs(costs: Mapping[str, float]) -> list[str]:
    """The last columns of the table."""
    psnr, ssim, l0 = f"{costs['psnr']:.1f}", f"{costs['ssim']:.4f}", f"{100 * costs['l0']:.1f}%"
    seconds = f"{costs['seconds']:.0f} s" if "seconds" in costs else "interrupted"
    return [psnr, ssim, l0, f"{costs['bytes']:.0f}", f"{costs['steps']:.0f}", seconds]


def table(results: Results, data: Path, folders: Mapping[Setting, Path]) -> Table:
    """One row for each way and victim."""
    shown = Table(*COLUMNS)
    summaries = results.summaries()
    for row in summaries:
        if row.data == "clean":
            finals = ", ".join(f"{final:.1f}" for final in row.finals)
            shown.add_row("none", "", "", row.victim, f"{row.score:.1f}", finals, f"{row.extras['auc']:.1f}")
    for setting, folder in folders.items():
        rows = [row for row in summaries if row.data == setting.name]
        costs = shown_costs(json.loads((folder / COSTS).read_text()))
        for row in rows:
            finals = ", ".join(f"{final:.1f}" for final in row.finals)
            noise = " ".join(filter(None, (setting.score, setting.variant)))
            words = (noise, f"{setting.epsilon:g}/255", f"{setting.percent:g}%", row.victim)
            shown.add_row(*words, f"{row.score:.1f}", finals, f"{row.extras['auc']:.1f}", *costs)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--percents", default=PERCENTS)
    parser.add_argument("--scores", default="gradient,random,foreground")
    parser.add_argument("--epsilons", default="8,16", help="epsilons, in 1/255")
    parser.add_argument("--color", action="store_true", help="keep the channels of color files")
    parser.add_argument("--variants", type=parse_value, default={}, help="further settings of the bundle, by name")
    parser.add_argument("--workers", type=int, default=2)
    arguments, further = parser.parse_known_args()
    console = Console(width=170)
    logging.basicConfig(format="%(message)s")
    data = prepare(arguments.data, arguments.out / "data", arguments.side, "RGB" if arguments.color else "L")
    folders = {setting: arguments.out / setting.folder for setting in settings_of(arguments)}
    protect_all(data, folders, arguments.variants, arguments.workers)
    protected = {setting.name: str(folder) for setting, folder in folders.items()}
    results, page = examine(data, protected, arguments.out, further, arguments.workers)
    console.print(table(results, data, folders), results.verdict(), f"report: {page}", sep="\n")


if __name__ == "__main__":
    sys.exit(main())

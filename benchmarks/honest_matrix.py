# SPDX-License-Identifier: Apache-2.0
"""The honest matrix: what the strongest methods leave to every pipeline that an exploiter would use.

Protects a dataset with each method, and trains one run after the other, those first that tell most, until the time is
up. A repeated call goes on where the last one stopped, on another machine too: the runs of all calls, with scores by
case and curves, are kept beside this file. So is what the methods trained to make their noise, since another processor
would train something else; from there the noise takes seconds. Figures become evidence with ``evidence record LAB``.

    python benchmarks/honest_matrix.py DATA/hippocampus WORK [--minutes 120] [--workers 2] [--recipes plain,mirror]

``--recipes`` and ``--without`` choose what is trained now; the laboratory keeps all that was trained before. ``--size``
and ``--width`` make a laboratory of their own, for patches that are smaller than the scans for instance, and for
networks as wide as those of MONAI's tutorials:

    python benchmarks/honest_matrix.py DATA/hippocampus WORK --recipes monai --size 32 32 32 --width 16

So does ``--control``, which gives random noise the budget of another method:

    python benchmarks/honest_matrix.py DATA/left_atrium WORK --control "foresight nnunet 22/255" --size 64 48 32
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from monai_unlearnable.cli import parse_overrides
from monai_unlearnable.data import load_cases
from monai_unlearnable.evaluation.laboratory import RUNS, Laboratory
from monai_unlearnable.evaluation.matrix import Run
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import apply, run_bundle
from monai_unlearnable.report import victim_table
from monai_unlearnable.report.rows import FAILED, OWN_RECIPE

METHODS = {
    "lattice 14/255": ("lattice", 14, {}),
    "umed 14/255": ("umed", 14, {}),
    "voxshield 8/255": ("voxshield", 8, {}),
    "foresight 8/255": ("foresight", 8, {}),
    "foresight mirror 8/255": ("foresight", 8, {"recipe": "mirror"}),
    "foresight nnunet 22/255": ("foresight", 22, {"recipe": "nnunet"}),
    "carrier 14/255": ("carrier", 14, {}),
    "carrier 8/255": ("carrier", 8, {}),
    "carrier slices 14/255": ("carrier", 14, {"carriers": [0, 1]}),
    "carrier slices 8/255": ("carrier", 8, {"carriers": [0, 1]}),
    "carrier checkerboard 7.8/255": ("carrier", 7.8, {"carriers": [0, 1, 2]}),
    "carrier one sign 7.8/255": ("carrier", 7.8, {"carriers": [0, 1, 2], "same_sign": True}),
    "carrier one sign 6/255": ("carrier", 6, {"carriers": [0, 1, 2], "same_sign": True}),
}
TRAINING_CASES = {"hippocampus": 140, "left_atrium": 38}  # the others, by name, are for testing
TOO_FEW_LEVELS = {"left_atrium": (0, 1, 10, 13, 18, 27, 33, 48, 49)}  # under 32 in the window: nothing of 8/255 fits
RECIPES = {
    "hippocampus": ("patches", "monai", "nnunet", "mirror", "plain"),
    "left_atrium": ("patches", "nnunet", "plain"),  # patches smaller than the scans: --size 64 48 32
}
ORDER = ("patches", "monai", "nnunet", "mirror", "plain", "own")
EXTERNAL = ("nnunetv2_noda", "nnunetv2")
WITH_NNUNET = ("hippocampus",)
KNOWN_RUNS = Path(__file__).with_suffix("")  # a folder a dataset
TRAINED = "trained"  # the folder there of what methods trained
SIZE = {"hippocampus": (48, 64, 48), "left_atrium": None}  # whole volumes; None is about the median
WIDTH = 8
CONTROL = "lattice 14/255"
SETTINGS = {"iterations": 2500, "batch_size": 2, "seeds": 2, "validation_fraction": 0}
SETTINGS |= {"authorized": False, "detectors": False}


def write_datalist(data: Path, file: Path) -> Path:
    """The split by name."""
    omitted = TOO_FEW_LEVELS.get(data.name, ())
    cases = [case for number, case in enumerate(load_cases(data)) if number not in omitted]
    entries = [{"image": case.images[0], "label": case.label} for case in cases]
    count = TRAINING_CASES[data.name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"training": entries[:count], "test": entries[count:]}))
    return file


def protect_all(data: Path, datalist: Path, folder: Path, control: str, without: list[str]) -> dict[str, Path]:
    """The outputs of all methods; those that are complete already are left as they are.

    Those to do without are there if they were made before, so that their figures stay. First comes the one whose budget
    the control takes, which always is there.
    """
    outputs: dict[str, Path] = {}
    for name in dict.fromkeys([control, *METHODS]):
        output = folder / name.replace("/255", "").replace(" ", "_")
        is_made = bool(Layout(output).records)
        if name in without and outputs and not is_made:
            continue
        outputs[name] = output
        if not is_made:
            protect_one(KNOWN_RUNS / data.name / TRAINED / f"{output.name}.safetensors", name, data, datalist, output)
    return outputs


def protect_one(known: Path, name: str, data: Path, datalist: Path, output: Path) -> None:
    """Protect with what an earlier call trained, or else train it and keep it."""
    method, epsilon, settings = METHODS[name]
    if known.is_file():
        apply(known, data, output, datalist=str(datalist))
        return
    paths = {"dataset_dir": str(data), "datalist": str(datalist), "output_dir": str(output)}
    run_bundle(method, epsilon=epsilon / 255, **paths, **settings)
    known.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Layout(output).checkpoint, known)


def exchange(known: Path, runs: Path) -> None:
    """Give each of two folders the runs that only the other has. They are named by all that decides on their result."""
    for source, target in ((known, runs), (runs, known)):
        target.mkdir(parents=True, exist_ok=True)
        for file in source.glob("*.json"):
            is_done = not json.loads(file.read_text())["status"].startswith(FAILED)
            if is_done and not (target / file.name).exists():
                shutil.copyfile(file, target / file.name)


def in_order(runs: list[Run]) -> list[Run]:
    """Seed by seed, so that a stop leaves whole columns of the table; recipes that have no place in the order last."""
    place = {recipe: number for number, recipe in enumerate(ORDER)}
    return sorted(runs, key=lambda run: (run.seed, run.victim in EXTERNAL, place.get(run.recipe, len(place))))


def train_until(deadline: float, laboratory: Laboratory, runs: list[Run], workers: int) -> None:
    """Train runs in processes of their own, and begin none after the deadline.

    The workers share the cores, unless ``OMP_NUM_THREADS`` says how many threads each may have.
    """
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // workers)), **os.environ}
    console = Console(width=150)

    def train(run: Run) -> None:
        if time.monotonic() > deadline:
            return
        command = [sys.executable, "-m", "monai_unlearnable", "run", str(laboratory.folder)]
        chosen = [("data", run.data), ("victim", run.victim), ("recipe", run.recipe)]
        chosen += [("countermeasure", run.countermeasure), ("seed", str(run.seed))]
        begin = time.monotonic()
        options = itertools.chain.from_iterable((f"--{name}", value) for name, value in chosen)
        done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
        told = (done.stdout or done.stderr).strip().splitlines()
        console.print(
            f"{run.recipe}, seed {run.seed}: {told[-1] if told else 'failed'}, {time.monotonic() - begin:.0f} s"
        )

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(train, runs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=120, help="no training begins later")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--recipes", help="names of the recipes to train now, comma-separated; all by default")
    parser.add_argument("--without", nargs="*", default=[], help="names of methods, recipes or victims to omit")
    parser.add_argument("--control", default=CONTROL, choices=METHODS, help="method whose budget random noise takes")
    parser.add_argument("--size", nargs="+", type=int, help="another size of the network input, in voxels")
    parser.add_argument("--width", type=int, default=WIDTH, help="filters of the first layer of the networks")
    arguments, settings = parser.parse_known_args()
    logging.basicConfig(format="%(message)s")
    deadline = time.monotonic() + 60 * arguments.minutes
    name, work = arguments.data.name, arguments.work
    datalist = write_datalist(arguments.data, work / f"{name}.json")
    outputs = protect_all(arguments.data, datalist, work / name, arguments.control, arguments.without)
    victims = ("UNet", *EXTERNAL) if name in WITH_NNUNET else ("UNet",)
    named = arguments.recipes.split(",") if arguments.recipes else [*RECIPES[name], OWN_RECIPE]
    recipes = tuple(recipe for recipe in dict.fromkeys([*RECIPES[name], *named]) if recipe != OWN_RECIPE)
    size = tuple(arguments.size) if arguments.size else SIZE[name]
    width = arguments.width
    parts = [name, *map(str, arguments.size or ()), *([] if width == WIDTH else [f"width{width}"])]
    parts += [] if arguments.control == CONTROL else ["control", outputs[arguments.control].name]
    folder = work / "laboratory" / "-".join(parts)
    matrix = {"datalist": str(datalist), "victims": victims, "recipes": recipes, "size": size, "width": width}
    matrix |= SETTINGS
    laboratory = prepare_laboratory(arguments.data, folder, outputs, **{**matrix, **parse_overrides(settings)})
    laboratory.matrix.save(laboratory.folder)
    exchange(KNOWN_RUNS / name, laboratory.folder / RUNS)
    chosen = [run for run in laboratory.runs() if run.recipe in named]
    wanted = [run for run in chosen if not {run.data, run.recipe, run.victim} & set(arguments.without)]
    train_until(deadline, laboratory, in_order(wanted), arguments.workers)
    exchange(KNOWN_RUNS / name, laboratory.folder / RUNS)
    results = laboratory.results()
    Console(width=150).print(victim_table(results), f"{len(results.rows)} of {len(laboratory.runs())} runs", sep="\n")


if __name__ == "__main__":
    sys.exit(main())

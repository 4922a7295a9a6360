# SPDX-License-Identifier: Apache-2.0
"""What a step of training a victim costs, and scoring a case; of this checkout, and beside it of an earlier one.

Processor seconds of one thread, so that a busy machine does little harm; the lesser of two measurements. A step is the
difference between a training of few steps and one of more, so that reading the data does not count.

    python benchmarks/victim_speed.py DATASET [--datalist FILE] [--against CHECKOUT] [--victims UNet,DynUNet]
        [--recipes plain,mirror,nnunet] [--batch_size 2] [--steps 24] [--amp BOOL]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FEW, CASES = 2, 8  # steps of the short training; cases that are trained and scored on
Times = dict[str, list[float]]  # by "victim, recipe": seconds a step, seconds a case


def measure(arguments: argparse.Namespace) -> Times:
    import torch

    from monai_unlearnable.evaluation.matrix import Matrix
    from monai_unlearnable.evaluation.runs import Bench

    torch.set_num_threads(1)
    settings = {"dataset_dir": arguments.dataset, "datalist": arguments.datalist, "device": "cpu"}
    matrix = Matrix.of(**settings, batch_size=arguments.batch_size, iterations=arguments.steps)
    bench, times = Bench(matrix), {}
    cases = [case.to_dict() for case in bench.originals.cases[:CASES]]
    for victim in arguments.victims.split(","):
        for recipe in arguments.recipes.split(","):
            measured = [_once(bench, victim, recipe, cases, arguments) for _ in range(2)]
            times[f"{victim}, {recipe}"] = [min(pair) for pair in zip(*measured, strict=True)]
    return times


def _once(bench: Any, name: str, recipe: str, cases: list[Any], arguments: argparse.Namespace) -> tuple[float, float]:
    from dataclasses import replace

    from monai_unlearnable.victims import Victim

    how = {} if arguments.amp is None else {"amp": arguments.amp == "True"}
    found, spent = bench.recipe(recipe), []
    for steps in (FEW, FEW, arguments.steps):  # the first for what is made only once
        network, shortened = bench.network(name, 0), replace(found, iterations=steps)
        victim = Victim(network, bench.task, shortened, num_validations=1, **how)
        spent.append(_seconds(lambda victim=victim: victim.train_and_score(cases, cases[:1])))
    examiner = victim.examiner(cases)
    examiner.predict()
    scoring = _seconds(lambda: examiner.predict().score()) / len(cases)
    return (spent[2] - spent[1]) / (arguments.steps - FEW), scoring


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.process_time()
    work()
    return time.process_time() - begin


def of_checkout(checkout: Path, *extra: str) -> Times:
    """The same measurement with the package of another checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, *sys.argv[1:], *extra]
    found = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    times: Times = json.loads(found.stdout.splitlines()[-1])
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--datalist")
    parser.add_argument("--against", type=Path)
    parser.add_argument("--victims", default="UNet,BasicUNet,DynUNet,SegResNet")
    parser.add_argument("--recipes", default="plain,mirror,nnunet")
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--amp", choices=("True", "False"))
    parser.add_argument("--json", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.json:
        print(json.dumps(measure(arguments)))  # noqa: T201
        return

    from rich.console import Console
    from rich.table import Table

    here = of_checkout(Path(__file__).parents[1], "--json")
    before = of_checkout(arguments.against, "--json") if arguments.against else {}
    parts = ("a step", "a case scored")
    heads = [f"{part}{when}" for part in parts for when in ((", before", ", now", "") if before else ("",))]
    table = Table("Victim, recipe", *heads, title="Processor time in ms; times faster")
    for name, now in here.items():
        cells = []
        for then, new in zip(before.get(name, now), now, strict=True):
            cells += (
                [f"{1000 * then:.0f}", f"{1000 * new:.0f}", f"{then / new:.1f}"] if before else [f"{1000 * new:.0f}"]
            )
        table.add_row(name, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""How surely a trace finds a model that was trained on protected scans, and that it leaves innocent ones alone.

Protects a dataset with carriers that a key draws, trains a small network on a part of the protected scans and the
rest of the originals, and asks it: p against the recipe, the length of training and the part. Models are kept, so that
a repeated call goes on where the last one stopped.

    python benchmarks/trace_power.py DATA/hippocampus WORK --epsilon 10/255 --mixture "[0.6,0.4]" --recipes patches
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from honest_matrix import SIZE, write_datalist
from numpy.typing import NDArray
from rich.console import Console
from safetensors.torch import load_file, save_file

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases
from monai_unlearnable.evaluation.bench import Bench
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.tracing import Suspect, trace
from monai_unlearnable.tracing.probes import Query
from monai_unlearnable.victims.training import Examiner, Victim

CLEAN = "originals"


class Trained(Suspect):
    """A trained victim, asked with probes whose labels lie where the test cases have theirs."""

    def __init__(self, victim: Victim, test: Sequence[dict[str, Any]], description: str) -> None:
        self.victim, self.test, self.description = victim, test, description

    def ask(self, queries: Sequence[Query]) -> list[NDArray | None]:
        cases = [{**case, "image": str(query.files[0])} for case, query in zip(self.test, queries, strict=True)]
        return [output.numpy() for output in Examiner(self.victim, cases).predict().outputs]


def trained(bench: Bench, recipe_name: str, fraction: float, protected: Path, seed: int, folder: Path) -> Victim:
    """A victim trained on some protected scans and the originals of the others, or the kept one."""
    recipe, matrix = bench.recipe(recipe_name), bench.matrix
    network = bench.network("UNet", seed, recipe.size)
    victim = Victim(network, bench.task, recipe, (), seed, matrix.device, num_validations=1, amp=matrix.amp)
    file = folder / f"{recipe_name}-{matrix.iterations}-{fraction:g}-{seed}.safetensors"
    if file.is_file():
        network.load_state_dict(load_file(file))
        return victim
    originals = bench.originals.cases
    published = {case.case_id: case for case in load_cases(protected)}
    count = round(fraction * len(originals))
    chosen = torch.randperm(len(originals), generator=torch.Generator().manual_seed(seed))[:count].tolist()
    cases = [published[case.case_id] if index in set(chosen) else case for index, case in enumerate(originals)]
    test = [case.to_dict() for case in bench.test]
    found = victim.train_and_score([case.to_dict() for case in cases], test, description=file.stem)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
    file.with_suffix(".json").write_text(json.dumps({"dice": found.scores.value}))
    return victim


def protect(arguments: argparse.Namespace, datalist: Path, key: Path) -> Path:
    """The output of the set that carries the key's mark; a complete one is left as it is."""
    if not key.is_file():
        OwnerKey.generate().save(key)
    epsilon, mixture = float(arguments.epsilon), arguments.mixture
    output: Path = arguments.work / f"{arguments.data.name}-{255 * epsilon:g}-{'-'.join(map(str, mixture))}"
    if not Layout(output).records:
        paths = {"dataset_dir": str(arguments.data), "datalist": str(datalist), "output_dir": str(output)}
        run_bundle("carrier", epsilon=epsilon, carriers="keyed", mixture=mixture, key=str(key), **paths)
    return output


def test_list(datalist: Path) -> Path:
    """A datalist of the test cases alone."""
    path = datalist.with_name(f"{datalist.stem}-test.json")
    path.write_text(json.dumps({"training": json.loads(datalist.read_text())["test"]}))
    return path


def ask(arguments: argparse.Namespace, victim: Victim, label: str, output: Path, key: Path, probes: Path) -> str:
    """What a trace finds of a victim, and how its scores lie."""
    cases = [case.to_dict() for case in load_cases(arguments.data, probes)]
    settings: dict[str, Any] = {"keys": arguments.keys, "name": label, "datalist": probes, "max_probes": len(cases)}
    if arguments.shown is not None:
        settings |= {"epsilon": float(arguments.shown), "name": f"{label}, shown at {arguments.shown}"}
    result = trace(output, arguments.data, Trained(victim, cases, label), key, **settings)
    others = torch.tensor(result.others)
    told = f"own {result.own:.4f}, unmarked {result.unmarked:.4f}, others {others.mean():.4f}"
    return f"{label}: {result.sentence()}; {told} (standard deviation {others.std(correction=0):.4f})"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--epsilon", type=Fraction, default=Fraction(10, 255))
    parser.add_argument("--shown", type=Fraction, help="epsilon of the probes; that of the set by default")
    parser.add_argument("--mixture", type=json.loads, default=[1])
    parser.add_argument("--recipes", default="patches", help="names, comma-separated")
    parser.add_argument("--fractions", default="1,0", help="parts of the training cases that are protected")
    parser.add_argument("--iterations", type=int, default=2500)
    parser.add_argument("--keys", type=int, default=199, help="number of other marks")
    parser.add_argument("--seeds", type=int, default=1)
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    logging.basicConfig(format="%(message)s")
    name, work, console = arguments.data.name, arguments.work, Console(width=150)
    datalist, key = write_datalist(arguments.data, work / f"{name}.json"), work / "owner.key"
    output, probes = protect(arguments, datalist, key), test_list(datalist)
    settings = {"size": SIZE[name], "iterations": arguments.iterations, "batch_size": 2, "amp": False}
    bench = Bench(Matrix(str(arguments.data), {}, datalist=str(datalist), **settings))
    recipes, fractions = arguments.recipes.split(","), [float(part) for part in arguments.fractions.split(",")]
    for seed, recipe, fraction in itertools.product(range(arguments.seeds), recipes, fractions):
        victim = trained(bench, recipe, fraction, output / "protected", seed, output / "victims")
        label = f"{recipe}, {arguments.iterations} iterations, {fraction:.0%} protected, seed {seed}"
        console.print(ask(arguments, victim, label, output, key, probes))


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""How surely a trace finds a model that was trained on protected scans, and that it leaves innocent ones alone.

Protects datasets with carriers that a key draws, trains networks on a part of the protected scans and the originals of
the others, and asks each of them with the owner's mark and with others: one row after the other, those first that tell
most, until the time is up. Then 200 pairs of an innocent model and a key. A repeated call goes on where the last one
stopped, within a row too: sets, models and answers stay in WORK, and finished rows beside this file. They become
evidence of the package.

    python benchmarks/trace_power.py DATA WORK [--minutes 120] [--only hippocampus] [--pairs 200]

DATA holds ``hippocampus``, ``left_atrium`` and ``brain_tumor_mri``; rows of a set that is not there are omitted.
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, pstdev
from typing import Any

import numpy as np
import torch
from anti_learning import prepare
from honest_matrix import SIZE, write_datalist
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from scipy import stats
from torch import Tensor

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import Case, load_cases
from monai_unlearnable.evaluation.bench import Bench
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.evidence.traces import OWN_TRACES, TraceEntry, save_trace
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report.rows import NO_COUNTERMEASURE
from monai_unlearnable.tracing import Suspect, trace
from monai_unlearnable.tracing.probes import Query
from monai_unlearnable.tracing.statistics import Statistic, usual_statistic
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.victims.prediction import Placement
from monai_unlearnable.victims.tasks import Segmentation
from monai_unlearnable.victims.training import Victim

KNOWN_ROWS = Path(__file__).with_suffix("")
SIDE = 96  # of the pictures of brain tumors
ALPHA = 0.05
LEAST_PSNR, LEAST_OF_CLASSES = 41.0, 38.0  # noise of classes covers the whole picture
MODELS = 5  # innocent ones
TUNED, NOISY, ENSEMBLE = "fine-tuned", "noisy answers", "ensemble"
TUNING = 500  # iterations on the originals
NOISE = 0.05  # fraction of the voxels of an answer that get a class at random


@dataclass(frozen=True)
class Row:
    """A trained network that is asked about a set.

    Args:
        dataset: name of the set.
        victim: name of the network.
        recipe: name of the recipe of its training.
        fraction: fraction of the training cases that are protected.
        epsilon: largest change of a voxel, in 1/255.
        mixture: weights of the carriers of a class.
        method: ``"carrier"``, or ``"lattice"`` in its keyed form.
        statistic: how answers are scored; by default as ``trace`` does.
        shown: largest change in the probes, in 1/255; by default that of the scans.
        attack: what the exploiter does against a trace: a countermeasure of the catalog on all his scans,
            ``"fine-tuned"`` on the originals, ``"noisy answers"``, or ``"ensemble"`` with a model of the originals.
        iterations: length of the training.
        batch_size: cases a batch.
        seed: random seed of the training.
        owner: number of the owner's key; of all but 0 two cases are protected, since only the mark matters.
        keys: number of other marks.
        stop_after: number of larger statistics that ends the test.
        probes: number of probes.
    """

    dataset: str
    victim: str = "UNet"
    recipe: str = "patches"
    fraction: float = 1.0
    epsilon: float = 13
    mixture: tuple[float, ...] = (0.6, 0.4)
    method: str = "carrier"
    statistic: str | None = None
    shown: float | None = None
    attack: str = NO_COUNTERMEASURE
    iterations: int = 2500
    batch_size: int = 2
    seed: int = 0
    owner: int = 0
    keys: int = 199
    stop_after: int = 10
    probes: int = 40

    @property
    def model(self) -> str:
        """The name of the trained network."""
        part = "originals" if not self.fraction else f"{self.set}-{self.fraction:g}"
        name = f"{part}-{self.victim}-{self.recipe}-{self.iterations}-{self.seed}"
        return name if self.attack in (NO_COUNTERMEASURE, NOISY, ENSEMBLE) else f"{name}-{self.attack}"

    @property
    def set(self) -> str:
        """The name of the protected set."""
        weights = [f"{weight:g}" for weight in self.mixture] if self.method == "carrier" else [self.method]
        return "-".join([f"owner{self.owner}-{self.epsilon:g}", *weights])

    @property
    def name(self) -> str:
        """The name of the row."""
        asked = f"{self.model}-asked-{self.set}-{self.keys}-{self.stop_after}-{self.probes}"
        asked += "" if self.shown is None else f"-at-{self.shown:g}"
        asked += f"-{self.attack}" if self.attack in (NOISY, ENSEMBLE) else ""
        return asked if self.statistic is None else f"{asked}-{self.statistic}"


ATTACKS = ("gaussian", "jpeg", "resample", "autoencoder", TUNED, NOISY, ENSEMBLE)
TUMORS: dict[str, Any] = {"victim": "ResNet18", "batch_size": 32, "epsilon": 4.9, "shown": 12}
ROWS = (
    Row("hippocampus"),
    Row("hippocampus", recipe="nnunet"),
    Row("hippocampus", method="lattice", epsilon=9.8, shown=18),
    Row("hippocampus", recipe="nnunet", method="lattice", epsilon=9.8, shown=18),
    Row("hippocampus", fraction=0.25),
    Row("hippocampus", fraction=0),
    Row("left_atrium", recipe="nnunet", method="lattice", epsilon=7.6, shown=18),
    Row("left_atrium", method="lattice", epsilon=7.6, shown=18),
    Row("left_atrium", epsilon=12, mixture=(0.5, 0.3, 0.2)),  # one class has few codes with fewer carriers
    Row("brain_tumor_mri", **TUMORS, recipe="plain"),
    Row("brain_tumor_mri", **TUMORS, recipe="mirror"),
    Row("left_atrium", epsilon=12, mixture=(0.5, 0.3, 0.2), recipe="nnunet"),
    Row("hippocampus", recipe="nnunet", fraction=0.25),
    Row("brain_tumor_mri", **TUMORS, recipe="plain", fraction=0),
    *(Row("hippocampus", attack=attack) for attack in ATTACKS),
    Row("hippocampus", iterations=500),
    Row("hippocampus", iterations=10000),
)


def innocent_pairs(count: int) -> Iterator[Row]:
    """Models of the originals, each asked with many owners' marks among 19 others: p is at most 0.05 where it wins.

    Each pair has a key of its own: what one network answers to a mark, another answers too, and the tests would go
    together.
    """
    for number in range(count):
        seed = number // -(-count // MODELS)
        yield Row("hippocampus", fraction=0, seed=seed, owner=number + 1, keys=19, stop_after=20, probes=10)


class OutOfTime(Exception):
    """The time is up; what was done so far is kept."""


class Probabilities(Segmentation):
    """Segmentation whose decoded outputs are probabilities (classes, spatial...) of the voxels of the file."""

    def decode(self, logits: Tensor, placement: Placement) -> Tensor:
        return placement.image(logits.float().softmax(0))


class Trained(Suspect):
    """Trained victims, asked with probes whose labels lie where the test cases have theirs.

    Args:
        victims: one, or several whose probabilities are averaged.
        cases: the test cases, in the order of the probes.
        row: what is measured.
        deadline: time after which nothing is asked.
    """

    def __init__(self, victims: Sequence[Victim], cases: Sequence[dict[str, Any]], row: Row, deadline: float) -> None:
        self.victims, self.cases, self.row, self.deadline = victims, cases, row, deadline
        self.description = row.model

    def ask(self, queries: Sequence[Query]) -> list[NDArray | None]:
        refuse_late(self.deadline)
        cases = [{**case, "image": str(query.files[0])} for case, query in zip(self.cases, queries, strict=True)]
        gives_probabilities = self.row.statistic == Statistic.LOG_PROBABILITY
        if len(self.victims) == 1:
            return [self._told(output) for output in self._outputs(self.victims[0], cases, gives_probabilities)]
        every = [self._outputs(victim, cases, True) for victim in self.victims]
        means = [torch.stack(outputs).mean(0) for outputs in zip(*every, strict=True)]
        return [self._told(mean if gives_probabilities else mean.argmax(0).byte()) for mean in means]

    def _outputs(self, victim: Victim, cases: Sequence[dict[str, Any]], as_probabilities: bool) -> list[Tensor]:
        examiner = victim.examiner(cases)
        if as_probabilities and isinstance(victim.task, Segmentation):
            examiner.task = Probabilities(victim.task.label_values)
        return examiner.predict().outputs

    def _told(self, output: Tensor) -> NDArray:
        """An answer as the exploiter tells it; noise follows from the answer, so that it is always the same."""
        if self.row.attack == NOISY:
            generator = torch.Generator().manual_seed(int(output.long().sum()))
            chosen = torch.rand(output.shape, generator=generator) < NOISE
            kinds = torch.randint(0, self.victims[0].task.classes, output.shape, generator=generator)
            output = torch.where(chosen, kinds.to(output), output)
        return output.numpy()


def refuse_late(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise OutOfTime


class Power:
    """The rows of one dataset.

    Args:
        data: folder of the dataset.
        work: folder of its sets, models and answers.
        deadline: time after which nothing is begun.
    """

    def __init__(self, data: Path, work: Path, deadline: float) -> None:
        self.work, self.deadline = work, deadline
        self.benches: dict[tuple[int, int], Bench] = {}  # each has read all cases
        is_pictures = data.name not in SIZE
        self.data = prepare(data, work / "data", SIDE) if is_pictures else data
        self.datalist = self.data / "datalist.json" if is_pictures else write_datalist(data, work / "list.json")
        self.size = (SIDE, SIDE) if is_pictures else SIZE[data.name]

    def run(self, row: Row) -> dict[str, Any]:
        """Protect, train and ask."""
        output, key = self.protect(row)
        victim, score = self.trained(row, output)
        victims = [victim]
        if row.attack == ENSEMBLE:
            victims.append(self.trained(replace(row, fraction=0, attack=NO_COUNTERMEASURE), output)[0])
        probes = self.listed(f"probes-{row.probes}", "test", row.probes)
        cases = [case.to_dict() for case in load_cases(self.data, probes)]
        suspect = Trained(victims, cases, row, self.deadline)
        settings: dict[str, Any] = {"keys": row.keys, "stop_after": row.stop_after, "name": row.name}
        settings |= {"statistic": row.statistic, "epsilon": None if row.shown is None else row.shown / 255}
        result = trace(output, self.data, suspect, key, datalist=probes, max_probes=len(cases), **settings)
        assert result.outcome is not None
        seconds = json.loads((result.folder / "result.json").read_text())["seconds"]
        changed = [entry.measured for entry in Manifest.load(Layout(output).manifest, OwnerKey.load(key)).scans]
        return {
            "row": asdict(row),
            "date": datetime.date.today().isoformat(),
            "score": score,
            "psnr": mean(figures["psnr"] for figures in changed if figures["l0"]),
            "p": result.outcome.p,
            "own": result.own,
            "unmarked": result.unmarked,
            "others": list(result.others),
            "probes": len(cases),
            "seconds_a_mark": seconds / (1 + len(result.others)),
        }

    def protect(self, row: Row) -> tuple[Path, Path]:
        """The output of the set with an owner's mark, and the key; a complete one is left as it is."""
        refuse_late(self.deadline)
        key, output = self.work / f"owner{row.owner}.key", self.work / row.set
        if not key.is_file():
            OwnerKey.generate().save(key)
        if not Layout(output).records:
            cases = self.datalist if row.owner == 0 else self.listed("two", "training", 2)
            paths = {"dataset_dir": str(self.data), "datalist": str(cases), "output_dir": str(output)}
            settings: dict[str, Any] = {"epsilon": row.epsilon / 255, "key": str(key)}
            drawn = {"mixture": list(row.mixture), "carriers": "keyed"}
            settings |= drawn if row.method == "carrier" else {"code": "keyed"}
            run_bundle(row.method, **settings, **paths)
        return output, key

    def listed(self, name: str, section: str, count: int) -> Path:
        """A list of some cases of a section, at equal distances."""
        path, entries = self.work / f"{name}.json", json.loads(self.datalist.read_text())[section]
        count = min(count, len(entries))
        chosen = [entries[number * len(entries) // count] for number in range(count)]
        write_json(path, {"training": chosen})
        return path

    def bench(self, iterations: int, batch_size: int) -> Bench:
        """What trainings of one length share."""
        settings = {"size": self.size, "iterations": iterations, "batch_size": batch_size, "amp": False}
        made = Bench(Matrix(str(self.data), {}, datalist=str(self.datalist), **settings))
        return self.benches.setdefault((iterations, batch_size), made)

    def trained(self, row: Row, output: Path) -> tuple[Victim, float]:
        """The network, trained or as it was kept, and its score on clean test cases."""
        bench = self.bench(row.iterations, row.batch_size)
        recipe, matrix = bench.recipe(row.recipe), bench.matrix
        network = bench.network(row.victim, row.seed, recipe.size)
        known = row.attack in bench.catalogs["countermeasures"].entries
        prepared = bench.prepare(row.attack if known else NO_COUNTERMEASURE, recipe, self._cases(row, output), row.seed)
        how = (row.seed, matrix.device, 1, matrix.amp)
        victim = Victim(network, bench.task, recipe, prepared.steps, *how)
        file = self.work / "models" / f"{row.model}.safetensors"
        scores = file.with_suffix(".json")
        if scores.is_file():
            network.load_state_dict(load_file(file))
            return victim, json.loads(scores.read_text())["score"]
        refuse_late(self.deadline)
        test = [case.to_dict() for case in bench.test]
        if row.attack == TUNED:
            marked, _ = self.trained(replace(row, attack=NO_COUNTERMEASURE), output)
            network.load_state_dict(marked.network.state_dict())
            short = replace(recipe, iterations=TUNING)
            originals = [case.to_dict() for case in bench.originals.cases]
            tuned = Victim(network, bench.task, short, (), *how)
            found = tuned.train_and_score(originals, test, description=row.model)
        else:
            found = victim.train_and_score(prepared.cases, test, description=row.model)
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, file)
        write_json(scores, {"score": found.scores.value})
        return victim, found.scores.value

    def _cases(self, row: Row, output: Path) -> list[Case]:
        """The training cases: protected ones, drawn by the seed, and the originals of the others."""
        originals = self.bench(row.iterations, row.batch_size).originals.cases
        published = {case.case_id: case for case in load_cases(output / "protected")} if row.fraction else {}
        order = torch.randperm(len(originals), generator=torch.Generator().manual_seed(row.seed)).tolist()
        chosen = set(order[: round(row.fraction * len(originals))])
        return [published[case.case_id] if index in chosen else case for index, case in enumerate(originals)]


def as_trace(found: dict[str, Any]) -> TraceEntry:
    """A finished row as evidence."""
    row = Row(**found["row"])
    drawn = {"carriers": "keyed", "mixture": str(list(row.mixture))}
    usual = usual_statistic(row.dataset in SIZE)
    return TraceEntry(
        dataset=row.dataset,
        method=row.method,
        settings=drawn if row.method == "carrier" else {"code": "keyed"},
        epsilon=f"{row.epsilon:g}/255",
        shown=None if row.shown is None else f"{row.shown:g}/255",
        psnr=round(found["psnr"], 2),
        fraction=row.fraction,
        victim=row.victim,
        recipe=row.recipe,
        countermeasure=row.attack,
        iterations=row.iterations,
        seed=row.seed,
        score=round(found["score"], 2),
        statistic=str(row.statistic or usual),
        probes=found["probes"],
        unmarked=round(found["unmarked"], 5),
        own=round(found["own"], 5),
        others=tuple(round(one, 5) for one in found["others"]),
        p=found["p"],
        date=found["date"],
        source="python benchmarks/trace_power.py",
    )


def table(found: Iterable[dict[str, Any]]) -> Table:
    """A line for each model that was asked with the marks of the set's owner."""
    columns = ("set", "network", "recipe", "iterations", "protected", "PSNR", "score", "unmarked", "own mark")
    shown = Table(*columns, "others, sd (max)", "p", "other marks", "probes", "s for 200 marks")
    for one in found:
        row, others = Row(**one["row"]), one["others"]
        cells = [row.dataset, row.victim, row.recipe, f"{row.iterations:,}", f"{row.fraction:.0%}"]
        least = LEAST_PSNR if row.dataset in SIZE else LEAST_OF_CLASSES
        cells += [f"{one['psnr']:.1f}{'' if one['psnr'] >= least else ' (low)'}", f"{one['score']:.1f}"]
        cells += [f"{one['unmarked']:.4f}", f"{one['own']:.4f}"]
        cells += [f"{mean(others):.4f}, {pstdev(others):.4f} ({max(others):.4f})", f"{one['p']:.3g}", str(len(others))]
        shown.add_row(*cells, str(one["probes"]), f"{200 * one['seconds_a_mark']:.0f}")
    return shown


def innocence(found: Sequence[dict[str, Any]]) -> str:
    """How often innocent models are accused, and whether p is uniform; ties are broken at random for that."""
    accused = sum(one["p"] <= ALPHA for one in found)
    random, ranks = np.random.default_rng(0), []
    for one in found:
        others = np.array(one["others"])
        above, equal = np.count_nonzero(others > one["own"]), np.count_nonzero(others == one["own"])
        ranks.append((above + random.uniform() * (1 + equal)) / (1 + len(others)))
    uniform = stats.kstest(ranks, "uniform")
    models = len({one["row"]["seed"] for one in found})
    told = f"{len(found)} pairs of {models} innocent models and a key: p <= {ALPHA:g} in {accused}"
    told += f" ({ALPHA * len(found):.0f} expected, P(at least as many) = "
    told += f"{stats.binom.sf(accused - 1, len(found), ALPHA):.2f})"
    return f"{told}; Kolmogorov-Smirnov D = {uniform.statistic:.3f}, p = {uniform.pvalue:.2f}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--minutes", type=float, default=120, help="nothing begins later")
    parser.add_argument("--only", help="names of the sets to run now, comma-separated; all by default")
    parser.add_argument("--pairs", type=int, default=200, help="number of innocent pairs")
    parser.add_argument("--kept", type=Path, default=KNOWN_ROWS, help="folder of the finished rows")
    parser.add_argument("--change", type=json.loads, default={}, help="fields of all rows, to try the script")
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    logging.basicConfig(format="%(message)s")
    deadline, console = time.monotonic() + 60 * arguments.minutes, Console(width=190)
    rows = [replace(row, **arguments.change) for row in ROWS]
    pairs = [replace(row, **arguments.change) for row in innocent_pairs(arguments.pairs)]
    powers: dict[str, Power] = {}
    try:
        for row in (*rows, *pairs):
            kept = arguments.kept / row.dataset / f"{row.name}.json"
            is_wanted = arguments.only is None or row.dataset in arguments.only.split(",")
            if kept.is_file() or not is_wanted or not (arguments.data / row.dataset).is_dir():
                continue
            if row.dataset not in powers:
                powers[row.dataset] = Power(arguments.data / row.dataset, arguments.work / row.dataset, deadline)
            write_json(kept, powers[row.dataset].run(row))
            console.print(f"done: {row.dataset}, {row.name}")
    except OutOfTime:
        console.print("the time is up; give the same command to go on")
    for told, group in ((table, rows), (innocence, pairs)):
        files = [arguments.kept / row.dataset / f"{row.name}.json" for row in group]
        if found := [json.loads(file.read_text()) for file in files if file.is_file()]:
            console.print(told(found))
            if group is rows and arguments.kept == KNOWN_ROWS:
                for one in found:
                    save_trace(as_trace(one), OWN_TRACES)


if __name__ == "__main__":
    sys.exit(main())

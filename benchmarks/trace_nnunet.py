# SPDX-License-Identifier: Apache-2.0
"""Whether a trace finds nnU-Net v2 itself, with its own augmentation, after training on scans with a keyed mark.

Protects the training scans of the hippocampus with the keyed ``lattice``, trains nnU-Net on them, and asks its own
command for the test scans under the owner's mark and under others, all in one shuffled folder. The result becomes
evidence of the package. What is done in WORK is not done again.

    MONAI_UNLEARNABLE_NNUNET=FOLDER python benchmarks/trace_nnunet.py DATA/hippocampus WORK [--iterations 4500]
"""

from __future__ import annotations

import argparse
import datetime
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean

from honest_matrix import write_datalist
from rich.console import Console

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.data import load_cases
from monai_unlearnable.evidence.traces import OWN_TRACES, TraceEntry, save_trace
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.tracing import judge, prepare
from monai_unlearnable.utils.files import write_json
from monai_unlearnable.victims.external.commands import Commands
from monai_unlearnable.victims.external.nnunet import NNUNet
from monai_unlearnable.victims.tasks import Segmentation

TASK = Segmentation((0, 1, 2))
MODEL = ("-d", "1", "-tr", "MeasuredTrainer", "-p", "cpuPlans", "-c", "3d_fullres", "-f", "all")
ON_CPU = ("-device", "cpu", "-npp", "0", "-nps", "0", "--disable_progress_bar")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--iterations", type=int, default=4500)
    parser.add_argument("--epsilon", type=float, default=14, help="of the training scans, in 1/255")
    parser.add_argument("--shown", type=float, default=18, help="of the probes, in 1/255")
    parser.add_argument("--keys", type=int, default=199, help="number of other marks")
    parser.add_argument("--probes", type=int, default=40)
    parser.add_argument("--mirrored", action="store_true", help="predict each probe eight times, as nnU-Net does")
    return parser.parse_args()


def protected(arguments: argparse.Namespace, datalist: Path) -> tuple[Path, Path]:
    """The output of the set, and the owner's key."""
    key, output = arguments.work / "owner.key", arguments.work / f"lattice-{arguments.epsilon:g}"
    if not key.is_file():
        OwnerKey.generate().save(key)
    if not Layout(output).records:
        paths = {"dataset_dir": str(arguments.data), "datalist": str(datalist), "output_dir": str(output)}
        run_bundle("lattice", code="keyed", epsilon=arguments.epsilon / 255, key=str(key), **paths)
    return output, key


def trained(arguments: argparse.Namespace, output: Path, test: list[dict]) -> tuple[Path, float]:
    """The folder of nnU-Net's training, and its Dice on the clean test scans."""
    folder = arguments.work / f"nnunet-{arguments.epsilon:g}-{arguments.iterations}"
    score = folder / "score.json"
    if not score.is_file():
        train = [case.to_dict() for case in load_cases(output / "protected")]
        victim = NNUNet(iterations=arguments.iterations, num_validations=1)
        write_json(score, {"score": victim.train_and_score(TASK, train, test, folder).scores.value})
    return folder, json.loads(score.read_text())["score"]


def ask(folder: Path, probes: Path, answers: Path, is_mirrored: bool) -> None:
    """Let nnU-Net's own command predict a folder; what is there already stays."""
    places = {"nnUNet_results": folder / "results", "nnUNet_extTrainer": folder / "trainer"}
    places |= {"nnUNet_raw": folder / "raw", "nnUNet_preprocessed": folder / "preprocessed"}
    variables = {name: str(place.absolute()) for name, place in places.items()}
    options = [*MODEL, *ON_CPU, "--continue_prediction", *([] if is_mirrored else ["--disable_tta"])]
    command = [Commands.find().folder / "nnUNetv2_predict", "-i", probes.absolute(), "-o", answers.absolute()]
    with (folder / "asked.txt").open("ab") as log:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
        subprocess.run([*map(str, command), *options], env=environment, stdout=log, stderr=log, check=True)


def main() -> None:
    arguments, console = parsed(), Console(width=150)
    logging.basicConfig(format="%(message)s")
    datalist = write_datalist(arguments.data, arguments.work / "list.json")
    tests = json.loads(datalist.read_text())["test"][: arguments.probes]
    listed = arguments.work / "probes.json"
    write_json(listed, {"training": tests})
    test = [case.to_dict() for case in load_cases(arguments.data, listed)]
    output, key = protected(arguments, datalist)
    folder, score = trained(arguments, output, test)
    console.print(f"nnU-Net v2, {arguments.iterations:,} iterations: Dice {score:.1f}")

    name = f"{folder.name}-{arguments.shown:g}-{arguments.keys}" + ("-mirrored" if arguments.mirrored else "")
    probes, answers = arguments.work / f"{name}-probes", arguments.work / f"{name}-answers"
    if not probes.is_dir():
        limits = {"keys": arguments.keys, "epsilon": arguments.shown / 255, "max_probes": arguments.probes}
        prepare(output, arguments.data, probes, key, name=name, datalist=listed, **limits)
    ask(folder, probes, answers, arguments.mirrored)
    result = judge(output, arguments.data, probes, answers, key, name=name, datalist=listed)
    assert result.outcome is not None
    console.print(result.sentence())
    changed = [scan.measured for scan in Manifest.load(Layout(output).manifest, OwnerKey.load(key)).scans]
    save_trace(
        TraceEntry(
            dataset=arguments.data.name,
            method="lattice",
            settings={"code": "keyed"},
            epsilon=f"{arguments.epsilon:g}/255",
            shown=f"{arguments.shown:g}/255",
            psnr=round(fmean(figures["psnr"] for figures in changed if figures["l0"]), 2),
            fraction=1.0,
            victim="nnunetv2",
            recipe="own",
            iterations=arguments.iterations,
            score=round(score, 2),
            statistic="dice",
            probes=arguments.probes,
            unmarked=round(score / 100, 5),
            own=round(result.own, 5),
            others=tuple(round(one, 5) for one in result.others),
            p=result.outcome.p,
            date=datetime.date.today().isoformat(),
            source="python benchmarks/trace_nnunet.py",
        ),
        OWN_TRACES,
    )


if __name__ == "__main__":
    sys.exit(main())

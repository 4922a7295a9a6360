# SPDX-License-Identifier: Apache-2.0
"""The examiner's words: evaluate, laboratory, cell, frontier, report, compare, demo."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from monai_unlearnable.commands.words import Words, parse_overrides, parse_value
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.progress import hush_monai

if TYPE_CHECKING:
    from monai_unlearnable.report import Results

__all__ = ["add_laboratory_words"]


def add_laboratory_words(words: Words) -> None:
    """Add the words to a parser."""
    about = "train victims on clean, protected and random-noise data; settings are those of the matrix"
    words.add("evaluate", _evaluate, about, "out", "dataset_dir", settings=True)
    about = "methods x victims x recipes x countermeasures; --protected \"{'umed': 'OUT'}\""
    words.add("laboratory", _laboratory, about, "dataset_dir", "out", settings=True)
    cell = words.add("cell", _cell, "train one cell of a laboratory's matrix alone", "laboratory")
    for name in ("data", "victim", "recipe", "countermeasure"):
        cell.add_argument(f"--{name}", required=True)
    cell.add_argument("--seed", type=int, default=0)
    about = "protect at several budgets, examine, and draw score against fidelity"
    frontier = words.add("frontier", _frontier, about, "dataset_dir", "out", settings=True)
    frontier.add_argument("--methods", default="umed", help="names or configuration files, comma-separated")
    frontier.add_argument("--epsilons", default="6,8,10,12,14", help="budgets in 1/255, comma-separated")
    frontier.add_argument("--bundle", type=parse_value, default={}, help="settings of the bundles, as a dictionary")
    words.add("report", _report, "write the report of a laboratory anew from what it has found", "laboratory")
    compare = words.add("compare", _compare, "put two results.json side by side", "first", "second")
    compare.add_argument("--page", help="HTML file to write")
    words.add("demo", _demo, "the whole story on a phantom dataset", "out")


def _show(results: Results, page: Path, console: Console) -> None:
    from monai_unlearnable.report import frontier_table, victim_table

    console.print(victim_table(results))
    if any(len(line.points) > 1 for line in results.frontier()):
        console.print(frontier_table(results))
    console.print(results.verdict(), f"report: {page}", sep="\n")


def _evaluate(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.proof import evaluate

    _show(*evaluate(arguments.out, arguments.dataset_dir, **parse_overrides(arguments.settings)), console)


def _laboratory(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.proof import laboratory

    _show(*laboratory(arguments.dataset_dir, arguments.out, **parse_overrides(arguments.settings)), console)


def _cell(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.evaluation.laboratory import Laboratory
    from monai_unlearnable.evaluation.matrix import Run

    names = ("data", "victim", "recipe", "countermeasure", "seed")
    row = Laboratory.open(arguments.laboratory).train(Run(*(getattr(arguments, name) for name in names)))
    low, high = row.interval
    score = f"{row.metric} {row.score:.1f} ({low:.1f} to {high:.1f})" if row.done else row.status
    console.print(f"{row.victim} on {row.data}: {score}", highlight=False)


def _frontier(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.proof import frontier

    hush_monai()
    if not isinstance(arguments.bundle, dict):
        raise InputError(f"--bundle is {arguments.bundle!r}, not a dictionary")
    methods, epsilons = arguments.methods.split(","), [float(epsilon) for epsilon in arguments.epsilons.split(",")]
    settings = parse_overrides(arguments.settings)
    _show(*frontier(arguments.dataset_dir, arguments.out, methods, epsilons, arguments.bundle, **settings), console)


def _report(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.evaluation.reporting import rewrite_report

    _show(*rewrite_report(arguments.laboratory), console)


def _compare(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.report import Results, comparison_table, write_comparison

    first, second = Results.load(arguments.first), Results.load(arguments.second)
    console.print(comparison_table(first, second))
    if arguments.page:
        write_comparison(first, second, arguments.page)
        console.print(f"page: {arguments.page}")


def _demo(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.demo.run import run_demo

    hush_monai()
    _show(*run_demo(arguments.out), console)

# SPDX-License-Identifier: Apache-2.0
"""The examiner's commands: what models learn from protected scans."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import monai_unlearnable as mu
from monai_unlearnable.cli.settings import Examining
from monai_unlearnable.cli.terminal import CHECK_FAILED, console
from monai_unlearnable.cli.values import (
    PATH,
    SETTINGS,
    WITH_SETTINGS,
    chosen_settings,
    parse_dictionary,
    parse_epsilons,
)
from monai_unlearnable.cli.work import Work, say
from monai_unlearnable.errors import FailedTrainingsError

if TYPE_CHECKING:
    from monai_unlearnable.report import Results

__all__ = ["COMMANDS"]

KEPT = "finished trainings are kept in {out}; give the same command to go on"


def _show(results: Results, page: Path) -> None:
    """Print the tables and the verdict.

    Raises:
        FailedTrainingsError: with every reason, when no training has a score.
    """
    from monai_unlearnable.evidence import background, own_entries
    from monai_unlearnable.report import p50_table, victim_table

    terminal = console()
    terminal.print(victim_table(results))
    if any(len(line.points) > 1 for line in results.frontier()):
        terminal.print(p50_table(results, brief=True))
    terminal.print(results.verdict(), markup=False)
    for sentence in background(results, own_entries()).sentences():
        terminal.print(sentence, markup=False)
    say(f"report: {page}")
    failures, total = results.failures(), len(results.rows)
    if total and sum(failures.values()) == total:
        raise FailedTrainingsError(f"no training has a score. {'. '.join(failures)}")
    for reason, count in failures.items():
        click.echo(f"{count} of {total} trainings {reason}", err=True)


@click.command(cls=Examining, decided=("protected",), kept=KEPT, context_settings=WITH_SETTINGS)
@click.argument("out", type=PATH)
@click.argument("dataset_dir", type=PATH)
@SETTINGS
def evaluate(out: str, dataset_dir: str, settings: Sequence[str]) -> None:
    """Train victims on clean, protected and random-noise data. Settings are those of the laboratory."""
    _show(*mu.evaluate(out, dataset_dir, **chosen_settings(settings)))


@click.command(cls=Examining, kept=KEPT, context_settings=WITH_SETTINGS)
@click.argument("dataset_dir", type=PATH)
@click.argument("out", type=PATH)
@SETTINGS
def laboratory(dataset_dir: str, out: str, settings: Sequence[str]) -> None:
    """Train methods x victims x recipes x countermeasures. Example: --protected "{'umed': 'OUT'}"."""
    from monai_unlearnable.proof import laboratory

    _show(*laboratory(dataset_dir, out, **chosen_settings(settings)))


@click.command(cls=Work, kept="this training is lost; give the same command again")
@click.argument("laboratory", type=PATH)
@click.option("--data", required=True, help="What to train on: clean, or a name among the protected data.")
@click.option("--victim", required=True, help="Name of a network, or of a program that trains one.")
@click.option("--recipe", required=True, help="Name of how it is trained.")
@click.option("--countermeasure", required=True, help="Name of what is done to the scans first; none.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the training.")
def run(laboratory: str, **names: Any) -> int:
    """Train one run of a laboratory's matrix alone."""
    from monai_unlearnable.evaluation.matrix import Run

    row = mu.Laboratory.open(laboratory).train(Run(**names))
    low, high = row.interval
    score = f"{row.metric} {row.score:.1f} ({low:.1f} to {high:.1f})" if row.done else row.status
    click.echo(f"{row.victim} on {row.data}: {score}")
    return 0 if row.done else CHECK_FAILED


@click.command(cls=Examining, decided=("protected",), kept=f"outputs and {KEPT}", context_settings=WITH_SETTINGS)
@click.argument("dataset_dir", type=PATH)
@click.argument("out", type=PATH)
@SETTINGS
@click.option("--methods", default="umed", show_default=True, help="Names or configuration files, comma-separated.")
@click.option("--epsilons", default="6,8,10,12,14", show_default=True, help="Budgets in 1/255, comma-separated.")
@click.option("--bundle", default="{}", help="Settings of the bundles, as a dictionary.")
def frontier(dataset_dir: str, out: str, settings: Sequence[str], methods: str, epsilons: str, bundle: str) -> None:
    """Protect and evaluate at several budgets, and draw the curve."""
    from monai_unlearnable.proof import frontier

    of_bundles, budgets = parse_dictionary(bundle, "--bundle"), parse_epsilons(epsilons, "--epsilons")
    _show(*frontier(dataset_dir, out, methods.split(","), budgets, of_bundles, **chosen_settings(settings)))


@click.command()
@click.argument("laboratory", type=PATH)
def report(laboratory: str) -> None:
    """Rewrite the report of a laboratory from its results."""
    from monai_unlearnable.evaluation.reporting import rewrite_report

    _show(*rewrite_report(laboratory))


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
@click.option("--page", metavar="FILE", type=PATH, help="HTML file to write.")
def compare(first: str, second: str, page: str | None) -> None:
    """Compare two results.json side by side."""
    from monai_unlearnable.report import Results, comparison_table, write_comparison

    results = Results.load(first), Results.load(second)
    console().print(comparison_table(*results))
    if page is not None:
        write_comparison(*results, page)
        click.echo(f"page: {page}")


@click.command(cls=Work, kept=f"the output and {KEPT}")
@click.argument("out", type=PATH)
def demo(out: str) -> None:
    """Run the whole workflow on a phantom dataset."""
    from monai_unlearnable import demo
    from monai_unlearnable.cli.owner import say_protected
    from monai_unlearnable.noise import Manifest
    from monai_unlearnable.publishing.layout import Layout

    found = demo.run_demo(out)
    protected = Path(out) / "umed"
    say_protected("umed", str(Path(out) / "phantoms"), str(protected), {}, Manifest.load(Layout(protected).manifest))
    _show(*found)


COMMANDS = (evaluate, laboratory, run, frontier, report, compare, demo)

# SPDX-License-Identifier: Apache-2.0
"""Measured figures as data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from monai_unlearnable.cli.terminal import CHECK_FAILED
from monai_unlearnable.cli.values import PATH, parse_dictionary
from monai_unlearnable.errors import InputError

__all__ = ["COMMANDS"]


@click.group()
def evidence() -> None:
    """Keep measured figures as data."""


@evidence.command("record")
@click.argument("laboratory", type=PATH)
@click.option("--to", metavar="DIR", type=PATH, help="Folder of the entries; default: evidence/ of the laboratory.")
@click.option("--dataset", default="", help="Name of the dataset; default: that of its folder.")
@click.option(
    "--date", default="", metavar="YYYY-MM-DD", help="Day of the measurement; default: that of the last training."
)
@click.option("--settings", default="{}", help="Settings by method: \"{'foresight mirror': {'recipe': 'mirror'}}\".")
@click.option("--source", default="", help="Where the figures come from, such as a command.")
@click.option("--remark", default="", help="Remark for readers, a sentence.")
def record_entries(laboratory: str, to: str | None, settings: str, **words: str) -> None:
    """Record what a laboratory has measured so far.

    Each figure becomes a JSON file. Nothing is trained.
    """
    from monai_unlearnable.evaluation.reporting import record_evidence

    by_method = parse_dictionary(settings, "--settings")
    if not all(isinstance(value, dict) for value in by_method.values()):
        raise InputError(f"--settings is {settings!r}, not dictionaries by method")
    written, overstated = record_evidence(laboratory, to, settings=by_method, **words)
    click.echo("".join(f"recorded: {name}\n" for name in written), nl=False)
    click.echo("".join(f"overstated: {name}\n" for name in overstated), nl=False)
    click.echo(f"{len(written)} entries in {Path(laboratory) / 'evidence' if to is None else to}")


@evidence.command()
@click.argument("query", nargs=-1)
@click.option("--folder", metavar="DIR", type=PATH, help="Folder of the entries; default: those of the package.")
def show(query: Sequence[str], folder: str | None) -> None:
    """Print the table of a query as Markdown. Example: dataset=hippocampus method=umed 'psnr>=38' rows=exploiters"""
    from monai_unlearnable.evidence import Query, load_entries, own_entries, render

    entries = own_entries() if folder is None else load_entries(folder)
    click.echo(render(Query.of(shlex.join(query)), entries), nl=False)


@evidence.command("render")
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 where a table differs from the entries.")
def render_files(files: Sequence[str], check: bool) -> int:
    """Render the tables of Markdown files anew from the entries."""
    from monai_unlearnable.evidence import own_entries, own_traces, rewrite, stale

    changed = (stale if check else rewrite)([Path(file) for file in files], own_entries(), own_traces())
    for path in changed:
        click.echo(f"{'stale' if check else 'rendered'}: {path}")
    return CHECK_FAILED if check and changed else 0


COMMANDS = (evidence,)

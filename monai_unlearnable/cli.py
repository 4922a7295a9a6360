# SPDX-License-Identifier: Apache-2.0
"""The command line: a thin layer over the functions of the package.

Exit codes: 0 done, 1 a check failed or cases were skipped, 2 wrong usage or input.
"""

from __future__ import annotations

import ast
import io
import logging
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml
from rich.console import Console

import monai_unlearnable as mu
from monai_unlearnable.errors import (
    FailedTrainingsError,
    InputError,
    SkippedCasesError,
    UnlearnableError,
    VerificationError,
)
from monai_unlearnable.utils.progress import hush_monai
from monai_unlearnable.utils.text import first_few

if TYPE_CHECKING:
    from monai_unlearnable.noise import Manifest
    from monai_unlearnable.report import Results

__all__ = ["CHECK_FAILED", "PROGRAM", "WRONG_INPUT", "main", "parse_overrides", "parse_value", "program"]

PROGRAM = "monai-unlearnable"
CHECK_FAILED, WRONG_INPUT = 1, 2
CHECKS = (VerificationError, SkippedCasesError, FailedTrainingsError)  # the errors of a check that failed
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments after the name of the program; by default those that it was started with.
    """
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need not be text in the encoding of the terminal
    _show_plans()
    hush_monai()
    try:
        return int(program.main(argv, PROGRAM, standalone_mode=False) or 0)
    except click.Abort as error:  # click wraps what stopped it
        raise (error.__cause__ or error) from None
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UnlearnableError as error:
        click.echo(f"{click.style('error', fg='red', bold=True)}: {_printable(str(error))}", err=True)
        return CHECK_FAILED if isinstance(error, CHECKS) else WRONG_INPUT


class _Echo(logging.Handler):
    """Prints messages as they are."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def _show_plans() -> None:
    """Print what a run found, before it begins, beside its other messages."""
    shown = logging.getLogger("monai_unlearnable.publishing.plan")
    shown.setLevel(logging.INFO)
    if not shown.handlers:
        shown.addHandler(_Echo())
        shown.propagate = False


def _printable(text: str) -> str:
    """A text without characters that control a terminal or are none, which names of files may hold."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def parse_value(text: str) -> Any:
    """A Python literal as ``monai.bundle run`` takes it, else YAML (``true``, ``null``, plain words)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return yaml.safe_load(text)


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``--epsilon 0.02 --network_def#channels "[8,16]"`` as a dictionary.

    Raises:
        InputError: when arguments do not come as ``--name value``.
    """
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise InputError(f"settings come as --name value, not {' '.join(words)!r}")
    return {name[2:]: parse_value(text) for name, text in zip(words[::2], words[1::2], strict=True)}


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)


# Options, each used by several commands.


def _switch(context: click.Context, parameter: click.Parameter, text: str | None) -> bool | None:
    value = None if text is None else parse_value(text)
    if value is not None and not isinstance(value, bool):
        raise click.BadParameter(f"{text!r} is neither True nor False", context, parameter)
    return value


KEY = click.option("--key", metavar="FILE", help="File of the owner's key, or of its derivation from a passphrase.")
OVERWRITE = click.option(
    "--overwrite", is_flag=False, flag_value="True", callback=_switch, metavar="[True|False]", help="Replace files."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
SETTINGS = click.argument("settings", nargs=-1, type=click.UNPROCESSED, metavar="[--SETTING VALUE]...")
WITH_SETTINGS = {"ignore_unknown_options": True}  # of a command with ``SETTINGS``

POSITIONAL = {"method", "source", "dataset_dir", "output_dir"}


def _settings(words: Sequence[str], **known: Any) -> dict[str, Any]:
    """The settings that were given; all others keep the configuration's values."""
    settings = parse_overrides(words)
    if taken := sorted(POSITIONAL & settings.keys()):
        raise InputError(f"{', '.join(taken)} is given by its place, not as --{taken[0]}")
    return {**settings, **{name: value for name, value in known.items() if value is not None}}


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": PAGE_WIDTH})
@click.version_option(mu.__version__)
def program() -> None:
    """Publish medical scans that people can read and that models cannot be trained on."""


# The owner's commands, and those of third parties.


@program.command(context_settings=WITH_SETTINGS)
@click.argument("method")
@click.argument("dataset_dir")
@click.argument("out")
@SETTINGS
@KEY
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Say what was found and what it will take, and write nothing.")
@JSON
def protect(
    method: str, dataset_dir: str, out: str, settings: Sequence[str], dry_run: bool, as_json: bool, **known: Any
) -> None:
    """Protect a dataset, a MedMNIST archive, or studies of a DICOMweb server, with a method.

    METHOD is a name (umed, lsp, ...) or a configuration file. Its settings are given by name, for example
    --epochs 20 --masks#support#margin 1. Studies are given as dicomweb://HOST/PATH?StudyInstanceUID=UID.
    """
    chosen = _settings(settings, **known)
    if dry_run:
        plan = mu.plan(method, dataset_dir, out, **chosen)
        click.echo(plan.to_json() if as_json else plan.page())
        return
    if as_json:
        raise InputError("--json is the form of the plan; give --dry-run with it")
    _say_protected(out, mu.protect(method, dataset_dir, out, **chosen))


@program.command(context_settings=WITH_SETTINGS)
@click.argument("source")
@click.argument("dataset_dir")
@click.argument("out")
@SETTINGS
@KEY
@OVERWRITE
def apply(source: str, dataset_dir: str, out: str, settings: Sequence[str], **known: Any) -> None:
    """Put stored noise, or that of a trained checkpoint, on clean scans.

    SOURCE is a folder noise/, or a checkpoint of models/.
    """
    _say_protected(out, mu.apply(source, dataset_dir, out, **_settings(settings, **known)))


def _say_protected(out: str, manifest: Manifest) -> None:
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun starts
        click.echo(f"protected: {Path(out) / 'protected'}{_unchanged(manifest)}")


def _unchanged(manifest: Manifest) -> str:
    """The end of a line that counts the scans without noise, and names the first of them."""
    names = manifest.unchanged
    return f"; {len(names)} of {len(manifest.scans)} scans are unchanged: {first_few(names)}" if names else ""


@program.command()
@click.argument("out")
@click.option("--clean", metavar="DIR", help="Folder or archive of the clean dataset, to compare the files with.")
@KEY
@JSON
def verify(out: str, clean: str | None, key: str | None, as_json: bool) -> None:
    """Check every claim of a manifest from disk."""
    from monai_unlearnable.publishing.verify import check

    manifest, report = check(out, clean, key)
    if as_json:
        click.echo(report.to_json())
    elif report.findings:
        click.echo(report.page())
    else:
        end = _unchanged(manifest)
        click.echo(f"verified: {len(manifest.scans)} scans, every hash, budget and figure holds{end}")
    if report.findings:
        raise report.error()


@program.command()
@click.argument("out")
@click.argument("destination")
@KEY
@OVERWRITE
def restore(out: str, destination: str, key: str | None, overwrite: bool | None) -> None:
    """Write the original voxels, bit for bit."""
    click.echo(f"restored: {len(mu.restore(out, destination, bool(overwrite), key))} scans, bit for bit")


@program.command()
@click.argument("out")
@KEY
def statement(out: str, key: str | None) -> None:
    """Rewrite the public statement of an output."""
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.noise import Manifest
    from monai_unlearnable.publishing.layout import Layout
    from monai_unlearnable.publishing.statement import write_statement

    layout, owner = Layout(out), load_key(key)
    write_statement(Manifest.load(layout.manifest, owner), layout, owner)
    click.echo(f"written: {layout.statement}")


@program.command()
@click.argument("protected")
@click.argument("statement")
@click.option("--public-key", metavar="FILE", help="The owner's public key, from another source than the statement.")
@JSON
def audit(protected: str, statement: str, public_key: str | None, as_json: bool) -> None:
    """Check published files against a statement."""
    report = mu.audit(protected, statement, public_key)
    click.echo(report.to_json() if as_json else report.page())
    if count := len(report.findings):
        reason = f"{count} claims of the statement do not hold"
        raise VerificationError(reason, file=statement, findings=report.findings)


@program.command()
@click.argument("out")
@click.argument("address", metavar="dicomweb://HOST/PATH")
def publish(out: str, address: str) -> None:
    """Store the protected series in a PACS, and read them back to compare."""
    done = mu.publish(out, address)
    omitted = f"; not DICOM, and not stored: {', '.join(done.omitted)}" if done.omitted else ""
    click.echo(f"published: {done.stored} instances stored, {done.known} were there; all read back equal{omitted}")


@program.command()
@click.argument("archive")
@click.argument("folder")
@OVERWRITE
def unpack(archive: str, folder: str, overwrite: bool | None) -> None:
    """Unpack a MedMNIST archive to files with a datalist."""
    from monai_unlearnable.data import unpack_archive

    click.echo(f"unpacked: {unpack_archive(Path(archive), Path(folder), bool(overwrite))}")


@program.command()
@click.argument("archive")
@click.argument("folder")
@click.argument("target")
@OVERWRITE
def pack(archive: str, folder: str, target: str, overwrite: bool | None) -> None:
    """Copy a MedMNIST archive with the images of a folder in place of its own."""
    from monai_unlearnable.data import pack_archive

    click.echo(f"packed: {pack_archive(Path(archive), Path(folder), Path(target), overwrite=bool(overwrite))}")


# Keys.


@program.group()
def key() -> None:
    """Make the owner's key, and the keys that others get."""


@key.command()
@click.argument("file")
def new(file: str) -> None:
    """Write a new random key to a file, which only you can read."""
    mu.OwnerKey.generate().save(file)
    click.echo(f"written: {file}; keep a copy in a safe place: nothing opens without it")


@key.command()
@click.argument("file")
def derive(file: str) -> None:
    """Write how a key is derived from a passphrase. It asks for the passphrase."""
    from monai_unlearnable.crypto import KeyDerivation
    from monai_unlearnable.crypto.keys import ask_passphrase

    KeyDerivation.generate().checking(ask_passphrase(twice=True)).save(file)
    click.echo(f"written: {file}; keep a copy in a safe place: the passphrase alone opens nothing")


@key.command()
@click.argument("owner_key", metavar="KEY")
@click.argument("file")
def public(owner_key: str, file: str) -> None:
    """Write the public key to a file. Others check your statements with it."""
    from monai_unlearnable.crypto.keys import load_key, owner
    from monai_unlearnable.crypto.signing import save_public_key

    save_public_key(owner(load_key(owner_key)), file)
    click.echo(f"written: {file}; give it to whoever checks your statements")


@key.command()
@click.argument("owner_key", metavar="KEY")
@click.argument("out")
@click.argument("cases", metavar="CASE...", nargs=-1, required=True)
@click.argument("file")
def share(owner_key: str, out: str, cases: Sequence[str], file: str) -> None:
    """Write the keys of chosen cases for a recipient. The recipient can restore only those."""
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.crypto.encrypted import SUFFIX
    from monai_unlearnable.noise import NoiseStore
    from monai_unlearnable.publishing.layout import Layout

    noise = Layout(out).noise
    ring = NoiseStore(noise, load_key(owner_key)).share(cases)
    ring.save(file)
    click.echo(f"written: {file}; it opens {', '.join(f'{name}{SUFFIX}' for name in ring.keys)} of {noise}")


# The examiner's commands.


def _show(results: Results, page: Path) -> None:
    """Print the tables and the verdict.

    Raises:
        FailedTrainingsError: with every reason, when no training has a score.
    """
    from monai_unlearnable.evidence import background, own_entries
    from monai_unlearnable.report import p50_table, victim_table

    console = _console()
    console.print(victim_table(results))
    if any(len(line.points) > 1 for line in results.frontier()):
        console.print(p50_table(results, brief=True).to_rich())
    console.print(results.verdict(), markup=False)
    for sentence in background(results, own_entries()).sentences():
        console.print(sentence, markup=False)
    click.echo(f"report: {page}")
    failures, total = results.failures(), len(results.rows)
    if total and sum(failures.values()) == total:
        raise FailedTrainingsError(f"no training has a score. {'. '.join(failures)}")
    for reason, count in failures.items():
        click.echo(f"{count} of {total} trainings {reason}", err=True)


@program.command(context_settings=WITH_SETTINGS)
@click.argument("out")
@click.argument("dataset_dir")
@SETTINGS
def evaluate(out: str, dataset_dir: str, settings: Sequence[str]) -> None:
    """Train victims on clean, protected and random-noise data. Settings are those of the laboratory."""
    _show(*mu.evaluate(out, dataset_dir, **_settings(settings)))


@program.command(context_settings=WITH_SETTINGS)
@click.argument("dataset_dir")
@click.argument("out")
@SETTINGS
def laboratory(dataset_dir: str, out: str, settings: Sequence[str]) -> None:
    """Train methods x victims x recipes x countermeasures. Example: --protected "{'umed': 'OUT'}"."""
    from monai_unlearnable.proof import laboratory

    _show(*laboratory(dataset_dir, out, **_settings(settings)))


@program.command()
@click.argument("laboratory")
@click.option("--data", required=True, help="What to train on: clean, or a name among the protected data.")
@click.option("--victim", required=True)
@click.option("--recipe", required=True)
@click.option("--countermeasure", required=True)
@click.option("--seed", type=int, default=0, show_default=True)
def run(laboratory: str, **names: Any) -> int:
    """Train one run of a laboratory's matrix alone."""
    from monai_unlearnable.evaluation.matrix import Run

    row = mu.Laboratory.open(laboratory).train(Run(**names))
    low, high = row.interval
    score = f"{row.metric} {row.score:.1f} ({low:.1f} to {high:.1f})" if row.done else row.status
    click.echo(f"{row.victim} on {row.data}: {score}")
    return 0 if row.done else CHECK_FAILED


@program.command(context_settings=WITH_SETTINGS)
@click.argument("dataset_dir")
@click.argument("out")
@SETTINGS
@click.option("--methods", default="umed", show_default=True, help="Names or configuration files, comma-separated.")
@click.option("--epsilons", default="6,8,10,12,14", show_default=True, help="Budgets in 1/255, comma-separated.")
@click.option("--bundle", default="{}", help="Settings of the bundles, as a dictionary.")
def frontier(dataset_dir: str, out: str, settings: Sequence[str], methods: str, epsilons: str, bundle: str) -> None:
    """Protect at several budgets, examine, and draw score against fidelity."""
    from monai_unlearnable.proof import frontier

    of_bundles = parse_value(bundle)
    if not isinstance(of_bundles, dict):
        raise InputError(f"--bundle is {of_bundles!r}, not a dictionary")
    budgets = [float(epsilon) for epsilon in epsilons.split(",")]
    _show(*frontier(dataset_dir, out, methods.split(","), budgets, of_bundles, **_settings(settings)))


@program.command()
@click.argument("laboratory")
def report(laboratory: str) -> None:
    """Rewrite the report of a laboratory from its results."""
    from monai_unlearnable.evaluation.reporting import rewrite_report

    _show(*rewrite_report(laboratory))


@program.command()
@click.argument("first")
@click.argument("second")
@click.option("--page", metavar="FILE", help="HTML file to write.")
def compare(first: str, second: str, page: str | None) -> None:
    """Compare two results.json side by side."""
    from monai_unlearnable.report import Results, comparison_table, write_comparison

    results = Results.load(first), Results.load(second)
    _console().print(comparison_table(*results))
    if page is not None:
        write_comparison(*results, page)
        click.echo(f"page: {page}")


# Evidence.


@program.group()
def evidence() -> None:
    """Keep measured figures as data."""


@evidence.command("record")
@click.argument("laboratory")
@click.option("--to", metavar="DIR", help="Folder of the entries; default: evidence/ of the laboratory.")
@click.option("--dataset", default="", help="Name of the dataset; default: that of its folder.")
@click.option("--date", metavar="YYYY-MM-DD", help="Day of the measurement; default: today.")
@click.option("--settings", default="{}", help="Settings by method: \"{'foresight mirror': {'recipe': 'mirror'}}\".")
@click.option("--source", default="", help="Where the figures come from, such as a command.")
@click.option("--remark", default="", help="Remark for readers, a sentence.")
def record_entries(laboratory: str, to: str | None, date: str | None, settings: str, **words: str) -> None:
    """Record what a laboratory has measured so far, one JSON file a figure; nothing is trained."""
    from monai_unlearnable.evaluation.reporting import record_evidence

    by_method = parse_value(settings)
    if not isinstance(by_method, dict) or not all(isinstance(value, dict) for value in by_method.values()):
        raise InputError(f"--settings is {settings!r}, not dictionaries by method")
    known = {**words, "settings": by_method, **({"date": date} if date else {})}
    written, overstated = record_evidence(laboratory, to, **known)
    click.echo("".join(f"recorded: {name}\n" for name in written), nl=False)
    click.echo("".join(f"overstated: {name}\n" for name in overstated), nl=False)
    click.echo(f"{len(written)} entries in {Path(laboratory) / 'evidence' if to is None else to}")


@evidence.command()
@click.argument("query", nargs=-1)
@click.option("--folder", metavar="DIR", help="Folder of the entries; default: those of the package.")
def show(query: Sequence[str], folder: str | None) -> None:
    """Print the table of a query as Markdown. Example: dataset=hippocampus method=umed psnr>=38 rows=exploiters"""
    from monai_unlearnable.evidence import Query, load_entries, own_entries, render

    entries = own_entries() if folder is None else load_entries(folder)
    click.echo(render(Query.of(shlex.join(query)), entries), nl=False)


@evidence.command("render")
@click.argument("files", nargs=-1, required=True)
@click.option("--check", is_flag=True, help="Change nothing; exit code 1 where a table differs from the entries.")
def render_files(files: Sequence[str], check: bool) -> int:
    """Render the tables of Markdown files anew from the entries of the package."""
    from monai_unlearnable.evidence import own_entries, rewrite, stale

    changed = (stale if check else rewrite)([Path(file) for file in files], own_entries())
    for path in changed:
        click.echo(f"{'stale' if check else 'rendered'}: {path}")
    return CHECK_FAILED if check and changed else 0


@program.command()
@click.argument("out")
def demo(out: str) -> None:
    """Run the whole workflow on a phantom dataset."""
    from monai_unlearnable.demo import run_demo

    _show(*run_demo(out))

# SPDX-License-Identifier: Apache-2.0
"""The owner's commands, and those of third parties who check or copy what he published."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import monai_unlearnable as mu
from monai_unlearnable.cli.settings import AUTO, METHOD, Protecting
from monai_unlearnable.cli.terminal import typed_program
from monai_unlearnable.cli.values import JSON, KEY, OVERWRITE, PATH, SETTINGS, WITH_SETTINGS, chosen_settings
from monai_unlearnable.cli.work import Work, is_first, say
from monai_unlearnable.errors import InputError, SkippedCasesError, VerificationError
from monai_unlearnable.utils.text import counted, first_few

if TYPE_CHECKING:
    from monai_unlearnable.noise import Manifest

__all__ = ["COMMANDS"]


def _kept(arguments: Mapping[str, Any]) -> str:
    """What an interrupted ``protect`` or ``apply`` leaves, and how to go on."""
    from monai_unlearnable.publishing.layout import Layout

    layout, source, again = Layout(arguments["out"]), arguments.get("source"), "give the same command"
    if arguments.get("dry_run"):
        return f"nothing was written; {again} again"
    if arguments.get("method") == AUTO:
        return f"finished trials and trainings are kept in {layout.root / AUTO}; {again} to go on"
    if layout.records:
        return f"the earlier output in {layout.root} is as it was; {again} again"
    if not (layout.noise.is_dir() or layout.models.is_dir()):
        return f"nothing was published; {again} again"
    if source is not None and Path(source).is_dir():
        return f"the output in {layout.root} is not complete; {again} again, which begins anew"
    again += " without --overwrite" if arguments["overwrite"] else ""
    return f"finished epochs and cases are kept in {layout.root}; {again} to go on"


@click.command(cls=Protecting, kept=_kept, context_settings=WITH_SETTINGS)
@METHOD
@click.argument("dataset_dir", type=PATH)
@click.argument("out", type=PATH)
@SETTINGS
@KEY
@OVERWRITE
@click.option("--dry-run", is_flag=True, help="Say what was found and what it will take, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the plan of --dry-run as JSON.")
def protect(
    method: str, dataset_dir: str, out: str, settings: Sequence[str], dry_run: bool, as_json: bool, **known: Any
) -> None:
    """Protect a dataset with a method.

    DATASET_DIR is a folder, a MedMNIST archive, or the address of studies on a DICOMweb server.

    METHOD is a name (umed, lsp, ...) or a configuration file. Its settings are given by name, for example
    --epochs 20 --masks#support#margin 1. Studies are given as dicomweb://HOST/PATH?StudyInstanceUID=UID.

    protect METHOD --help lists the settings of a method.

    The method auto tries several and takes the best: --stop patches --psnr 43 --minutes 120 --test_dir TEST.
    """
    chosen = chosen_settings(settings, **known)
    if method == AUTO:
        _protect_auto(dataset_dir, out, chosen, dry_run or as_json)
        return
    if dry_run:
        plan = mu.plan(method, dataset_dir, out, **chosen)
        click.echo(plan.to_json() if as_json else plan.page())
        return
    if as_json:
        raise InputError("--json is the form of the plan; give --dry-run with it")
    with _summing_up_skipped(method, dataset_dir, out, chosen):
        say_protected(method, dataset_dir, out, chosen, mu.protect(method, dataset_dir, out, **chosen))


@click.command(cls=Work, kept=_kept, context_settings=WITH_SETTINGS)
@click.argument("source", type=PATH)
@click.argument("dataset_dir", type=PATH)
@click.argument("out", type=PATH)
@SETTINGS
@KEY
@OVERWRITE
def apply(source: str, dataset_dir: str, out: str, settings: Sequence[str], **known: Any) -> None:
    """Put the noise of a trained method on clean scans.

    SOURCE is a folder noise/ with stored noise, or a checkpoint of models/.
    """
    chosen, words = chosen_settings(settings, **known), f"the noise of {source}"
    with _summing_up_skipped(words, dataset_dir, out, chosen):
        say_protected(words, dataset_dir, out, chosen, mu.apply(source, dataset_dir, out, **chosen))


def _protect_auto(dataset_dir: str, out: str, settings: dict[str, Any], is_plan: bool) -> None:
    if is_plan:
        raise InputError("auto has no plan of its own; give --dry-run with one of the methods")
    with _summing_up_skipped(None, dataset_dir, out, settings):
        choice = mu.protect_auto(dataset_dir, out, **settings)
        assert choice.manifest is not None
        say(f"chosen: {choice.best.name}, which leaves {choice.left:.0%}; report: {choice.page}")
        say_protected(choice.best.method, dataset_dir, out, settings, choice.manifest)


def say_protected(source: str, dataset: str, out: str, settings: dict[str, Any], manifest: Manifest) -> None:
    """Sum up a finished output.

    Args:
        source: what the noise comes from.
        dataset: the clean dataset.
        out: the output.
        settings: settings that were given.
        manifest: record of the output.
    """
    from monai_unlearnable.publishing.closing import Closing
    from monai_unlearnable.publishing.layout import Layout

    if not is_first():
        return
    own = {name: settings.get(name) for name in ("key", "datalist")}
    say(Closing(manifest, Layout(out), source, dataset, typed_program(), **own).page())
    say(f"protected: {Path(out) / 'protected'}{_unchanged(manifest)}")


@contextmanager
def _summing_up_skipped(source: str | None, dataset: str, out: str, settings: dict[str, Any]) -> Iterator[None]:
    """Sum up also an output that lacks cases: it is finished, and the error that names them is told last.

    Args:
        source: what the noise comes from; None where the record of the output tells the name of the method.
        dataset: the clean dataset.
        out: the output.
        settings: settings that were given.
    """
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.noise import Manifest
    from monai_unlearnable.publishing.layout import Layout

    try:
        yield
    except SkippedCasesError:
        manifest = Manifest.load(Layout(out).manifest, load_key(settings.get("key")))
        say_protected(source or manifest.method, dataset, out, settings, manifest)
        raise


def _unchanged(manifest: Manifest) -> str:
    """The end of a line that counts the scans without noise, and names the first of them."""
    names = manifest.unchanged
    return f"; {len(names)} of {len(manifest.scans)} scans are unchanged: {first_few(names)}" if names else ""


@click.command(cls=Work, kept="nothing was changed; give the same command again")
@click.argument("out", type=PATH)
@click.option(
    "--clean", metavar="DIR", type=PATH, help="Folder or archive of the clean dataset, to compare the files with."
)
@KEY
@JSON
def verify(out: str, clean: str | None, key: str | None, as_json: bool) -> None:
    """Check every claim of a manifest from disk."""
    from monai_unlearnable.publishing.verify import check

    manifest, report = check(out, clean, key)
    if as_json:
        click.echo(report.to_json())
    elif report.findings:
        say(report.page())
    else:
        end = _unchanged(manifest)
        say(f"verified: {counted(len(manifest.scans), 'scan')}, every hash, budget and figure holds{end}")
    if report.findings:
        raise report.error()


@click.command(
    cls=Work, kept="restored files are kept in {destination}; give the same command with --overwrite to go on"
)
@click.argument("out", type=PATH)
@click.argument("destination", type=PATH)
@KEY
@OVERWRITE
def restore(out: str, destination: str, key: str | None, overwrite: bool | None) -> None:
    """Write the original voxels, bit for bit."""
    scans = mu.restore(out, destination, bool(overwrite), key)
    say(f"restored: {counted(len(scans), 'scan')}, bit for bit")


@click.command()
@click.argument("out", type=PATH)
@KEY
def show(out: str, key: str | None) -> None:
    """Say in words what noise an output has, for its owner alone."""
    from monai_unlearnable.publishing.account import show

    click.echo(show(out, key))


@click.command()
@click.argument("out", type=PATH)
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


@click.command(cls=Work, kept="the files of the set are as they were; give the same command again")
@click.argument("out", type=PATH)
@click.option(
    "--terms", required=True, metavar="FILE", type=PATH, help="YAML file with title, license and terms of use."
)
@KEY
@OVERWRITE
def describe(out: str, terms: str, key: str | None, overwrite: bool | None) -> None:
    """Write README, LICENSE and croissant.json for published files."""
    done = mu.describe(out, terms, bool(overwrite), key)
    kept = f"; kept: {', '.join(done.kept)}, replaced with --overwrite" if done.kept else ""
    say(f"written to {Path(out) / 'protected'}: {', '.join(done.written)}{kept}")


@click.command(cls=Work, kept="nothing was changed; give the same command again")
@click.argument("protected", type=PATH)
@click.argument("statement", type=PATH)
@click.option(
    "--public-key", metavar="FILE", type=PATH, help="The owner's public key, from another source than the statement."
)
@JSON
def audit(protected: str, statement: str, public_key: str | None, as_json: bool) -> None:
    """Check published files against a statement."""
    report = mu.audit(protected, statement, public_key)
    click.echo(report.to_json() if as_json else report.page())
    if count := len(report.findings):
        reason = f"{counted(count, 'claim')} of the statement {'does' if count == 1 else 'do'} not hold"
        raise VerificationError(reason, file=statement, findings=report.findings)


@click.command(cls=Work, kept="stored series are kept at {address}; give the same command to store the rest")
@click.argument("out", type=PATH)
@click.argument("address", metavar="dicomweb://HOST/PATH")
def publish(out: str, address: str) -> None:
    """Store the protected series in a PACS and compare them."""
    done = mu.publish(out, address)
    omitted = f"; not DICOM, and not stored: {', '.join(done.omitted)}" if done.omitted else ""
    say(f"published: {done.stored} instances stored, {done.known} were there; all read back equal{omitted}")


@click.command(cls=Work, kept="unpacked files are kept in {folder}; give the same command to go on")
@click.argument("archive", type=PATH)
@click.argument("folder", type=PATH)
@OVERWRITE
def unpack(archive: str, folder: str, overwrite: bool | None) -> None:
    """Unpack a MedMNIST archive to files with a datalist."""
    from monai_unlearnable.data import unpack_archive

    click.echo(f"unpacked: {unpack_archive(Path(archive), Path(folder), bool(overwrite))}")


@click.command()
@click.argument("archive", type=PATH)
@click.argument("folder", type=PATH)
@click.argument("target", type=PATH)
@OVERWRITE
def pack(archive: str, folder: str, target: str, overwrite: bool | None) -> None:
    """Copy a MedMNIST archive with the images of a folder."""
    from monai_unlearnable.data import pack_archive

    click.echo(f"packed: {pack_archive(Path(archive), Path(folder), Path(target), overwrite=bool(overwrite))}")


COMMANDS = (protect, apply, verify, restore, show, statement, describe, audit, publish, unpack, pack)

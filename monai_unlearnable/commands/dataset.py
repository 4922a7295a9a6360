# SPDX-License-Identifier: Apache-2.0
"""The owner's words: protect, apply, verify, restore, statement, unpack, pack; and that of third parties, audit."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from monai_unlearnable.commands.words import Words, parse_overrides, parse_value
from monai_unlearnable.errors import InputError, VerificationError
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.progress import hush_monai

__all__ = ["add_dataset_words"]


def add_dataset_words(words: Words) -> None:
    """Add the words to a parser."""
    about = "protect a dataset, or a MedMNIST archive, with a method (umed, lsp, ...) or configuration file"
    protect = words.add("protect", _protect, about, "method", "dataset_dir", "out", settings=True)
    about = "put stored noise, or a trained checkpoint, on clean scans"
    apply = words.add("apply", _apply, about, "source", "dataset_dir", "out", settings=True)
    verify = words.add("verify", _verify, "check every claim of a manifest from disk", "out")
    verify.add_argument("--clean", metavar="DIR")
    restore = words.add("restore", _restore, "write the original voxels, bit for bit", "out", "destination")
    about = "write the public statement of an output anew"
    statement = words.add("statement", _statement, about, "out")
    for word in (protect, apply, verify, restore, statement):
        word.add_argument("--key", metavar="FILE", help="the owner's key, or how it comes from a passphrase")
    for word in (protect, apply, restore):
        _may_overwrite(word)
    audit = words.add("audit", _audit, "check published files against a statement", "protected", "statement")
    audit.add_argument("--public-key", metavar="FILE", help="the owner's, got from somewhere else")
    audit.add_argument("--json", action="store_true", help="print what was found as JSON")
    about = "write the images of a MedMNIST archive as files, with a datalist"
    _may_overwrite(words.add("unpack", _unpack, about, "archive", "folder"))
    about = "write a MedMNIST archive once more, with the images of a folder"
    _may_overwrite(words.add("pack", _pack, about, "archive", "folder", "target"))


def _may_overwrite(word: argparse.ArgumentParser) -> None:
    """The flag alone, or with a value as bundles take it."""
    about = "replace what is there already"
    word.add_argument("--overwrite", nargs="?", const=True, type=parse_value, choices=[True, False], help=about)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; others are left to the configuration."""
    words = {"overwrite": arguments.overwrite, "key": arguments.key}
    return parse_overrides(arguments.settings) | {name: value for name, value in words.items() if value is not None}


@contextmanager
def _dataset(arguments: argparse.Namespace, resume: bool = True) -> Iterator[str]:
    """The folder to protect, whether it or an archive was given; see ``protected_archive``."""
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.publishing.archives import is_archive, protected_archive

    if not is_archive(arguments.dataset_dir):
        yield arguments.dataset_dir
        return
    key = load_key(arguments.key)
    with protected_archive(arguments.dataset_dir, arguments.out, bool(arguments.overwrite), key, resume) as folder:
        yield str(folder)


@contextmanager
def _together() -> Iterator[dict[str, str]]:
    """Work with the other processes that ``torchrun`` started, if it did; yields the setting of this one's device."""
    with distributed.joined() as local:
        yield {} if local is None else {"device": distributed.device(local)}


def _say_protected(arguments: argparse.Namespace, console: Console) -> None:
    if distributed.rank() == 0:
        console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _protect(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.publishing.bundles import run_bundle

    hush_monai()
    with _together() as device, _dataset(arguments) as folder:
        overrides = {**device, **_settings(arguments)}
        run_bundle(arguments.method, dataset_dir=folder, output_dir=arguments.out, **overrides)
        _say_protected(arguments, console)


def _apply(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.crypto.encrypted import is_owned
    from monai_unlearnable.publishing.bundles import run_bundle
    from monai_unlearnable.publishing.restore import apply_stored

    hush_monai()
    source = Path(arguments.source)
    settings = _settings(arguments)
    if arguments.settings and source.is_dir():
        raise InputError(f"stored noise has no settings to change: {' '.join(arguments.settings)}", file=source)
    elsewhere = source.resolve() != Path(arguments.out, "noise").resolve()
    with _together() as device, _dataset(arguments, resume=elsewhere) as folder:
        if is_owned(source):
            overrides = {"checkpoint": str(source), **device, **settings}
            run_bundle("umed", "apply", dataset_dir=folder, output_dir=arguments.out, **overrides)
        else:
            apply_stored(source, folder, arguments.out, bool(arguments.overwrite), load_key(arguments.key))
        _say_protected(arguments, console)


def _verify(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.data import unpack_archive
    from monai_unlearnable.publishing.archives import is_archive
    from monai_unlearnable.publishing.verify import verify

    with TemporaryDirectory() as folder:
        clean = arguments.clean
        if clean is not None and is_archive(clean):
            clean = unpack_archive(Path(clean), Path(folder))
        manifest = verify(arguments.out, clean, load_key(arguments.key))
    console.print(f"verified: {len(manifest.scans)} scans, every hash, budget and figure holds")


def _restore(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.publishing.restore import restore

    scans = restore(arguments.out, arguments.destination, bool(arguments.overwrite), load_key(arguments.key))
    console.print(f"restored: {len(scans)} scans, bit for bit")


def _statement(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto import load_key
    from monai_unlearnable.noise import Manifest
    from monai_unlearnable.publishing.layout import Layout
    from monai_unlearnable.publishing.statement import write_statement

    layout, key = Layout(Path(arguments.out)), load_key(arguments.key)
    write_statement(Manifest.load(layout.manifest, key), layout, key)
    console.print(f"written: {layout.statement}", highlight=False, soft_wrap=True, markup=False)


def _audit(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.crypto.signing import load_public_key
    from monai_unlearnable.publishing.audit import audit

    public_key = None if arguments.public_key is None else load_public_key(arguments.public_key)
    found = audit(arguments.protected, arguments.statement, public_key)
    console.print(found.to_json() if arguments.json else found.page(), highlight=False, soft_wrap=True, markup=False)
    if found.problems:
        raise VerificationError(f"{len(found.problems)} claims of the statement do not hold", file=arguments.statement)


def _unpack(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.data import unpack_archive

    folder = unpack_archive(Path(arguments.archive), Path(arguments.folder), bool(arguments.overwrite))
    console.print(f"unpacked: {folder}")


def _pack(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.data import pack_archive

    paths = (Path(arguments.archive), Path(arguments.folder), Path(arguments.target))
    console.print(f"packed: {pack_archive(*paths, overwrite=bool(arguments.overwrite))}")

# SPDX-License-Identifier: Apache-2.0
"""The owner's words: protect, apply, verify, restore, unpack, pack."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from monai_unlearnable.commands.words import Words, hush_bundles, parse_overrides, parse_value

__all__ = ["add_dataset_words"]


def add_dataset_words(words: Words) -> None:
    """Add the words to a parser."""
    about = "protect a dataset, or a MedMNIST archive, with a method (umed, lsp, ...) or configuration file"
    _may_overwrite(words.add("protect", _protect, about, "method", "dataset_dir", "out", settings=True))
    about = "put stored noise, or a trained checkpoint, on clean scans"
    _may_overwrite(words.add("apply", _apply, about, "source", "dataset_dir", "out", settings=True))
    verify = words.add("verify", _verify, "check every claim of a manifest from disk", "out")
    verify.add_argument("--clean", metavar="DIR")
    _may_overwrite(words.add("restore", _restore, "write the original voxels, bit for bit", "out", "destination"))
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
    given = parse_overrides(arguments.settings)
    return given if arguments.overwrite is None else {**given, "overwrite": arguments.overwrite}


@contextmanager
def _dataset(arguments: argparse.Namespace) -> Iterator[str]:
    """The folder to protect, whether it or an archive was given."""
    from monai_unlearnable.workflows.archives import is_archive, protected_archive

    if not is_archive(arguments.dataset_dir):
        yield arguments.dataset_dir
        return
    with protected_archive(arguments.dataset_dir, arguments.out, bool(arguments.overwrite)) as folder:
        yield str(folder)


def _protect(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows.bundles import run_bundle

    hush_bundles()
    with _dataset(arguments) as folder:
        run_bundle(arguments.method, dataset_dir=folder, output_dir=arguments.out, **_settings(arguments))
    console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _apply(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import apply_stored
    from monai_unlearnable.workflows.bundles import run_bundle

    hush_bundles()
    source = Path(arguments.source)
    with _dataset(arguments) as folder:
        if source.is_file():
            overrides = {"checkpoint": str(source), **_settings(arguments)}
            run_bundle("umed", "apply", dataset_dir=folder, output_dir=arguments.out, **overrides)
        else:
            apply_stored(source, folder, arguments.out, **_settings(arguments))
    console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _verify(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.scans import unpack_archive
    from monai_unlearnable.workflows import verify
    from monai_unlearnable.workflows.archives import is_archive

    with TemporaryDirectory() as folder:
        clean = arguments.clean
        if clean is not None and is_archive(clean):
            clean = unpack_archive(Path(clean), Path(folder))
        manifest = verify(arguments.out, clean)
    console.print(f"verified: {len(manifest.scans)} scans, every hash, budget and figure holds")


def _restore(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import restore

    manifest = restore(arguments.out, arguments.destination, overwrite=bool(arguments.overwrite))
    console.print(f"restored: {len(manifest.scans)} scans, bit for bit")


def _unpack(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.scans import unpack_archive

    folder = unpack_archive(Path(arguments.archive), Path(arguments.folder), bool(arguments.overwrite))
    console.print(f"unpacked: {folder}")


def _pack(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.scans import pack_archive

    paths = (Path(arguments.archive), Path(arguments.folder), Path(arguments.target))
    console.print(f"packed: {pack_archive(*paths, overwrite=bool(arguments.overwrite))}")

# SPDX-License-Identifier: Apache-2.0
"""The owner's words: protect, apply, verify, restore."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console

from monai_unlearnable.commands.words import Words, hush_bundles, parse_overrides, parse_value

__all__ = ["add_dataset_words"]


def add_dataset_words(words: Words) -> None:
    """Add the words to a parser."""
    about = "protect a dataset with a bundle (umed) or configuration file"
    _may_overwrite(words.add("protect", _protect, about, "method", "dataset_dir", "out", settings=True))
    about = "put stored noise, or a trained checkpoint, on clean scans"
    _may_overwrite(words.add("apply", _apply, about, "source", "dataset_dir", "out", settings=True))
    verify = words.add("verify", _verify, "check every claim of a manifest from disk", "out")
    verify.add_argument("--clean", metavar="DIR")
    _may_overwrite(words.add("restore", _restore, "write the original voxels, bit for bit", "out", "destination"))


def _may_overwrite(word: argparse.ArgumentParser) -> None:
    """The flag alone, or with a value as bundles take it."""
    about = "replace what is there already"
    word.add_argument("--overwrite", nargs="?", const=True, type=parse_value, choices=[True, False], help=about)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; others are left to the configuration."""
    given = parse_overrides(arguments.settings)
    return given if arguments.overwrite is None else {**given, "overwrite": arguments.overwrite}


def _protect(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows.bundles import run_bundle

    hush_bundles()
    run_bundle(arguments.method, dataset_dir=arguments.dataset_dir, output_dir=arguments.out, **_settings(arguments))
    console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _apply(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import apply_stored
    from monai_unlearnable.workflows.bundles import run_bundle

    hush_bundles()
    source = Path(arguments.source)
    if source.is_file():
        overrides = {"checkpoint": str(source), **_settings(arguments)}
        run_bundle("umed", "apply", dataset_dir=arguments.dataset_dir, output_dir=arguments.out, **overrides)
    else:
        apply_stored(source, arguments.dataset_dir, arguments.out, **_settings(arguments))
    console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _verify(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import verify

    manifest = verify(arguments.out, arguments.clean)
    console.print(f"verified: {len(manifest.scans)} scans, every hash, budget and figure holds")


def _restore(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import restore

    manifest = restore(arguments.out, arguments.destination, overwrite=bool(arguments.overwrite))
    console.print(f"restored: {len(manifest.scans)} scans, bit for bit")

# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_unlearnable WORD ...``, a thin face over the workflows.

Exit codes: 0 done, 1 a check failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import ast
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from monai_unlearnable.errors import InputError, UnlearnableError, VerificationError

__all__ = ["main", "parse_overrides"]

CHECK_FAILED, WRONG_INPUT = 1, 2
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``--epsilon 0.02 --network_def#channels "[8,16]"`` as a dictionary."""
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise InputError(f"settings come as --name value, not {' '.join(words)!r}")
    return {name[2:]: _value(text) for name, text in zip(words[::2], words[1::2], strict=True)}


def _value(text: str) -> Any:
    """A Python literal as ``monai.bundle run`` takes it, else YAML (``true``, ``null``, plain words)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return yaml.safe_load(text)


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given; others are left to the configuration."""
    given = parse_overrides(arguments.settings)
    return given if arguments.overwrite is None else {**given, "overwrite": arguments.overwrite}


def _hush_bundles() -> None:
    """Keep MONAI from remarking on properties and logging files; its module sets its level when it is imported."""
    logging.getLogger("monai.bundle.workflows").setLevel(logging.ERROR)


def _protect(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows.bundles import run_bundle

    _hush_bundles()
    run_bundle(arguments.method, dataset_dir=arguments.dataset_dir, output_dir=arguments.out, **_settings(arguments))
    console.print(f"protected: {Path(arguments.out) / 'protected'}")


def _apply(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.workflows import apply_stored
    from monai_unlearnable.workflows.bundles import run_bundle

    _hush_bundles()
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


def _evaluate(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.report import victim_table
    from monai_unlearnable.workflows.proof import evaluate_folders

    results, page = evaluate_folders(
        arguments.out,
        arguments.dataset_dir,
        arguments.test_dir,
        datalist=arguments.datalist,
        iterations=arguments.iterations,
        victims=arguments.victims.split(","),
        seeds=range(arguments.seeds),
        device=arguments.device,
    )
    console.print(victim_table(results), results.verdict(), f"report: {page}", sep="\n")


def _demo(arguments: argparse.Namespace, console: Console) -> None:
    from monai_unlearnable.demo.run import run_demo
    from monai_unlearnable.report import victim_table

    _hush_bundles()
    results, page = run_demo(arguments.out)
    console.print(victim_table(results), results.verdict(), f"report: {page}", sep="\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("monai_unlearnable", description=__doc__.splitlines()[0])
    words = parser.add_subparsers(required=True, metavar="WORD")

    def add(name: str, function: Callable[[argparse.Namespace, Console], None], about: str, *names: str) -> Any:
        word = words.add_parser(name, help=about, description=about)
        word.set_defaults(function=function, settings=[])
        for positional in names:
            word.add_argument(positional)
        return word

    def may_overwrite(word: argparse.ArgumentParser) -> None:  # the flag alone, or with a value as bundles take it
        about = "replace what is there already"
        word.add_argument("--overwrite", nargs="?", const=True, type=_value, choices=[True, False], help=about)

    about = "protect a dataset with a bundle (umed) or configuration file"
    may_overwrite(add("protect", _protect, about, "method", "dataset_dir", "out"))
    about = "put stored noise, or a trained checkpoint, on clean scans"
    may_overwrite(add("apply", _apply, about, "source", "dataset_dir", "out"))
    add("verify", _verify, "check every claim of a manifest from disk", "out").add_argument("--clean", metavar="DIR")
    may_overwrite(add("restore", _restore, "write the original voxels, bit for bit", "out", "destination"))
    evaluate = add("evaluate", _evaluate, "train victims on clean and protected data", "out", "dataset_dir")
    evaluate.add_argument("--test_dir", help="clean held-out cases; default: section 'test' of the datalist")
    evaluate.add_argument("--datalist", help="datalist of the clean dataset")
    evaluate.add_argument("--iterations", type=int, default=500)
    evaluate.add_argument("--victims", default="UNet", help="comma-separated network names")
    evaluate.add_argument("--seeds", type=int, default=1, help="number of trainings of each victim")
    evaluate.add_argument("--device", default="cpu", help="where to train, such as cuda")
    add("demo", _demo, "the whole story on a phantom dataset", "out")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one word of the command line and return the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and arguments.function not in (_protect, _apply):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.settings = rest
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    try:
        arguments.function(arguments, console)
    except UnlearnableError as error:
        Console(stderr=True).print(f"[bold red]error[/]: {error}", highlight=False, soft_wrap=True)
        return CHECK_FAILED if isinstance(error, VerificationError) else WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())

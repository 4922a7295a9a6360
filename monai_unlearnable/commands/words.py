# SPDX-License-Identifier: Apache-2.0
"""Words and settings of the command line."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable, Sequence
from typing import Any

import yaml
from rich.console import Console

from monai_unlearnable.errors import InputError

__all__ = ["Command", "Words", "parse_overrides", "parse_value"]

Command = Callable[[argparse.Namespace, Console], None]


def parse_value(text: str) -> Any:
    """A Python literal as ``monai.bundle run`` takes it, else YAML (``true``, ``null``, plain words)."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return yaml.safe_load(text)


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``--epsilon 0.02 --network_def#channels "[8,16]"`` as a dictionary.

    Raises:
        InputError: when words do not come as ``--name value``.
    """
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        raise InputError(f"settings come as --name value, not {' '.join(words)!r}")
    return {name[2:]: parse_value(text) for name, text in zip(words[::2], words[1::2], strict=True)}


class Words:
    """The words of a parser.

    Args:
        parser: gets the words as subcommands.
    """

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parsers = parser.add_subparsers(required=True, metavar="WORD")

    def add(
        self, name: str, function: Command, about: str, *positional: str, settings: bool = False
    ) -> argparse.ArgumentParser:
        """Add a word.

        Args:
            name: the word.
            function: what it does.
            about: one line of help.
            *positional: names of its arguments.
            settings: whether further words ``--name value`` are taken as settings.
        """
        word: argparse.ArgumentParser = self.parsers.add_parser(name, help=about, description=about)
        word.set_defaults(function=function, takes_settings=settings)
        for argument in positional:
            word.add_argument(argument)
        return word

# SPDX-License-Identifier: Apache-2.0
"""What a user types: values, settings by name, and options that several commands take."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import click
import yaml

from monai_unlearnable.errors import InputError

__all__ = ["JSON", "KEY", "OVERWRITE", "SETTINGS", "WITH_SETTINGS", "chosen_settings", "parse_overrides", "parse_value"]


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


def chosen_settings(words: Sequence[str], **known: Any) -> dict[str, Any]:
    """The settings that were given; all others keep the configuration's values."""
    settings = parse_overrides(words)
    if taken := sorted(POSITIONAL & settings.keys()):
        raise InputError(f"{', '.join(taken)} is given by its place, not as --{taken[0]}")
    return {**settings, **{name: value for name, value in known.items() if value is not None}}

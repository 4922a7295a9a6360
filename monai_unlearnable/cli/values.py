# SPDX-License-Identifier: Apache-2.0
"""What a user types: values, settings by name, and options that several commands take."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import zip_longest
from typing import Any

import click
import yaml

from monai_unlearnable.errors import InputError, one_line
from monai_unlearnable.utils.values import PATHS

__all__ = ["JSON", "KEY", "OVERWRITE", "PATH", "SETTINGS", "WITH_SETTINGS"]
__all__ += ["chosen_settings", "parse_dictionary", "parse_epsilons", "parse_overrides", "parse_value"]

FRACTION = re.compile(r"[-+]?\d+(?:\.\d*)?\s*/\s*\d+(?:\.\d*)?")
NAME_AND_VALUE = re.compile(r"(--[\w#:.]+)=(.*)", re.DOTALL)
COMMENT = re.compile(r"(?:^|\s)#")  # what YAML and Python pass over
QUOTES, GROUPS = ("'", '"'), ("[", "{")
UNREADABLE = (ValueError, TypeError, SyntaxError, MemoryError, RecursionError)  # of the parser of literals


class _Loader(yaml.SafeLoader):
    """YAML with fractions such as ``8/255`` as numbers, and days as the words they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith(":timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("!fraction", re.compile(f"^(?:{FRACTION.pattern})$"), list("-+0123456789"))
_Loader.add_constructor("!fraction", lambda _, node: _divided(str(node.value)))


def _divided(text: str) -> float:
    above, below = text.split("/")
    if not float(below):
        raise ValueError(f"{text} divides by 0")
    return float(above) / float(below)


class _Fractions(ast.NodeTransformer):
    """Puts numbers in the place of fractions, which are no literals of Python."""

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        text = ast.unparse(node)
        return ast.Constant(_divided(text)) if FRACTION.fullmatch(text) else node


def parse_value(text: str, name: str = "the value") -> Any:
    """A Python literal as ``monai.bundle run`` takes it, else YAML (``true``, ``null``, plain words).

    Fractions such as ``8/255`` are numbers, inside of lists and dictionaries too; quoted they are words. Words that are
    not quoted are what was typed, ``a #b`` too, of which YAML would keep ``a``.

    Args:
        text: text that was typed.
        name: name of what it is the value of, for the error.

    Raises:
        InputError: naming the value, when it cannot be read.
    """
    start = text.lstrip()[:1]
    if COMMENT.search(text) and start not in (*QUOTES, *GROUPS):
        return text
    try:
        return _literal(text)
    except UNREADABLE:
        pass
    try:
        found = _Loader(text).get_single_data()
        return text if isinstance(found, str) and start not in QUOTES else found
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        problem = getattr(error, "problem", None) or error
        raise InputError(f"{name} is {text!r}, which cannot be read: {one_line(str(problem))}") from None


def _literal(text: str) -> Any:
    return ast.literal_eval(_Fractions().visit(ast.parse(text.strip(), mode="eval")))


def parse_overrides(words: Sequence[str]) -> dict[str, Any]:
    """``--epsilon 8/255 --seed=1 --network_def#channels "[8,16]"`` as a dictionary; paths are what was typed.

    Raises:
        InputError: when arguments do not come as ``--name value``, or a value cannot be read.
    """
    parts = [part for word in words for part in _split(word)]
    for name, text in zip_longest(parts[::2], parts[1::2], fillvalue="--"):
        if name.startswith("--") and text.startswith("--"):
            raise InputError(f"settings come as --name value, and {name} has no value{_option_like(name)}")
    if len(parts) % 2 and (meant := _option_like(parts[-1])):
        raise InputError(f"there is no option {parts[-1]}{meant}")
    if len(parts) % 2 or not all(part.startswith("--") for part in parts[::2]):
        raise InputError(f"settings come as --name value, not {' '.join(words)!r}")
    given = [(name[2:], text) for name, text in zip(parts[::2], parts[1::2], strict=True)]
    for name, text in given:
        if not text.strip() and name not in PATHS:
            raise InputError(f"settings come as --name value, and --{name} has no value")
    return {name: text if name in PATHS else parse_value(text, f"--{name}") for name, text in given}


def _option_like(name: str) -> str:
    """The option of the command that was likely meant by what was taken for a setting; empty where there is none."""
    close = get_close_matches(name.replace("_", "-"), _options(), 1) if name.startswith("--") else []
    return f"; did you mean {close[0]}?" if close else ""


def _options() -> list[str]:
    """The options of the command that was called."""
    context = click.get_current_context(silent=True)
    options = [] if context is None else [option for one in context.command.params for option in one.opts]
    return [option for option in options if option.startswith("--")]


def _split(word: str) -> list[str]:
    """``--name=value`` as name and value; other words as they are."""
    found = NAME_AND_VALUE.match(word)
    return [word] if found is None else list(found.groups())


def parse_dictionary(text: str, name: str) -> dict[str, Any]:
    """A dictionary with names as its keys.

    Raises:
        InputError: naming the option, when it is none.
    """
    found = parse_value(text, name)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise InputError(f"{name} is {text!r}, not a dictionary with names")
    return found


def parse_epsilons(text: str, name: str) -> list[float]:
    """Epsilons in 1/255 from ``6,8`` or ``6/255,8/255``.

    Raises:
        InputError: naming the option and the first part that is no number.
    """
    return [_epsilon(part.strip(), name) for part in text.split(",")]


def _epsilon(text: str, name: str) -> float:
    try:
        return round(255 * _divided(text), 9) if FRACTION.fullmatch(text) else float(text)
    except ValueError:
        raise InputError(f"{name} holds {text!r}, which is neither a number of 1/255 nor a fraction") from None


def _switch(context: click.Context, parameter: click.Parameter, text: str | None) -> bool | None:
    value = None if text is None else parse_value(text, str(parameter.opts[0]))
    if value is not None and not isinstance(value, bool):
        raise click.BadParameter(f"{text!r} is neither True nor False", context, parameter)
    return value


PATH = click.Path(readable=False)  # which a shell completes; each command opens it itself and tells what is wrong
KEY = click.option(
    "--key", metavar="FILE", type=PATH, help="File of the owner's key, or of its derivation from a passphrase."
)
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
    for name in settings:
        option = f"--{name.replace('_', '-')}"
        if "_" in name and option in _options():
            raise InputError(f"there is no setting --{name}; did you mean {option}?")
    if taken := sorted(POSITIONAL & settings.keys()):
        raise InputError(f"{', '.join(taken)} is given by its place, not as --{taken[0]}")
    return {**settings, **{name: value for name, value in known.items() if value is not None}}

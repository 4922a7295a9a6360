# SPDX-License-Identifier: Apache-2.0
"""The owner's commands that test whether a model was trained on a protected set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import monai_unlearnable as mu
from monai_unlearnable.cli.values import KEY, PATH, parse_value
from monai_unlearnable.cli.work import Work, say
from monai_unlearnable.errors import InputError

if TYPE_CHECKING:
    from monai_unlearnable.tracing.result import TraceResult

__all__ = ["COMMANDS"]

ASK = "ask"


class _Trace(click.Group):
    """``trace OUT PROBES`` asks; ``trace prepare`` and the others are commands of their own."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else [ASK, *args])

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of asking, and the other commands."""
        self.commands[ASK].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def _list(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    found = None if value is None else parse_value(value)
    if found is not None and not isinstance(found, (list, tuple)):
        raise InputError(f'--{parameter.name} is {value}; give a list, such as "[0, 1, 2]"'.replace("_", "-"))
    return found


def _options(*options: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


MAX_PROBES = click.option("--max-probes", type=int, default=40, show_default=True, help="Largest number of probes.")
MAX_AS_TRACED = click.option("--max-probes", type=int, help="Largest number of probes; by default as in the trace.")
MAX_BY_HAND = click.option("--max-probes", type=int, default=10, show_default=True, help="Largest number of probes.")
NAME = click.option("--name", default="model", show_default=True, help="Name of the model, for the record.")
CLASSES = click.option(
    "--answer-classes", callback=_list, help="What stands for each class in the answers, background first."
)
DATALIST = click.option("--datalist", metavar="FILE", type=PATH, help="List of the probes.")
PROBES = _options(
    click.option("--epsilon", help="Largest change of a voxel in the probes; by default that of the set."),
    click.option("--statistic", help="dice, accuracy or log_probability."),
    DATALIST,
)


@click.group(cls=_Trace, options_metavar="", subcommand_metavar="OUT PROBES --model MODEL --key FILE [OPTIONS]")
def trace() -> None:
    """Test whether a model was trained on a protected set.

    OUT is the output of the set, PROBES a folder of labeled scans. MODEL is a command with {probes} and {answers} in
    the places of folders, module:function, a TorchScript or ONNX file, or the folder of a MONAI bundle. For a model
    that can only be asked by hand: trace prepare, trace judge.
    """


@trace.command(ASK, cls=Work, kept="answers are kept in {out}; give the same command to ask for the rest", hidden=True)
@click.argument("out", type=PATH)
@click.argument("probes", type=PATH)
@click.option("--model", required=True, help="What is asked.")
@click.option("--keys", type=int, default=199, show_default=True, help="Number of other marks.")
@click.option("--stop-after", type=int, default=10, show_default=True, help="Larger statistics that end the test.")
@click.option("--preprocessing", metavar="FILE", type=PATH, help="Configuration of the input of a network in a file.")
@MAX_PROBES
@click.option("--timeout", type=float, default=3600.0, show_default=True, help="Seconds of the model for one mark.")
@CLASSES
@NAME
@PROBES
@KEY
def ask(out: str, probes: str, model: str, **settings: Any) -> None:
    """Ask a model with the owner's mark and with others."""
    _tell(mu.trace(out, probes, model, **_numbers(settings)))


@trace.command(cls=Work, kept="nothing was written; give the same command again")
@click.argument("out", type=PATH)
@click.argument("probes", type=PATH)
@click.argument("folder", type=PATH)
@click.option("--keys", type=int, default=99, show_default=True, help="Number of other marks.")
@MAX_BY_HAND
@NAME
@PROBES
@KEY
def prepare(out: str, probes: str, folder: str, **settings: Any) -> None:
    """Write a shuffled folder of marked probes, to ask by hand."""
    from monai_unlearnable.tracing import prepare

    count = prepare(out, probes, folder, **_numbers(settings))
    click.echo(f"written: {count} probes to {folder}; have each one answered, then run trace judge")


@trace.command(cls=Work, kept="give the same command to go on")
@click.argument("out", type=PATH)
@click.argument("probes", type=PATH)
@click.argument("folder", type=PATH)
@click.argument("answers", type=PATH)
@MAX_AS_TRACED
@DATALIST
@CLASSES
@NAME
@KEY
def judge(out: str, probes: str, folder: str, answers: str, **settings: Any) -> None:
    """Judge the answers to a folder of marked probes."""
    from monai_unlearnable.tracing import judge

    _tell(judge(out, probes, folder, answers, **settings))


@trace.command(cls=Work, kept="nothing was changed; give the same command again")
@click.argument("out", type=PATH)
@click.argument("probes", type=PATH)
@MAX_AS_TRACED
@DATALIST
@NAME
@KEY
def check(out: str, probes: str, **settings: Any) -> None:
    """Recompute the result of a trace from its record."""
    from monai_unlearnable.tracing import check_trace

    click.echo(f"the record holds: {check_trace(out, probes, **settings).sentence()}")


def _numbers(settings: dict[str, Any]) -> dict[str, Any]:
    epsilon = settings["epsilon"]
    return {**settings, "epsilon": None if epsilon is None else parse_value(epsilon)}


def _tell(result: TraceResult) -> None:
    say(result.sentence())
    page = result.folder / "index.html"
    click.echo(f"record: {result.folder}" if result.outcome is None else f"report: {page}")


COMMANDS = (trace,)

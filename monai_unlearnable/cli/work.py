# SPDX-License-Identifier: Apache-2.0
"""Commands that work long: what they tell meanwhile, where they log it, and how they end when they are interrupted."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from monai_unlearnable import __version__
from monai_unlearnable.cli.display import Display, stamped
from monai_unlearnable.cli.terminal import encodable, printable
from monai_unlearnable.errors import InputError, OutputError, UnlearnableError

__all__ = ["Messages", "Warnings", "Work", "is_first", "say"]

PACKAGE = "monai_unlearnable"
STAGES = f"{PACKAGE}.utils.progress"
PLANS = (f"{PACKAGE}.publishing.plan", f"{PACKAGE}.choosing")  # what a run found and expects, before it begins
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
SIGNALS = (signal.SIGINT, signal.SIGTERM)

said = logging.getLogger(f"{PACKAGE}.cli")  # what is printed anyway, for the log file


def is_first() -> bool:
    """Whether this is the first, or only one, of the processes that ``torchrun`` starts: the one that speaks."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """Print what a command found or made; it goes to the log file too."""
    click.echo(text)
    said.info("%s", encodable(text))


class Messages(logging.Handler):
    """Prints messages on the error stream as it is at the time.

    Args:
        level: lowest level that is printed.
        formatter: form of a message; by default its text alone.
        is_stamped: whether the time is before each.
    """

    def __init__(self, level: int, formatter: logging.Formatter | None = None, is_stamped: bool = False) -> None:
        super().__init__(level)
        self.setFormatter(formatter or logging.Formatter())
        self.is_stamped = is_stamped

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message."""
        text = self.format(record)
        click.echo(stamped(text) if self.is_stamped else text, err=True)


class Warnings(logging.Formatter):
    """Warnings of this package as such, without the module that gives them; those of others with their name."""

    def format(self, record: logging.LogRecord) -> str:
        is_own = record.name.partition(".")[0] == PACKAGE
        start = click.style(record.levelname.lower(), fg="yellow", bold=True) if is_own else record.name
        return f"{start}: {super().format(record)}"


class Work(click.Command):
    """A command with the options ``--verbose``, ``--quiet`` and ``--log-file``, which says how to go on if interrupted.

    Args:
        kept: what an interruption leaves and how to go on, with the arguments of the command in braces; or a function
            of the arguments.
        **settings: arguments of :class:`click.Command`.
    """

    def __init__(self, *, kept: str | Callable[[Mapping[str, Any]], str], **settings: Any) -> None:
        super().__init__(**settings)
        self.kept = kept
        self.params += [
            click.Option(["--verbose"], is_flag=True, help="Tell more, with the time of each message."),
            click.Option(["--quiet"], is_flag=True, help="Tell only errors and the result."),
            click.Option(["--log-file"], metavar="FILE", help="File that gets all messages; they name cases."),
        ]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command.

        Raises:
            click.exceptions.Exit: with 130 after an interrupt from the keyboard, and 143 where a scheduler ended it.
        """
        words = [ctx.params.pop(name) for name in ("verbose", "quiet", "log_file")]
        with _stoppable():
            try:
                with _telling(*words):
                    said.info("%s, %s %s", ctx.command_path, PACKAGE, __version__)
                    return self._logged(ctx)
            except KeyboardInterrupt as error:
                if is_first():
                    kept = self.kept(ctx.params) if callable(self.kept) else self.kept.format(**ctx.params)
                    click.echo(f"{click.style('interrupted', bold=True)}: {printable(kept)}", err=True)
                raise click.exceptions.Exit(128 + getattr(error, "number", signal.SIGINT)) from None

    def _logged(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            said.error("interrupted")
            raise
        except (UnlearnableError, click.ClickException) as error:
            said.error("%s", encodable(str(error)))
            raise
        except click.exceptions.Exit:
            raise
        except Exception:
            said.exception("the command failed")
            raise


@contextmanager
def _telling(is_verbose: bool, is_quiet: bool, log_file: str | None) -> Iterator[None]:
    """Messages of a command, as its options ask for them; nothing stays of it."""
    if is_verbose and is_quiet:
        raise InputError("--verbose and --quiet contradict each other; give one of them")
    with ExitStack() as stack:
        stack.enter_context(_apart(said))
        if log_file is not None and is_first():
            file = _opened(log_file)
            for name in ("", said.name):
                stack.enter_context(_handled(name, file))
            stack.enter_context(_handled(PACKAGE, logging.NullHandler()))  # its messages get up to the file
        if is_quiet:
            for handler in logging.getLogger().handlers:
                if isinstance(handler, Messages):
                    stack.callback(handler.setLevel, handler.level)
                    handler.setLevel(logging.ERROR)
        elif is_first():
            if is_verbose:
                messages = Messages(logging.INFO, is_stamped=True)
                messages.addFilter(_is_more)
                stack.enter_context(_handled(PACKAGE, messages))
            else:
                for name in PLANS:
                    messages = Messages(logging.INFO)
                    messages.addFilter(_is_remark)
                    stack.enter_context(_handled(name, messages))
            stack.enter_context(_handled(STAGES, Display()))
        yield


@contextmanager
def _apart(logger: logging.Logger) -> Iterator[None]:
    """A logger whose messages reach its own handlers alone: they are printed already."""
    nowhere, propagate = logging.NullHandler(), logger.propagate
    logger.addHandler(nowhere)
    logger.propagate = False
    try:
        yield
    finally:
        logger.propagate = propagate
        logger.removeHandler(nowhere)


@contextmanager
def _handled(name: str, handler: logging.Handler) -> Iterator[None]:
    """A logger with one more handler, and of a level that lets its messages through."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.addHandler(handler)
    if name:
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


def _is_remark(record: logging.LogRecord) -> bool:
    """Warnings are printed anyway."""
    return record.levelno < logging.WARNING


def _is_more(record: logging.LogRecord) -> bool:
    """What is not printed anyway; of stages only their end, since the display shows the rest."""
    stage = getattr(record, "stage", None)
    return _is_remark(record) and (stage is None or stage.is_over)


def _opened(name: str) -> logging.FileHandler:
    """A log file, which is appended to: a run that was stopped goes on.

    Raises:
        OutputError: naming the file, when it cannot be written.
    """
    try:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        file = logging.FileHandler(name, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(f"the log cannot be written: {error.strerror or error}", file=name) from error
    file.setLevel(logging.INFO)
    file.setFormatter(_Indented(FORMAT))
    return file


class _Indented(logging.Formatter):
    """Lines with the time, and further lines of the same message below them."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", "\n    ")


class _Interruption(KeyboardInterrupt):
    """A signal that ends the command.

    A class of its own: Python remembers a ``KeyboardInterrupt`` that passed an ``eval``, as configurations use it, and
    kills itself at the end even if it was caught.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _stoppable() -> Iterator[None]:
    """Ctrl-C and the signal of schedulers as :class:`_Interruption`.

    A second Ctrl-C ends the process at once. Where ``torchrun`` sends another signal after the first, it is ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        alone = "WORLD_SIZE" not in os.environ
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_DFL if alone else signal.SIG_IGN)
        raise _Interruption(number)

    earlier = [signal.signal(number, stop) for number in SIGNALS]
    try:
        yield
    finally:
        for number, handler in zip(SIGNALS, earlier, strict=True):
            signal.signal(number, handler)

# SPDX-License-Identifier: Apache-2.0
"""The command line: a thin layer over the functions of the package.

Exit codes: 0 done, 1 a check failed or cases were skipped, 2 wrong usage or input, 130 interrupted from the keyboard,
143 ended by a scheduler.
"""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence

import click

from monai_unlearnable import __version__
from monai_unlearnable.cli import evidence, examiner, keys, owner, tracing
from monai_unlearnable.cli.terminal import CHECK_FAILED, INTERRUPTED, PAGE_WIDTH, PROGRAM, WRONG_INPUT, printable
from monai_unlearnable.cli.values import parse_overrides, parse_value
from monai_unlearnable.cli.work import Messages, Warnings
from monai_unlearnable.errors import (
    FailedTrainingsError,
    GoalError,
    SkippedCasesError,
    UnlearnableError,
    VerificationError,
)
from monai_unlearnable.utils.progress import hush_monai

__all__ = ["CHECK_FAILED", "INTERRUPTED", "PROGRAM", "WRONG_INPUT", "main", "parse_overrides", "parse_value", "program"]

CHECKS = (VerificationError, SkippedCasesError, FailedTrainingsError, GoalError)  # the errors of a check that failed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": PAGE_WIDTH})
@click.version_option(__version__)
def program() -> None:
    """Publish medical scans that people can read and that are harder to train models on."""


for command in (*owner.COMMANDS, *keys.COMMANDS, *examiner.COMMANDS, *tracing.COMMANDS, *evidence.COMMANDS):
    program.add_command(command)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    Args:
        argv: arguments after the name of the program; by default those that it was started with.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[Messages(logging.WARNING, Warnings())])
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names need not be text in the encoding of the terminal
    hush_monai()
    try:
        return int(program.main(argv, PROGRAM, standalone_mode=False) or 0)
    except click.Abort as error:  # click wraps what stopped it
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise (error.__cause__ or error) from None
        click.echo(click.style("interrupted", bold=True), err=True)
        return INTERRUPTED
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except UnlearnableError as error:
        click.echo(f"{click.style('error', fg='red', bold=True)}: {printable(str(error))}", err=True)
        return CHECK_FAILED if isinstance(error, CHECKS) else WRONG_INPUT

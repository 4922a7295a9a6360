# SPDX-License-Identifier: Apache-2.0
"""The command line: ``python -m monai_unlearnable WORD ...``, a thin face over the workflows.

Exit codes: 0 done, 1 a check failed, 2 wrong usage or input.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from rich.console import Console

from monai_unlearnable.commands.dataset import add_dataset_words
from monai_unlearnable.commands.keys import add_key_words
from monai_unlearnable.commands.laboratory import add_laboratory_words
from monai_unlearnable.commands.words import Words
from monai_unlearnable.errors import UnlearnableError, VerificationError
from monai_unlearnable.utils.progress import hush_monai

__all__ = ["main"]

CHECK_FAILED, WRONG_INPUT = 1, 2
PAGE_WIDTH = 120  # of output that is not a terminal, for tables to fit


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("monai_unlearnable", description=__doc__.splitlines()[0])
    words = Words(parser)
    add_dataset_words(words)
    add_key_words(words)
    add_laboratory_words(words)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one word of the command line and return the exit code."""
    parser = _parser()
    arguments, rest = parser.parse_known_args(argv)
    if rest and not arguments.takes_settings:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.settings = rest
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    hush_monai()
    console = Console(width=None if sys.stdout.isatty() else PAGE_WIDTH)
    try:
        arguments.function(arguments, console)
    except UnlearnableError as error:
        Console(stderr=True).print(f"[bold red]error[/]: {error}", highlight=False, soft_wrap=True)
        return CHECK_FAILED if isinstance(error, VerificationError) else WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())

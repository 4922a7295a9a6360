# SPDX-License-Identifier: Apache-2.0
"""Passphrases, which are never words of a command line: other users of the machine can read those."""

from __future__ import annotations

import functools
import getpass
import os
import sys

from monai_unlearnable.errors import NoiseError

__all__ = ["VARIABLE", "ask_passphrase", "forget_passphrase"]

VARIABLE = "MONAI_UNLEARNABLE_PASSPHRASE"


_typed = functools.cache(getpass.getpass)  # asked for once by a command that needs the key in several places


def ask_passphrase(twice: bool = False) -> str:
    """The passphrase from the environment variable, else from the terminal, which does not show it.

    Args:
        twice: whether to have it typed twice, where it is new.

    Raises:
        NoiseError: when there is neither, or the two differ.
    """
    known = os.environ.get(VARIABLE)
    if known is not None:
        return known
    if not sys.stdin.isatty():
        raise NoiseError(f"a passphrase is needed, and there is no terminal: set {VARIABLE}")
    if not twice:
        return _typed("passphrase: ")
    typed = getpass.getpass("passphrase: ")
    if getpass.getpass("once more: ") != typed:
        raise NoiseError("the two passphrases differ")
    return typed


def forget_passphrase() -> None:
    """Ask again next time, since what was typed is wrong."""
    _typed.cache_clear()

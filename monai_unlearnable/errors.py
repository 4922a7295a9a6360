# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the package: every failure that a user can cause has a class here.

::

    UnlearnableError                 whatever this package raises on purpose
    ├── InputError                   something given cannot be used (also a ValueError)
    │   ├── ScanError                a scan that cannot be read or protected
    │   ├── DatalistError            a folder or datalist that describes no set of cases
    │   ├── LabelError               a label that is missing or does not fit its image
    │   ├── WindowError              an image without an intensity window
    │   ├── BudgetError              a budget that cannot be honored, or was exceeded
    │   ├── KeyFileError             a key file that cannot be read, or holds another kind of key
    │   └── NoiseError               stored noise that cannot be read
    │       ├── NoiseMismatchError   noise of other voxels
    │       └── KeyMismatchError     an encrypted file that the key does not open
    ├── OutputError                  an output that exists, belongs to another run, or cannot be written (an OSError)
    ├── CommandError                 a command of another program that fails
    ├── ServerError                  a server that cannot be reached, refuses, or fails (an OSError)
    ├── VerificationError            published files that are not what their record claims; holds the findings
    ├── SkippedCasesError            cases that were skipped, while the others are done
    ├── DivergedError                a training whose loss is no longer a number
    ├── FailedTrainingsError         an evaluation none of whose trainings has a score
    ├── GoalError                    a goal that no method reaches
    └── OutOfMemoryError             a case that takes more memory than there is (also a MemoryError)

The command line exits with 1 after :class:`VerificationError`, :class:`SkippedCasesError`,
:class:`FailedTrainingsError` and :class:`GoalError`, and with 2 after all others. Each error names the case or file it
is about and the reason; where a number was out of bounds, ``value`` and ``limit`` carry it for programs that handle the
error.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "UnlearnableError",
    "InputError",
    "ScanError",
    "DatalistError",
    "LabelError",
    "WindowError",
    "BudgetError",
    "KeyFileError",
    "NoiseError",
    "NoiseMismatchError",
    "KeyMismatchError",
    "OutputError",
    "CommandError",
    "ServerError",
    "SkippedCasesError",
    "VerificationError",
    "DivergedError",
    "FailedTrainingsError",
    "GoalError",
    "OutOfMemoryError",
    "Finding",
]


class UnlearnableError(Exception):
    """Base class of all errors raised on purpose by this package.

    Args:
        reason: cause of the error, in one sentence.
        case: id of the case or scan concerned.
        file: file concerned.
        value: the offending value, if it is one number.
        limit: the limit that ``value`` broke.
    """

    def __init__(
        self,
        reason: str,
        *,
        case: str | None = None,
        file: str | Path | None = None,
        value: Any = None,
        limit: Any = None,
    ) -> None:
        reason = one_line(reason)
        self.reason, self.case, self.file, self.value, self.limit = reason, case, file, value, limit
        where = ", ".join(str(part) for part in (case, file) if part is not None)
        super().__init__(f"{where}: {reason}" if where else reason)


class InputError(UnlearnableError, ValueError):
    """Something that the user gave cannot be used."""


class ScanError(InputError):
    """A scan cannot be read, or its content cannot be protected (NaN, wrong dimensions, lossy storage)."""


class DatalistError(InputError):
    """A dataset folder or datalist does not describe a set of cases."""


class LabelError(InputError):
    """A label is missing, does not match its image, or holds unknown values."""


class WindowError(InputError):
    """No intensity window can be derived from an image."""


class BudgetError(InputError):
    """A budget cannot be honored, or was exceeded."""


class KeyFileError(InputError):
    """A key file cannot be read, or holds another kind of key."""


class NoiseError(InputError):
    """Stored noise cannot be read."""


class NoiseMismatchError(NoiseError):
    """Stored noise does not belong to the voxels that it is asked to change."""


class KeyMismatchError(NoiseError):
    """An encrypted file cannot be opened: the key is not that of the file, or the file was changed."""


class OutputError(UnlearnableError, OSError):
    """The output exists already, belongs to another run, or cannot be written."""


class CommandError(UnlearnableError):
    """A command of another program fails, or is stopped."""


class ServerError(UnlearnableError, OSError):
    """A server cannot be reached, refuses a request, or answers with what cannot be used."""


@dataclass(frozen=True)
class Finding:
    """One claim about published files that does not hold.

    Args:
        file: the file concerned.
        what: the claim, or the reason why it could not be checked.
        found: value in the file; None where it has none.
        claimed: value in the record; None where ``what`` says it all.
        case: id of the case or scan concerned, if any.
    """

    file: str | Path | None
    what: str
    found: Any = None
    claimed: Any = None
    case: str | None = None

    @property
    def reason(self) -> str:
        """The claim that does not hold, without the file."""
        told = "" if self.found is None and self.claimed is None else f": found {self.found}, claimed {self.claimed}"
        return f"{self.what}{told}"

    def __str__(self) -> str:
        where = ", ".join(str(part) for part in (self.case, self.file) if part is not None)
        return f"{where}: {self.reason}" if where else self.reason


class VerificationError(UnlearnableError):
    """A published dataset does not match its record.

    Args:
        reason: cause of the error, in one sentence.
        findings: every claim that does not hold, if a whole dataset was checked.
        **about: further arguments of :class:`UnlearnableError`.
    """

    def __init__(self, reason: str, *, findings: Sequence[Finding] = (), **about: Any) -> None:
        super().__init__(reason, **about)
        self.findings = tuple(findings)


class SkippedCasesError(UnlearnableError):
    """Cases were skipped because they are invalid; the others are done."""


class DivergedError(UnlearnableError):
    """The training of a victim whose loss is no longer a number."""


class FailedTrainingsError(UnlearnableError):
    """No training of an evaluation has a score; the report says why."""


class GoalError(UnlearnableError):
    """No method stops the exploiter at the fidelity that was asked for; nothing was published."""


class OutOfMemoryError(UnlearnableError, MemoryError):
    """A case, or a training, takes more memory than there is."""


NUMBER = re.compile(r"^\[Errno -?\d+\] ")
ADDRESS = re.compile(r" ?<[^<>]* at 0x[0-9a-fA-F]+>")  # of an object, in texts of libraries


def one_line(text: str) -> str:
    """A text in one line, without addresses of objects."""
    return " ".join(ADDRESS.sub("", text).split())


def told(error: BaseException) -> str:
    """What an error of a library says, in one line without numbers of the system; its class where it says nothing."""
    return one_line(NUMBER.sub("", str(error))) or type(error).__name__


def root_cause(error: BaseException) -> BaseException:
    """The error in a chain of causes that tells most: ours, or else the first one.

    Libraries wrap errors in others that do not tell the cause.
    """
    while error.__cause__ is not None and not isinstance(error, UnlearnableError):
        error = error.__cause__
    return error

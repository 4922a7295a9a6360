# SPDX-License-Identifier: Apache-2.0
"""The exceptions of the package: every failure that a user can cause has a class here.

Each error names the case or file it is about and the reason; where a number was out of bounds, ``value`` and ``limit``
carry it for programs that handle the error.
"""

from __future__ import annotations

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
    "NoiseError",
    "NoiseMismatchError",
    "KeyMismatchError",
    "OutputError",
    "SkippedCasesError",
    "VerificationError",
    "DivergedError",
    "OutOfMemoryError",
    "root_cause",
]


class UnlearnableError(Exception):
    """Base class of all errors raised on purpose by this package.

    Args:
        reason: what is wrong, in one sentence.
        case: id of the case or scan concerned.
        file: file concerned.
        value: the offending value, if one number says it.
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


class NoiseError(InputError):
    """Stored noise cannot be read."""


class NoiseMismatchError(NoiseError):
    """Stored noise does not belong to the voxels that it is asked to change."""


class KeyMismatchError(NoiseError):
    """A sealed file cannot be opened: the key is not that of the file, or the file was changed."""


class OutputError(UnlearnableError, OSError):
    """The output exists already, belongs to another run, or cannot be written."""


class VerificationError(UnlearnableError):
    """A published dataset does not match its manifest."""


class SkippedCasesError(VerificationError):
    """Cases were skipped and all others protected: the dataset is not what it was to be."""


class DivergedError(UnlearnableError):
    """The training of a victim whose loss is no longer a number."""


class OutOfMemoryError(UnlearnableError, MemoryError):
    """A case takes more memory than there is."""


def root_cause(error: BaseException) -> BaseException:
    """What an error was raised from, to the first one: libraries wrap what went wrong in errors that do not say it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error

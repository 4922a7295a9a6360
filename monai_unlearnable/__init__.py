# SPDX-License-Identifier: Apache-2.0
"""Publish medical scans that people can read and that models cannot be trained on.

The functions have the words of the command line. All names are loaded when they are first used.

Example:
    >>> import monai_unlearnable as mu
    >>> mu.protect("umed", "DATASET", "OUT", epsilon=14 / 255)
    >>> mu.verify("OUT", clean="DATASET")
    >>> mu.restore("OUT", "BACK")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .budget import Budget
    from .crypto.keys import OwnerKey
    from .errors import (
        BudgetError,
        DatalistError,
        DivergedError,
        Finding,
        InputError,
        KeyFileError,
        KeyMismatchError,
        LabelError,
        NoiseError,
        NoiseMismatchError,
        OutOfMemoryError,
        OutputError,
        ScanError,
        SkippedCasesError,
        UnlearnableError,
        VerificationError,
        WindowError,
    )
    from .evaluation.laboratory import Laboratory
    from .intensity import DtypeWindow, FixedWindow, PercentileWindow
    from .proof import evaluate
    from .publishing.restore import restore
    from .publishing.run import apply, protect
    from .publishing.statement import audit
    from .publishing.verify import verify

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "BudgetError",
    "DatalistError",
    "DivergedError",
    "DtypeWindow",
    "Finding",
    "FixedWindow",
    "InputError",
    "KeyFileError",
    "KeyMismatchError",
    "LabelError",
    "Laboratory",
    "NoiseError",
    "NoiseMismatchError",
    "OutOfMemoryError",
    "OutputError",
    "OwnerKey",
    "PercentileWindow",
    "ScanError",
    "SkippedCasesError",
    "UnlearnableError",
    "VerificationError",
    "WindowError",
    "__version__",
    "apply",
    "audit",
    "evaluate",
    "protect",
    "restore",
    "verify",
]

_HOMES = {
    "Budget": "budget:Budget",
    "DtypeWindow": "intensity:DtypeWindow",
    "FixedWindow": "intensity:FixedWindow",
    "Laboratory": "evaluation.laboratory:Laboratory",
    "OwnerKey": "crypto.keys:OwnerKey",
    "PercentileWindow": "intensity:PercentileWindow",
    "apply": "publishing.run:apply",
    "audit": "publishing.statement:audit",
    "evaluate": "proof:evaluate",
    "protect": "publishing.run:protect",
    "restore": "publishing.restore:restore",
    "verify": "publishing.verify:verify",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pkgutil import resolve_name

    globals()[name] = found = resolve_name(f"{__name__}.{_HOMES.get(name, f'errors:{name}')}")
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

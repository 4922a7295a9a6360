# SPDX-License-Identifier: Apache-2.0
"""Publish medical scans that people can read and that are harder to train models on.

The functions are named like the commands. They are loaded on first use.

Example:
    >>> import monai_unlearnable as mu
    >>> mu.protect("umed", "DATASET", "OUT", epsilon=14 / 255)
    >>> mu.verify("OUT", clean="DATASET")
    >>> mu.restore("OUT", "BACK")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403
from .utils.gdcm import spare_gdcm

if TYPE_CHECKING:
    from .budget import Budget
    from .choosing import protect_auto
    from .crypto.keys import OwnerKey
    from .evaluation.laboratory import Laboratory
    from .intensity import AutoWindow, DtypeWindow, FixedWindow, PercentileWindow
    from .proof import evaluate
    from .publishing.description import describe
    from .publishing.pacs import publish
    from .publishing.restore import restore
    from .publishing.run import apply, plan, protect
    from .publishing.statement import audit
    from .publishing.verify import verify
    from .tracing import trace

spare_gdcm()

__version__ = "0.1.0"

__all__ = [
    "AutoWindow",
    "Budget",
    "DtypeWindow",
    "FixedWindow",
    "Laboratory",
    "OwnerKey",
    "PercentileWindow",
    "__version__",
    "apply",
    "audit",
    "describe",
    "evaluate",
    "plan",
    "protect",
    "protect_auto",
    "publish",
    "restore",
    "trace",
    "verify",
]
__all__ += errors.__all__

_HOMES = {
    "AutoWindow": "intensity:AutoWindow",
    "Budget": "budget:Budget",
    "DtypeWindow": "intensity:DtypeWindow",
    "FixedWindow": "intensity:FixedWindow",
    "Laboratory": "evaluation.laboratory:Laboratory",
    "OwnerKey": "crypto.keys:OwnerKey",
    "PercentileWindow": "intensity:PercentileWindow",
    "apply": "publishing.run:apply",
    "audit": "publishing.statement:audit",
    "describe": "publishing.description:describe",
    "evaluate": "proof:evaluate",
    "plan": "publishing.run:plan",
    "protect": "publishing.run:protect",
    "protect_auto": "choosing:protect_auto",
    "publish": "publishing.pacs:publish",
    "restore": "publishing.restore:restore",
    "trace": "tracing:trace",
    "verify": "publishing.verify:verify",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pkgutil import resolve_name

    globals()[name] = found = resolve_name(f"{__name__}.{_HOMES[name]}")
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

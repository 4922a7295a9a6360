# SPDX-License-Identifier: Apache-2.0
"""What bundles and the command line call."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .protection import Protection
    from .quarantine import Quarantine
    from .stored import apply_stored, restore
    from .verification import verify

# Loaded on first use: putting stored noise on or off must not pay for torch.
_WHERE = {
    "Protection": "protection",
    "Quarantine": "quarantine",
    "apply_stored": "stored",
    "restore": "stored",
    "verify": "verification",
}

__all__ = ["Protection", "Quarantine", "apply_stored", "restore", "verify"]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

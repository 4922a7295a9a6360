# SPDX-License-Identifier: Apache-2.0
"""What it looks like when memory runs out."""

from __future__ import annotations

import torch

__all__ = ["is_out_of_memory", "release_memory"]

# Of errors that torch and what it calls (C++, cuDNN, cuBLAS) raise as plain runtime errors, in lower case.
SIGNS = ("out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the host or on a device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in SIGNS)


def release_memory() -> None:
    """Give back what torch keeps of a device's memory for later."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()

# SPDX-License-Identifier: Apache-2.0
"""The import of gdcm, kept apart from what lies in the working directory."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

__all__ = ["spare_gdcm"]

ABSENT = "dl"  # a module that Python no longer has, and that gdcm still tries to import before all else


def spare_gdcm() -> None:
    """See to it that gdcm does not take a folder or module of the user, called ``dl``, for one of Python.

    Where there is one, gdcm is imported while it is out of sight. This must come before the first import of pydicom,
    which imports gdcm, and which nibabel and MONAI import too.
    """
    if ABSENT in sys.modules or find_spec(ABSENT) is None:
        return
    sys.modules[ABSENT] = None  # type: ignore[assignment] # Python's way to say that there is none
    try:
        with suppress(ImportError):
            import_module("gdcm")
    finally:
        del sys.modules[ABSENT]

# SPDX-License-Identifier: Apache-2.0
"""The import of gdcm, by pydicom, kept apart from what lies in the working directory."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from importlib.util import find_spec
from typing import Any

__all__ = ["spare_gdcm"]

ABSENT = "dl"  # a module that Python no longer has, and that gdcm still tries to import before all else


class _Finder(MetaPathFinder):
    """Finds no module ``dl`` while gdcm is imported; for all others it may be there."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        gdcm = sys.modules.get("gdcm")
        if fullname == ABSENT and gdcm is not None and not hasattr(gdcm, "ImageReader"):
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)


def spare_gdcm() -> None:
    """See to it that gdcm does not take a folder or module of the user, called ``dl``, for one of Python.

    It must come before the first import of pydicom, which nibabel and MONAI import too.
    """
    if ABSENT not in sys.modules and find_spec(ABSENT) is not None:
        sys.meta_path.insert(0, _Finder())

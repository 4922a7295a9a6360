# SPDX-License-Identifier: Apache-2.0
"""Sphinx configuration; the build needs no network."""

import sys
from pathlib import Path
from typing import Any

from monai_unlearnable import __version__
from monai_unlearnable.evidence import documents, own_entries, own_traces, stale

sys.path.insert(0, str(Path(__file__).parent))  # for notebook.py

project = "monai_unlearnable"
author = "The monai_unlearnable authors"
copyright = f"2026, {author}"
release = version = __version__

extensions = [
    "notebook",
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
]
apidoc_modules = [
    {
        "path": "../monai_unlearnable",
        "destination": "api/modules",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "api/modules/modules.rst"]

autodoc_default_options = {"ignore-module-all": True}  # packages offer what their modules document
autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_use_type_comments = False  # there are none; looking for them takes a tenth of the build
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"monai_unlearnable {version}"

ROOT = Path(__file__).parent.parent


def check_tables(app: Any) -> None:
    """Warn, which fails the build, of documents whose tables differ from the evidence."""
    from sphinx.util.logging import getLogger

    for path in stale(documents(ROOT), own_entries(), own_traces()):
        getLogger(__name__).warning("tables differ from the evidence: monai-unlearnable evidence render %s", path)


def setup(app: Any) -> None:
    """Connect what checks tables."""
    app.connect("builder-inited", check_tables)

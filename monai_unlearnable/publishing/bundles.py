# SPDX-License-Identifier: Apache-2.0
"""Bundles run from Python: what ``python -m monai.bundle run`` does, with errors that say what is wrong."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ConfigWorkflow

from monai_unlearnable.errors import InputError, UnlearnableError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.locks import unlock

__all__ = ["bundle_root", "bundle_names", "method_names", "run_bundle"]


def _folder() -> Path:
    """The folder of all bundles: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "bundles"
    return installed if installed.is_dir() else package.parent / "bundles"


def bundle_names(config: str = "protect.yaml") -> list[str]:
    """The bundles that come with this package and have a configuration of that name: by default, the methods."""
    return sorted(path.parents[1].name for path in _folder().glob(f"*/configs/{config}"))


def method_names() -> list[str]:
    """What ``protect`` takes by name: bundles, and bundles with settings that have a name of their own."""
    return bundle_names() + Catalog.load("methods").names()


def bundle_root(name: str) -> Path:
    """The folder of a bundle.

    Raises:
        InputError: listing the bundles, when there is none of that name.
    """
    if (_folder() / name / "configs" / "metadata.json").is_file():
        return _folder() / name
    raise InputError(f"unknown method {name!r}; known are {', '.join(method_names())}, or give a configuration file")


def run_bundle(method: str, config: str = "protect", **overrides: Any) -> None:
    """Run a bundle's configuration in this process.

    Args:
        method: name of a bundle or of an entry of ``catalogs/methods.yaml``, or path of a configuration file whose
            bundle is the folder above its own.
        config: name of the configuration in the bundle.
        overrides: settings by id, as on the command line of ``monai.bundle run``.

    Raises:
        InputError: when a setting has no place in the configuration, as a key in one that would seal nothing with it.
        UnlearnableError: the one that stopped the run, freed of the configuration parser's wrapping.
    """
    presets = Catalog.load("methods")
    if method in presets.names():
        preset = presets.description(method)
        method = preset.pop("bundle")
        if config == "protect":  # whose settings these are
            overrides = {**preset, **overrides}
    file = Path(method)
    if file.suffix not in (".yaml", ".yml", ".json"):
        file = bundle_root(method) / "configs" / f"{config}.yaml"
    if not file.is_file():
        raise InputError("the configuration does not exist", file=file)
    root = file.parents[1]
    settings = {"bundle_root": str(root), **overrides}
    try:
        workflow = _configured(file, settings)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
    except RuntimeError as error:
        cause = _root_cause(error)
        if cause is None:
            raise
        raise cause from error
    finally:
        if "output_dir" in overrides:
            unlock(Path(overrides["output_dir"]))  # a run that failed before its end is over too


def _configured(file: Path, settings: dict[str, Any]) -> ConfigWorkflow:
    # MONAI would add what the configuration does not know, and nothing would come of it.
    known = ConfigParser.load_config_file(str(file))
    for name, value in settings.items():
        if re.split("#|::", name)[0] not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise InputError(f"the configuration has no setting {name!r}{hint}", file=file)
        if isinstance(known.get(name), bool) and not isinstance(value, bool) and not str(value).startswith(("$", "@")):
            raise InputError(f"{name} is True or False, not {value!r}", file=file)
    metadata = str(file.parent / "metadata.json")
    try:
        return ConfigWorkflow(str(file), metadata, logging_file=False, workflow_type=None, **settings)
    except (LookupError, TypeError, ValueError) as error:
        nested = ", ".join(name for name in settings if "#" in name)
        reason = f"a setting ({nested}) goes below one that is no group; give that one as a whole"
        raise InputError(reason, file=file) from error


def _root_cause(error: BaseException | None) -> UnlearnableError | None:
    while error is not None:
        if isinstance(error, UnlearnableError):
            return error
        error = error.__cause__ or error.__context__
    return None

# SPDX-License-Identifier: Apache-2.0
"""Whole runs: protect a dataset with a method, or apply noise that was made before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.crypto.encrypted import is_owned
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.archives import is_archive, protected_archive
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.restore import apply_stored
from monai_unlearnable.utils import distributed

__all__ = ["apply", "protect"]


def protect(method: str | Path, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> Manifest:
    """Protect a dataset, or a MedMNIST archive, with a method.

    In processes that ``torchrun`` started, each takes its part of the work.

    Args:
        method: name of a method (``"umed"``, ``"lsp"``, ...), or path of a configuration file.
        dataset_dir: the clean dataset: a folder, or an archive.
        output_dir: gets ``protected/`` to publish, and ``noise/`` and ``models/`` to keep.
        **settings: settings of the method by name, see its card; ``{"masks#support#margin": 1}`` sets nested ones.
            ``overwrite`` replaces a finished output, and ``key`` is the owner's key or its file.

    Returns:
        The manifest of the run.

    Raises:
        SkippedCasesError: naming the cases that were skipped, if that was allowed; the others are protected.
        UnlearnableError: naming case, file and reason of what stopped the run.

    Example:
        >>> protect("lattice", "DATASET", "OUT", epsilon=8 / 255, key="owner.key")
        >>> protect("umed", "DATASET", "OUT", **{"network_def#channels": [16, 32, 64]})
    """
    key = load_key(settings.pop("key", None))
    with _prepared(dataset_dir, output_dir, settings, key) as run:
        return _run_bundle(str(method), "protect", run, output_dir, key)


def apply(source: str | Path, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> Manifest:
    """Put stored noise, or the noise of a trained checkpoint, on clean scans.

    Args:
        source: a ``noise/`` folder, for the scans that it was made for, or a checkpoint, for further ones.
        dataset_dir: the clean dataset: a folder, or an archive.
        output_dir: see :func:`protect`.
        **settings: ``overwrite`` and ``key``, see :func:`protect`; with a checkpoint also settings of the run.

    Returns:
        The manifest of the run.

    Raises:
        InputError: when settings are given for stored noise, which has none.
        UnlearnableError: naming case, file and reason of what stopped the run.

    Example:
        >>> apply("OUT/noise", "DATASET", "AGAIN")
        >>> apply("OUT/models/perturber.safetensors", "MORE_SCANS", "MORE")
    """
    source = Path(source)
    others = {name: value for name, value in settings.items() if name not in ("overwrite", "key")}
    if others and source.is_dir():
        words = " ".join(f"--{name} {value}" for name, value in others.items())
        raise InputError(f"stored noise has no settings to change: {words}", file=source)
    key, overwrite = load_key(settings.pop("key", None)), bool(settings.get("overwrite"))
    resume = source.resolve() != Layout(Path(output_dir)).noise.resolve()
    with _prepared(dataset_dir, output_dir, settings, key, resume) as run:
        if is_owned(source):
            return _run_bundle("umed", "apply", {"checkpoint": str(source), **run}, output_dir, key)
        return apply_stored(source, run["dataset_dir"], output_dir, overwrite, key)


@contextmanager
def _prepared(
    dataset_dir: str | Path, output_dir: str | Path, settings: dict[str, Any], key: Key | None, resume: bool = True
) -> Iterator[dict[str, Any]]:
    """Join the other processes and unpack an archive; yields the settings with the folder to protect."""
    with distributed.joined(), ExitStack() as stack:
        if is_archive(dataset_dir):
            overwrite = bool(settings.get("overwrite"))
            dataset_dir = stack.enter_context(protected_archive(dataset_dir, output_dir, overwrite, key, resume))
        yield {"dataset_dir": str(dataset_dir), **settings}


def _run_bundle(
    method: str, config: str, settings: dict[str, Any], output_dir: str | Path, key: Key | None
) -> Manifest:
    from monai_unlearnable.publishing.bundles import run_bundle  # needs torch, which stored noise does not

    keyed = {} if key is None else {"key": key}
    run_bundle(method, config, output_dir=str(output_dir), **settings, **keyed)
    return Manifest.load(Layout(Path(output_dir)).manifest, key)

# SPDX-License-Identifier: Apache-2.0
"""Whole runs: protect a dataset with a method's bundle, or apply noise that was made before."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import yaml

from monai_unlearnable.crypto import Key, load_key
from monai_unlearnable.crypto.encrypted import is_owned, places
from monai_unlearnable.data import unpack_archive
from monai_unlearnable.data.dicomweb import is_address
from monai_unlearnable.errors import InputError, SkippedCasesError, UnlearnableError, told
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.archives import is_archive, protected_archive
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.pacs import fetched_studies
from monai_unlearnable.publishing.places import check_output
from monai_unlearnable.publishing.restore import apply_stored
from monai_unlearnable.publishing.settings import check_settings, is_evaluated
from monai_unlearnable.publishing.statement import refuse_unstated
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.catalog import Catalog, component_locator
from monai_unlearnable.utils.locks import unlock
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.utils.values import PATHS, as_plain, check_path

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

    from monai_unlearnable.publishing.plan import DatasetPlan

__all__ = ["bundle_root", "bundle_names", "configuration", "method_names", "run_bundle"]
__all__ += ["apply", "plan", "protect"]

AUTO = "auto"  # in the place of a method on the command line


def _folder() -> Path:
    """The folder of all bundles: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "bundles"
    return installed if installed.is_dir() else package.parent / "bundles"


def bundle_names(config: str = "protect.yaml") -> list[str]:
    """The bundles of this package that have a configuration of that name; by default, the methods."""
    return sorted(path.parents[1].name for path in _folder().glob(f"*/configs/{config}"))


def method_names() -> list[str]:
    """The names that ``protect`` takes: bundles, and bundles with settings that have a name of their own."""
    return bundle_names() + Catalog.load("methods").names()


def bundle_root(name: str) -> Path:
    """The folder of a bundle.

    Raises:
        InputError: listing the bundles, when there is none of that name.
    """
    if (_folder() / name / "configs" / "metadata.json").is_file():
        return _folder() / name
    if name == AUTO:
        raise InputError(f"{AUTO} is no method; protect_auto tries several and takes the best")
    known = alternatives(name, [*method_names(), AUTO])
    raise InputError(f"unknown method {name!r}{known}{'' if known.endswith('?') else ', or give a configuration file'}")


def configuration(method: str, config: str = "protect") -> tuple[Path, dict[str, Any]]:
    """The configuration file of a method, and the settings of the bundle that make the method of it.

    Args:
        method: see :func:`run_bundle`.
        config: name of the configuration in the bundle.

    Raises:
        InputError: when there is no such method or file.
    """
    presets = Catalog.load("methods")
    preset: dict[str, Any] = {}
    if method in presets.names():
        preset = presets.description(method)
        method = preset.pop("bundle")
    file = Path(method)
    if file.suffix not in (".yaml", ".yml", ".json"):
        file = bundle_root(method) / "configs" / f"{config}.yaml"
    if not file.is_file():
        raise InputError("the configuration does not exist", file=file)
    return file.absolute(), preset if config == "protect" else {}  # whose settings these are


PART = re.compile(r"Failed to instantiate component '(?:[\w.]*\.)?(\w+)'")  # what MONAI says of an object
UNRESOLVED = ("the referring item", "detected circular references")  # and of settings that refer to others
REHEARSAL = "monai_unlearnable.publishing.rehearsal.Rehearsal"


def run_bundle(method: str, config: str = "protect", **overrides: Any) -> ConfigWorkflow:
    """Run a bundle's configuration in this process.

    Args:
        method: name of a bundle or of an entry of ``catalogs/methods.yaml``, or path of a configuration file whose
            bundle is the folder above its own.
        config: name of the configuration in the bundle.
        overrides: settings by id, as on the command line of ``monai.bundle run``; a :class:`~pathlib.Path` is a path
            whatever signs are in it.

    Returns:
        The workflow, which has run.

    Raises:
        InputError: when the configuration does not have a setting, such as a key that would encrypt nothing.
        UnlearnableError: the error that stopped the run, without the wrapping of the configuration parser.
    """
    file, preset = configuration(method, config)
    overrides = {name: _plain(name, value) for name, value in {**preset, **overrides}.items()}
    try:
        workflow = _configured(file, {"bundle_root": as_plain(file.parents[1]), **overrides}, method)
        workflow.initialize()
        workflow.run()
        workflow.finalize()
        return workflow
    except (RuntimeError, ImportError) as error:
        cause = _telling(error, overrides)
        if cause is None:
            raise
        raise cause from error
    except ValueError as error:
        if not str(error).startswith(UNRESOLVED):
            raise
        raise InputError(f"the settings cannot be resolved: {told(error)}") from error
    finally:
        if "output_dir" in overrides:
            unlock(Path(overrides["output_dir"]))  # a failed run is over too


def _plain(name: str, value: Any) -> Any:
    """A setting of the user's; one that is a path is left alone by the configuration parser."""
    if name == "protected" and isinstance(value, Mapping):
        return {key: as_plain(folder) if isinstance(folder, (str, Path)) else folder for key, folder in value.items()}
    is_path = name in PATHS and isinstance(value, (str, Path)) and not is_evaluated(value)
    return as_plain(value) if is_path else value


def _telling(error: BaseException, settings: Mapping[str, Any]) -> UnlearnableError | None:
    """The error of this package in a chain, or one for settings that cannot be used; None for all others."""
    chain: list[BaseException] = []
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, UnlearnableError):
            return found
        chain.append(found)
        found = found.__cause__ or found.__context__
    if isinstance(error, ModuleNotFoundError):
        return InputError(f"the configuration names what is not there: {told(error)}")
    for name, value in settings.items():
        if isinstance(value, str) and value.startswith("$") and any(value in str(each) for each in chain[:-1]):
            return InputError(f"{name} is {value!r}, which cannot be evaluated: {told(chain[-1])}")
    if len(chain) > 1 and (part := PART.match(str(chain[-2]))):
        return InputError(f"the settings do not fit {part[1]}: {told(chain[-1])}")
    return None


def _configured(file: Path, settings: dict[str, Any], method: str) -> ConfigWorkflow:
    from monai.bundle import ConfigParser, ConfigWorkflow  # needs torch, which stored noise does not

    try:
        known = ConfigParser.load_config_file(str(file))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"the configuration cannot be read: {told(error)}", file=file) from error
    if not isinstance(known, dict) or "run" not in known:
        raise InputError("is no configuration of a method: it has no 'run'", file=file)
    # MONAI would accept settings that the configuration does not know, and ignore them.
    check_settings(settings, known, method)
    named: dict[str, Any] = {}
    if isinstance(known.get("protection"), dict):
        named["protection#method"] = as_plain(method)  # for the plan
    metadata = str(file.parent / "metadata.json")
    try:
        workflow = ConfigWorkflow(str(file), metadata, logging_file=False, workflow_type=None, **settings, **named)
    except (LookupError, TypeError, ValueError) as error:
        nested = ", ".join(name for name in settings if "#" in name)
        reason = f"a setting ({nested}) goes below one that is not a group; give that one as a whole"
        raise InputError(reason, file=file) from error
    workflow.parser.locator = component_locator()
    return workflow


def protect(method: str | Path, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> Manifest:
    """Protect a dataset, or a MedMNIST archive, with a method.

    In processes that ``torchrun`` started, each takes its part of the work.

    Args:
        method: name of a method (``"umed"``, ``"lsp"``, ...), or path of a configuration file.
        dataset_dir: the clean dataset: a folder, an archive, or the address of studies (``dicomweb://...``).
        output_dir: folder for ``protected/`` to publish, and ``noise/`` and ``models/`` to keep.
        **settings: settings of the method by name, see its card; ``{"masks#support#margin": 1}`` sets nested ones.
            ``overwrite`` replaces a finished output, and ``key`` is the owner's key or its file.

    Returns:
        The manifest of the run.

    Raises:
        SkippedCasesError: naming the cases that were skipped, if that was allowed; the others are protected.
        VerificationError: when the output is complete, and ``protected/`` holds other files too.
        UnlearnableError: naming case, file and reason of what stopped the run.

    Example:
        >>> protect("lattice", "DATASET", "OUT", epsilon=8 / 255, key="owner.key")
        >>> protect("umed", "DATASET", "OUT", **{"network_def#channels": [16, 32, 64]})
    """
    key = load_key(settings.pop("key", None))
    with _prepared(dataset_dir, output_dir, settings, key) as run:
        run_bundle(str(method), "protect", **run)
        return Manifest.load(Layout(output_dir).manifest, key)


def plan(method: str | Path, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> DatasetPlan:
    """Understand a dataset and measure what :func:`protect` will take, without writing to the output.

    Args:
        method: see :func:`protect`, as all arguments.
        dataset_dir: the clean dataset.
        output_dir: folder of the output to come.
        **settings: settings of the method.

    Returns:
        What was found, what was passed over, and the expected time and disk.

    Raises:
        UnlearnableError: naming case, file and reason of what would stop the run.

    Example:
        >>> print(plan("lattice", "DATASET", "OUT", epsilon=8 / 255).page())
    """
    key = load_key(settings.pop("key", None))
    given = Path(dataset_dir)
    with ExitStack() as stack:
        if is_archive(dataset_dir):
            folder = stack.enter_context(TemporaryDirectory())
            dataset_dir = unpack_archive(Path(dataset_dir), Path(folder))
        rehearsal = {**settings, "protection#_target_": REHEARSAL}
        with _prepared(dataset_dir, output_dir, rehearsal, key, completes=False) as run:
            workflow = run_bundle(str(method), "protect", **run)
    found: DatasetPlan = workflow.parser.get_parsed_content("protection").plan
    return replace(found, listing=replace(found.listing, root=given)) if is_archive(given) else found


def apply(source: str | Path, dataset_dir: str | Path, output_dir: str | Path, **settings: Any) -> Manifest:
    """Put stored noise, or the noise of a trained checkpoint, on clean scans.

    Args:
        source: a ``noise/`` folder, for the scans that it was made for, or a checkpoint, for further scans.
        dataset_dir: the clean dataset: a folder, an archive, or the address of studies (``dicomweb://...``).
        output_dir: folder of the output, as in :func:`protect`.
        **settings: ``overwrite`` and ``key``, see :func:`protect`; with a checkpoint also settings of the run.

    Returns:
        The manifest of the run.

    Raises:
        InputError: when the source is neither, or settings are given for stored noise, which takes none.
        VerificationError: see :func:`protect`.
        UnlearnableError: naming case, file and reason of what stopped the run.

    Example:
        >>> apply("OUT/noise", "DATASET", "AGAIN")
        >>> apply("OUT/models/perturber.safetensors", "MORE_SCANS", "MORE")
    """
    source = Path(source)
    _check_source(source)
    others = {name: value for name, value in settings.items() if name not in ("overwrite", "key")}
    if others and source.is_dir():
        words = " ".join(f"--{name} {value}" for name, value in others.items())
        raise InputError(f"stored noise has no settings to change: {words}", file=source)
    key, layout = load_key(settings.pop("key", None)), Layout(output_dir)
    resume = source.resolve() != layout.noise.resolve()
    with _prepared(dataset_dir, output_dir, settings, key, resume) as run:
        if not is_owned(source):
            return apply_stored(source, run["dataset_dir"], output_dir, bool(run.get("overwrite")), key)
        run_bundle("umed", "apply", checkpoint=source, **run)
        return Manifest.load(layout.manifest, key)


def _check_source(source: Path) -> None:
    """Refuse what is neither stored noise nor a checkpoint, with what was probably meant."""
    if is_owned(source) or any(path.exists() for path in places(source / Layout(source).manifest.name)):
        return
    layout = Layout(source)
    what, way = "holds no stored noise", "the folder noise/ of a finished output, or a checkpoint of its models/"
    if layout.records:
        what, way = "is an output", f"the noise in it, {layout.noise}, or a checkpoint of its models/"
    elif not source.exists():
        what = "does not exist"
    raise InputError(f"{what}; give {way}", file=source)


@contextmanager
def _prepared(
    dataset_dir: str | Path,
    output_dir: str | Path,
    settings: dict[str, Any],
    key: Key | None,
    resume: bool = True,
    completes: bool = True,
) -> Iterator[dict[str, Any]]:
    """Join the others, and fetch studies or unpack an archive; yields all settings, with the folder to protect.

    Where the run ``completes`` the output, nothing else may be among the published files at its end, and with a key no
    fetched original stays.
    """
    with distributed.joined(), ExitStack() as stack:
        if completes:
            stack.enter_context(_published_alone(Layout(output_dir)))  # after archives are packed
        overwrite, is_far = bool(settings.get("overwrite")), is_address(dataset_dir)
        check_path("datalist", settings.get("datalist"))
        check_output(output_dir, None if is_far else dataset_dir, (settings.get("datalist"),))
        if is_far:
            dataset_dir = stack.enter_context(
                fetched_studies(dataset_dir, output_dir, overwrite, key if completes else None)
            )
        elif is_archive(dataset_dir):
            dataset_dir = stack.enter_context(protected_archive(dataset_dir, output_dir, overwrite, key, resume))
        keyed = {} if key is None else {"key": key}
        yield {"dataset_dir": Path(dataset_dir), "output_dir": Path(output_dir), **settings, **keyed}


@contextmanager
def _published_alone(layout: Layout) -> Iterator[None]:
    """Refuse, once an output is complete, other files among the published ones."""
    try:
        yield
    except SkippedCasesError:  # it is complete
        _refuse_unstated(layout)
        raise
    _refuse_unstated(layout)


def _refuse_unstated(layout: Layout) -> None:
    if distributed.rank() == 0:  # it packs archives and writes the statement
        refuse_unstated(layout)

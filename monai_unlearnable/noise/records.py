# SPDX-License-Identifier: Apache-2.0
"""The record of each protected scan, and of a whole run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.crypto import Key
from monai_unlearnable.crypto.encrypted import read_owned, write_owned
from monai_unlearnable.errors import KeyMismatchError, NoiseError, told
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.utils.files import fingerprint, leads_outside

__all__ = ["DECIDED", "Manifest", "NoiseEntry", "encode_manifest", "package_versions", "read_budget", "run_fingerprint"]
__all__ += ["write_budget"]

DECIDED = "decided"  # in the record of a run: what was drawn or chosen for the noise, which no statement tells
# Names in records of schema version 2 and statements of format 1, and today's names.
EARLIER_WORDS = {"lattice": "quantization", "radius": "epsilon", "share": "fraction"}


@dataclass(frozen=True)
class NoiseEntry:
    """The record of one scan: which voxels the noise belongs to, what it was allowed to do, what it did.

    Args:
        scan_id: relative file name without suffix; names the noise.
        case_id: the case that the scan is part of.
        case_scans: scan ids of all files of the case, in the order of their channels.
        file: clean file, relative to the dataset.
        output: protected file, relative to ``protected/``.
        output_sha256: digest of the protected file, header and compression included.
        label: label file, relative to the dataset, or None.
        label_sha256: digest of the published label file.
        shape: channel-first shape of the stored voxels.
        affine: 4x4 matrix, row by row.
        quantization: dtype, slope and intercept of storage.
        window: intensity window.
        budget: budget of the noise.
        clean_sha256: digest of the original voxels.
        protected_sha256: digest of the protected voxels.
        run: fingerprint of the run that made the noise.
        target: class of the whole image, counted from 0, or that of each task by its name, or None; records of earlier
            releases have none.
        file_sha256: digest of the clean file, header included; records of earlier releases have none.
        clean_label_sha256: digest of the original label file, where it is not the one that is published.
        measured: figures computed from the files as reloaded from disk.
    """

    scan_id: str
    case_id: str
    case_scans: tuple[str, ...]
    file: str
    output: str
    output_sha256: str
    label: str | None
    label_sha256: str | None
    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    quantization: StorageQuantization
    window: IntensityWindow
    budget: Budget
    clean_sha256: str
    protected_sha256: str
    run: str
    target: int | dict[str, int] | None = None
    file_sha256: str | None = None
    clean_label_sha256: str | None = None
    measured: dict[str, float] = field(default_factory=dict)

    @property
    def original_label_sha256(self) -> str | None:
        """Digest of the original label file."""
        return self.clean_label_sha256 or self.label_sha256

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> NoiseEntry:
        """The entry of a dictionary made by :meth:`to_dict`, JSON round trip included, or by an earlier release.

        Raises:
            NoiseError: when fields are missing or unknown.
        """
        try:
            values = _in_current_words(content)
            values["shape"] = tuple(int(extent) for extent in values["shape"])
            values["case_scans"] = tuple(values["case_scans"])
            values["affine"] = tuple(tuple(row) for row in values["affine"])
            values["quantization"] = StorageQuantization(**values["quantization"])
            if values["quantization"].num_slices not in (None, values["shape"][-1]):
                raise ValueError("the storage is that of another number of slices")
            window = values["window"]
            values["window"] = IntensityWindow(tuple(window["low"]), tuple(window["high"]))
            values["budget"] = read_budget(values["budget"])
            for name in (*values["case_scans"], *(values[field] for field in ("scan_id", "file", "output", "label"))):
                refuse_outside(name)
            target = values.get("target")
            for kind in target.values() if isinstance(target, dict) else [] if target is None else [target]:
                if not isinstance(kind, int) or isinstance(kind, bool) or kind < 0:
                    raise ValueError(f"{kind!r} is not a class")
            if values["scan_id"] not in values["case_scans"]:
                raise ValueError("the scan is not among those of its case")
            if unknown := sorted(set(values) - {known.name for known in fields(cls)}):
                raise KeyError(f"unknown fields {unknown}")
            return cls(**values)
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise NoiseError(f"broken noise record: {error}") from error


def read_budget(content: dict[str, Any]) -> Budget:
    """The budget of a record or statement, of an earlier release too.

    Raises:
        TypeError, BudgetError: when it is none.
    """
    return Budget(**_in_current_words(content))


def write_budget(budget: Budget, schema_version: int) -> dict[str, float]:
    """A budget with the names of a schema version, so that an earlier statement can be checked to the byte."""
    earlier = {new: old for old, new in EARLIER_WORDS.items()} if schema_version < SCHEMA_VERSION else {}
    return {earlier.get(name, name): value for name, value in asdict(budget).items()}


def _in_current_words(content: dict[str, Any]) -> dict[str, Any]:
    return {EARLIER_WORDS.get(name, name): value for name, value in dict(content).items()}


def refuse_outside(name: str | None) -> None:
    """Refuse a path outside its folder: records travel with data that others may have written.

    Raises:
        ValueError: when the path leads outside.
    """
    if name is not None and leads_outside(name):
        raise ValueError(f"{name!r} lies outside the folder")


SCHEMA_VERSION = 3
READABLE_VERSIONS = (2, SCHEMA_VERSION)
PACKAGES = ("monai_unlearnable", "monai", "torch", "pytorch-ignite", "numpy", "nibabel")


def encode_manifest(content: dict[str, Any]) -> bytes:
    """A manifest in its only form: no other bytes say the same."""
    stream = io.StringIO()  # json.dumps would hold a string for each number of each scan
    json.dump(content, stream, indent=1, sort_keys=True)
    return (stream.getvalue() + "\n").encode()


def run_fingerprint(run: Mapping[str, Any]) -> str:
    """What tells a run apart from others with other settings; the name that its method was given by is none.

    Args:
        run: settings of the run, as a manifest has them.
    """
    config = run.get("config")
    if isinstance(config, Mapping):
        config = {name: value for name, value in config.items() if name != "method"}
    return fingerprint({**run, "config": config})


@cache
def package_versions() -> Mapping[str, str]:
    """Installed versions of the packages that decide on the result; looking them up takes as long as a small scan."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "unknown"
    return versions


@dataclass(frozen=True)
class Manifest:
    """Provenance of a run and one :class:`NoiseEntry` a scan. Holds no times and no paths of the owner's machine.

    Args:
        run: method, configuration, seed, package versions, checkpoint digest.
        scans: records of the scans, in the order of the dataset.
        datalist_sha256: digest of the datalist beside the protected files.
        noise_sha256: digest of the noise file of each scan id; None in manifests of earlier releases.
        schema_version: version of the file that it was read from.
    """

    run: dict[str, Any]
    scans: tuple[NoiseEntry, ...]
    datalist_sha256: str
    noise_sha256: dict[str, str] | None = None
    schema_version: int = SCHEMA_VERSION

    @property
    def method(self) -> str:
        """The name that the owner gave the method by; that of its class where it is not recorded."""
        return str((self.run.get("config") or {}).get("method", self.run.get("method")))

    @property
    def unchanged(self) -> list[str]:
        """Ids of the scans that are published as they were."""
        return [entry.scan_id for entry in self.scans if entry.measured.get("l0") == 0]

    def save(self, path: Path, key: Key | None = None) -> None:
        """Write as JSON; atomic, and encrypted with a key."""
        write_owned(path, encode_manifest({**asdict(self), "schema_version": SCHEMA_VERSION}), key)

    @classmethod
    def load(cls, path: Path, key: Key | None = None) -> Manifest:
        """Read a manifest.

        Raises:
            KeyMismatchError: naming the file, when it takes another key, or none.
            NoiseError: naming the file, when it is missing, broken, or of another schema version.
        """
        try:
            content = json.loads(read_owned(path, key))
            version = content["schema_version"]
            if version not in READABLE_VERSIONS:
                raise NoiseError(f"schema version {version} is none of {', '.join(map(str, READABLE_VERSIONS))}")
            if not isinstance(content["run"], dict):
                raise NoiseError("the record of the run is broken")
            if unknown := sorted(set(content) - {known.name for known in fields(cls)}):
                raise NoiseError(f"unknown fields {unknown}")
            scans = tuple(map(NoiseEntry.from_dict, content["scans"]))
            return cls(content["run"], scans, content["datalist_sha256"], content.get("noise_sha256"), version)
        except KeyMismatchError:
            raise
        except FileNotFoundError as error:
            reason = "the manifest cannot be read: there is none; give the folder of a finished output, such as OUT,"
            reason += " or finish a run that was stopped by its own command"
            raise NoiseError(reason, file=path) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.reason if isinstance(error, NoiseError) else told(error)
            raise NoiseError(f"the manifest cannot be read: {reason}", file=path) from error

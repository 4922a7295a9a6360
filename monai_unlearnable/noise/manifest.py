# SPDX-License-Identifier: Apache-2.0
"""The manifest of a protected dataset: how it was made, and what is claimed of every scan."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from monai_unlearnable.errors import KeyMismatchError, NoiseError
from monai_unlearnable.noise.entry import NoiseEntry
from monai_unlearnable.noise.vault import Key, read_owned, write_owned

__all__ = ["Manifest", "SCHEMA_VERSION", "encode_manifest", "fingerprint", "package_versions"]

SCHEMA_VERSION = 2
FIELDS = {"schema_version", "run", "scans", "datalist_sha256", "noise_sha256"}
PACKAGES = ("monai_unlearnable", "monai", "torch", "pytorch-ignite", "numpy", "nibabel")


def encode_manifest(content: dict[str, Any]) -> bytes:
    """The one form in which a manifest is written: no other bytes say the same."""
    stream = io.StringIO()  # json.dumps would hold a string for each number of each scan
    json.dump(content, stream, indent=1, sort_keys=True)
    return (stream.getvalue() + "\n").encode()


def fingerprint(content: Any) -> str:
    """SHA-256 of JSON-ready content: equal content, equal fingerprint."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that decide on the result."""
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
        scans: in the order of the dataset.
        datalist_sha256: digest of the datalist beside the protected files.
        noise_sha256: digest of the noise file of each scan id; None in manifests of earlier releases.
    """

    run: dict[str, Any]
    scans: tuple[NoiseEntry, ...]
    datalist_sha256: str
    noise_sha256: dict[str, str] | None = None

    def save(self, path: Path, key: Key | None = None) -> None:
        """Write as JSON; atomic, and sealed with a key."""
        content = {
            "schema_version": SCHEMA_VERSION,
            "run": self.run,
            "scans": [entry.to_dict() for entry in self.scans],
            "datalist_sha256": self.datalist_sha256,
            "noise_sha256": self.noise_sha256,
        }
        write_owned(path, encode_manifest(content), key)

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
            if version != SCHEMA_VERSION:
                raise NoiseError(f"schema version {version} is not the supported {SCHEMA_VERSION}")
            if unknown := sorted(set(content) - FIELDS):
                raise NoiseError(f"unknown fields {unknown}")
            entries: Sequence[dict[str, Any]] = content["scans"]
            scans = tuple(NoiseEntry.from_dict(entry) for entry in entries)
            return cls(content["run"], scans, content["datalist_sha256"], content.get("noise_sha256"))
        except KeyMismatchError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = error.reason if isinstance(error, NoiseError) else error
            raise NoiseError(f"the manifest cannot be read: {reason}", file=path) from error

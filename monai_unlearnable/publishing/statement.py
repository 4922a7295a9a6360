# SPDX-License-Identifier: Apache-2.0
"""What the owner says in public of what was published: nothing that helps to undo it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, OwnerKey
from monai_unlearnable.crypto.keyfiles import to_base64
from monai_unlearnable.crypto.signing import public_key, sign
from monai_unlearnable.data.medmnist import archive_images
from monai_unlearnable.data.scan import voxel_digest
from monai_unlearnable.errors import InputError
from monai_unlearnable.noise import Manifest, NoiseEntry
from monai_unlearnable.noise.records import write_budget
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.utils.files import file_digest, write_atomic

__all__ = ["DECIMALS", "FORMATS", "canonical", "encode_statement", "is_packed", "write_statement"]

FORMATS = {2: "monai_unlearnable statement 1", 3: "monai_unlearnable statement 2"}  # by schema version of the manifest
# Rounded: all digits would tell a thief when a guess at the original is right.
DECIMALS = {"linf": 6, "l0": 6, "psnr": 2, "ssim": 4}


def encode_statement(manifest: Manifest, layout: Layout, key: Key | None = None) -> bytes:
    """The statement as the content of a JSON file; the same run gives the same bytes.

    Args:
        manifest: of the run.
        layout: of its output; datalist and archives are looked up in it. An archive of an earlier run is not stated.
        key: the owner's, to sign with.
    """
    archives = sorted(layout.protected.glob("*.npz"))
    others = [layout.datalist, *(archive for archive in archives if is_packed(archive, manifest))]
    content = {
        "format": FORMATS[manifest.schema_version],
        "method": manifest.run["method"],
        "versions": manifest.run["versions"],
        "scans": [_scan(entry, manifest.schema_version) for entry in manifest.scans],
        "others": [{"file": path.name, "sha256": file_digest(path)} for path in others],
    }
    if isinstance(key, OwnerKey):
        content["public_key"] = to_base64(public_key(key))
        content["signature"] = to_base64(sign(canonical(content), key))
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_statement(manifest: Manifest, layout: Layout, key: Key | None = None) -> None:
    """Write ``statement.json`` of an output; atomic. See :func:`encode_statement`."""
    write_atomic(layout.statement, encode_statement(manifest, layout, key))


def canonical(content: dict[str, Any]) -> bytes:
    """What is signed: the content but for its signature, as JSON without spaces, names in ascending order."""
    signed = {name: value for name, value in content.items() if name != "signature"}
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def is_packed(archive: Path, manifest: Manifest) -> bool:
    """Whether an archive holds the protected voxels."""
    try:
        digests = {name: voxel_digest(voxels) for name, voxels in archive_images(archive)}
    except InputError:
        return False
    return all(digests.get(entry.output) == entry.protected_sha256 for entry in manifest.scans)


def _scan(entry: NoiseEntry, schema_version: int) -> dict[str, Any]:
    return {
        "file": entry.output,
        "sha256": entry.output_sha256,
        "label": entry.label,
        "label_sha256": entry.label_sha256,
        "budget": write_budget(entry.budget, schema_version),
        "measured": {name: round(entry.measured[name], digits) for name, digits in DECIMALS.items()},
    }

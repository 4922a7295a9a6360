# SPDX-License-Identifier: Apache-2.0
"""The owner's public statement of an output: written, told in words, and audited without key or originals."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import Key, OwnerKey
from monai_unlearnable.crypto.keyfiles import from_base64, read_file, to_base64
from monai_unlearnable.crypto.signing import is_signed, load_public_key, public_key, sign
from monai_unlearnable.data.formats import digest_of
from monai_unlearnable.data.medmnist import archive_images
from monai_unlearnable.data.scan import voxel_digest
from monai_unlearnable.errors import (
    BudgetError,
    Finding,
    InputError,
    KeyFileError,
    NoiseError,
    ScanError,
    VerificationError,
    told,
)
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore
from monai_unlearnable.noise.records import read_budget, write_budget
from monai_unlearnable.publishing.bids import publish_description
from monai_unlearnable.publishing.findings import CheckReport, figure_ranges
from monai_unlearnable.publishing.layout import Layout, stated_files, unknown_files
from monai_unlearnable.publishing.writing import write_datalist
from monai_unlearnable.utils.files import file_digest, reading, remove, write_atomic
from monai_unlearnable.utils.text import first_and_more, of_255

__all__ = ["DECIMALS", "MARK", "audit", "canonical", "change_in_words", "encode_statement", "is_packed"]
__all__ += ["program_version", "refuse_unstated", "signed", "write_records", "write_statement"]

FORMATS = {2: "monai_unlearnable statement 1", 3: "monai_unlearnable statement 2"}  # by schema version of the manifest
MARK = "mark_sha256"  # in manifest and statement of a set that can be traced
# Rounded: all digits would tell a thief when a guess at the original is right.
DECIMALS = {"linf": 6, "l0": 6, "psnr": 2, "ssim": 4}


def encode_statement(manifest: Manifest, layout: Layout, key: Key | None = None) -> bytes:
    """The statement as the content of a JSON file; the same run gives the same bytes.

    Args:
        manifest: manifest of the run.
        layout: layout of its output, which has datalist, archives and what describes them. An archive of an earlier run
            is not stated.
        key: the owner's key, to sign with.
    """
    archives = sorted(layout.protected.glob("*.npz"))
    others = [layout.datalist, *(archive for archive in archives if is_packed(archive, manifest)), *layout.documents]
    content = {
        "format": FORMATS[manifest.schema_version],
        "method": manifest.method,
        "versions": manifest.run["versions"],
        "scans": [_scan(entry, manifest.schema_version) for entry in manifest.scans],
        "others": [{"file": path.name, "sha256": file_digest(path)} for path in others],
    }
    if MARK in manifest.run:
        content[MARK] = manifest.run[MARK]
    if isinstance(key, OwnerKey):
        content = signed(content, key)
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def write_statement(manifest: Manifest, layout: Layout, key: Key | None = None) -> None:
    """Write ``statement.json`` of an output; atomic. See :func:`encode_statement`."""
    write_atomic(layout.statement, encode_statement(manifest, layout, key))


def write_records(
    run: dict[str, Any], scans: Sequence[NoiseEntry], store: NoiseStore, layout: Layout, dataset_dir: Path
) -> Manifest:
    """Write all records of a run: datalist, statement, and last the manifest, which makes the run complete.

    What describes the files of an earlier run for programs is removed.

    Args:
        run: facts about the run, see :class:`~monai_unlearnable.noise.Manifest`.
        scans: records of the scans, in the order of the dataset.
        store: noise store of the output.
        layout: layout of the output.
        dataset_dir: folder of the originals.
    """
    for path in (layout.hashes, layout.croissant):
        remove(path)
    publish_description(dataset_dir, layout.bids)
    digests = {entry.scan_id: file_digest(store.path(entry.scan_id)) for entry in scans}
    manifest = Manifest(run, tuple(scans), write_datalist(scans, layout.datalist), digests)
    write_statement(manifest, layout, store.key)
    manifest.save(layout.manifest, store.key)
    return manifest


def refuse_unstated(layout: Layout) -> None:
    """Refuse what lies among the published files of a complete output and is not of it: it could be an original.

    Raises:
        VerificationError: naming the first such files.
    """
    with reading(layout.protected):
        unknown = sorted(unknown_files(layout.protected, dict(stated_files(_read(layout.statement)))))
    if unknown:
        names = first_and_more([path.relative_to(layout.protected).as_posix() for path in unknown])
        reason = f"holds files that are not of this output and must not be published: {names}; remove them"
        findings = [Finding(path, "is not in the statement; it must not be published") for path in unknown]
        raise VerificationError(f"{reason}, then run verify", file=layout.protected, findings=findings)


def canonical(content: dict[str, Any]) -> bytes:
    """The signed bytes: the content without its signature, as JSON without spaces, names in ascending order."""
    signed = {name: value for name, value in content.items() if name != "signature"}
    return json.dumps(signed, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def signed(content: dict[str, Any], key: OwnerKey) -> dict[str, Any]:
    """The content with the owner's public key and signature."""
    content = {**content, "public_key": to_base64(public_key(key))}
    return {**content, "signature": to_base64(sign(canonical(content), key))}


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


def program_version(stated: Mapping[str, Any]) -> str:
    """The version of this program that protected a set, from its public statement."""
    return str(stated["versions"]["monai_unlearnable"])


def change_in_words(stated: Mapping[str, Any]) -> str:
    """How much was changed, from the public statement alone."""
    budgets = [read_budget(scan["budget"]) for scan in stated["scans"]]
    figures = figure_ranges((scan["measured"] for scan in stated["scans"]), ("linf", "psnr"))
    epsilon, fraction = max(budget.epsilon for budget in budgets), max(budget.fraction for budget in budgets)
    where = "" if fraction == 1 else f", and no more than {fraction:.3g} of the voxels of a scan"
    low, high = (f"{value:.1f}" for value in figures["psnr"])
    psnr = low if low == high else f"{low} to {high}"
    return (
        f"The noise changes no voxel by more than {of_255(epsilon)} of the intensity window of its scan{where}. "
        f"The largest change is {figures['linf'][1]:.3g}; the PSNR against the originals is {psnr} dB."
    )


class Signature(str, Enum):
    """State of the signature of a statement."""

    VALID = "valid"
    SELF_SIGNED = "valid for the key in the statement"  # anybody can have put that key there
    NONE = "none"
    MISSING = "missing"  # where a public key is given
    INVALID = "invalid"


def audit(
    protected_dir: str | Path, statement: str | Path, public_key: bytes | str | Path | None = None
) -> CheckReport:
    """Check that every published file exists and is the stated one, and that there are no others.

    The figures of each scan are checked against its budget and each other, and the signature against the public key.

    Args:
        protected_dir: folder of the published files.
        statement: ``statement.json`` of the owner.
        public_key: the owner's public key or its file, from another source than the statement: whoever can forge a
            statement can sign it.

    Returns:
        The report; every claim that does not hold is one of its ``findings``.

    Raises:
        InputError: naming file or folder, when it cannot be read.
    """
    if isinstance(public_key, (str, Path)):
        public_key = load_public_key(public_key)
    with reading(Path(protected_dir)):
        output = Layout(protected_dir)
        if output.protected.is_dir() and output.statement.is_file():
            raise InputError("this is the output; give its folder of published files", file=output.protected)
        return _audit(Path(protected_dir), Path(statement), public_key)


def _audit(folder: Path, path: Path, public_key: bytes | None) -> CheckReport:
    if not folder.is_dir():
        raise InputError("the folder does not exist", file=folder)
    content = _read(path)
    try:
        stated = dict(stated_files(content))
        signature = _signature(content, public_key)
        forged = signature in (Signature.MISSING, Signature.INVALID)
        findings = [Finding(path.name, f"{signature.value} signature of the statement")] if forged else []
        findings += _file_findings(stated, folder)
        findings += [finding for scan in content["scans"] for finding in _figure_findings(scan)]
        figures = figure_ranges((scan["measured"] for scan in content["scans"]), DECIMALS)
        method, versions = str(content["method"]), dict(content["versions"])
        return CheckReport(method, versions, len(stated), figures, tuple(findings), str(signature.value))
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError) and not isinstance(error, (BudgetError, KeyFileError, NoiseError)):
            raise
        raise InputError(f"the statement is broken: {error}", file=path) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the statement cannot be read: {told(error)}", file=path) from error
    if not isinstance(content, dict) or content.get("format") not in FORMATS.values():
        raise InputError(f"the format of the statement is none of {', '.join(FORMATS.values())}", file=path)
    return content


def _signature(content: dict[str, Any], public_key: bytes | None) -> Signature:
    if "signature" not in content:
        return Signature.NONE if public_key is None else Signature.MISSING
    own = from_base64(content["public_key"])
    if not is_signed(canonical(content), from_base64(content["signature"]), own if public_key is None else public_key):
        return Signature.INVALID
    return Signature.SELF_SIGNED if public_key is None else Signature.VALID


def _file_findings(stated: dict[str, str], folder: Path) -> Iterator[Finding]:
    for path in unknown_files(folder, stated):
        yield Finding(path.relative_to(folder).as_posix(), "extra")
    for name, digest in sorted(stated.items()):
        if not (folder / name).exists():
            yield Finding(name, "missing")
        elif (found := _digest_if_readable(folder / name)) != digest:
            yield Finding(name, "changed", found, digest)


def _digest_if_readable(path: Path) -> str | None:
    """The digest of a published scan; None where a header does not tell its other files any more."""
    try:
        return digest_of(path)
    except ScanError as error:
        if isinstance(error.__cause__, OSError):
            raise
        return None


def _figure_findings(scan: dict[str, Any]) -> Iterator[Finding]:
    """Figures that go beyond the budget, or cannot all be true."""
    name, budget, measured, rounding = scan["file"], read_budget(scan["budget"]), scan["measured"], 1e-6
    linf, l0, psnr, ssim = (float(measured[figure]) for figure in ("linf", "l0", "psnr", "ssim"))
    try:
        budget.check(linf - rounding, fraction=l0 - rounding, step=budget.epsilon, case=name)  # no step is larger
    except BudgetError as error:
        yield Finding(name, f"over budget: {error.reason}", error.value, error.limit)
    # No voxel changed by more than linf: the mean square is at most that of all changes being as large.
    lowest = -10 * math.log10((abs(linf) + rounding) ** 2 * (abs(l0) + rounding))
    if not (0 <= linf <= 1 and 0 <= l0 <= 1 and -1 <= ssim <= 1 and psnr >= lowest - 0.1):
        yield Finding(name, "figures that cannot be true")

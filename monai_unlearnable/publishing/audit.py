# SPDX-License-Identifier: Apache-2.0
"""Check published files against the owner's statement; needs no key and no original."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto.keyfiles import from_base64, read_file
from monai_unlearnable.crypto.signing import is_signed, load_public_key
from monai_unlearnable.errors import BudgetError, Finding, InputError, KeyFileError, NoiseError
from monai_unlearnable.noise.records import read_budget, refuse_outside
from monai_unlearnable.publishing.findings import CheckReport, figure_ranges
from monai_unlearnable.publishing.layout import unknown_files
from monai_unlearnable.publishing.statement import DECIMALS, FORMATS, canonical
from monai_unlearnable.utils.files import file_digest, reading

__all__ = ["Signature", "audit"]


class Signature(str, Enum):
    """State of the signature of a statement."""

    VALID = "valid"
    SELF_SIGNED = "valid for the key in the statement"  # which anybody can have put there
    NONE = "none"
    MISSING = "missing"  # where a public key is given
    INVALID = "invalid"


def audit(
    protected_dir: str | Path, statement: str | Path, public_key: bytes | str | Path | None = None
) -> CheckReport:
    """Check every published file: that it exists, is the one that was stated, and that there is no other.

    The figures of each scan are checked against its budget and each other, and the signature against the public key.

    Args:
        protected_dir: folder of the published files.
        statement: ``statement.json`` of the owner.
        public_key: the owner's public key or its file, from another source than the statement; who can forge a
            statement can sign it.

    Returns:
        The report; every claim that does not hold is one of its ``findings``.

    Raises:
        InputError: naming file or folder, when it cannot be read.
    """
    if isinstance(public_key, (str, Path)):
        public_key = load_public_key(public_key)
    with reading(Path(protected_dir)):
        return _audit(Path(protected_dir), Path(statement), public_key)


def _audit(folder: Path, path: Path, public_key: bytes | None) -> CheckReport:
    if not folder.is_dir():
        raise InputError("the folder does not exist", file=folder)
    content = _read(path)
    try:
        stated = dict(_stated(content))
        signature = _signature(content, public_key)
        findings = [*_signature_findings(signature, path), *_file_findings(stated, folder)]
        findings += [finding for scan in content["scans"] for finding in _figure_findings(scan)]
        figures = figure_ranges((scan["measured"] for scan in content["scans"]), DECIMALS)
        versions = dict(content["versions"])
        return CheckReport(
            str(content["method"]), versions, len(stated), figures, tuple(findings), str(signature.value)
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError) and not isinstance(error, (BudgetError, KeyFileError, NoiseError)):
            raise
        raise InputError(f"the statement is broken: {error}", file=path) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"the statement cannot be read: {error}", file=path) from error
    if not isinstance(content, dict) or content.get("format") not in FORMATS.values():
        raise InputError(f"the format of the statement is none of {', '.join(FORMATS.values())}", file=path)
    return content


def _stated(content: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and digest of every file."""
    for entry in (*content["scans"], *content["others"]):
        for name, digest in ((entry["file"], entry["sha256"]), (entry.get("label"), entry.get("label_sha256"))):
            if name is not None:
                refuse_outside(name)
                yield name, digest


def _signature(content: dict[str, Any], public_key: bytes | None) -> Signature:
    if "signature" not in content:
        return Signature.NONE if public_key is None else Signature.MISSING
    own = from_base64(content["public_key"])
    if not is_signed(canonical(content), from_base64(content["signature"]), own if public_key is None else public_key):
        return Signature.INVALID
    return Signature.SELF_SIGNED if public_key is None else Signature.VALID


def _signature_findings(signature: Signature, statement: Path) -> Iterator[Finding]:
    if signature in (Signature.MISSING, Signature.INVALID):
        yield Finding(statement.name, f"{signature.value} signature of the statement")


def _file_findings(stated: dict[str, str], folder: Path) -> Iterator[Finding]:
    for path in unknown_files(folder, stated):
        yield Finding(path.relative_to(folder).as_posix(), "extra")
    for name, digest in sorted(stated.items()):
        if not (folder / name).exists():
            yield Finding(name, "missing")
        elif (found := file_digest(folder / name)) != digest:
            yield Finding(name, "changed", found, digest)


def _figure_findings(scan: dict[str, Any]) -> Iterator[Finding]:
    """Where figures go beyond the budget, or cannot all be true."""
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

# SPDX-License-Identifier: Apache-2.0
"""Check published files against the owner's statement; needs no key and no original."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto.keyfiles import from_base64, read_file
from monai_unlearnable.crypto.signing import is_signed
from monai_unlearnable.errors import BudgetError, InputError, NoiseError
from monai_unlearnable.noise.records import read_budget, refuse_outside
from monai_unlearnable.publishing.layout import file_digest, unknown_files
from monai_unlearnable.publishing.statement import DECIMALS, FORMATS, canonical
from monai_unlearnable.utils.files import reading

__all__ = ["Audit", "audit"]


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        method: that the owner names.
        versions: of the packages that the files were made with.
        files: how many were stated.
        figures: lowest and highest of each figure.
        signature: ``"valid"`` for the public key given, or ``"valid for the key in the statement"``, which anybody can
            have put there; ``"none"``, ``"missing"`` where a public key is given, ``"invalid"``.
        problems: one line each; none where everything holds.
    """

    method: str
    versions: dict[str, str]
    files: int
    figures: dict[str, tuple[float, float]]
    signature: str
    problems: tuple[str, ...]

    def to_json(self) -> str:
        """For programs."""
        return json.dumps({"holds": not self.problems, **dataclasses.asdict(self)}, indent=1)

    def page(self) -> str:
        """For people."""
        figures = [f"{name:>9}  {low:g} to {high:g}" for name, (low, high) in self.figures.items()]
        versions = ", ".join(f"{name} {version}" for name, version in sorted(self.versions.items()))
        lines = [f"method     {self.method}", f"made with  {versions}", f"files      {self.files}", *figures]
        verdict = "every file is as stated, and no other is there" if not self.problems else "NOT AS STATED"
        return "\n".join([*lines, f"signature  {self.signature}", verdict, *(f"  {line}" for line in self.problems)])


def audit(protected_dir: str | Path, statement: str | Path, public_key: bytes | None = None) -> Audit:
    """Check every published file: that it is there, the one that was stated, and that no other is; figures; signature.

    Args:
        protected_dir: the published files.
        statement: ``statement.json`` of the owner.
        public_key: the owner's, got from somewhere else than the statement; who can forge a statement can sign it.

    Raises:
        InputError: naming file or folder, when it cannot be read.
    """
    with reading(Path(protected_dir)):
        return _audit(Path(protected_dir), Path(statement), public_key)


def _audit(folder: Path, path: Path, public_key: bytes | None) -> Audit:
    if not folder.is_dir():
        raise InputError("the folder does not exist", file=folder)
    content = _read(path)
    try:
        stated = dict(_stated(content))
        signature = _signature(content, public_key)
        problems = [*_signature_problems(signature), *_file_problems(stated, folder)]
        problems += [problem for scan in content["scans"] for problem in _figure_problems(scan)]
        measured = [scan["measured"] for scan in content["scans"]]
        figures = {name: _range([scan[name] for scan in measured]) for name in DECIMALS}
        return Audit(
            str(content["method"]), dict(content["versions"]), len(stated), figures, signature, tuple(problems)
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError) and not isinstance(error, (BudgetError, NoiseError)):
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


def _signature(content: dict[str, Any], public_key: bytes | None) -> str:
    if "signature" not in content:
        return "none" if public_key is None else "missing"
    own = from_base64(content["public_key"])
    if not is_signed(canonical(content), from_base64(content["signature"]), own if public_key is None else public_key):
        return "invalid"
    return "valid" if public_key else "valid for the key in the statement"


def _signature_problems(signature: str) -> Iterator[str]:
    if signature in ("missing", "invalid"):
        yield f"{signature} signature of the statement"


def _file_problems(stated: dict[str, str], folder: Path) -> Iterator[str]:
    for path in unknown_files(folder, stated):
        yield f"extra: {path.relative_to(folder).as_posix()}"
    for name, digest in sorted(stated.items()):
        if not (folder / name).exists():
            yield f"missing: {name}"
        elif file_digest(folder / name) != digest:
            yield f"changed: {name}"


def _figure_problems(scan: dict[str, Any]) -> Iterator[str]:
    """Where figures go beyond the budget, or cannot all be true."""
    name, budget, measured, rounding = scan["file"], read_budget(scan["budget"]), scan["measured"], 1e-6
    linf, l0, psnr, ssim = (float(measured[figure]) for figure in ("linf", "l0", "psnr", "ssim"))
    try:
        budget.check(linf - rounding, fraction=l0 - rounding, step=budget.epsilon, case=name)  # no step is larger
    except BudgetError as error:
        yield f"over budget: {error}"
    # No voxel changed by more than linf: the mean square is at most that of all changes being as large.
    lowest = -10 * math.log10((abs(linf) + rounding) ** 2 * (abs(l0) + rounding))
    if not (0 <= linf <= 1 and 0 <= l0 <= 1 and -1 <= ssim <= 1 and psnr >= lowest - 0.1):
        yield f"figures that cannot be true: {name}"


def _range(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)

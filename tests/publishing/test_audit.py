# SPDX-License-Identifier: Apache-2.0
"""The statement tells nothing that helps to undo, and whatever does not agree with it is found."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.crypto.keyfiles import to_base64
from monai_unlearnable.crypto.signing import public_key, sign
from monai_unlearnable.errors import Finding, InputError, VerificationError
from monai_unlearnable.publishing import verify as verification
from monai_unlearnable.publishing.statement import audit, canonical
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.utils.files import file_digest
from tests.helpers import flip_byte, protect, write_dataset

KEY, OTHER = OwnerKey(bytes(range(32))), OwnerKey(bytes(range(1, 33)))


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two protected cases: ``out`` and ``manifest``. Shared: read only."""
    root = tmp_path_factory.mktemp("signed")
    manifest = protect(write_dataset(root / "clean"), root / "out", key=KEY)
    return SimpleNamespace(out=root / "out", manifest=manifest)


@pytest.fixture
def out(signed: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the output, to be spoiled."""
    return shutil.copytree(signed.out, tmp_path / "published")


def check(out: Path, key: OwnerKey | None = KEY) -> tuple[tuple[Any, str], ...]:
    """File and kind of each finding."""
    report = audit(out / "protected", out / "statement.json", None if key is None else public_key(key))
    return tuple((finding.file, finding.what) for finding in report.findings)


def unsigned(kind: str) -> tuple[tuple[Any, str], ...]:
    return (("statement.json", f"{kind} signature of the statement"),)


def edit(out: Path, change: Callable[[dict[str, Any]], Any], key: OwnerKey | None = KEY) -> Path:
    """Change the statement, and sign it anew if there is a key."""
    path = out / "statement.json"
    content = json.loads(path.read_text())
    change(content)
    if key is not None:
        content["public_key"] = to_base64(public_key(key))
        content["signature"] = to_base64(sign(canonical(content), key))
    path.write_text(json.dumps(content))
    return path


def test_everything_holds(signed: SimpleNamespace) -> None:
    found = audit(signed.out / "protected", signed.out / "statement.json", public_key(KEY))
    assert (found.findings, found.signature, found.method, found.files) == ((), "valid", "UMed", 5)
    low, high = found.figures["psnr"]
    assert low <= min(scan.measured["psnr"] for scan in signed.manifest.scans) + 0.01 <= high + 0.02
    assert "PSNR" in found.page() and "Largest change" in found.page() and "linf" not in found.page()
    assert "every file is as recorded" in found.page() and json.loads(found.to_json())["holds"] is True


def test_nothing_in_it_helps_to_undo(signed: SimpleNamespace) -> None:
    text = (signed.out / "statement.json").read_text()
    for scan in signed.manifest.scans:
        secrets = [scan.clean_sha256, scan.run, repr(scan.measured["psnr"]), repr(scan.measured["ssim"])]
        assert not any(secret in text for secret in secrets)
    assert not any(word in text for word in ("seed", "clean", "window", "config", "perturber", "checkpoint"))


def test_a_plain_run_states_without_a_signature(published: SimpleNamespace) -> None:
    assert check(published.out, None) == ()
    assert check(published.out) == unsigned("missing")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda folder: flip_byte(folder / "images/a.nii.gz", 900), ("images/a.nii.gz", "changed")),
        (lambda folder: flip_byte(folder / "labels/b.nii.gz", 900), ("labels/b.nii.gz", "changed")),
        (lambda folder: (folder / "datalist.json").write_text("{}"), ("datalist.json", "changed")),
        (lambda folder: (folder / "images/b.nii.gz").unlink(), ("images/b.nii.gz", "missing")),
        (lambda folder: (folder / "images/c.nii.gz").write_bytes(b""), ("images/c.nii.gz", "extra")),
        (lambda folder: (folder / "images/a.nii.gz").rename(folder / "x"), ("images/a.nii.gz", "missing")),
    ],
)
def test_tampering_with_files(out: Path, change: Callable[[Path], Any], problem: tuple[str, str]) -> None:
    change(out / "protected")
    assert problem in check(out)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda s: s["scans"][0]["measured"].update(linf=0.2), ("images/a.nii.gz", "over budget: ")),
        (lambda s: s["scans"][0]["budget"].update(fraction=0.01), ("images/a.nii.gz", "over budget: ")),
        (lambda s: s["scans"][1]["measured"].update(psnr=12.0), ("images/b.nii.gz", "figures that cannot be true")),
        (lambda s: s["scans"][1]["measured"].update(ssim=1.2), ("images/b.nii.gz", "figures that cannot be true")),
        (lambda s: s["scans"][1].update(sha256="0" * 64), ("images/b.nii.gz", "changed")),
        (lambda s: s["scans"].pop(0), ("images/a.nii.gz", "extra")),
    ],
)
def test_claims_that_do_not_hold(out: Path, change: Callable[[dict[str, Any]], Any], problem: tuple[str, str]) -> None:
    edit(out, change)
    assert any(file == problem[0] and what.startswith(problem[1]) for file, what in check(out))
    with pytest.raises(VerificationError, match=r"statement\.json: is not what follows from the manifest"):
        verify(out, key=KEY)


def test_the_same_form_for_verify(out: Path, signed: SimpleNamespace) -> None:
    """Both checks list every finding with file, what was found and what was claimed, as a page and as JSON."""
    (out / "protected/images/a.nii.gz").unlink()
    flip_byte(out / "protected/labels/b.nii.gz", 900)
    stated, recorded = audit(out / "protected", out / "statement.json"), verification.check(out, key=KEY)[1]
    label = {entry.label: entry.label_sha256 for entry in signed.manifest.scans}["labels/b.nii.gz"]
    for report, name in ((stated, "labels/b.nii.gz"), (recorded, out / "protected/labels/b.nii.gz")):
        (finding,) = (finding for finding in report.findings if str(finding.file).endswith("labels/b.nii.gz"))
        digest = file_digest(out / "protected/labels/b.nii.gz")
        assert (finding.file, finding.found, finding.claimed) == (name, digest, label)
        assert {"images/a.nii.gz"} < {str(f.file).partition("protected/")[2] or f.file for f in report.findings}
        content = json.loads(report.to_json())
        assert content["holds"] is False and content.keys() == json.loads(stated.to_json()).keys()
        assert [Finding(**entry) for entry in content["findings"]] == [
            Finding(**{**asdict(finding), "file": str(finding.file)}) for finding in report.findings
        ]
        assert all(f"  {finding}" in report.page().splitlines() for finding in report.findings)


def test_signatures(out: Path) -> None:
    edit(out, lambda s: s.update(method="Other"), key=None)
    for key in (KEY, None):
        assert check(out, key) == unsigned("invalid")
    edit(out, lambda s: None, key=OTHER)
    assert check(out) == unsigned("invalid")
    found = audit(out / "protected", out / "statement.json")
    assert (found.findings, found.signature) == ((), "valid for the key in the statement")
    edit(out, lambda s: s.pop("signature"), key=None)
    assert check(out) == unsigned("missing")


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(format="other"),
        lambda s: s.pop("scans"),
        lambda s: s.update(scans=[]),
        lambda s: s.update(scans=3),
        lambda s: s["scans"][0].pop("sha256"),
        lambda s: s["scans"][0].update(file="../secret"),
        lambda s: s["scans"][0].update(file=3),
        lambda s: s["scans"][0]["budget"].update(epsilon=7),
        lambda s: s["scans"][0]["measured"].pop("psnr"),
        lambda s: s["scans"][0]["measured"].update(linf="x"),
        lambda s: s.update(public_key="!"),
        lambda s: s.update(signature=5),
        lambda s: s.update(versions=None),
    ],
)
def test_broken_statements(out: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    edit(out, change, key=None)
    with pytest.raises(InputError, match=r"statement\.json: the (statement|format)"):
        check(out)


def test_what_cannot_be_read(out: Path) -> None:
    with pytest.raises(InputError, match=r"gone: the folder does not exist"):
        audit(out / "gone", out / "statement.json")
    for name, content in (("no.json", "{"), ("list.json", "[]")):
        (out / name).write_text(content)
        with pytest.raises(InputError, match=rf"{name}: the (statement|format)"):
            audit(out / "protected", out / name)
    with pytest.raises(InputError, match=r"gone\.json: the statement cannot be read"):
        audit(out / "protected", out / "gone.json")


def test_needs_no_torch() -> None:
    code = "import sys, monai_unlearnable.publishing.statement; sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)

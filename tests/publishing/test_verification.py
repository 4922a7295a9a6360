# SPDX-License-Identifier: Apache-2.0
"""Whatever is changed in a published dataset, ``verify`` finds it."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monai_unlearnable.errors import InputError, NoiseError, UnlearnableError, VerificationError
from monai_unlearnable.metrics import measure_fidelity
from monai_unlearnable.noise.records import encode_manifest
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing import publication
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.statement import audit
from monai_unlearnable.publishing.verify import verify
from tests.helpers import (
    BUDGET,
    SHAPES,
    flip_byte,
    nifti_header,
    protect,
    put_voxels,
    random_image,
    raw_bytes,
    small_umed,
    stored_voxels,
    tree,
    two_classes,
    write_nifti,
)


@pytest.fixture
def out(published: SimpleNamespace, tmp_path: Path) -> Path:
    """A copy of the output, to be spoiled."""
    return shutil.copytree(published.out, tmp_path / "published")


IMAGE, LABEL = "protected/images/b.nii.gz", "protected/labels/b.nii.gz"


def test_passes_and_returns_the_manifest(published: SimpleNamespace) -> None:
    assert verify(published.out) == published.manifest == verify(str(published.out), str(published.clean))


@pytest.mark.parametrize("position", [352, 900, -1])
def test_any_voxel(out: Path, position: int) -> None:
    flip_byte(out / IMAGE, position)
    with pytest.raises(VerificationError, match=r"images/b, .*b\.nii\.gz: SHA-256 of the protected voxels"):
        verify(out)


# datatype, dim, pixdim, scl_slope, srow_x, qform_code
@pytest.mark.parametrize("position", [42, 70, 114, 280, 283])
def test_header_fields_with_a_meaning(out: Path, position: int) -> None:
    flip_byte(out / IMAGE, position)
    with pytest.raises(UnlearnableError) as caught:
        verify(out)
    assert caught.value.case == "images/b" or caught.value.file == out / IMAGE


# xyzt_units, descrip, aux_file, intent_name, extension
@pytest.mark.parametrize("position", [123, 148, 228, 330, 349])
def test_header_fields_that_change_no_voxel(out: Path, position: int) -> None:
    flip_byte(out / IMAGE, position)
    with pytest.raises(VerificationError, match=r"images/b, .*b\.nii\.gz: SHA-256 of the protected file") as caught:
        verify(out)
    assert (caught.value.case, caught.value.file) == ("images/b", out / IMAGE)


@pytest.mark.parametrize(
    "change", [lambda raw: raw + b"\0", lambda raw: gzip.compress(gzip.decompress(raw), 1, mtime=0)]
)
def test_bytes_on_disk_that_change_no_voxel(out: Path, change: Callable[[bytes], bytes]) -> None:
    (out / IMAGE).write_bytes(change((out / IMAGE).read_bytes()))
    with pytest.raises(VerificationError, match=r"images/b, .*b\.nii\.gz: SHA-256 of the protected file"):
        verify(out)


def test_every_file_of_a_case(tmp_path: Path) -> None:
    for channel in (0, 1):
        write_nifti(tmp_path / f"clean/imagesTr/a_000{channel}.nii", random_image(SHAPES[3], seed=channel))
    write_nifti(tmp_path / "clean/labelsTr/a.nii", two_classes(SHAPES[3]))
    protect(tmp_path / "clean", tmp_path / "out", small_umed(in_channels=2))
    verify(tmp_path / "out")
    flip_byte(tmp_path / "out/protected/imagesTr/a_0001.nii", 148)
    with pytest.raises(VerificationError, match=r"imagesTr/a_0001, .*a_0001\.nii: SHA-256 of the protected file"):
        verify(tmp_path / "out")


@pytest.mark.parametrize("change", [lambda p: p.write_text(p.read_text().replace("images/a", "images/b")), Path.unlink])
def test_the_datalist(out: Path, change: Callable[[Path], Any]) -> None:
    change(out / "protected/datalist.json")
    with pytest.raises(VerificationError, match=r"protected.datalist\.json: SHA-256 of the datalist") as caught:
        verify(out)
    assert caught.value.file == out / "protected/datalist.json"


@pytest.mark.parametrize("position", [40, 123, 148, 228, 252, 330, 349])
def test_every_header_byte_against_the_clean_files(published: SimpleNamespace, out: Path, position: int) -> None:
    flip_byte(out / IMAGE, position)
    with pytest.raises(UnlearnableError) as caught:
        verify(out, published.clean)
    assert caught.value.case == "images/b" or caught.value.file == out / IMAGE


def test_bytes_after_the_voxels_against_the_clean_files(published: SimpleNamespace, out: Path) -> None:
    (out / IMAGE).write_bytes((out / IMAGE).read_bytes() + b"\0" * 10)
    with pytest.raises(VerificationError, match="bytes outside the voxels"):
        verify(out, published.clean)


def test_other_clean_files(published: SimpleNamespace, tmp_path: Path) -> None:
    clean = shutil.copytree(published.clean, tmp_path / "clean")
    flip_byte(clean / "images/b.nii.gz", 500)
    with pytest.raises(VerificationError, match="images/b, .*SHA-256 of the clean voxels"):
        verify(published.out, clean)
    with pytest.raises(InputError, match="nowhere: the folder of the clean dataset does not exist"):
        verify(published.out, tmp_path / "nowhere")
    (clean / "images/b.nii.gz").unlink()
    with pytest.raises(UnlearnableError, match=r"clean.images.b\.nii\.gz: the file does not exist"):
        verify(published.out, clean)


@pytest.mark.parametrize(
    "change", [lambda p: flip_byte(p, 700), lambda p: p.write_bytes(p.read_bytes() + b" "), Path.unlink]
)
def test_labels(out: Path, change: Callable[[Path], Any]) -> None:
    change(out / LABEL)
    with pytest.raises(VerificationError, match="images/b, .*SHA-256 of the label"):
        verify(out)


@pytest.mark.parametrize("change", [Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-30])])
def test_missing_and_truncated_scans(out: Path, change: Callable[[Path], Any]) -> None:
    change(out / IMAGE)
    with pytest.raises(UnlearnableError, match=r"b\.nii\.gz"):
        verify(out)


def test_all_findings_of_all_scans(published: SimpleNamespace, out: Path) -> None:
    flip_byte(out / "protected/images/a.nii.gz", 148)
    flip_byte(out / IMAGE, 900)
    (out / LABEL).unlink()
    (out / "noise/images/a.npz").write_bytes(b"")
    (out / "protected/notes.txt").write_text("")
    with pytest.raises(VerificationError, match=r"images/a, .*a\.npz: .* \(and 7 more findings\)") as caught:
        verify(out, published.clean)
    findings = caught.value.findings
    found = [(finding.case, Path(str(finding.file)).relative_to(out), finding.what) for finding in findings]
    image, label, noise = Path("protected/images/a.nii.gz"), Path(LABEL), Path("noise/images/a.npz")
    assert found == [
        ("images/a", noise, found[0][2]),
        ("images/a", image, "bytes outside the voxels differ from those of the clean file"),
        ("images/a", image, "SHA-256 of the protected file"),
        ("images/b", Path(IMAGE), "SHA-256 of the protected voxels"),
        ("images/b", label, "SHA-256 of the label"),
        ("images/b", Path(IMAGE), "bytes outside the voxels differ from those of the clean file"),
        ("images/b", Path(IMAGE), "SHA-256 of the protected file"),
        (None, Path("protected/notes.txt"), "is not in the manifest; it must not be published"),
    ]
    assert (caught.value.case, caught.value.file) == (findings[0].case, findings[0].file)


@pytest.mark.parametrize("value", [None, [], "x", {"b": 1}, 1e400])
@pytest.mark.parametrize("field", ["measured", "label_values"])
def test_records_of_another_kind_are_findings(out: Path, field: str, value: Any) -> None:
    def spoil(content: dict[str, Any]) -> None:
        if field == "measured":
            content["scans"][1]["measured"]["psnr"] = value
        else:
            content["run"] = {**content["run"], "label_values": value}

    if (field, value) != ("label_values", None):  # which is what it is
        edit(out, spoil, noise=True)
        with pytest.raises(VerificationError, match="images/"):
            verify(out)


def edit(out: Path, change: Callable[[dict[str, Any]], Any], noise: bool = False) -> None:
    """Change the manifest, and with ``noise`` the copies of its records beside the noise in the same way."""
    path = out / "noise/manifest.json"
    content = json.loads(path.read_text())
    change(content)
    for entry in content["scans"] if noise else []:
        file = out / f"noise/{entry['scan_id']}.npz"
        with np.load(file) as old:
            arrays = {name: old[name] for name in old.files}
        arrays["entry"] = np.frombuffer(json.dumps(entry).encode(), np.uint8)
        np.savez(file, **arrays)
        if "noise_sha256" in content:
            content["noise_sha256"][entry["scan_id"]] = hashlib.sha256(file.read_bytes()).hexdigest()
    path.write_bytes(encode_manifest(content))


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{
        f"measured {name}": lambda m, name=name: m["scans"][1]["measured"].update({name: 0.5})
        for name in ("linf", "linf_sigma", "l0", "psnr", "ssim", "ssim_roi", "psnr_roi")
    },
    "figure left out": lambda m: m["scans"][1]["measured"].pop("ssim"),
    "figure made up": lambda m: m["scans"][1]["measured"].update({"lpips": 0.0}),
    "budget": lambda m: m["scans"][1]["budget"].update(epsilon=0.01),
    "fraction": lambda m: m["scans"][1]["budget"].update(fraction=0.01),
    "window": lambda m: m["scans"][1]["window"].update(high=[5000.0]),
    "clean hash": lambda m: m["scans"][1].update(clean_sha256="0" * 64),
    "protected hash": lambda m: m["scans"][1].update(protected_sha256="0" * 64),
    "file hash": lambda m: m["scans"][1].update(output_sha256="0" * 64),
    "label hash": lambda m: m["scans"][1].update(label_sha256="0" * 64),
    "shape": lambda m: m["scans"][1].update(shape=[1, 14, 11, 9]),
    "slope": lambda m: m["scans"][1]["quantization"].update(slope=2.0),
    "affine": lambda m: m["scans"][1]["affine"][0].__setitem__(0, 5.0),
    "run": lambda m: m["scans"][1].update(run="0" * 64),
    "provenance": lambda m: m["run"].update(method="Other"),
}


@pytest.mark.parametrize("kind", EDITS)
@pytest.mark.parametrize("noise", [False, True], ids=["manifest", "manifest-and-noise"])
def test_every_claim_of_the_manifest(out: Path, kind: str, noise: bool) -> None:
    edit(out, EDITS[kind], noise)
    with pytest.raises(UnlearnableError) as caught:
        verify(out)
    assert "images/" in str(caught.value)


@pytest.mark.parametrize("name", ["images/original.nii.gz", "notes.txt", "labels/other.nii.gz"])
def test_files_that_nobody_knows_are_found(published: SimpleNamespace, out: Path, name: str) -> None:
    shutil.copy(published.clean / "images/b.nii.gz", out / "protected" / name)
    with pytest.raises(VerificationError, match=f"{name}.*not in the manifest"):
        verify(out)


FIELDS = ("file", "output", "label")
OUTSIDE = ("/tmp/x", "images/../../../x")
REFUSED = {"verify": VerificationError}  # as a finding; the others stop at it
READERS: dict[str, Callable[[Path, SimpleNamespace, Path], Any]] = {
    "verify": lambda out, published, target: verify(out),
    "restore": lambda out, published, target: restore(out, target),
    "apply": lambda out, published, target: apply_stored(out / "noise", published.clean, target),
    "apply in place": lambda out, published, target: apply_stored(out / "noise", published.clean, out),
}


@pytest.mark.parametrize(
    ("use", "noise", "field", "name"),
    [
        *((use, noise, field, "../x") for use in READERS for noise in (False, True) for field in FIELDS),
        *((use, False, "scan_id", "../x") for use in READERS),  # which is the name of the noise file too
        *(("verify", False, field, name) for field in (*FIELDS, "scan_id") for name in OUTSIDE),
    ],
)
def test_names_that_lead_out_of_the_folder_are_refused(
    published: SimpleNamespace, out: Path, tmp_path: Path, use: str, noise: bool, field: str, name: str
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["scans"][1][field] = name

    edit(out, spoil, noise)
    before = tree(tmp_path)
    with pytest.raises(NoiseError, match="lies outside the folder"):
        READERS[use](out, published, tmp_path / "deep/target")
    assert tree(tmp_path) == before


@pytest.mark.parametrize("use", READERS)
def test_noise_files_whose_names_lead_out_of_the_folder_are_refused(
    published: SimpleNamespace, out: Path, tmp_path: Path, use: str
) -> None:
    manifest = (out / "noise/manifest.json").read_bytes()
    edit(out, lambda content: content["scans"][1].update(output="../x"), noise=True)
    (out / "noise/manifest.json").write_bytes(manifest)
    with pytest.raises(REFUSED.get(use, NoiseError)) as caught:
        READERS[use](out, published, tmp_path / "deep/target")
    told = caught.value.findings if isinstance(caught.value, VerificationError) else [caught.value]
    assert any(re.search("images/b, .*lies outside the folder", str(what)) for what in told)
    assert not (tmp_path / "deep/x").exists() and not (out / "x").exists()


@pytest.mark.parametrize("digest", [None, "0" * 64])
def test_a_noise_file_that_holds_the_same_in_other_bytes(out: Path, digest: str | None) -> None:
    edit(out, lambda m: m["noise_sha256"].update({"images/b": digest}))
    with pytest.raises(VerificationError, match="images/b, .*SHA-256 of the noise file"):
        verify(out)


def test_a_share_lower_than_that_of_the_files(published: SimpleNamespace, out: Path) -> None:
    edit(out, lambda m: m["scans"][1]["budget"].update(fraction=0.01), noise=True)
    reason = r"images/b, .*b\.nii\.gz: the noise changes .* of the voxels, the budget is 0.01"
    with pytest.raises(VerificationError, match=reason) as caught:
        verify(out)
    assert caught.value.value == published.manifest.scans[1].measured["l0"] and caught.value.limit == 0.01


def test_manifests_of_earlier_releases(published: SimpleNamespace, out: Path) -> None:
    edit(out, lambda m: [m.pop("noise_sha256"), *(scan["budget"].pop("fraction") for scan in m["scans"])], noise=True)
    assert verify(out, published.clean).scans == published.manifest.scans


def test_outputs_in_the_words_of_the_release_before(published: SimpleNamespace, out: Path) -> None:
    def before(content: dict[str, Any]) -> None:
        content["schema_version"] = 2
        for scan in content["scans"]:
            scan["lattice"] = scan.pop("quantization")
            scan["budget"] = in_words_before(scan["budget"])

    def in_words_before(budget: dict[str, Any]) -> dict[str, Any]:
        return {"radius": budget["epsilon"], "norm": budget["norm"], "share": budget["fraction"]}

    edit(out, before, noise=True)
    statement = json.loads((out / "statement.json").read_text())
    with pytest.raises(VerificationError, match=r"statement\.json"):
        verify(out, published.clean)  # it is that of another schema
    statement["format"] = "monai_unlearnable statement 1"
    for scan in statement["scans"]:
        scan["budget"] = in_words_before(scan["budget"])
    (out / "statement.json").write_text(json.dumps(statement, indent=1, sort_keys=True) + "\n")
    assert verify(out, published.clean).scans == published.manifest.scans
    assert not audit(out / "protected", out / "statement.json").findings
    assert len(restore(out, out / "restored")) == len(published.manifest.scans)


def test_a_manifest_that_says_the_same_in_other_bytes(out: Path) -> None:
    path = out / "noise/manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text())))
    with pytest.raises(VerificationError, match=r"manifest\.json: the manifest was changed"):
        verify(out)


def test_a_field_that_nobody_knows(out: Path) -> None:
    edit(out, lambda m: m.update(noise_sHa256=m.pop("noise_sha256")))
    with pytest.raises(NoiseError, match=r"manifest\.json: .*unknown fields \['noise_sHa256'\]"):
        verify(out)


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 9, "run": {}, "scans": []}'])
def test_broken_manifests(out: Path, content: str) -> None:
    (out / "noise/manifest.json").write_text(content)
    with pytest.raises(NoiseError, match=r"manifest\.json"):
        verify(out)


def test_a_scan_put_back_to_clean(published: SimpleNamespace, out: Path) -> None:
    shutil.copy(published.clean / "images/b.nii.gz", out / IMAGE)
    with pytest.raises(VerificationError, match="images/b"):
        verify(out)


def test_helper_puts_voxels_and_nothing_else(out: Path) -> None:
    before, offset = raw_bytes(out / IMAGE), nifti_header(out / IMAGE)[1]
    put_voxels(out / IMAGE, stored_voxels(out / IMAGE) + 1)
    assert raw_bytes(out / IMAGE)[:offset] == before[:offset] and raw_bytes(out / IMAGE) != before


def test_earlier_releases_claimed_an_ssim_of_one_for_volumes_of_two_slices(tmp_path: Path, monkeypatch: Any) -> None:
    write_nifti(tmp_path / "clean/images/a.nii", random_image((20, 16, 2)))
    write_nifti(tmp_path / "clean/labels/a.nii", two_classes((20, 16, 2)))

    def claimed(*arguments: Any, **options: Any) -> dict[str, float]:
        return {**measure_fidelity(*arguments, **options), "ssim": 1.0, "ssim_roi": 1.0}

    monkeypatch.setattr(publication, "measure_fidelity", claimed)
    manifest = protect(tmp_path / "clean", tmp_path / "out", RandomNoise(BUDGET.epsilon), label_values=(0, 1, 2))
    assert verify(tmp_path / "out", tmp_path / "clean") == manifest

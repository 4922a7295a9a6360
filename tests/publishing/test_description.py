# SPDX-License-Identifier: Apache-2.0
"""Published files are described for people and programs, with what is public and with nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

import monai_unlearnable as mu
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.crypto.signing import public_key
from monai_unlearnable.errors import InputError, KeyMismatchError, VerificationError
from monai_unlearnable.noise import Manifest
from monai_unlearnable.publishing.closing import Closing
from monai_unlearnable.publishing.croissant import LISTED, PublishedFile, describe_set, encode_hashes
from monai_unlearnable.publishing.description import Description
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.terms import Terms
from tests import dicom
from tests.helpers import flip_byte, protect, random_image, tree, write_dataset

KEY = OwnerKey(bytes(range(32)))
TERMS = {
    "title": "Liver scans",
    "description": "Two abdominal CT scans with labels.",
    "creators": [{"organization": "Example Hospital", "url": "https://hospital.example"}, {"person": "A. Author"}],
    "license": "CC-BY-NC-4.0",
    "url": "https://hospital.example/liver",
    "date": "2026-12-01",
    "contact": "data@hospital.example",
    "version": "1.0.0",
    "derived_from": "https://hospital.example/archive",
    "duo": ["HMB", "NCU", {"term": "US", "detail": "registered users"}],
    "prohibited": ["training of models"],
}
ALL = ("README.md", "LICENSE", "SHA256SUMS", "croissant.json")
READ_CROISSANT = """
import json, sys
import mlcroissant
found = mlcroissant.Dataset(sys.argv[1]).metadata
issues = found.ctx.issues
said = {"errors": sorted(map(str, issues.errors)), "warnings": sorted(map(str, issues.warnings))}
print(json.dumps({"name": found.name, "files": len(found.distribution), **said}))
"""
DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


@pytest.fixture
def terms(tmp_path: Path) -> Path:
    """A file with the owner's terms."""
    path = tmp_path / "terms.yaml"
    path.write_text(yaml.safe_dump(TERMS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def described(published: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output that is described. Shared: read only."""
    root = tmp_path_factory.mktemp("described")
    (root / "terms.yaml").write_text(yaml.safe_dump(TERMS), encoding="utf-8")
    out = shutil.copytree(published.out, root / "out")
    assert mu.describe(out, root / "terms.yaml") == Description(written=ALL, kept=())
    return out


def croissant(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "protected/croissant.json").read_bytes())
    return found


def nodes(content: Any) -> Iterator[dict[str, Any]]:
    """All objects of a description but its context."""
    if isinstance(content, dict):
        yield content
        content = [value for name, value in content.items() if name != "@context"]
    for value in content if isinstance(content, list) else ():
        yield from nodes(value)


def test_what_is_described_passes_every_check(described: Path) -> None:
    assert mu.verify(described)
    assert not mu.audit(described / "protected", described / "statement.json").findings


def test_the_summary_of_an_output_names_its_description(described: Path, published: SimpleNamespace) -> None:
    for out, has in ((described, True), (Path(published.out), False)):
        layout = Layout(out)
        page = Closing(Manifest.load(layout.manifest), layout, "umed", "DATASET", "monai-unlearnable").page()
        assert (f"{layout.croissant} describes the set" in page) is has


@pytest.mark.parametrize("name", ALL)
def test_what_is_changed_in_a_description_is_found(name: str, described: Path, tmp_path: Path) -> None:
    out = shutil.copytree(described, tmp_path / "out")
    path = out / "protected" / name
    path.write_bytes(path.read_bytes() + b"more")
    findings = mu.audit(out / "protected", out / "statement.json").findings
    assert [(finding.file, finding.what) for finding in findings] == [(name, "changed")]
    with pytest.raises(VerificationError, match=r"statement\.json: is not what follows"):
        mu.verify(out)


def test_required_properties_are_there_and_every_name_is_known(described: Path) -> None:
    """Our reading of the specification, Croissant 1.1; :func:`test_the_reader_of_croissant_takes_it` has another."""
    found = croissant(described)
    required = ("@context", "@type", "conformsTo", "description", "license", "name", "url", "creator", "datePublished")
    assert found.keys() >= {*required, "distribution"}
    assert (found["@type"], found["conformsTo"]) == ("sc:Dataset", "http://mlcommons.org/croissant/1.1")
    context = found["@context"]
    assert context["@vocab"] == context["sc"] == "https://schema.org/"
    assert context["cr"] == "http://mlcommons.org/croissant/" and context["prov"] == "http://www.w3.org/ns/prov#"
    own = {"citeAs", "containedIn", "conformsTo", "excludes", "fileObject", "includes", "isLiveDataset", "transform"}
    for node in nodes(found):
        for name in node.keys() & own:
            assert name in context, f"{name} would be a property of schema.org"
        kinds = node.get("@type", [])
        prefixed = [*node, *([kinds] if isinstance(kinds, str) else kinds)]
        identifiers = [value for value in (node.get("@id"),) if value and not value.startswith("https://")]
        used = {name.split(":")[0] for name in (*prefixed, *identifiers) if ":" in name} - {"http"}
        assert all(context[prefix].endswith(("/", "#")) for prefix in used), "others are not put in their places"
    identifiers = [node["@id"] for node in found["distribution"]]
    assert len(set(identifiers)) == len(identifiers)


def test_each_file_has_its_size_and_hash(described: Path) -> None:
    files = {name: content for name, content in tree(described / "protected").items() if name != "croissant.json"}
    listed = {node["name"]: node for node in croissant(described)["distribution"]}
    assert listed.keys() == files.keys()
    for name, content in files.items():
        assert listed[name]["@type"] == "cr:FileObject" and listed[name]["contentUrl"] == name
        assert listed[name]["contentSize"] == f"{len(content)} B"
        assert listed[name]["sha256"] == hashlib.sha256(content).hexdigest()


def test_provenance_and_terms_are_for_programs(described: Path) -> None:
    found = croissant(described)
    agent = found["prov:wasGeneratedBy"]["prov:wasAssociatedWith"]
    assert (agent["name"], agent["softwareVersion"]) == ("monai_unlearnable", mu.__version__)
    assert found["prov:wasDerivedFrom"]["@id"] == "https://hospital.example/archive"
    *uses, policy = found["usageInfo"]
    assert [use["termCode"] for use in uses] == ["DUO_0000006", "DUO_0000046", "DUO_0000026"]
    permission = policy["odrl:permission"]
    assert permission["odrl:action"]["@id"] == "http://purl.obolibrary.org/obo/DUO_0000006"
    assert [each["odrl:rightOperand"]["@id"] for each in permission["odrl:constraint"]] == [
        "http://purl.obolibrary.org/obo/DUO_0000046",
        "http://purl.obolibrary.org/obo/DUO_0000026",
    ]
    assert [each["odrl:action"]["name"] for each in policy["odrl:prohibition"]] == ["training of models"]


@pytest.mark.parametrize("listed", [LISTED, 0])
def test_the_reader_of_croissant_takes_it(
    listed: int, described: Path, terms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(described, tmp_path / "out")
    monkeypatch.setattr("monai_unlearnable.publishing.croissant.LISTED", listed)
    mu.describe(out, terms)
    found = read_croissant(out / "protected/croissant.json")
    assert found == {"name": TERMS["title"], "files": 8 if listed else 5, "errors": [], "warnings": []}


def read_croissant(path: Path) -> dict[str, Any]:
    """What mlcroissant finds in a file, in the environment that ``MONAI_UNLEARNABLE_MLCROISSANT`` names."""
    folder = os.environ.get("MONAI_UNLEARNABLE_MLCROISSANT")
    if folder is None:
        pytest.skip("MONAI_UNLEARNABLE_MLCROISSANT names no environment with mlcroissant, the reader of Croissant")
    words = [f"{folder}/bin/python", "-c", READ_CROISSANT, str(path)]
    return dict(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))


def test_people_read_what_was_changed_and_what_is_allowed(described: Path, published: SimpleNamespace) -> None:
    page = (described / "protected/README.md").read_text(encoding="utf-8")
    license_ = (described / "protected/LICENSE").read_text(encoding="utf-8")
    largest = max(entry.measured["linf"] for entry in published.manifest.scans)
    assert "by more than 25.5/255 of the intensity window" in page and f"largest change is {largest:.3g}" in page
    assert mu.__version__ in page and "sha256sum --check SHA256SUMS" in page and str(TERMS["contact"]) in page
    for text in (page, license_):
        assert "https://spdx.org/licenses/CC-BY-NC-4.0.html" in text and "- training of models" in text
        assert "user specific restriction: registered users (US, DUO:0000026)" in text
    assert "Copyright 2026 Example Hospital, A. Author" in license_


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="there is no sha256sum")
def test_sha256sum_reads_the_hashes(described: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(described / "protected", tmp_path / "copy")
    for name in ("back\\slash", "new\nline", "sp ace"):
        (folder / name).write_text(name)
    odd = [
        PublishedFile(p.name, 1, hashlib.sha256(p.read_bytes()).hexdigest()) for p in folder.iterdir() if p.is_file()
    ]
    (folder / "odd").write_bytes(encode_hashes(odd))
    for sums in ("SHA256SUMS", "odd"):
        subprocess.run(["sha256sum", "--check", "--strict", sums], cwd=folder, check=True, capture_output=True)
    flip_byte(folder / "images/a.nii.gz", -1)
    done = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 1 and "images/a.nii.gz: FAILED" in done.stdout


def test_anybody_can_make_the_description_of_what_is_public(described: Path, terms: Path) -> None:
    """So it tells nothing that the statement and the files do not tell."""
    stated = json.loads((described / "statement.json").read_bytes())
    files = {
        name: PublishedFile(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in tree(described / "protected").items()
    }
    hashes = files.pop("SHA256SUMS")
    del files["croissant.json"]
    cases = [file for name, file in files.items() if "/" in name]
    others = [file for name, file in files.items() if "/" not in name]
    assert describe_set(Terms.load(terms), stated, cases, others, hashes) == croissant(described)


def test_with_a_key_nothing_secret_is_told_and_the_statement_stays_signed(tmp_path: Path, terms: Path) -> None:
    out = tmp_path / "out"
    manifest = protect(write_dataset(tmp_path / "clean"), out, key=KEY)
    before = tree(out)
    with pytest.raises(KeyMismatchError):
        mu.describe(out, terms)
    assert tree(out) == before, "nothing was written without the key"
    mu.describe(out, terms, key=KEY)
    assert mu.verify(out, key=KEY) == manifest
    report = mu.audit(out / "protected", out / "statement.json", public_key(KEY))
    assert not report.findings and report.signature == "valid"
    after = tree(out)
    assert {name for name in after if after[name] != before.get(name)} == {
        *(f"protected/{name}" for name in ALL),
        "statement.json",
    }
    told = b"\n".join(after[f"protected/{name}"] for name in ALL).decode()
    of_files = {hashlib.sha256(content).hexdigest() for content in after.values()}
    assert set(DIGEST.findall(told)) < of_files, "digests are those of published files alone"
    for entry in manifest.scans:
        assert entry.clean_sha256 not in told and str(entry.file_sha256) not in told


def test_texts_of_the_owner_are_kept_and_stated(published: SimpleNamespace, tmp_path: Path, terms: Path) -> None:
    out = shutil.copytree(published.out, tmp_path / "out")
    (out / "protected/LICENSE").write_text("ours")
    mu.describe(out, terms)
    (out / "protected/README.md").write_text("our own words")
    assert mu.describe(out, terms).kept == ("README.md", "LICENSE")
    assert (out / "protected/README.md").read_text() == "our own words"
    assert (out / "protected/LICENSE").read_text() == "ours"
    mu.verify(out)
    listed = {node["name"]: node["sha256"] for node in croissant(out)["distribution"]}
    assert listed["README.md"] == hashlib.sha256(b"our own words").hexdigest()
    assert mu.describe(out, terms, overwrite=True).kept == ()
    assert "## What was changed" in (out / "protected/README.md").read_text()


def test_a_new_run_leaves_no_stale_description(tmp_path: Path, terms: Path) -> None:
    clean, out = write_dataset(tmp_path / "clean"), tmp_path / "out"
    protect(clean, out)
    mu.describe(out, terms)
    mu.apply(out / "noise", clean, out, overwrite=True)
    assert not (out / "protected/croissant.json").exists() and not (out / "protected/SHA256SUMS").exists()
    assert (out / "protected/README.md").exists()
    mu.verify(out)


@pytest.mark.parametrize("spoil", ["voxel", "extra", "datalist", "missing"])
def test_other_files_than_the_recorded_ones_are_not_described(
    spoil: str, published: SimpleNamespace, tmp_path: Path, terms: Path
) -> None:
    out = shutil.copytree(published.out, tmp_path / "out")
    if spoil == "voxel":
        flip_byte(out / "protected/images/a.nii.gz", -1)
    elif spoil == "extra":
        shutil.copy(published.clean / "images/a.nii.gz", out / "protected/images/original.nii.gz")
    elif spoil == "datalist":
        (out / "protected/datalist.json").write_text("{}")
    else:
        (out / "protected/labels/a.nii.gz").unlink()
    before = tree(out)
    with pytest.raises((VerificationError, InputError), match=r"protected/(images/|labels/|datalist)"):
        mu.describe(out, terms)
    assert tree(out) == before


def test_scans_of_several_files(tmp_path: Path, terms: Path) -> None:
    clean, out = dicom.write_dataset(tmp_path / "clean"), tmp_path / "out"
    mu.protect("lattice", clean, out)
    mu.describe(out, terms)
    mu.verify(out)
    slices = [node for node in croissant(out)["distribution"] if node["encodingFormat"] == "application/dicom"]
    assert len(slices) > 4 and {node["name"] for node in slices} < tree(out / "protected").keys()


def test_a_packed_archive_is_described_with_the_files_in_it(tmp_path: Path, terms: Path) -> None:
    images, labels = [random_image((9, 8), "uint8", seed) for seed in range(3)], np.array([[1], [0], [2]], np.uint8)
    np.savez(tmp_path / "mnist.npz", train_images=images, train_labels=labels)
    mu.protect("lattice", tmp_path / "mnist.npz", tmp_path / "out")
    mu.describe(tmp_path / "out", terms)
    mu.verify(tmp_path / "out", tmp_path / "mnist.npz")
    listed = {node["name"]: node["encodingFormat"] for node in croissant(tmp_path / "out")["distribution"]}
    assert "numpy.org" in listed["mnist.npz"] and list(listed.values()).count("image/png") == 3


def test_a_large_set_is_one_set_of_files_with_a_list_of_hashes(described: Path, terms: Path) -> None:
    stated = json.loads((described / "statement.json").read_bytes())
    cases = [PublishedFile(f"images/{number}.nii.gz", 10, f"{number:064x}") for number in range(LISTED + 1)]
    others = [PublishedFile(name, 1, "0" * 64) for name in ("datalist.json", "README.md")]
    hashes = PublishedFile("SHA256SUMS", 1, "1" * 64)
    *singles, whole = describe_set(Terms.load(terms), stated, cases, others, hashes)["distribution"]
    assert {node["name"] for node in singles} == {"datalist.json", "README.md", "SHA256SUMS"}
    assert whole["@type"] == "cr:FileSet" and whole["containedIn"] == {"@id": "SHA256SUMS"}
    assert f"{len(cases)} files, {10 * len(cases)} bytes" in whole["description"]
    listed = {line.split("  ")[1] for line in encode_hashes([*cases, *others]).decode().splitlines()}
    assert listed - set(whole["excludes"]) == {file.name for file in cases} and whole["includes"] == "**"


def test_names_become_addresses() -> None:
    file = PublishedFile("images/scan 1 é#.png", 1, "0" * 64)
    assert file.id == "images/scan%201%20%C3%A9%23.png" and file.encoding == "image/png"
    assert PublishedFile("IM0001", 1, "0" * 64, is_dicom=True).encoding == "application/dicom"

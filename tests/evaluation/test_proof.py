# SPDX-License-Identifier: Apache-2.0
"""What the owner hands to the exploiter's side: plain folders, a control, and nothing that takes a key."""

from __future__ import annotations

import dataclasses
import gzip
import inspect
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

import monai_unlearnable as mu
from monai_unlearnable import proof
from monai_unlearnable.__main__ import WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.errors import InputError, KeyMismatchError, OutputError, SkippedCasesError
from monai_unlearnable.evaluation import runs
from monai_unlearnable.evaluation.laboratory import Laboratory
from monai_unlearnable.evaluation.matrix import Matrix, Published
from tests.helpers import protect, write_dataset
from tests.processes import forking

pytestmark = pytest.mark.usefixtures("undrawn")

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
QUICK: dict[str, Any] = {"width": 2, "iterations": 2, "batch_size": 2, "num_validations": 1, "size": [16, 16, 16]}
SMALL: dict[str, Any] = {**QUICK, "authorized": False, "detectors": False}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("proof")
    write_dataset(root / "data", names=("a", "b", "c"))
    write_dataset(root / "test", names=("x", "y"), first_seed=10)
    key = OwnerKey(bytes(32))
    key.save(root / "owner.key")
    protect(root / "data", root / "plain", label_values=(0, 1, 2))
    protect(root / "data", root / "encrypted", label_values=(0, 1, 2), key=key)
    return root


def test_encrypted_outputs_are_examined_and_afterwards_no_key_is_needed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"test_dir": str(data / "test"), "key": str(data / "owner.key"), **SMALL}
    results, page = proof.evaluate(data / "encrypted", data / "data", **settings)
    assert [row.training for row in results.rows] == ["clean", "protected", "random noise"]
    assert all(row.done for row in results.rows) and page.is_file()
    folder = data / "encrypted" / "laboratory"
    assert "owner.key" not in (folder / "laboratory.json").read_text()
    assert not list((folder / "control").rglob("manifest.json"))
    opened = Laboratory.open(folder)
    assert opened.results() == results
    shutil.rmtree(folder / "runs")
    context = forking()
    monkeypatch.setattr("multiprocessing.get_context", lambda method: context)
    again = opened.run(workers=2)  # processes that open the laboratory for themselves
    assert [row.by_case for row in again.rows] == [row.by_case for row in results.rows]
    with pytest.raises(KeyMismatchError, match="manifest"):
        proof.evaluate(data / "encrypted", data / "data", **{**settings, "key": None})


@pytest.mark.parametrize(("names", "others"), [("abc", "images/a, images/c"), ("abde", "images/a, images/d, images/e")])
def test_another_dataset_is_refused_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], names: str, others: str
) -> None:
    other = write_dataset(tmp_path / "other", names=tuple(names), first_seed=20)
    for folder in ("images", "labels"):
        shutil.copyfile(data / "data" / folder / "b.nii.gz", other / folder / "b.nii.gz")
    words = ["evaluate", str(data / "plain"), str(other), "--test_dir", str(data / "test")]
    assert main(words) == WRONG_INPUT and not (data / "plain" / "laboratory").exists()
    count = f"{len(names) - 1} of {len(names)} cases of the dataset are missing in it or differ: {others};"
    told = capsys.readouterr().err.strip().splitlines()
    assert count in told[-1] and sum("differ" in line for line in told) == 1


def test_originals_are_known_by_their_voxels_whatever_their_headers_say_now(data: Path, tmp_path: Path) -> None:
    renamed = shutil.copytree(data / "data", tmp_path / "data")
    image = nib.load(path := renamed / "images" / "a.nii.gz")
    image.header["descrip"] = b"anonymous"
    image.to_filename(path)
    labels = renamed / "labels" / "a.nii.gz"
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), 1))  # the same in another compression
    settings = {"test_dir": str(data / "test"), "control": False, **SMALL}
    assert proof.prepare_laboratory(renamed, tmp_path / "lab", {"umed": data / "plain"}, **settings).sources
    label = nib.load(labels)
    nib.Nifti1Image(np.flip(np.asarray(label.dataobj), 0), label.affine).to_filename(labels)
    with pytest.raises(InputError, match="1 of 3 cases"):
        proof.prepare_laboratory(renamed, tmp_path / "lab", {"umed": data / "plain"}, **settings)


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_cases_that_an_output_skipped_are_omitted(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, is_encrypted: bool
) -> None:
    spoiled = shutil.copytree(data / "data", tmp_path / "data")
    (spoiled / "labels" / "b.nii.gz").write_bytes(b"no label")
    keyed = {"key": str(data / "owner.key")} if is_encrypted else {}
    with pytest.raises(SkippedCasesError):
        mu.protect("lattice", spoiled, tmp_path / "out", skip_invalid=True, **keyed)
    settings = {"test_dir": str(data / "test"), **keyed, **SMALL}
    laboratory = proof.prepare_laboratory(spoiled, tmp_path / "lab", {"lattice": tmp_path / "out"}, **settings)
    found = {name: [case.case_id for case in source.cases] for name, source in laboratory.sources.items()}
    assert found == {name: ["images/a", "images/c"] for name in ("clean", "lattice", "random noise")}
    assert "1 case was skipped when others were protected: images/b" in caplog.text


def test_what_the_laboratory_is_told_of_an_output(data: Path) -> None:
    told = proof.describe_output(data / "plain")
    assert told.folder == str(data / "plain" / "protected")
    assert (told.role, told.epsilon) == ("protected", pytest.approx(0.1)) and told.window is not None
    assert proof.describe_output(data / "data") == Published(str(data / "data"))
    with pytest.raises(InputError, match="unknown role 'clean'"):
        Published("x", "clean")


def test_trainings_of_earlier_laboratories_are_found(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def laboratory() -> Any:
        settings = {"test_dir": str(data / "test"), "control": False, **SMALL}
        return proof.laboratory(data / "data", tmp_path, {"umed": data / "plain"}, **settings)[0]

    results = laboratory()
    (tmp_path / "runs").rename(tmp_path / "cells")
    with monkeypatch.context() as patch:
        patch.setattr(runs, "_train", lambda *_: pytest.fail("trained again"))
        assert laboratory() == results
    content = json.loads((tmp_path / "laboratory.json").read_text())
    (tmp_path / "laboratory.json").write_text(json.dumps({**content, "control": True}))
    with pytest.raises(InputError, match="of an earlier release; run it again"):
        Laboratory.open(tmp_path)


def test_checks_that_cannot_be_made_do_not_stop_the_rest(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = write_dataset(tmp_path / "single", names=("a",))
    settings = {"test_dir": str(data / "test"), "validation_fraction": 0, **QUICK}
    with caplog.at_level(logging.WARNING):
        results, _ = proof.laboratory(
            single, tmp_path / "lab", {"other": shutil.copytree(single, tmp_path / "other")}, **settings
        )
    assert [row.done for row in results.rows] == [True, True]
    assert (results.authorized, results.detectors) == ([], {})
    assert "an authorized UNet: not examined" in caplog.text and "at least 2 are needed" in caplog.text


def test_methods_of_a_sweep_that_would_share_an_output_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="methods umed and mine/umed.yaml would both be 'umed'"):
        proof.frontier(tmp_path / "data", tmp_path / "out", ["umed", "lattice", "mine/umed.yaml"])


def test_settings_are_looked_at_before_a_control_is_made(data: Path, tmp_path: Path) -> None:
    for wrong in ({"victims": ["UNetty"]}, {"colour": "red"}, {"test_dir": "nowhere"}):
        with pytest.raises(InputError, match="UNetty|colour|nowhere"):
            settings = {"test_dir": str(data / "test"), **SMALL, **wrong}
            proof.prepare_laboratory(data / "data", tmp_path, {"umed": data / "plain"}, **settings)
    assert not (tmp_path / "control").exists()
    with pytest.raises(InputError, match="give folders by name"):
        proof.prepare_laboratory(data / "data", tmp_path, "umed")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be called"):
        proof.prepare_laboratory(
            data / "data", tmp_path, {"random noise": data / "plain"}, test_dir=str(data / "test"), **SMALL
        )


@pytest.mark.parametrize("name", ["laboratory/configs/laboratory.yaml", "victim/configs/train.yaml"])
def test_bundles_have_the_defaults_of_python(name: str) -> None:
    parser = ConfigParser()
    parser.read_config(BUNDLES / name)
    fields = {field.name: field for field in dataclasses.fields(Matrix)}
    made = {name for name, field in fields.items() if field.default_factory is not dataclasses.MISSING}
    known = {name: field.default_factory() if name in made else field.default for name, field in fields.items()}
    known["dataset_dir"] = "./data"
    if "length" not in parser.get():
        known["iterations"] = Matrix("./data").iterations
    for function in (proof.laboratory, proof.prepare_laboratory):
        parameters = inspect.signature(function).parameters.values()
        known |= {p.name: p.default for p in parameters if p.default is not p.empty and p.name != "protected"}
    bundle = {key: parser.get_parsed_content(key) for key in known if key in parser.get()}
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in bundle.items()}
    assert values == {key: known[key] for key in bundle}
    if name.startswith("laboratory"):
        assert set(known) - set(bundle) == {"report_dir", "pictured"}


def test_a_sweep_takes_methods_of_different_names(data: Path, tmp_path: Path) -> None:
    """All configurations of bundles are called protect.yaml, and the second one was never protected with."""
    methods = ["mine/configs/protect.yaml", "other/configs/protect.yaml"]
    with pytest.raises(InputError, match=r"mine.*and other.*would both be 'protect'"):
        proof.frontier(data / "data", tmp_path / "out", methods, [8], test_dir=data / "test", **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_sweep_does_not_take_what_other_settings_made(data: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"dataset_dir": data / "data", "datalist": None}

    def sweep(**bundle: Any) -> list[str]:
        return list(proof._sweep(tmp_path, ["lattice"], [8.5], {**settings, **bundle}, False, None))

    assert sweep() == sweep() == ["lattice 8.5/255"]
    with pytest.raises(OutputError, match=r"lattice_8.5: was made with other settings of its method"):
        sweep(**{"patterns#lattice#period": 6})
    (tmp_path / "lattice_8.5.made").unlink()  # as of earlier versions, which did not keep it
    assert sweep(**{"patterns#lattice#period": 6}) == ["lattice 8.5/255"]

# SPDX-License-Identifier: Apache-2.0
"""What a dry run says of a dataset: all that matters, and nothing written."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import monai_unlearnable as mu
from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, main
from monai_unlearnable.errors import LabelError
from monai_unlearnable.publishing import rehearsal
from monai_unlearnable.publishing.plan import DatasetPlan
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.run import method_names
from monai_unlearnable.suited import FOR_CLASSES, FOR_MAPS
from tests.helpers import tree, write_class_folders, write_dataset
from tests.publishing.test_archives import write_archive

UMED = {"network_def#channels": [4, 8], "network_def#strides": [2], "batch_size": 1, "epoch_length": 2}


def plan_of(dataset: Path, out: Path, method: str = "lattice", **settings: object) -> DatasetPlan:
    before = tree(dataset)
    found = mu.plan(method, dataset, out, **settings)
    assert not out.exists() and tree(dataset) == before
    return found


def test_a_dataset_of_label_maps_is_told(tmp_path: Path) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b", "c"), empty=("c",))
    (data / "README.md").write_text("about")
    (data / "images" / "notes.txt").write_text("about")
    plan = plan_of(data, tmp_path / "out", epsilon=0.1)
    assert plan.task == "segmentation" and len(plan.listing.cases) == 3
    assert plan.summary.label_values == (0, 1, 2) and sum(plan.summary.class_voxels) == 3 * 11 * 14 * 9
    assert plan.summary.empty == ("c",) or plan.summary.empty == ("images/c",)
    low, high = plan.steps
    assert 0 < low <= high < 0.1 * 1400  # of the range of the images
    page = plan.page()
    assert "PSNR         20.0 dB or more" in page
    for told in ("images/ and labels/", "segmentation in 3D", "3 classes", "int16: 3", "README.md", "notes.txt"):
        assert told in page, told
    assert str(tmp_path / "out") in page
    assert all(f"{value}: {count:,} voxels" in page for value, count in enumerate(plan.summary.class_voxels))


def test_a_dataset_of_classes_is_told(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data", counts=(3, 2, 2))
    plan = plan_of(data, tmp_path / "out", epsilon=8 / 255)
    assert plan.task == "classification" and plan.summary.targets == (3, 2, 2)
    assert plan.steps == pytest.approx((8, 8))
    assert "0 (a): 3 images, 1 (b): 2 images, 2 (c): 2 images" in plan.page()


def test_the_command_prints_the_plan_and_ends_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    words = ["protect", "lattice", str(data), str(out), "--epsilon", "0.1", "--dry-run"]
    assert main(words) == 0
    page = capsys.readouterr().out
    assert "expected" in page and "memory" in page and "segmentation in 3D" in page
    assert main([*words, "--json"]) == 0
    told, plan = json.loads(capsys.readouterr().out), mu.plan("lattice", data, out, epsilon=0.1).to_dict()
    assert not out.exists()
    for name in set(plan) - {"cost"}:
        assert told[name] == json.loads(json.dumps(plan[name])), name
    assert told["cost"]["seconds"] > 0 and told["cost"]["disk"] > 0
    assert told["cost"]["memory"][0] > 2**26, "the libraries alone take more"


def test_a_dry_run_tells_remarks_once_and_of_all_cases(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first cases are published on trial, in two parts; what is said of these alone would be wrong of all."""
    data = write_dataset(tmp_path / "data", names=tuple("abcd"))
    monkeypatch.setattr(Publication, "_protect", _with_remark(Publication._protect))
    with caplog.at_level(logging.WARNING):
        plan = plan_of(data, tmp_path / "out", epsilon=0.9)
    assert "exceed the spread of the labeled voxels in 4 of 4 scans" in plan.page()
    assert [record.getMessage() for record in caplog.records] == ["headers are published as they are"]


def _with_remark(protect: Callable[..., None]) -> Callable[..., None]:
    def protect_and_remark(publication: Publication, *arguments: Any) -> None:
        publication.remarks.add("headers are published as they are")
        protect(publication, *arguments)

    return protect_and_remark


def test_the_plan_of_an_archive_names_it(tmp_path: Path) -> None:
    """Its files are unpacked to a folder that is gone then."""
    archive = write_archive(tmp_path / "data.npz")
    assert f"dataset      {archive}: " in mu.plan("lsp", archive, tmp_path / "out").page()


def test_a_run_begins_with_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data")
    assert main(["protect", "lattice", str(data), str(tmp_path / "out"), "--epsilon", "0.1"]) == 0
    said = capsys.readouterr().err
    assert said.count("segmentation in 3D") == 1 and "0: " in said and "expected" not in said


def test_time_and_disk_follow_from_the_first_cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_dataset(tmp_path / "data", names=tuple("abcdef"))
    clock = itertools.count()
    monkeypatch.setattr(rehearsal, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    short = plan_of(data, tmp_path / "out", "umed", epochs=3, **UMED).cost
    long = plan_of(data, tmp_path / "out", "umed", epochs=300, **UMED).cost
    assert short is not None and long is not None
    assert (short.training, long.training) == (3 * 2, 300 * 2)  # a tick for each iteration
    assert short.measured == 2 and short.publication == 6 / 2  # a tick for both that were measured
    monkeypatch.undo()
    mu.protect("umed", data, tmp_path / "out", epochs=3, **UMED)
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert short.disk == pytest.approx(written, rel=0.5)


@pytest.mark.parametrize("method", method_names())
def test_a_method_can_be_planned_or_names_those_that_suit_the_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(rehearsal, "TRIAL_ITERATIONS", 1)
    kinds = ((write_dataset, FOR_MAPS), (write_class_folders, FOR_CLASSES))
    for write, suited in kinds:
        data = write(tmp_path / write.__name__)
        try:
            assert plan_of(data, tmp_path / "out", method).cost is not None
        except LabelError as error:
            told = str(error)
            assert method not in suited and told.startswith(f"{method} needs "), told
            assert told.endswith(f"methods for them are {', '.join(suited)}")
        assert not (tmp_path / "out").exists()


def test_what_would_stop_the_run_stops_the_plan(tmp_path: Path) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    words = ["protect", "lattice", str(data), str(out), "--epsilon", "0.1"]
    assert main([*words, "--json"]) == WRONG_INPUT and not out.exists()
    assert main(words) == 0
    assert main([*words, "--dry-run"]) == WRONG_INPUT  # it exists
    assert main([*words, "--dry-run", "--overwrite"]) == 0
    (data / "images" / "a.nii.gz").write_bytes(b"damaged")
    before = tree(out)
    assert main([*words, "--dry-run", "--overwrite"]) == WRONG_INPUT
    assert main([*words, "--dry-run", "--overwrite", "--skip_invalid", "True"]) in (0, CHECK_FAILED)
    assert tree(out) == before


def test_an_archive_is_planned_without_unpacking_it_beside_the_output(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_archive(tmp_path / "data" / "scans.npz")
    assert (
        mu.plan("lattice", tmp_path / "data" / "scans.npz", tmp_path / "out", epsilon=8 / 255).task == "classification"
    )
    assert not (tmp_path / "out").exists() and [*tree(tmp_path / "data")] == ["scans.npz"]

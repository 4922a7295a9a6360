# SPDX-License-Identifier: Apache-2.0
"""The bundles laboratory and victim as people run them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.report import Results
from tests.helpers import protect

ROOT = Path(__file__).resolve().parents[2]
QUICK: dict[str, Any] = {"width": 4, "iterations": 4, "batch_size": 2, "num_validations": 2, "device": "cpu"}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms")
    write_phantom_dataset(root / "data", count=4, test_count=2, size=(24, 24, 16))
    protect(root / "data", root / "out", label_values=(0, 1, 2))
    return root


@pytest.mark.usefixtures("undrawn")
def test_laboratory(phantoms: Path, tmp_path: Path) -> None:
    tmp_path, out = tmp_path / "lab #1", shutil.copytree(phantoms / "out", tmp_path / "out #1")
    settings = {**QUICK, "victims": ["UNet"], "recipes": ["plain"], "countermeasures": ["none", "jpeg"]}
    paths = {"dataset_dir": str(phantoms / "data"), "output_dir": str(tmp_path)}
    run_bundle("laboratory", "laboratory", **paths, protected={"umed": str(out)}, **settings)
    results = Results.load(tmp_path / "report" / "results.json")
    assert len(results.rows) == 3 * 2
    assert results.authorized[0]["data"] == "umed"
    assert (tmp_path / "report" / "index.html").is_file()


def test_victim_is_trained_kept_and_examined_again(phantoms: Path, tmp_path: Path) -> None:
    data = {"dataset_dir": str(phantoms / "data")}
    run_bundle("victim", "train", **data, output_dir=str(tmp_path / "model"), **QUICK)
    scores = json.loads((tmp_path / "model" / "scores.json").read_text())
    assert len(scores["curve"]) == 2
    known: dict[str, Any] = {"width": 4, "device": "cpu", "checkpoint": str(tmp_path / "model" / "model.safetensors")}
    held_out = phantoms / "test.json"
    held_out.write_text(json.dumps({"training": json.loads((phantoms / "data" / "dataset.json").read_text())["test"]}))
    run_bundle("victim", "evaluate", **data, datalist=str(held_out), output_dir=str(tmp_path / "again"), **known)
    again = json.loads((tmp_path / "again" / "scores.json").read_text())
    assert again["by_case"] == pytest.approx(scores["by_case"])
    with pytest.raises(InputError, match="weights"):
        run_bundle("victim", "evaluate", **data, output_dir=str(tmp_path / "other"), **{**known, "victim": "SegResNet"})


def test_fine_tuning_starts_from_a_victim(phantoms: Path, tmp_path: Path) -> None:
    data, tmp_path = {"dataset_dir": str(phantoms / "data")}, tmp_path / "victim #1"
    run_bundle("victim", "train", **data, output_dir=str(tmp_path / "model"), **QUICK)
    shared = {"size": [24, 24, 16], "width": 4, "iterations": 3, "device": "cpu"}
    run_bundle("victim", "pretrain", **data, output_dir=str(tmp_path / "model"), **shared)
    for recipe, name in (("finetune", "model"), ("finetune_frozen", "pretrained")):
        weights = str(tmp_path / "model" / f"{name}.safetensors")
        tuned = {**QUICK, "recipe": recipe, "weights": weights}
        run_bundle("victim", "train", **data, output_dir=str(tmp_path / recipe), **tuned)
        assert (tmp_path / recipe / "scores.json").is_file()

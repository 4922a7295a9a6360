# SPDX-License-Identifier: Apache-2.0
"""Images with several labels, protected and examined as people do it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from monai_unlearnable.__main__ import WRONG_INPUT, main
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import InputError, LabelError, UnlearnableError
from monai_unlearnable.metrics.scores import task_name
from monai_unlearnable.noise import Manifest
from monai_unlearnable.proof import laboratory
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.run import method_names, plan, run_bundle
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.report import Results
from monai_unlearnable.report.rows import CLEAN, FAILED, PROTECTED, RANDOM
from monai_unlearnable.report.tables import markdown_table, matrix_tables
from monai_unlearnable.suited import FOR_TASKS
from tests.helpers import stored_voxels, tree, write_class_folders, write_dataset
from tests.pictures import write_pictures

pytestmark = pytest.mark.usefixtures("undrawn")

EPSILON = 16 / 255
QUICK: dict[str, Any] = {"epochs": 1, "epoch_length": 2, "batch_size": 4, "network_def#network#width": 4}
CHOSEN = ("brightness", "stripes")


def protect(method: str, data: Path, out: Path, **settings: Any) -> Manifest:
    run_bundle(method, dataset_dir=str(data), output_dir=str(out), **{"epsilon": EPSILON, **settings})
    return verify(out, data)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures with two labels."""
    return write_pictures(tmp_path_factory.mktemp("few") / "data", 16, 8, CHOSEN)


@pytest.mark.parametrize("method", ["multitask", "lsp"])
def test_classes_of_all_tasks_stay_with_their_images(few: Path, tmp_path: Path, method: str) -> None:
    def classes(root: Path) -> dict[str, Any]:
        return {case.case_id: case.classes for case in load_cases(root)}

    out, more = tmp_path / "out", QUICK if method == "multitask" else {}
    manifest = protect(method, few, out, **more)
    assert classes(out / "protected") == classes(few)
    assert [entry.target for entry in manifest.scans] == list(classes(few).values())
    apply_stored(out / "noise", few, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    restore(out, tmp_path / "back")
    assert classes(tmp_path / "back") == classes(few)
    for case in load_cases(few):
        roots = (few, out / "protected", tmp_path / "back")
        clean, noisy, back = (stored_voxels(root / case.images[0]) for root in roots)
        assert np.array_equal(clean, back)
        assert np.array_equal(clean, noisy) == (case.target == (0, 0)), "the largest class of each task adds no noise"
    checkpoint = str(out / "models/perturber.safetensors")
    run_bundle(method if method == "multitask" else "synthetic", "apply", checkpoint=checkpoint, dataset_dir=str(few),
               output_dir=str(tmp_path / "new"))  # fmt: skip
    assert tree(tmp_path / "new/protected") == tree(out / "protected")


def test_the_same_seed_gives_the_same_bytes(few: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        protect("multitask", few, tmp_path / name, seed=seed, **QUICK)
    first, again, other = (tree(tmp_path / name / "protected") for name in ("first", "again", "other"))
    assert first == again != other


def test_one_label_an_image_will_do(tmp_path: Path) -> None:
    data = write_class_folders(tmp_path / "data", shape=(24, 20))
    manifest = protect("multitask", data, tmp_path / "out", unperturbed=1, **QUICK)
    assert [entry.measured["l0"] > 0 for entry in manifest.scans] == [True] * 3 + [False] * 2 + [True] * 2
    with pytest.raises(LabelError, match="multitask needs one class for each whole image, and these"):
        protect("multitask", write_dataset(tmp_path / "maps"), tmp_path / "none", **QUICK)


def test_the_plan_counts_the_classes_of_each_task(few: Path, tmp_path: Path) -> None:
    found = plan("lsp", few, tmp_path / "out")
    assert "2 labels an image, of 2 + 2 classes" in found.page()
    for task, (first, second) in {"brightness": ("bright", "dark"), "stripes": ("across", "along")}.items():
        assert f"classes      {task}: 0 ({first}): 8 images, 1 ({second}): 8 images" in found.page()
    assert found.to_dict()["tasks"] == {"brightness": (8, 8), "stripes": (8, 8)}


def test_methods_protect_all_labels_or_name_those_that_do(few: Path, tmp_path: Path) -> None:
    fitting, named = [], ", ".join(FOR_TASKS)
    for method in method_names():
        try:
            protect(method, few, tmp_path / method, **(QUICK if method == "multitask" else {}))
            fitting.append(method)
        except UnlearnableError as error:
            assert f"methods for them are {named}" in str(error), method
            assert not (tmp_path / method).exists()
    assert sorted(fitting) == sorted([*FOR_TASKS, "synthetic"]), "the bundle of the patterns has one by default"


def test_a_number_does_not_tell_the_unperturbed_class_of_several_tasks(few: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images have several labels: none of them tells what class 1 is"):
        protect("lsp", few, tmp_path / "out", unperturbed=1)


def test_noise_for_other_tasks_is_refused(few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    protect("lsp", few, tmp_path / "out")
    checkpoint = str(tmp_path / "out/models/perturber.safetensors")
    other = write_pictures(tmp_path / "other", 8, 0, ("brightness", "shape"))
    assert main(["apply", checkpoint, str(other), str(tmp_path / "new")]) == WRONG_INPUT
    assert (
        "made for the tasks brightness, stripes, and the dataset has the tasks brightness, shape"
        in capsys.readouterr().err
    )


LABORATORY: dict[str, Any] = {"width": 4, "batch_size": 16, "device": "cpu", "authorized": False}


def test_what_needs_one_label_says_so_and_the_rest_goes_on(few: Path, tmp_path: Path) -> None:
    protect("lsp", few, tmp_path / "out")
    settings = {**LABORATORY, "iterations": 2, "num_validations": 1, "authorized": True}
    results, _ = laboratory(few, tmp_path / "lab", {"lsp": tmp_path / "out"}, control=False,
                            countermeasures=["none", "projection"], **settings)  # fmt: skip
    rows = {(row.data, row.countermeasure): row for row in results.rows}
    assert rows["lsp", "none"].done and rows[CLEAN, "none"].done
    assert rows["lsp", "projection"].status.startswith(FAILED)
    assert "needs one label an image, and here are 2, one a task" in rows["lsp", "projection"].status
    told = {words.partition(" (")[0] for words in results.detectors["lsp"]}
    assert {"labels of brightness from residuals", "labels of stripes from residuals"} < told
    assert results.authorized


def test_test_cases_need_the_same_tasks_and_no_other_classes(few: Path, tmp_path: Path) -> None:
    other = write_pictures(tmp_path / "other", 4, 0, ("brightness", "shape"), seed=1)
    with pytest.raises(
        LabelError, match="the tasks of the case are brightness, shape, and those of the training cases"
    ):
        laboratory(few, tmp_path / "lab", test_dir=str(other))
    (other / "labels.csv").write_text("image,label_brightness,label_stripes\ntrain/000.png,0,2\n")
    with pytest.raises(LabelError, match="class 2 of the task stripes is in no training case"):
        laboratory(few, tmp_path / "lab", test_dir=str(other))


@pytest.fixture(scope="module")
def examined(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """What victims learn from pictures of two labels as they are, protected, and with random noise of equal size."""
    root = tmp_path_factory.mktemp("examined")
    data = write_pictures(root / "data", tasks=CHOSEN)
    protect("multitask", data, root / "out", epochs=5, **{"network_def#network#width": 4})
    settings = {**LABORATORY, "iterations": 120, "num_validations": 1, "detectors": False}
    results, page = laboratory(data, root / "lab", {"multitask": root / "out"}, **settings)
    return SimpleNamespace(results=results, page=page, rows={row.training: row for row in results.rows})


def test_models_learn_no_task_from_what_is_published(examined: SimpleNamespace) -> None:
    clean, protected, random = (examined.rows[kind] for kind in (CLEAN, PROTECTED, RANDOM))
    assert protected.chance == 50
    for task in map(task_name, CHOSEN):
        usual = min(clean.extras[task], random.extras[task])
        assert protected.extras[task] < usual - 15, f"{task}: less than the control leaves, and by far"
        assert protected.extras[task] - 50 < (clean.extras[task] - 50) / 2, f"{task}: half of what it teaches"
    assert protected.score == pytest.approx(np.mean([protected.extras[task_name(task)] for task in CHOSEN]))


def test_tables_and_page_show_the_score_of_each_task(examined: SimpleNamespace) -> None:
    results: Results = examined.results
    (table,) = matrix_tables(results).values()
    for task in CHOSEN:
        assert task_name(task) in table.columns
        value = examined.rows[PROTECTED].extras[task_name(task)]
        assert f"{task} {value:.1f}" in markdown_table(results)
        assert task_name(task) in examined.page.read_text()
    assert Results.load(examined.page.parent / "results.json").rows == results.rows

# SPDX-License-Identifier: Apache-2.0
"""Classes stay with their images from the dataset to the published folder and back, whichever way they were given."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import LabelError, OutputError
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.noise.records import encode_manifest
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.protect import Application
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from tests.helpers import (
    BUDGET,
    SHAPES,
    protect,
    random_image,
    small_shared,
    stored_voxels,
    tree,
    write_class_folders,
    write_datalist,
    write_nifti,
)

FILES = {"b/1.png": 1, "a/2.png": 0, "b/3.jpg": 1}


def write_classes(root: Path, way: str) -> Path:
    """Three pictures of two classes; as folders of classes, a datalist, or a table."""
    for seed, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random_image((20, 16), "uint8", seed)).save(root / name)
    if way == "datalist":
        write_datalist(root, [{"image": name, "label": 5 * target} for name, target in FILES.items()])
    if way == "table":
        rows = [f"p{target}-{name[2]};{name};{'xy'[target]}" for name, target in FILES.items()]
        (root / "labels.csv").write_text("\n".join(["case_id;file;class", *rows]))
    return root


def classes(root: Path) -> dict[str, int | None]:
    return {case.case_id: case.target for case in load_cases(root)}


def randomize(dataset: Path, out: Path) -> Path:
    protect(dataset, out, RandomNoise(BUDGET.epsilon, Everywhere()), DtypeWindow())
    return out


@pytest.mark.parametrize("way", ["folders", "datalist", "table"])
def test_published_applied_and_restored_data_have_the_classes(tmp_path: Path, way: str) -> None:
    clean = write_classes(tmp_path / "clean", way)
    known, out = classes(clean), randomize(clean, tmp_path / "out")
    assert sorted(set(known.values())) == ([0, 5] if way == "datalist" else [0, 1])
    assert classes(out / "protected") == known
    assert [entry.target for entry in verify(out, clean).scans] == list(known.values())
    apply_stored(out / "noise", clean, tmp_path / "again")
    assert tree(tmp_path / "again/protected") == tree(out / "protected")
    restore(out, tmp_path / "back")
    assert classes(tmp_path / "back") == known
    for name in ("b/1.png", "a/2.png"):
        assert np.array_equal(stored_voxels(tmp_path / "back" / name), stored_voxels(clean / name))
        assert not np.array_equal(stored_voxels(out / "protected" / name), stored_voxels(clean / name))


def test_columns_of_a_table_are_not_published(tmp_path: Path) -> None:
    clean = write_classes(tmp_path / "clean", "folders")
    (clean / "labels.csv").write_text("image,label,name of the patient\nb/1.png,1,Jane Doe\na/2.png,0,John Doe\n")
    published = tree(randomize(clean, tmp_path / "out") / "protected")
    assert sorted(published) == ["a/2.png", "b/1.png", "datalist.json"]
    assert b"Doe" not in b"".join(published.values())


def test_manifests_of_earlier_releases(tmp_path: Path) -> None:
    write_nifti(tmp_path / "clean/x.nii", random_image((9, 8, 7)))
    write_datalist(tmp_path / "clean", [{"image": "x.nii", "label": 1}])
    out = randomize(tmp_path / "clean", tmp_path / "out")
    path, noise = out / "noise/manifest.json", out / "noise/x.npz"
    manifest = json.loads(path.read_text())
    del manifest["scans"][0]["target"], manifest["noise_sha256"]
    path.write_bytes(encode_manifest(manifest))
    with np.load(noise) as content:
        arrays = {name: content[name] for name in content.files}
    arrays["entry"] = np.frombuffer(json.dumps(manifest["scans"][0]).encode(), np.uint8)
    np.savez(noise, **arrays)
    assert verify(out).scans[0].target is None
    restore(out, tmp_path / "back")
    assert np.array_equal(stored_voxels(tmp_path / "back/x.nii"), stored_voxels(tmp_path / "clean/x.nii"))


def test_further_cases_get_the_patterns_of_their_classes(tmp_path: Path) -> None:
    write_class_folders(tmp_path / "clean", counts=(1, 1, 1))
    protect(tmp_path / "clean", tmp_path / "out", small_shared(SHAPES[2]), DtypeWindow())
    shutil.copytree(tmp_path / "clean", tmp_path / "more")
    shutil.rmtree(tmp_path / "more/b")
    checkpoint = tmp_path / "out/models/perturber.safetensors"
    Application(checkpoint, tmp_path / "more", tmp_path / "applied").apply()
    for name in ("a/0.png", "c/2.png"):
        expected = stored_voxels(tmp_path / "out/protected" / name)
        assert np.array_equal(stored_voxels(tmp_path / "applied/protected" / name), expected)
    assert classes(tmp_path / "applied/protected") == classes(tmp_path / "more"), "numbers are those of the dataset"
    assert (tmp_path / "applied/models/perturber.safetensors").read_bytes() == checkpoint.read_bytes()
    write_class_folders(tmp_path / "new", counts=(1, 1, 1, 1), first_seed=17)
    with pytest.raises(LabelError, match=r"d/20, .*: the class 'd' is none of the classes of .*; known are a, b, c"):
        Application(checkpoint, tmp_path / "new", tmp_path / "refused").apply()
    assert not (tmp_path / "refused").exists(), "before anything is written"


def test_channels_of_a_case_stay_together(tmp_path: Path) -> None:
    for channel in (0, 1):
        write_nifti(tmp_path / f"clean/imagesTr/a_000{channel}.nii", random_image((9, 8, 7), seed=channel))
        write_nifti(tmp_path / "clean/labelsTr/a.nii", np.zeros((9, 8, 7), np.uint8))
    out = randomize(tmp_path / "clean", tmp_path / "out")
    (clean,), (published,) = load_cases(tmp_path / "clean"), load_cases(out / "protected")
    assert (published.case_id, published.images, published.label) == (clean.case_id, clean.images, clean.label)


def test_a_datalist_that_is_there_is_not_replaced_unless_asked(tmp_path: Path) -> None:
    clean = write_classes(tmp_path / "clean", "folders")
    out, back = randomize(clean, tmp_path / "out"), write_datalist(tmp_path / "back", [])
    before = tree(back)
    with pytest.raises(OutputError, match=r"datalist\.json: the file exists already"):
        restore(out, back)
    assert tree(back) == before
    restore(out, back, overwrite=True)
    assert classes(back) == classes(clean)

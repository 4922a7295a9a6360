# SPDX-License-Identifier: Apache-2.0
"""Victims read whatever `protect` reads, and the one that fits the task is trained where none is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray
from PIL import Image

import monai_unlearnable as mu
from monai_unlearnable.cli import CHECK_FAILED, main
from monai_unlearnable.data import read_scan
from monai_unlearnable.proof import prepare_laboratory
from monai_unlearnable.report import VictimRow
from tests.helpers import random_image, two_classes, write_class_folders, write_dataset

pytestmark = pytest.mark.usefixtures("undrawn")

SHAPE = (24, 20)
QUICK: dict[str, Any] = {"iterations": 2, "batch_size": 2, "num_validations": 1, "width": 4}
SMALL: dict[str, Any] = {**QUICK, "authorized": False, "detectors": False, "control": False}

Write = Callable[[Path, int], None]


def picture(mode: str = "L", suffix: str = ".png") -> Write:
    def write(path: Path, seed: int) -> None:
        gray = random_image(SHAPE, "uint8", seed).T
        opaque = np.full_like(gray, 255)
        layers = [gray] * len(mode.removesuffix("A")) + [opaque] * mode.endswith("A")
        Image.fromarray(np.dstack(layers) if len(layers) > 1 else gray, mode).save(path.with_suffix(suffix))

    return write


def mask(change: Callable[[Image.Image], Image.Image], suffix: str = ".png", value: int = 100) -> Write:
    def write(path: Path, seed: int) -> None:
        change(Image.fromarray(two_classes(SHAPE).T * np.uint8(value))).save(path.with_suffix(suffix))

    return write


def volume(make: Callable[[int], NDArray]) -> Write:
    def write(path: Path, seed: int) -> None:
        voxels = make(seed)
        nib.Nifti1Image(voxels, np.eye(4), dtype=voxels.dtype).to_filename(path.with_suffix(".nii.gz"))

    return write


def metaimage(make: Callable[[int], NDArray]) -> Write:
    def write(path: Path, seed: int) -> None:
        sitk.WriteImage(sitk.GetImageFromArray(make(seed).T), str(path.with_suffix(".mha")))

    return write


def boxes(dtype: str, shape: tuple[int, ...] = (18, 16, 12)) -> Write:
    return volume(lambda seed: two_classes(shape).astype(dtype))


def voxels(dtype: str, channels: int = 0) -> Write:
    def make(seed: int) -> NDArray:
        image = random_image((18, 16, 12), dtype, seed)
        return np.stack([image, image[::-1]], -1)[:, :, :, None] if channels else image

    return volume(make)


PLAIN = mask(lambda image: image)
METAIMAGE = metaimage(lambda seed: random_image((18, 16, 12), seed=seed))
METAIMAGE_LABEL = metaimage(lambda seed: two_classes((18, 16, 12)))
Pairs = list[tuple[Write, Write]]
SETS: dict[str, Pairs] = {
    "pictures": [
        (picture(), PLAIN),
        (picture(suffix=".tif"), mask(lambda image: image, ".tif")),
        (picture("RGB", ".tif"), mask(lambda image: image.convert("RGB"))),
        (picture("LA"), mask(lambda image: image.convert("LA"))),
        (picture("RGBA"), mask(lambda image: image.convert("RGBA"))),
        (picture(suffix=".jpg"), mask(lambda image: image.quantize(256))),
        (picture("RGB", ".jpg"), PLAIN),
    ],
    "volumes": [
        (voxels("uint8"), boxes("int64")),
        (voxels("uint16"), boxes("float32")),
        (METAIMAGE, METAIMAGE_LABEL),
        (voxels("float32"), boxes("uint8")),
    ],
    "vectors": [(voxels("int16", 2), boxes("uint8"))],
    "single slices": [(volume(lambda seed: random_image((20, 18, 1), seed=seed)), boxes("uint8", (20, 18, 1)))],
    "small": [(volume(lambda seed: random_image((7, 6, 5), seed=seed)), boxes("int16", (7, 6, 5)))],
}


def write_pairs(root: Path, pairs: Pairs, first: int = 0) -> Path:
    """A dataset with a case of each kind, at least two."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for seed, (image, label) in enumerate(pairs if len(pairs) > 1 else pairs * 2, first):
        image(root / "images" / f"case{seed}", seed)
        label(root / "labels" / f"case{seed}", seed)
    return root


def examined(data: Path, test: Path, out: Path) -> list[VictimRow]:
    """The trainings of ``evaluate``, without its report."""
    laboratory = prepare_laboratory(data, out / "laboratory", {"it": out}, test_dir=str(test), **SMALL)
    return laboratory.run().rows


@pytest.mark.parametrize("kind", SETS)
def test_what_is_protected_is_evaluated(kind: str, tmp_path: Path) -> None:
    data, test = write_pairs(tmp_path / "data", SETS[kind]), write_pairs(tmp_path / "test", SETS[kind], 10)
    mu.protect("lattice", data, tmp_path / "out")
    mu.verify(tmp_path / "out", data)
    rows = examined(data, test, tmp_path / "out")
    assert [(row.status, row.victim) for row in rows] == [("done", "UNet")] * 2


def test_classes_of_gray_and_color_pictures(tmp_path: Path) -> None:
    for name, first in (("data", 0), ("test", 10)):
        root = write_class_folders(tmp_path / name, counts=(3, 3), first_seed=first)
        color = next((root / "a").iterdir())
        Image.open(color).convert("RGB").save(color)
    data, out = tmp_path / "data", tmp_path / "out"
    mu.protect("lsp", data, out)
    mu.verify(out, data)
    for file in sorted(data.rglob("*.png")):
        assert Image.open(file).mode == Image.open(out / "protected" / file.relative_to(data)).mode
    rows = examined(data, tmp_path / "test", out)
    assert [(row.status, row.victim) for row in rows] == [("done", "ResNet18")] * 2


@pytest.mark.parametrize("method", ["umed", "anti_learning"])
def test_methods_with_networks_take_gray_and_color_pictures(method: str, tmp_path: Path) -> None:
    data = write_pairs(tmp_path / "data", SETS["pictures"][:3])
    settings: dict[str, Any] = {"epochs": 1, "epoch_length": 1}
    if method == "umed":
        settings |= {"network_def#channels": [4, 8], "network_def#strides": [2], "batch_size": 2}
    manifest = mu.protect(method, data, tmp_path / "out", **settings)
    assert [entry.shape[0] for entry in manifest.scans] == [1, 1, 3]
    assert all(entry.measured["l0"] > 0 for entry in manifest.scans)
    assert read_scan(tmp_path / "out/protected/images/case0.png").voxels.shape == (1, *SHAPE)


def test_when_every_training_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_dataset(tmp_path / "data", names=("a", "b"))
    test = write_dataset(tmp_path / "test", names=("x",), first_seed=7)
    (tmp_path / "catalog.yaml").write_text(
        "countermeasures: {broken: [{_target_: Lambdad, keys: image, func: '$lambda image: image.no_such_thing()'}]}"
    )
    assert main(["protect", "lattice", str(data), str(tmp_path / "out")]) == 0
    words = ["evaluate", str(tmp_path / "out"), str(data), "--test_dir", str(test), "--control", "False"]
    words += ["--catalog", str(tmp_path / "catalog.yaml"), "--authorized", "False", "--detectors", "False"]
    words += ["--iterations", "1", "--num_validations", "1", "--width", "4", "--pictured", "0"]
    capsys.readouterr()
    assert main([*words, "--countermeasures", "broken"]) == CHECK_FAILED
    printed = capsys.readouterr().err
    assert printed.count("no training has a score") == printed.count("no_such_thing") == 1
    assert "Traceback" not in printed and " at 0x" not in printed
    assert main([*words, "--countermeasures", "none,broken"]) == 0
    assert "2 of 4 trainings failed: " in capsys.readouterr().err
    run = ["run", str(tmp_path / "out/laboratory"), "--victim", "UNet", "--recipe", "plain"]
    assert main([*run, "--data", "clean", "--countermeasure", "broken"]) == CHECK_FAILED

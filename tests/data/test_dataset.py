# SPDX-License-Identifier: Apache-2.0
"""Bad cases are found before anything is computed, each with one clear error."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import (
    DatasetSummary,
    inspect_cases,
    load_cases,
    read_case,
    read_scan,
)
from monai_unlearnable.errors import BudgetError, DatalistError, LabelError, ScanError, UnlearnableError, WindowError
from monai_unlearnable.intensity import DtypeWindow, FixedWindow, PercentileWindow
from tests.helpers import SHAPES, random_image, raw_bytes, tree, two_classes, write_datalist, write_dataset, write_nifti


def inspect(root: Path, channels: int | None = 1, label_values: tuple[int, ...] | None = (0, 1, 2)) -> DatasetSummary:
    return inspect_cases(load_cases(root), PercentileWindow(), label_values, channels)


@pytest.mark.parametrize("dims", [2, 3])
def test_summary(tmp_path: Path, dims: int) -> None:
    summary = inspect(write_dataset(tmp_path, dims), None, None)
    assert (summary.spatial_dims, summary.channels, summary.label_values) == (dims, 1, (0, 1, 2))
    assert summary.median_shape == SHAPES[dims] and len(summary.roughness) == dims
    assert summary.class_voxels == tuple((2 * np.bincount(two_classes(SHAPES[dims]).ravel())).tolist())
    assert summary.dtypes == {"int16": 2} and summary.empty == () and summary.ignored_voxels == 0
    low, high = summary.window_range
    assert -500 <= low < high <= 900
    assert summary.num_classes == 3 and summary.patch_size() == ((24, 24), (16, 16, 16))[dims - 2]
    assert inspect(tmp_path, 1, (0, 1, 2)) == summary


def test_cases_that_fit_into_memory() -> None:
    volumes = DatasetSummary(3, 2, (0, 1), (64, 64, 64))
    assert volumes.cases_within(1) == 256 and volumes.cases_within(0) == 0
    images = DatasetSummary(2, 1, (), (512, 512), targets=(3, 4))
    assert images.cases_within(1) == 1024 and images.cases_within(0.5) == 512


@pytest.mark.parametrize(("dims", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_smoothest_axis_is_the_one_without_texture(tmp_path: Path, dims: int, axis: int) -> None:
    write_dataset(tmp_path, dims)
    for name in ("a", "b"):
        voxels = random_image(SHAPES[dims])
        write_nifti(tmp_path / f"images/{name}.nii.gz", np.repeat(voxels.take([0], axis), voxels.shape[axis], axis))
    summary = inspect(tmp_path, None, None)
    assert summary.smoothest_axis == axis
    assert summary.roughness[axis] == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_roughness_is_that_of_normalized_intensity(tmp_path: Path, dims: int) -> None:
    root = write_dataset(tmp_path, dims)
    images = [read_case(case, PercentileWindow()).image for case in load_cases(root)]
    axes = range(1, dims + 1)
    expected = [[np.sqrt(np.mean(np.diff(image, 2, axis=axis) ** 2)) for axis in axes] for image in images]
    assert inspect(root, None, None).roughness == pytest.approx(np.mean(expected, axis=0).tolist())


def replace_image(root: Path, voxels: np.ndarray) -> Path:
    return write_nifti(root / "images/b.nii.gz", voxels)


def replace_label(root: Path, voxels: np.ndarray) -> Path:
    return write_nifti(root / "labels/b.nii.gz", voxels)


def cut(path: Path, keep: int) -> Path:
    path.write_bytes(path.read_bytes()[:keep])
    return path


def with_value(dtype: str, value: float) -> np.ndarray:
    voxels = random_image(SHAPES[3], dtype)
    voxels[1, 2, 3] = value
    return voxels


def broken_header(root: Path, **fields: object) -> Path:
    path = root / "images/b.nii.gz"
    raw = raw_bytes(path)
    header = nib.Nifti1Header(raw[:348], check=False)
    for field, value in fields.items():
        header[field] = value
    path.write_bytes(gzip.compress(header.binaryblock + raw[348:]))
    return path


SHAPE = SHAPES[3]
BAD: dict[str, tuple[Callable[[Path], Path], type[UnlearnableError], str]] = {
    "nan": (lambda r: replace_image(r, np.full(SHAPE, np.nan, "float32")), ScanError, "no data: all voxels are NaN"),
    "lowest": (lambda r: replace_image(r, np.full(SHAPE, -(2**15), "int16")), ScanError, "no data"),
    "constant-beside-nan": (
        lambda r: replace_image(r, np.where(two_classes(SHAPE) > 0, np.nan, np.float32(7))),
        WindowError,
        "constant",
    ),
    "constant": (lambda r: replace_image(r, np.full(SHAPE, 7, "int16")), WindowError, "constant"),
    "4d": (lambda r: replace_image(r, random_image((*SHAPE, 2))), ScanError, "1 channel"),
    "2d": (
        lambda r: (replace_label(r, two_classes(SHAPE[:2])), replace_image(r, random_image(SHAPE[:2])))[1],
        ScanError,
        "3D",
    ),
    "1d": (lambda r: replace_image(r, random_image((50,))), ScanError, "2D or 3D"),
    "complex": (lambda r: replace_image(r, random_image(SHAPE).astype("complex64")), ScanError, "complex"),
    "float128": (lambda r: broken_header(r, datatype=1536, dim=[3, 2, 7, 9, 1, 1, 1, 1]), ScanError, "unsupported"),
    "truncated-gzip": (lambda r: cut(r / "images/b.nii.gz", 900), ScanError, "cannot be read"),
    "truncated-header": (lambda r: cut(r / "images/b.nii.gz", 60), ScanError, "cannot be read"),
    "empty-file": (lambda r: cut(r / "images/b.nii.gz", 0), ScanError, "the file is empty"),
    "git-lfs": (
        lambda r: (p := r / "images/b.nii.gz", p.write_text("version https://git-lfs.github.com/spec/v1\n"))[0],
        ScanError,
        "a pointer of Git LFS",
    ),
    "no-nifti": (lambda r: (p := r / "images/b.nii.gz", p.write_bytes(b"x" * 4000))[0], ScanError, "not a NIfTI file"),
    "negative-dim": (lambda r: broken_header(r, dim=[3, -1, 14, 9, 1, 1, 1, 1]), ScanError, "shape"),
    "zero-dim": (lambda r: broken_header(r, dim=[3, 0, 14, 9, 1, 1, 1, 1]), ScanError, "shape"),
    "huge-dim": (lambda r: broken_header(r, dim=[3, 30000, 30000, 9, 1, 1, 1, 1]), ScanError, "truncated"),
    "unknown-datatype": (lambda r: broken_header(r, datatype=999), ScanError, "header"),
    "nan-offset": (lambda r: broken_header(r, vox_offset=np.nan), ScanError, "header"),
    "infinite-offset": (lambda r: broken_header(r, vox_offset=np.inf), ScanError, "header"),
    "infinite-intercept": (lambda r: broken_header(r, scl_slope=2.0, scl_inter=np.inf), ScanError, "header"),
    "hdr-img-pair": (lambda r: broken_header(r, magic=b"ni1"), ScanError, "single-file"),
    "label-shape": (lambda r: replace_label(r, two_classes((11, 14, 8))), LabelError, r"\(11, 14, 8\)"),
    "label-value": (lambda r: replace_label(r, 3 * two_classes(SHAPE)), LabelError, r"unknown label value \[3, 6\]"),
    "label-fraction": (lambda r: replace_label(r, two_classes(SHAPE) * np.float32(0.5)), LabelError, "whole numbers"),
    "label-nan": (lambda r: replace_label(r, with_value("float32", np.nan)), LabelError, "NaN"),
    "label-channels": (
        lambda r: replace_label(r, np.stack([two_classes(SHAPE), 0 * two_classes(SHAPE)], -1)),
        LabelError,
        "2 channels",
    ),
    "label-truncated": (lambda r: cut(r / "labels/b.nii.gz", 80), LabelError, "cannot be read"),
}


@pytest.mark.parametrize("value", [np.nan, -np.inf, np.finfo(np.float32).min])
def test_voxels_without_data_are_no_error(dataset: Path, value: float) -> None:
    replace_image(dataset, with_value("float32", value))
    assert inspect(dataset) == inspect(dataset.parent / "clean") and np.isfinite(inspect(dataset).roughness).all()


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_names_case_file_and_reason(dataset: Path, kind: str) -> None:
    spoil, expected, reason = BAD[kind]
    file = spoil(dataset)
    before = tree(dataset)
    with pytest.raises(expected, match=reason) as caught:
        inspect(dataset)
    assert caught.value.case == "images/b" and caught.value.file == file
    assert "images/b" in str(caught.value) and file.name in str(caught.value)
    assert tree(dataset) == before


def test_budgets_that_no_voxel_fits_into_name_the_case(dataset: Path) -> None:
    write_nifti(dataset / "images/b.nii.gz", random_image((4, 5, 6)))
    write_nifti(dataset / "labels/b.nii.gz", two_classes((4, 5, 6)))
    inspect_cases(load_cases(dataset), PercentileWindow(), budget=Budget(0.1, fraction=1 / 120))
    with pytest.raises(BudgetError, match="images/b: a fraction of 0.008 is less than one of 120 voxels"):
        inspect_cases(load_cases(dataset), PercentileWindow(), budget=Budget(0.1, fraction=0.008))


def test_no_cases() -> None:
    with pytest.raises(DatalistError, match="no cases"):
        inspect_cases([], PercentileWindow())


def test_channels_of_several_files(tmp_path: Path) -> None:
    for i in (0, 1):
        write_nifti(tmp_path / f"imagesTr/a_000{i}.nii.gz", random_image(SHAPE, seed=i))
    write_nifti(tmp_path / "labelsTr/a.nii.gz", two_classes(SHAPE))
    assert inspect(tmp_path, None).channels == 2
    (case,) = load_cases(tmp_path)
    loaded = read_case(case, PercentileWindow())
    assert loaded.image.shape == (2, *SHAPE) and len(loaded.step) == 2
    write_nifti(tmp_path / "imagesTr/a_0001.nii.gz", random_image((11, 14, 8)))
    with pytest.raises(ScanError, match=r"imagesTr/a, .*a_0001.*differs"):
        inspect(tmp_path, None)


@pytest.mark.parametrize("rule", [FixedWindow(0, 255), DtypeWindow()])
def test_constant_pictures(tmp_path: Path, rule: object) -> None:
    write_dataset(tmp_path, 2, "uint8", suffix=".png")
    Image.fromarray(np.full((18, 21), 9, np.uint8)).save(tmp_path / "images/b.png")
    with pytest.raises(WindowError, match=r"images/b, .*b\.png: .*constant"):
        inspect_cases(load_cases(tmp_path), rule)


@pytest.mark.parametrize("mode", ["1", "P", "CMYK"])
def test_pictures_that_cannot_be_written_back(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("x.tif" if mode == "CMYK" else "x.png")
    Image.fromarray(random_image((9, 8), "uint8")).convert("RGB").convert(mode).save(path)
    with pytest.raises(ScanError, match=r"x\.(tif|png): .*(without loss|not supported)"):
        read_scan(path)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("keep", [0, 30, 0.6])
def test_truncated_pictures(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(random_image((40, 40), "uint8")).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep != 0.6 else keep * len(content))])
    with pytest.raises(ScanError, match=rf"x{suffix}: (cannot be read|the file is empty|not a PNG file)"):
        read_scan(path)


def test_unknown_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"x\.xyz: unknown file type; supported are \.nii\.gz"):
        read_scan(tmp_path / "x.xyz")
    for name in ("x.nii", "x.png"):
        with pytest.raises(ScanError, match=f"{name}: the file does not exist"):
            read_scan(tmp_path / name)


def test_label_maps_and_classes_are_not_mixed(tmp_path: Path) -> None:
    root = write_dataset(tmp_path)
    entries = [{"image": "images/a.nii.gz", "label": "labels/a.nii.gz"}, {"image": "images/b.nii.gz", "label": 1}]
    with pytest.raises(LabelError, match="some cases have a label map and others a class") as caught:
        inspect_cases(load_cases(write_datalist(root, entries)), PercentileWindow())
    assert caught.value.case == "images/b"

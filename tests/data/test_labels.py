# SPDX-License-Identifier: Apache-2.0
"""Labels: which numbers are classes, where they lie, and what is no label."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import nrrd
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from monai_unlearnable.data import (
    LabelGeometry,
    encode_label,
    inspect_cases,
    load_cases,
    read_case,
    read_label,
    read_scan,
)
from monai_unlearnable.data.labels import read_label_map, soft_edges, value_counts
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.intensity import PercentileWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.publishing.admission import admit
from monai_unlearnable.publishing.protect import Protection
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.transforms import EncodeLabel, LoadScand
from monai_unlearnable.victims import Segmentation
from tests.helpers import BUDGET, OBLIQUE, SHAPES, random_image, stored_voxels, two_classes, write_dataset, write_nifti

SHAPE = SHAPES[3]
NOISE = RandomNoise(BUDGET.epsilon, Everywhere())


def label_of(root: Path, voxels: NDArray, slope: float | None = None, affine: NDArray = OBLIQUE) -> Path:
    """Replaces the label of case ``b`` of :func:`write_dataset`."""
    path = root / "labels/b.nii.gz"
    if slope is not None:
        return write_nifti(path, voxels, slope)
    nib.save(nib.Nifti1Image(voxels, affine, dtype=voxels.dtype), path)
    return path


def read(root: Path) -> NDArray:
    return read_label(root / "labels/b.nii.gz", [read_scan(root / "images/b.nii.gz")], "images/b")[0]


@pytest.mark.parametrize("dtype", ["int8", "uint8", ">i2", "uint16", "int32", "uint32", "int64", "uint64", "f4", "f8"])
def test_labels_of_any_type_are_whole_numbers(dataset: Path, dtype: str) -> None:
    label_of(dataset, two_classes(SHAPE).astype(dtype))
    found = read(dataset)
    assert np.array_equal(found, two_classes(SHAPE)) and found.dtype.kind in "iu"


def test_labels_of_a_drifting_slope_are_rounded(dataset: Path) -> None:
    label_of(dataset, 255 * two_classes(SHAPE).clip(max=1), slope=np.float32(1 / 255))
    assert np.array_equal(read(dataset), two_classes(SHAPE) > 0)
    label_of(dataset, two_classes(SHAPE).astype("f4") + np.float32(9e-4))
    assert np.array_equal(read(dataset), two_classes(SHAPE))
    label_of(dataset, two_classes(SHAPE).astype("f4") * np.float32(0.75))
    with pytest.raises(
        LabelError, match=r"not whole numbers in 280 voxels \(from 0\.75 to 1\.5\).*threshold"
    ) as caught:
        read(dataset)
    assert caught.value.case == "images/b" and caught.value.file == dataset / "labels/b.nii.gz"


def test_grey_labels_in_rgb_are_labels(tmp_path: Path) -> None:
    label = two_classes((9, 8))
    Image.fromarray(np.stack([label.T] * 3, -1)).save(tmp_path / "l.png")
    assert np.array_equal(read_label(tmp_path / "l.png", [read_scan(tmp_path / "l.png")])[0], label)


def test_labels_are_encoded_by_value() -> None:
    label = np.array([[[0, 255], [7, 0]]])
    assert encode_label(label, (0, 255, 7)).tolist() == [[[0, 1], [2, 0]]]
    assert encode_label(label, (7, 0, 255)).dtype == np.uint8
    with pytest.raises(LabelError, match=r"c1, l\.png: unknown label value \[7\]; known are \[0, 255\]"):
        encode_label(label, (0, 255), "c1", Path("l.png"))


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "int64", "float32"])
@pytest.mark.parametrize("values", [(0, 1, 2), (2, 0, 1), (0, 7, 3, 1, 2)])
def test_labels_of_every_type_and_order_are_encoded_alike(dtype: str, values: tuple[int, ...]) -> None:
    label = np.random.default_rng(0).integers(0, 3, (1, 70, 80, 90))
    for order in ("C", "F"):
        encoded = encode_label(np.asarray(label, dtype, order=order), values)
        assert encoded.dtype == np.uint8 and np.array_equal(np.asarray(values)[encoded], label)


def test_encoding_takes_negative_values_for_background_unless_they_are_classes() -> None:
    label = np.array([[[-1, 0, 1, 2]]])
    assert encode_label(label, (0, 1, 2)).tolist() == [[[0, 0, 1, 2]]]
    assert encode_label(label, (-1, 0, 1, 2)).tolist() == [[[0, 1, 2, 3]]]
    assert encode_label(label.astype("f4") + np.float32(5e-4), (0, 1, 2)).tolist() == [[[0, 0, 1, 2]]]


def many_classes(count: int, spread: int = 1) -> NDArray:
    """A volume of (32, 24, 20) voxels filled with so many classes of equal size, as ``spread`` times their number."""
    voxels = np.zeros((32, 24, 20), np.int32)
    inside = voxels[2:-2, 2:-2, 2:-2]
    inside[...] = (np.arange(inside.size) * count // inside.size).reshape(inside.shape) + 1
    return voxels * spread


@pytest.mark.parametrize("count", [116, 300])
def test_hundreds_of_classes(tmp_path: Path, count: int) -> None:
    label = many_classes(count, 7)
    write_nifti(tmp_path / "images/a.nii.gz", random_image(label.shape))
    write_nifti(tmp_path / "labels/a.nii.gz", label)
    cases = load_cases(tmp_path)
    summary = inspect_cases(cases, PercentileWindow())
    summary.check_labels()
    assert summary.label_values == tuple(range(0, 7 * count + 1, 7))
    assert sum(summary.class_voxels) == label.size
    loaded = read_case(cases[0], PercentileWindow(), summary.label_values)
    assert np.array_equal(loaded.label[0], label // 7)
    item = cases[0].to_dict()
    victim = item
    for transform in Segmentation(summary.label_values).loading():
        victim = transform(victim)
    pipeline = EncodeLabel(summary.label_values)(LoadScand(["image", "label"])(item)["label"])
    for read_by in (victim["label"], pipeline):
        assert np.array_equal(np.asarray(read_by)[0], label // 7)


def test_numbers_that_float32_cannot_tell_apart_are_classes(tmp_path: Path) -> None:
    values = (0, 2**30, 2**30 + 1)
    label = np.asarray(values, np.int64)[two_classes(SHAPE)]
    write_dataset(tmp_path, names=("b",))
    label_of(tmp_path, label)
    item = load_cases(tmp_path)[0].to_dict()
    found = EncodeLabel(values)(LoadScand(["image", "label"])(item)["label"])
    assert np.array_equal(np.asarray(found)[0], two_classes(SHAPE))


def with_ignored(root: Path, dtype: str = "int16") -> NDArray:
    """Two cases, the second with voxels to ignore on the border of its region; those voxels."""
    write_dataset(root)
    label = two_classes(SHAPE).astype(dtype)
    ignored = np.zeros(SHAPE, bool)
    ignored[:, 3:5], ignored[0, 0, 0] = True, True
    label[ignored] = -1
    label_of(root, label)
    return ignored


@pytest.mark.parametrize("dtype", ["int16", "f4", "int64"])
def test_negative_values_are_ignored(tmp_path: Path, dtype: str) -> None:
    clean = tmp_path / "clean"
    ignored = with_ignored(clean, dtype)
    protection = Protection(clean, tmp_path / "out", BUDGET.epsilon)
    assert protection.summary.label_values == (0, 1, 2)
    assert protection.summary.ignored_voxels == ignored.sum()
    assert sum(protection.summary.class_voxels) == 2 * ignored.size - ignored.sum()
    protection.run(NOISE)
    verify(tmp_path / "out", clean)
    before, after = (stored_voxels(root / "images/b.nii.gz") for root in (clean, tmp_path / "out/protected"))
    assert not (before != after)[ignored].any() and (before != after)[~ignored].mean() > 0.5
    case = load_cases(clean)[1]
    expected = np.where(ignored, 0, two_classes(SHAPE))
    loaded = read_case(case, PercentileWindow(), (0, 1, 2))
    assert np.array_equal(loaded.label[0], expected) and np.array_equal(loaded.ignored[0], ignored)
    item = case.to_dict()
    for transform in Segmentation((0, 1, 2)).loading():
        item = transform(item)
    assert np.array_equal(item["label"][0], expected)
    pipeline = EncodeLabel((0, 1, 2))(LoadScand(["image", "label"])(case.to_dict())["label"])
    assert np.array_equal(np.asarray(pipeline)[0], expected)


def test_negative_values_can_be_classes(tmp_path: Path) -> None:
    with_ignored(tmp_path)
    loaded = read_case(load_cases(tmp_path)[1], PercentileWindow(), (0, -1, 1, 2))
    assert loaded.ignored is None and (loaded.label == 1).any()


FLIPPED = OBLIQUE @ np.array([[-1, 0, 0, SHAPE[0] - 1], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
SHIFTED = OBLIQUE @ np.array([[1, 0, 0, 0.0], [0, 1, 0, 0], [0, 0, 1, 0.6], [0, 0, 0, 1]])


@pytest.mark.parametrize("affine", [FLIPPED, SHIFTED, np.diag([1.0, 1, 2, 1])], ids=["flipped", "shifted", "other"])
def test_labels_that_lie_elsewhere_are_refused_unless_told_otherwise(tmp_path: Path, affine: NDArray) -> None:
    write_dataset(tmp_path / "clean")
    label_of(tmp_path / "clean", two_classes(SHAPE), affine=affine)
    with pytest.raises(LabelError, match=r"lies up to .* mm from the image.*label_geometry") as caught:
        Protection(tmp_path / "clean", tmp_path / "out", 0.1).begin(NOISE)
    assert caught.value.case == "images/b" and not (tmp_path / "out").exists()
    protection = Protection(tmp_path / "clean", tmp_path / "out", 0.1, label_geometry="ignore")
    protection.run(NOISE)
    verify(tmp_path / "out", tmp_path / "clean")
    with pytest.raises(InputError, match="'ignored'; known are match, ignore; did you mean 'ignore'"):
        Protection(tmp_path / "clean", tmp_path / "out", 0.1, label_geometry="ignored")


def test_rounded_affines_lie_where_the_image_lies(dataset: Path) -> None:
    near = OBLIQUE.copy()
    near[:3] += 1e-3 * np.array([1, -1, 1])[:, None]
    label_of(dataset, two_classes(SHAPE), affine=near)
    assert np.array_equal(read(dataset), two_classes(SHAPE))


def test_files_that_tell_no_place_are_not_compared(dataset: Path) -> None:
    image = nib.Nifti1Image(two_classes(SHAPE), None)
    assert not image.header["sform_code"] and not image.header["qform_code"]
    nib.save(image, dataset / "labels/b.nii.gz")
    assert np.array_equal(read(dataset), two_classes(SHAPE))


def test_axes_in_another_order_are_named(dataset: Path) -> None:
    label_of(dataset, two_classes(SHAPE).T)
    with pytest.raises(
        LabelError, match=r"shape \(9, 14, 11\), the image \(11, 14, 9\); its axes are in another order"
    ):
        read(dataset)


def test_labels_without_anything_to_follow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clean = write_dataset(tmp_path / "clean", empty=("a",))
    assert Protection(clean, tmp_path / "out", 0.1).summary.empty == ("images/a",)
    assert "1 of 2 labels are empty: images/a" in caplog.text
    for value in (0, 1):
        for name in ("a", "b"):
            write_nifti(clean / f"labels/{name}.nii.gz", np.full(SHAPE, value, np.uint8))
        with pytest.raises(LabelError, match=f"hold one value, {value}: there is nothing to follow"):
            Protection(clean, tmp_path / "out", 0.1).begin(NOISE)
    write_nifti(clean / "labels/a.nii.gz", np.full(SHAPE, 0, np.uint8))
    write_nifti(clean / "labels/b.nii.gz", np.full(SHAPE, 0, np.uint8))
    with pytest.raises(LabelError, match="nothing to follow"):
        Protection(clean, tmp_path / "out", 0.1, label_values=(0, 1)).begin(NOISE)
    for name in ("a", "b"):
        write_nifti(clean / f"labels/{name}.nii.gz", np.full(SHAPE, -1, np.int16))
    with pytest.raises(LabelError, match="nothing to follow"):
        Protection(clean, tmp_path / "out", 0.1).begin(NOISE)


def ellipse(scale: int = 1) -> NDArray:
    y, x = np.mgrid[: 60 * scale, : 80 * scale] / scale
    return (((y - 30) / 20.0) ** 2 + ((x - 40) / 28.0) ** 2 < 1).astype(np.uint8) * 255


def square() -> NDArray:
    label = np.zeros((64, 64), np.uint8)
    label[19:51, 19:51] = 255
    return label


def gray_levels() -> NDArray:
    """Three discs of 85, 170 and 255."""
    label = np.zeros((100, 100), np.uint8)
    y, x = np.mgrid[:100, :100]
    for value, (row, column, radius) in zip((85, 170, 255), ((30, 30, 20), (70, 60, 15), (30, 75, 14)), strict=True):
        label[(y - row) ** 2 + (x - column) ** 2 < radius**2] = value
    return label


def ball() -> NDArray:
    return (np.square(np.indices((30, 30, 30)) - 15).sum(0) < 100).astype(np.uint8) * 255


def noisy_ball() -> NDArray:
    """An image of two tissues with noise, whose tails hold most of its values."""
    return np.rint(500.0 + 2 * ball() + np.random.default_rng(0).normal(0, 20, (30, 30, 30)))


def jpeg(label: NDArray, quality: int) -> NDArray:
    stream = io.BytesIO()
    Image.fromarray(label).save(stream, "JPEG", quality=quality)
    return np.asarray(Image.open(stream))


def resized(label: NDArray, factor: float, method: Image.Resampling = Image.Resampling.BILINEAR) -> NDArray:
    size = [int(extent * factor) for extent in reversed(label.shape)]
    return np.asarray(Image.fromarray(label).resize(size, method))


NO_LABELS: dict[str, Callable[[], NDArray]] = {
    **{f"jpeg-{quality}": lambda quality=quality: jpeg(ellipse(), quality) for quality in (50, 75, 90, 95, 98, 100)},
    "jpeg-square": lambda: jpeg(square(), 95),
    "jpeg-large": lambda: jpeg(ellipse(5), 95),
    "jpeg-gray-levels": lambda: jpeg(gray_levels(), 95),
    **{f"ellipse-{f}": lambda f=f: resized(ellipse(), f) for f in (0.5, 0.7, 1.3, 2, 4)},
    **{f"square-{f}": lambda f=f: resized(square(), f) for f in (0.5, 0.7, 1.3, 2, 3)},
    "bicubic": lambda: resized(ellipse(), 1.7, Image.Resampling.BICUBIC),
    "lanczos": lambda: resized(ellipse(), 0.7, Image.Resampling.LANCZOS),
    "gray-levels": lambda: resized(gray_levels(), 1.5),
    "blurred": lambda: ndimage.gaussian_filter(ellipse().astype(float), 1).astype(np.uint8),
    "ball-linear": lambda: np.rint(ndimage.zoom(ball().astype(float), 1.3, order=1)).astype(np.int16),
    "ball-spline": lambda: np.rint(ndimage.zoom(ball().astype(float), 0.7, order=3)).astype(np.int16),
    "image": lambda: random_image(SHAPES[3]),
    "noise around two intensities": noisy_ball,
    "smooth image": lambda: np.rint(2000 * ndimage.gaussian_filter(np.random.default_rng(0).random((40, 40, 20)), 2)),
}


def dots() -> NDArray:
    label, rng = np.zeros((100, 100), np.uint8), np.random.default_rng(0)
    label[tuple(rng.integers(0, 100, (2, 30)))] = rng.integers(1, 6, 30)
    return label


def parcels(shape: tuple[int, ...], count: int, ribbon: bool) -> NDArray:
    """Regions of a ball, or of its shell, with spread numbers as FreeSurfer gives them."""
    rng = np.random.default_rng(0)
    seeds = np.zeros(shape, np.int64)
    seeds[tuple(rng.integers(0, extent, count) for extent in shape)] = rng.choice(3000, count, replace=False) + 1
    nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
    center = np.array(shape).reshape(-1, 1, 1, 1) / 2
    radius = np.sqrt(np.square((np.indices(shape) - center) / center).sum(0))
    inside = np.where(radius < 0.7, 2, seeds[tuple(nearest)]) if ribbon else seeds[tuple(nearest)]
    return np.where(radius < 0.95, inside, 0)


def instances() -> NDArray:
    label = np.zeros((120, 120), np.int32)
    for number in range(300):
        row, column = divmod(number, 20)
        label[8 * row : 8 * row + 2 + number % 4, 6 * column : 6 * column + 2 + number % 3] = number + 1
    return label


def tumor() -> NDArray:
    """The values 1, 2 and 4 of BraTS, one inside the other."""
    radius = np.sqrt(np.square(np.indices((24, 24, 16)) - np.array([12, 12, 8]).reshape(-1, 1, 1, 1)).sum(0))
    return np.select([radius < 3, radius < 5, radius < 7], [1, 4, 2], 0)


LABELS: dict[str, Callable[[], NDArray]] = {
    "binary": ellipse,
    "gray levels": gray_levels,
    "tumor": tumor,
    "dots": dots,
    "instances": instances,
    "117 classes": lambda: many_classes(116),
    "117 classes in lines": lambda: np.asfortranarray(many_classes(116).T),
    "parcels": lambda: parcels((40, 40, 40), 100, ribbon=False),
    "ribbon": lambda: parcels((40, 40, 40), 100, ribbon=True),
    "small ribbon": lambda: parcels((24, 24, 24), 60, ribbon=True),
}


@pytest.mark.parametrize("name", NO_LABELS)
def test_smooth_masks_and_images_are_told_from_labels(name: str) -> None:
    label = NO_LABELS[name]().astype(np.int64)[None]
    reason = soft_edges(label, value_counts(label))
    assert reason is not None and "label_values" in reason


@pytest.mark.parametrize("name", LABELS)
def test_labels_are_labels(name: str) -> None:
    label = LABELS[name]()[None]
    assert soft_edges(label, value_counts(label)) is None


def test_smooth_masks_are_refused_with_their_counts(tmp_path: Path) -> None:
    clean, out = tmp_path / "clean", tmp_path / "out"
    for folder in ("images", "labels"):
        (clean / folder).mkdir(parents=True)
    for name in ("a", "b"):
        Image.fromarray(random_image((60, 80), "uint8")).save(clean / f"images/{name}.png")
        Image.fromarray(ellipse()).save(clean / f"labels/{name}.png")
    Image.fromarray(ellipse()).save(clean / "labels/b.jpg", quality=95)
    (clean / "labels/b.png").unlink()
    match = r"14 label values, 12 of which lie along the edges of the others \(0: 2756, 1: 150, 2: 78, .*JPEG"
    with pytest.raises(LabelError, match=match) as caught:
        Protection(clean, out, 0.1).begin(NOISE)
    assert caught.value.case == "images/b" and caught.value.file == clean / "labels/b.jpg"
    assert not out.exists()
    cases = load_cases(clean)
    admitted = admit(cases, PercentileWindow())
    assert admitted.cases == cases[:1] and "14 label values" in admitted.reasons["images/b"]
    values = inspect_cases(cases, PercentileWindow()).label_values
    Protection(clean, out, 0.1, label_values=values).begin(NOISE)


@pytest.mark.parametrize(
    ("values", "reason"),
    [((0, 0, 1), "all different"), ((1,), "at least two"), ((0, 0.5), "whole numbers"), (1, "a list such as")],
)
def test_label_values_that_name_no_classes(tmp_path: Path, values: object, reason: str) -> None:
    with pytest.raises(LabelError, match=f"--label_values .*{reason}"):
        Protection(tmp_path, tmp_path / "out", 0.1, label_values=values)  # type: ignore[arg-type]


def test_counts_of_values() -> None:
    rng = np.random.default_rng(0)
    for values in ([0, 1, 2], [-3, 0, 5], [0, 2**40], [7]):
        label = rng.choice(values, (1, 70, 80, 90))
        found = np.unique(label, return_counts=True)
        assert value_counts(label) == dict(zip(found[0].tolist(), found[1].tolist(), strict=True))


@pytest.mark.data
@pytest.mark.parametrize("name", ["hippocampus", "left_atrium", "nuclei"])
def test_labels_of_real_sets_are_labels(real_data: Path, name: str) -> None:
    for case in load_cases(real_data / name)[:25]:
        label = read_label(
            case.root / case.label, [read_scan(case.root / case.images[0])], geometry=LabelGeometry.MATCH
        )
        assert soft_edges(label, value_counts(label)) is None


@pytest.mark.parametrize("order", ["body first", "organ first"])
def test_of_overlapping_layers_of_3d_slicer_the_smallest_counts(tmp_path: Path, order: str) -> None:
    body, organ = two_classes(SHAPE) > 0, two_classes(SHAPE) == 2
    layers = (body, organ) if order == "body first" else (organ, body)
    header = {
        "space": "left-posterior-superior",
        "space directions": [[np.nan] * 3, *np.eye(3).tolist()],
        "space origin": [0.0, 0.0, 0.0],
        "kinds": ["list", "domain", "domain", "domain"],
        **{
            f"Segment{n}_{key}": value
            for n in (0, 1)
            for key, value in (("LabelValue", "1"), ("Layer", str(n)), ("Name", f"part {n}"))
        },
    }
    nrrd.write(str(tmp_path / "labels.seg.nrrd"), np.stack(layers).astype(np.uint8), header)
    image = write_nifti(tmp_path / "a.nii.gz", random_image(SHAPE))
    read = read_label_map(tmp_path / "labels.seg.nrrd", [read_scan(image)], geometry=LabelGeometry.IGNORE)
    expected = np.where(organ, 2, body) if order == "body first" else np.where(organ, 1, 2 * body)
    assert np.array_equal(read.voxels[0], expected)
    assert read.value_names == {1: "part 0", 2: "part 1"}
    assert f"1 (part 0) and 2 (part 1) overlap in {organ.sum()} voxels" in read.remarks[0]

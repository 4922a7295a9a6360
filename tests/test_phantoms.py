# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_unlearnable.data import load_cases, read_label, read_scan
from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.phantoms import FIELD_OF_VIEW, Sampling, draw_phantom, write_phantom_dataset

SIZE = (40, 48, 32)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom_dataset(folder, count=4, test_count=2, seed=3, size=SIZE)
    return folder


def test_same_seed_same_bytes(dataset, tmp_path):
    write_phantom_dataset(tmp_path, count=4, test_count=2, seed=3, size=SIZE)
    assert content(tmp_path) == content(dataset)


def test_scan_does_not_depend_on_count(dataset, tmp_path):
    write_phantom_dataset(tmp_path, count=1, test_count=0, seed=3, size=SIZE)
    name = "imagesTr/phantom_000.nii.gz"
    assert (tmp_path / name).read_bytes() == (dataset / name).read_bytes()


def test_other_seed_other_scans(dataset, tmp_path):
    write_phantom_dataset(tmp_path, count=1, test_count=0, seed=4, size=SIZE)
    name = "imagesTr/phantom_000.nii.gz"
    assert (tmp_path / name).read_bytes() != (dataset / name).read_bytes()


def test_sections_are_found(dataset):
    training, test = load_cases(dataset), load_cases(dataset, section="test")
    assert (len(training), len(test)) == (4, 2)
    assert not {case.case_id for case in training} & {case.case_id for case in test}
    assert all(case.label for case in training + test)
    assert json.loads((dataset / "dataset.json").read_text())["numTraining"] == 4


def test_scans_look_like_scans(dataset):
    digests = set()
    for case in load_cases(dataset) + load_cases(dataset, section="test"):
        scan = read_scan(dataset / case.images[0])
        label = read_label(dataset / case.label, [scan])
        assert scan.voxels.dtype == np.int16
        assert scan.spatial_shape == SIZE
        assert scan.voxels.min() >= 0
        assert set(np.unique(label)) == {0, 1, 2}
        assert 0.03 < (label > 0).mean() < 0.1
        digests.add(scan.digest())
    assert len(digests) == 6


def test_the_two_parts_touch(dataset):
    case = load_cases(dataset)[0]
    label = np.asarray(nib.load(dataset / case.label).dataobj)
    assert ((label[:, 1:] == 1) & (label[:, :-1] == 2)).any()


def test_geometry_is_oblique_and_coded_twice(dataset):
    case = load_cases(dataset)[0]
    header = nib.load(dataset / case.images[0]).header
    affine, code = header.get_sform(coded=True)
    assert code == 1
    assert header["qform_code"] == 1
    np.testing.assert_allclose(header.get_qform(), affine, atol=1e-3)
    assert (np.abs(nib.affines.obliquity(affine)) > np.radians(2)).any()
    assert np.ptp(header.get_zooms()) > 0.1
    assert header.get_xyzt_units()[0] == "mm"
    np.testing.assert_array_equal(nib.load(dataset / case.label).affine, nib.load(dataset / case.images[0]).affine)


def test_global_generator_is_left_alone(tmp_path):
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state is what is tested
    write_phantom_dataset(tmp_path, count=1, test_count=0, size=(16, 16, 16))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_another_dataset_is_not_overwritten(dataset, tmp_path):
    (tmp_path / "dataset.json").write_text("{}")
    with pytest.raises(OutputError, match=r"dataset\.json"):
        write_phantom_dataset(tmp_path)
    assert content(tmp_path) == {"dataset.json": b"{}"}


ORGANS = ("liver", "pancreas", "head", "tail", "vessel")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    write_phantom_dataset(folder, count=6, test_count=0, seed=1, size=None, structures=ORGANS)
    return [nib.load(folder / case.label) for case in load_cases(folder)]


def middle(label, number):
    """Center of a class in millimeters."""
    voxels = np.argwhere(np.asarray(label.dataobj) == number)
    return nib.affines.apply_affine(label.affine, voxels.mean(0)) - center(label)


def center(label):
    return nib.affines.apply_affine(label.affine, (np.array(label.shape) - 1) / 2)


def test_protocols_are_mixed(mixed):
    assert len({nib.aff2axcodes(label.affine) for label in mixed}) >= 4
    spacings = np.array([label.header.get_zooms() for label in mixed])
    assert (np.ptp(spacings, axis=0) > 0.5).all()
    ratio = spacings.max(1) / spacings.min(1)
    assert ratio.min() < 1.01
    assert ratio.max() > 1.5


def test_organs_have_their_size_and_side_at_any_protocol(mixed):
    """Shapes are drawn in space: neither voxel size nor the order of axes changes where and how large they are."""
    for label in mixed:
        milliliters = (
            np.bincount(np.asarray(label.dataobj).ravel(), minlength=6)[1:] * np.prod(label.header.get_zooms()) / 1000
        )
        low, high = [90, 3, 70, 50, 8], [350, 10, 350, 250, 60]
        assert (milliliters > low).all()
        assert (milliliters < high).all()
        liver, head, tail = (middle(label, ORGANS.index(name) + 1) for name in ("liver", "head", "tail"))
        assert liver[0] < -10 < 10 < head[0]
        assert head[1] > tail[1] + 20
        assert liver[2] > head[2] + 10


def test_a_body_is_the_same_on_two_grids():
    def draw(size, parts):
        sampling = Sampling(size, np.array(FIELD_OF_VIEW), parts)
        return draw_phantom(np.random.default_rng(5), sampling, ("head", "tail"))

    (fine, fine_label), (coarse, coarse_label) = draw((40, 48, 32), (1, 1, 1)), draw((40, 48, 16), (1, 1, 2))
    means = fine.reshape(40, 48, 16, 2).mean(3)
    assert np.corrcoef(means.ravel(), coarse.ravel())[0, 1] > 0.95
    overlap = (fine_label[..., ::2] > 0) & (coarse_label > 0)
    assert 2 * overlap.sum() / ((fine_label[..., ::2] > 0).sum() + (coarse_label > 0).sum()) > 0.93


BAD = [{"count": 0}, {"test_count": -1}, {"size": (40, 48, 8)}, {"size": (40, 48)}]
BAD += [{"structures": ()}, {"structures": ("heart",)}, {"structures": ("head", "head")}]


@pytest.mark.parametrize("arguments", BAD)
def test_bad_arguments(tmp_path, arguments):
    with pytest.raises(InputError):
        write_phantom_dataset(tmp_path / "new", **arguments)
    assert not (tmp_path / "new").exists()

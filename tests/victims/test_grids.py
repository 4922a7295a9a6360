# SPDX-License-Identifier: Apache-2.0
"""Whatever grid a recipe lets networks see, the score is that of the file's own voxels, left and right in place."""

from __future__ import annotations

import dataclasses
from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import RandAdjustContrastd, ScaleIntensityRanged
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray
from torch import Tensor, nn

from monai_unlearnable.countermeasures import RandSharpenLowPassd
from monai_unlearnable.data import Grid, load_cases, median_spacing, spatial_affine
from monai_unlearnable.evaluation.bench import Bench
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.victims import (
    Classification,
    MonaiPreparation,
    Placement,
    Recipe,
    Segmentation,
    Victim,
)

AROUND = [-0.2, 0.15, 0.1]  # rotation about each axis of the patient, in radians


class Threshold(nn.Module):
    """Knows the answer: the right organ is bright, the left one brighter."""

    def __init__(self, *levels: float) -> None:
        super().__init__()
        self.levels = nn.Parameter(torch.tensor(levels))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([-(x[:, :1] - level).abs() for level in self.levels], 1)


def turned(angles: list[float]) -> NDArray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        plane, (cos, sin) = [other for other in range(3) if other != axis], (np.cos(angle), np.sin(angle))
        turn = np.eye(3)
        turn[np.ix_(plane, plane)] = [[cos, -sin], [sin, cos]]
        matrix = matrix @ turn
    return matrix


def write_organs(root: Path, name: str, codes: str, spacing: tuple[float, float, float], oblique: bool = False) -> None:
    """Two ellipsoids of 18 to 24 mm, one to the right, one to the left, in a body of 80 x 64 x 48 mm."""
    extent = np.array([80.0, 64, 48])
    shape = np.round(extent / spacing).astype(int)
    points = np.stack(np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, spacing, strict=True)), indexing="ij"), -1)
    center, image, label = extent / 2 - np.array(spacing) / 2, np.full(shape, 20.0), np.zeros(shape, np.uint8)
    for value, place, axes in ((1, (15, 4, 0), (10, 12, 9)), (2, (-15, -4, 2), (12, 9, 10))):
        inside = (((points - center - np.array(place)) / axes) ** 2).sum(-1) <= 1
        image[inside], label[inside] = 20 + 100 * value, value
    image[:2] = 0  # nothing there: cropped as background
    affine = np.eye(4)
    affine[:3, :3] = (turned(AROUND) if oblique else np.eye(3)) * spacing
    affine[:3, 3] = [-31, 12.5, 7]
    change = ornt_transform(io_orientation(np.eye(4)), axcodes2ornt(codes))
    for folder, voxels in (("images", image.astype(np.int16)), ("labels", label)):
        stored = nib.apply_orientation(voxels, change)
        path = root / folder / f"{name}.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(stored, affine @ inv_ornt_aff(change, voxels.shape)), path)


CODES = ["".join(axes) for order in permutations(("RL", "AP", "SI")) for axes in product(*order)]


def recipe(name: str, dims: int = 3, size: tuple[int, ...] = (32, 32, 24), **values: Any) -> Recipe:
    fixed = {"dims": dims, "size": list(size), "ras_size": list(size), "ras_spacing": [2.0, 2, 2][:dims]}
    fixed |= {"spacing": [2.0, 2, 2][:dims], "nnunet_size": list(size)}
    fixed |= {"keys": ["image", "label"], "iterations": 20, "batch_size": 2, "learning_rate": 0.01, "weights": None}
    built: Recipe = Catalog.load("recipes").build(name, **{**fixed, **values})
    return built


# intensities of body and organs in [0, 1], and as z-scores
LEVELS = {"monai": (0.0, 0.52, 1.0), "nnunet": (-0.19, 3.1, 6.3)}


def oracle_scores(cases: list[dict[str, Any]], how: Recipe, network: nn.Module | None = None) -> list[float]:
    victim = Victim(network or Threshold(*LEVELS["monai"]), Segmentation((0, 1, 2)), how)
    return [float(score) for score in victim.examiner(cases).predict().score().by_case]


@pytest.mark.parametrize("name", ["monai", "nnunet"])
def test_predictions_come_back_in_every_orientation(tmp_path: Path, name: str) -> None:
    """All 48: a swap of left and right, or of any axes, would cost most of the score."""
    for codes in CODES if name == "monai" else CODES[::5]:
        write_organs(tmp_path, codes, codes, (2.5, 2, 3))
    cases = [case.to_dict() for case in load_cases(tmp_path)]
    scores = oracle_scores(cases, recipe(name), Threshold(*LEVELS[name]))
    assert min(scores) > 93 and np.ptp(scores) < 2, scores


@pytest.mark.parametrize("spacing", [(2, 2, 2), (1, 1, 6), (1.5, 3, 2)])
@pytest.mark.parametrize("codes", ["RAS", "LPS", "SLA"])
def test_predictions_come_back_at_every_spacing(tmp_path: Path, codes: str, spacing: tuple[float, ...]) -> None:
    write_organs(tmp_path, "a", codes, spacing, oblique=True)  # type: ignore[arg-type]
    cases = [case.to_dict() for case in load_cases(tmp_path)]
    least = 99.9 if spacing == (2, 2, 2) else 90  # thick slices: between the organs of 100 and 200 lies 100
    assert oracle_scores(cases, recipe("monai"))[0] > least


def test_networks_see_patients_alike(tmp_path: Path) -> None:
    """The organs lie at the same places of the input, whatever the file."""
    for name, codes, spacing in (("a", "RAS", (2, 2, 2)), ("b", "PIR", (2.5, 2, 4)), ("c", "LSA", (1.5, 2, 2))):
        write_organs(tmp_path, name, codes, spacing)  # type: ignore[arg-type]
    cases = [case.to_dict() for case in load_cases(tmp_path)]
    samples = [recipe("monai").preprocessing(Segmentation((0, 1, 2)))(case) for case in cases]
    centers = [[(sample["label"][0] == value).nonzero().float().mean(0) for value in (1, 2)] for sample in samples]
    for found in centers[1:]:
        for place, other in zip(found, centers[0], strict=True):
            assert torch.allclose(place, other, atol=1)
    assert all(sample["label"].dtype == torch.uint8 for sample in samples)
    assert all(sample["image"].min() >= 0 and sample["image"].max() <= 1 for sample in samples)
    assert centers[0][0][0] > centers[0][1][0]  # the right organ at larger indices


def test_without_resampling_scores_are_exact(tmp_path: Path) -> None:
    """Cropped and padded around the center, voxels that are cut off count as background."""
    write_organs(tmp_path, "a", "LPS", (2, 2, 2))
    (case,) = [case.to_dict() for case in load_cases(tmp_path)]
    for size in ((48, 24, 32), (16, 16, 16)):
        how = Recipe(size)
        sample = how.preprocessing(Segmentation((0, 1, 2)), scored=True)(case)
        native = nib.load(case["label"]).get_fdata()
        assert torch.equal(sample["label"][0], torch.from_numpy(native).to(torch.uint8))
        placement = Placement(sample["view"], native.shape)
        drawn = torch.randn(3, *size, generator=torch.Generator().manual_seed(0))
        expected = torch.zeros(native.shape, dtype=torch.int64)
        own, file = [], []
        for wanted, found in zip(size, native.shape, strict=True):
            before = wanted // 2 - found // 2 if wanted < found else (wanted - found) // 2
            own.append(slice(max(before, 0), max(before, 0) + min(wanted, found)))
            file.append(slice(max(-before, 0), max(-before, 0) + min(wanted, found)))
        expected[tuple(file)] = drawn.argmax(0)[tuple(own)]
        assert torch.equal(placement.classes(drawn, lambda logits: logits.argmax(0)), expected)
        assert torch.equal(sample["image"][(0, *own)], placement.image(sample["image"])[(0, *file)])


def test_turns_and_flips_need_no_interpolation() -> None:
    image = torch.randint(9, (2, 4, 5, 6), generator=torch.Generator().manual_seed(0))
    seen = image.permute(0, 3, 1, 2).flip(1)  # input axis 0 is file axis 2 from its end
    matrix = torch.tensor([[0.0, 0, -1, 5], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    assert torch.equal(Placement(matrix, (4, 5, 6)).image(seen), image)


def test_linear_interpolation_takes_small_pieces_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = torch.randn(3, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    matrix = torch.tensor([[0.5, 0, 0, -0.25], [0, 0.7, 0, -1], [0, 0, 0.8, 2], [0, 0, 0, 1]])
    placement = Placement(matrix, (14, 12, 10))
    whole = placement.classes(logits, lambda values: values.argmax(0))
    monkeypatch.setattr("monai_unlearnable.victims.prediction.PIECE", 1000)
    assert torch.equal(placement.classes(logits, lambda values: values.argmax(0)), whole)
    assert whole[:12].any() and not whole[12:].any()
    assert whole[:, 0].eq(0).all() and whole[:, :, 8:].eq(0).all()  # beyond the input


def trained_sample(case: dict[str, Any], how: Recipe, *steps: Any) -> dict[str, Any]:
    """A training sample, before the augmentation."""
    victim = Victim(Threshold(0.0), Segmentation((0, 1, 2)), dataclasses.replace(how, augmentation=()), steps=steps)
    sample: dict[str, Any] = victim._loader([case]).dataset[0]
    return sample


@pytest.mark.parametrize("name", ["monai", "nnunet"])
def test_what_countermeasures_do_anew_each_time_does_not_disturb_the_grid(tmp_path: Path, name: str) -> None:
    write_organs(tmp_path, "a", "PIR", (2.5, 2, 4))
    (case,) = [case.to_dict() for case in load_cases(tmp_path)]
    expected = trained_sample(case, recipe(name))
    for step in (RandSharpenLowPassd("image"), RandAdjustContrastd("image", 1), lambda sample: dict(sample)):
        found = trained_sample(case, recipe(name), step)
        assert found["label"].sum().item() == pytest.approx(expected["label"].sum().item(), rel=0.02)
        assert np.abs(np.subtract(found["image"].shape, expected["image"].shape)).max() <= 4  # what is empty is cut off
        assert type(found["image"]) is torch.Tensor


def test_pictures_have_no_patient_axes(tmp_path: Path) -> None:
    """2D images, with two sizes of pixels and one channel more, through a recipe that resamples."""
    rows, columns = np.ogrid[:60, :44]
    label = (((rows - 20) / 9) ** 2 + ((columns - 25) / 12) ** 2 <= 1).astype(np.uint8)
    for folder, voxels in (("images", (50 + 100 * label).astype(np.int16)), ("labels", label)):
        (tmp_path / folder).mkdir()
        affine = np.diag([1.0, 1.5, 1, 1])
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / folder / "a.nii.gz")
    cases = [case.to_dict() for case in load_cases(tmp_path)]
    how = recipe("monai", dims=2, size=(32, 32), ras_spacing=[1.2, 1.2])
    victim = Victim(Threshold(0.0, 1.0), Segmentation((0, 1)), how)
    assert victim.score(cases).value > 97


def test_median_spacing_is_along_the_patient(tmp_path: Path) -> None:
    affine = np.array([[0, 0, -3.0, 0], [1.5, 0, 0, 0], [0, 2, 0, 0], [0, 0, 0, 1]])
    first, second = Grid.of((10, 20, 30), affine), Grid.of((40, 50, 60), np.diag([2.0, 1, 1, 1]))
    assert first == Grid((10, 20, 30), (1.5, 2.0, 3.0), (1, 2, 0), (False, False, True))
    assert first.oriented == Grid((30, 10, 20), (3.0, 1.5, 2.0), (0, 1, 2))
    assert median_spacing([grid.oriented for grid in (first, second, second)]) == (2, 1, 1)
    assert Grid.of((4, 5), affine) == Grid((4, 5), (1.5, 2.0), (0, 1))


def test_places_that_span_no_space_keep_distances() -> None:
    assert np.array_equal(spatial_affine(np.zeros((4, 4)), 3), np.eye(4))
    flat = np.array([[0, 0, 0, 4.0], [2, 0, 0, 3], [0, 3, 0, 2], [0, 0, 0, 1]])
    assert np.array_equal(spatial_affine(flat, 3), np.diag([2.0, 3, 1, 1]))
    assert np.array_equal(spatial_affine(flat, 2), np.diag([2.0, 3, 1]))


def test_fixed_windows_are_those_of_the_tutorials(tmp_path: Path) -> None:
    write_organs(tmp_path, "a", "RAS", (2, 2, 2))
    (case,) = [case.to_dict() for case in load_cases(tmp_path)]
    window = ScaleIntensityRanged("image", 0, 200, 0, 1, clip=True)
    how = Recipe((40, 32, 24), intensity=[window], preparation=MonaiPreparation((2, 2, 2)))
    seen = how.preprocessing(Segmentation((0, 1, 2)))(case)["image"]
    assert {round(value, 2) for value in seen.unique().tolist()} == {0, 0.1, 0.6, 1}


def test_classifiers_take_the_tutorials_of_classification() -> None:
    how = recipe("monai", dims=2, size=(20, 20), keys=["image"])
    names = [type(step).__name__ for step in how.augmentation]
    assert names == ["RandRotated", "RandFlipd", "RandZoomd", "EnsureTyped"]
    assert how.preparation.transforms(Classification(2), ["image"]) == []


def test_recipes_of_a_laboratory_know_the_spacing_of_the_set(tmp_path: Path) -> None:
    """Along the patient for MONAI's pipeline, along the axes of the files for nnU-Net's, both part of the key."""
    for name, codes, spacing in (("a", "RAS", (2, 2, 4)), ("b", "SRA", (2, 2, 4)), ("c", "ASR", (2, 2, 4))):
        write_organs(tmp_path, name, codes, spacing)  # type: ignore[arg-type]
    values = Bench(Matrix(str(tmp_path))).values
    assert values["ras_spacing"] == [2, 2, 4] and values["ras_size"] == [16, 16, 16]
    assert values["spacing"] == [2, 2, 2]
    assert Bench(Matrix(str(tmp_path), size=(24, 24, 16))).values["ras_size"] == [24, 24, 16]
    bench = Bench(Matrix(str(tmp_path)))
    how = bench.recipe("monai")
    assert how.size == (16, 16, 16), "smaller than the scans, so that patches have positions"
    assert values["nnunet_size"] == [32, 32, 32] and bench.recipe("nnunet").size == (32, 32, 32)
    assert isinstance(how.preparation, MonaiPreparation) and tuple(how.preparation.spacing) == (2, 2, 4)

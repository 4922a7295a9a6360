# SPDX-License-Identifier: Apache-2.0
"""Carriers that are planned for another grid come out of the resampling as carriers."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import CropForegroundd, Orientation, Spacing
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import Grid
from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import FixedWindow
from monai_unlearnable.masks import Everywhere
from monai_unlearnable.perturbers import NyquistCarriers
from monai_unlearnable.perturbers.planned import PlannedGrid
from monai_unlearnable.publishing.choices import planned_grid
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.transforms import GenerateNoise, LoadScan
from monai_unlearnable.victims import ResampleSpacingd

SHAPE = (24, 27, 20)
ORIENTATIONS = [np.diag([1.0, 1, 1, 1]), np.diag([-1.0, -1, 1, 1]), np.eye(4)[[2, 0, 1, 3]] * [1, -1, 1, 1]]
PITCH = (0.8, 0.9, 1.0)  # mm between voxels along the axes of the file


def affine(orientation: NDArray) -> NDArray:
    return orientation @ np.diag([*PITCH, 1])


def carrier(perturber: NyquistCarriers, matrix: NDArray) -> MetaTensor:
    """Noise of a scan of one class, where the scan lies in space."""
    planned = perturber.for_grid(Grid.of(SHAPE, matrix))
    noise = planned.delta(torch.zeros(1, 1, *SHAPE), ["a"], torch.tensor([1]))[0]
    assert noise.abs().max() <= perturber.epsilon + 1e-6
    return MetaTensor(noise, affine=torch.as_tensor(matrix))


def alternates(values: torch.Tensor) -> float:
    """The amplitude of the checkerboard of all axes in a volume, 0 to 1."""
    signs = torch.as_tensor((-1.0) ** np.indices(values.shape).sum(axis=0))
    return abs(float((values * signs).mean()))


def planned(grid: PlannedGrid | None) -> NyquistCarriers:
    return NyquistCarriers(2, 3, 1.0, Everywhere(), carriers=[(), (0, 1, 2)], grid=grid)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_as_monai_resamples(orientation: NDArray) -> None:
    matrix, spacing = affine(orientation), (1.2, 1.5, 1.3)
    resample = [Orientation("RAS", labels=None), Spacing(spacing)]
    amplitudes = {}
    for name, grid in {"planned": PlannedGrid(spacing), "native": None}.items():
        scan = carrier(planned(grid), matrix)
        for transform in resample:
            scan = transform(scan)
        amplitudes[name] = alternates(scan[0])
    assert amplitudes["planned"] > 0.5 and amplitudes["native"] < 0.05


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rows_run_along_one_axis_of_the_patient_however_scans_are_stored(orientation: NDArray) -> None:
    matrix, spacing = affine(orientation), (1.2, 1.5, 1.3)
    rows = NyquistCarriers(2, 3, 1.0, Everywhere(), carriers=[(), (2,)], grid=PlannedGrid(spacing))
    seen = Spacing(spacing)(Orientation("RAS", labels=None)(carrier(rows, matrix)))[0]
    signs = (-1.0) ** torch.arange(seen.shape[2])
    assert abs(float((seen * signs).mean())) > 0.5, "up and down, for all"


def test_as_nnunet_resamples() -> None:
    matrix, spacing = affine(ORIENTATIONS[1]), (1.2, 1.5, 1.3)
    scan = carrier(planned(PlannedGrid(spacing, "edges")), matrix)
    resampled = ResampleSpacingd("image", spacing)({"image": scan})["image"]
    assert alternates(torch.as_tensor(resampled)[0]) > 0.8


def test_a_scan_on_the_planned_grid_is_as_without() -> None:
    matrix = affine(ORIENTATIONS[0])
    for rule in ("centers", "edges"):
        noise = carrier(planned(PlannedGrid(PITCH, rule)), matrix)
        assert torch.equal(noise.abs(), torch.ones_like(noise)) and alternates(noise[0]) == 1


def test_a_scan_that_is_too_coarse_alternates_along_the_other_axes() -> None:
    grid = PlannedGrid((0.8, 0.9, 0.5))  # half the distance along the third axis
    noise = carrier(planned(grid), affine(ORIENTATIONS[0]))[0]
    assert torch.equal(noise, noise[..., :1].expand(noise.shape)) and noise.abs().min() == 1
    everywhere = carrier(planned(PlannedGrid((0.4, 0.4, 0.4))), affine(ORIENTATIONS[0]))
    assert everywhere.abs().max() > 0


def test_rows_stay_rows_where_a_scan_is_too_coarse_along_their_axis() -> None:
    rows = NyquistCarriers(2, 3, 1.0, Everywhere(), carriers=[(), (2,)], grid=PlannedGrid((0.8, 0.9, 0.5)))
    noise = carrier(rows, affine(ORIENTATIONS[0]))[0]
    assert torch.equal(noise, noise[:, :1, :1].expand(noise.shape)) and torch.equal(noise[1:], -noise[:-1])


def test_classes_stay_different_where_a_scan_is_too_coarse() -> None:
    """Along the third axis: checkerboards of three axes and of the first two would be one."""
    grid = PlannedGrid((0.8, 0.9, 0.5))
    perturber = NyquistCarriers(3, 3, 1.0, Everywhere(), carriers=[(), (0, 1, 2), (0, 1)], grid=grid)
    planned = perturber.for_grid(Grid.of(SHAPE, affine(ORIENTATIONS[0])))
    image, names = torch.zeros(1, 1, *SHAPE), ["a"]
    first, second = (planned.delta(image, names, torch.tensor([kind])) for kind in (1, 2))
    assert abs(float((first * second).mean())) < 0.1


@pytest.mark.parametrize("mixture", [(0.5, 0.5), (0.6, 0.4), (0.3, 0.3, 0.4)])
def test_carriers_of_a_class_that_become_the_same_do_not_cancel_out(mixture: tuple[float, ...]) -> None:
    """Three are left of seven, and two of a class may become one, with opposite signs."""
    thick, image = Grid((12, 12, 8), (1.0, 1.0, 5.0), (0, 1, 2)), torch.zeros(1, 12, 12, 8)
    for seed in range(20):
        arguments = {"carriers": "keyed", "mixture": mixture, "seed": seed}
        drawn = NyquistCarriers(4, 3, 1.0, grid=PlannedGrid((1.0, 1.0, 1.0)), **arguments).for_grid(thick)
        patterns = [drawn.pattern(kind, "a", image) for kind in range(4)]
        assert all(float(pattern.abs().max()) == pytest.approx(1) for pattern in patterns)
        assert all(float(pattern.square().mean().sqrt()) > 0.5 for pattern in patterns)


def test_thick_slices_as_nnunet_resamples() -> None:
    matrix, spacing = np.diag([0.8, 0.9, 4.0, 1]), (1.2, 1.5, 5.0)
    scan = carrier(planned(PlannedGrid(spacing, "edges")), matrix)
    resampled = ResampleSpacingd("image", spacing)({"image": scan})["image"]
    assert alternates(torch.as_tensor(resampled)[0]) > 0.8


def test_files_and_transforms_know_where_voxels_lie(tmp_path: Path) -> None:
    """Two scans of one shape: one on the planned grid, one finer."""
    voxels = np.random.default_rng(0).integers(100, 900, (12, 12, 12)).astype("int16")
    for name, pitch in (("a", 1.0), ("b", 0.75)):
        for folder, values in (("images", voxels), ("labels", np.ones_like(voxels))):
            file = tmp_path / "data" / folder / f"{name}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values, np.diag([pitch, pitch, pitch, 1])), file)
    window = {"_target_": "monai_unlearnable.intensity.FixedWindow", "low": 0, "high": 1000}
    settings = {"window": window, "label_values": [0, 1], "grid": [1.0, 1.0, 1.0]}
    run_bundle("carrier", dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "out"), **settings)
    changes = {}
    for name in "ab":
        files = [tmp_path / folder / f"images/{name}.nii.gz" for folder in ("data", "out/protected")]
        changes[name] = np.subtract(*(np.asanyarray(nib.load(file).dataobj).astype(int) for file in files))
    assert len(np.unique(np.abs(changes["a"]))) == 1 and len(np.unique(np.abs(changes["b"]))) > 1
    transform = GenerateNoise(tmp_path / "out/models/perturber.safetensors", FixedWindow(0, 1000), Budget(8 / 255))
    with pytest.raises(InputError, match="needs to know where voxels lie"):
        transform(voxels[None].astype("float32"), np.ones((1, 12, 12, 12), "uint8"))


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"spacing": (1, 0, 1)}, "a positive number"), ({"spacing": (1, 1), "rule": "middle"}, "unknown rule of resampl")],
)
def test_wrong_grids(settings: dict, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        PlannedGrid(**settings)
    with pytest.raises(InputError, match="does not fit scans of 3 axes"):
        PlannedGrid((1.0, 1.0)).lines(Grid.of(SHAPE, np.eye(4)))


def bordered(border: tuple[tuple[int, int], ...] = ((5, 3), (0, 4), (2, 2))) -> NDArray:
    """A scan of noise within zeros, (spatial...)."""
    inside = np.random.default_rng(0).integers(100, 900, np.subtract(SHAPE, np.sum(border, axis=1)))
    return np.pad(inside, border).astype(np.float32)


def shown(voxels: NDArray, noise: MetaTensor, nnunet: bool, spacing: tuple[float, ...]) -> float:
    """The amplitude of the checkerboard that an exploiter sees, who crops the protected scan and resamples it."""
    protected = MetaTensor(torch.as_tensor(voxels)[None] + noise.as_tensor(), affine=noise.affine)
    data = {"noise": noise, "image": protected}
    data = CropForegroundd(("noise", "image"), "image", select_fn=lambda image: image != 0, allow_smaller=True)(data)
    if nnunet:
        return alternates(torch.as_tensor(ResampleSpacingd("noise", spacing)(data)["noise"][0]))
    return alternates(torch.as_tensor(Spacing(spacing)(Orientation("RAS", labels=None)(data["noise"]))[0]))


@pytest.mark.parametrize("nnunet", [True, False])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_crop_before_the_resampling(orientation: NDArray, nnunet: bool) -> None:
    """It moves the voxels of the resampled scan by fractions of a voxel; unplanned, nothing is left of the carrier."""
    matrix, spacing, voxels = affine(orientation), (1.2, 1.5, 1.3), bordered()
    grid, amplitudes = Grid.of(SHAPE, matrix), {}
    for crop, placed in {"nonzero": grid.cropped(voxels[None] != 0), "none": grid}.items():
        source = planned(PlannedGrid(spacing, "edges" if nnunet else "centers", crop)).for_grid(placed)
        noise = source.delta(torch.zeros(1, 1, *SHAPE), ["a"], torch.tensor([1]))[0] * torch.as_tensor(voxels != 0)
        amplitudes[crop] = shown(voxels, MetaTensor(noise, affine=torch.as_tensor(matrix)), nnunet, spacing)
    assert amplitudes["nonzero"] > (0.8 if nnunet else 0.4)
    assert amplitudes["none"] < 0.2 * amplitudes["nonzero"]


def test_a_crop_of_nothing_or_of_all_is_none() -> None:
    grid = Grid.of(SHAPE, np.eye(4))
    assert grid.cropped(np.ones((1, *SHAPE), bool)) == grid == grid.cropped(np.zeros((1, *SHAPE), bool))


def test_what_is_cut_off_stays_as_it_is(tmp_path: Path) -> None:
    """So that the crop of the published file is that of the original, and shows the carrier; in a pipeline too."""
    write = {"a": 0.75, "b": 1.0, "c": 1.0}
    for name, pitch in write.items():
        for folder, values in (("images", bordered()), ("labels", np.ones(SHAPE))):
            file = tmp_path / "data" / folder / f"{name}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(values.astype("int16"), np.diag([pitch, pitch, pitch, 1])), file)
    window = {"_target_": "monai_unlearnable.intensity.FixedWindow", "low": 0, "high": 1000}
    settings = {"window": window, "label_values": [0, 1], "grid": "nnunet", "carriers": [[], [0, 1, 2]]}
    run_bundle("carrier", dataset_dir=str(tmp_path / "data"), output_dir=str(tmp_path / "out"), **settings)
    clean, protected = (nib.load(tmp_path / folder / "images/a.nii.gz") for folder in ("data", "out/protected"))
    voxels, change = np.asarray(clean.dataobj), np.subtract(*(np.asarray(i.dataobj, float) for i in (protected, clean)))
    assert np.array_equal(change != 0, (change != 0) & (voxels != 0))
    noise = MetaTensor(torch.as_tensor(change)[None] / np.abs(change).max(), affine=torch.as_tensor(clean.affine))
    assert shown(voxels, noise, True, (1.0, 1.0, 1.0)) > 0.6
    transform = GenerateNoise(tmp_path / "out/models/perturber.safetensors", FixedWindow(0, 1000), Budget(8 / 255))
    image = LoadScan()(tmp_path / "data/images/a.nii.gz")
    assert np.array_equal(transform(image, np.ones((1, *SHAPE), "uint8"))[0], np.asarray(protected.dataobj))


def test_the_usual_crop_is_that_of_the_pipeline() -> None:
    summary = SimpleNamespace(grids=[Grid.of(SHAPE, np.eye(4))], spatial_dims=3)
    crops = {name: planned_grid(name, summary).crop for name in ("median", "nnunet")}
    assert crops == {"median": "foreground", "nnunet": "nonzero"}
    assert planned_grid([1, 1, 1], summary, "none").crop == "none"
    with pytest.raises(InputError, match="unknown crop 'nonzeros'.*did you mean 'nonzero'"):
        planned_grid("median", summary, "nonzeros")
    with pytest.raises(InputError, match="changes nothing where scans are not resampled"):
        planned_grid("native", summary, "nonzero")


@pytest.mark.parametrize(
    ("grid", "faint"), [([0.5, 0.5, 0.5], 2), ([1, 1, 1], 1), ([2, 2, 2], 0), ([0.5, 0.5, 2], 0), ("median", 1)]
)
def test_scans_that_are_too_coarse_are_counted(
    grid: list[float] | str, faint: int, caplog: pytest.LogCaptureFixture
) -> None:
    grids = [Grid((20, 20, 20), (spacing,) * 3, (0, 1, 2)) for spacing in (1.0, 2.0)]
    planned_grid(grid, SimpleNamespace(grids=grids, spatial_dims=3))
    assert (f"{faint} of 2 scans are too coarse" in caplog.text) == (faint > 0)

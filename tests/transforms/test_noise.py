# SPDX-License-Identifier: Apache-2.0
"""Stored noise inside MONAI pipelines: what a model sees is what the published file holds."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    Flipd,
    LoadImaged,
    Orientationd,
    RandFlipd,
    RandGaussianNoised,
    Resized,
    Rotate90d,
    Spacingd,
    SpatialPadd,
    Zoomd,
)

from monai_unlearnable import transforms
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import NoiseError, NoiseMismatchError
from monai_unlearnable.intensity import DtypeWindow
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.transforms import ApplyNoise, ApplyNoised, LoadScan, LoadScand, RemoveNoise, RemoveNoised
from tests.helpers import (
    SHAPES,
    protect,
    random_image,
    small_umed,
    two_classes,
    write_datalist,
    write_dataset,
    write_nifti,
)

STORAGE = {
    "int16": (3, "int16", ".nii.gz", None),
    "uint8-png": (2, "uint8", ".png", None),
    "uint16-slope": (3, "uint16", ".nii", 0.37),
    "int16-negative-slope": (2, "int16", ".nii.gz", -2.0),
    "float32": (3, "float32", ".nii.gz", None),
}


@pytest.fixture(scope="module", params=STORAGE)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    dims, dtype, suffix, slope = STORAGE[request.param]
    root = tmp_path_factory.mktemp("stored")
    clean = write_dataset(root / "clean", dims, dtype, suffix=suffix, slope=slope)
    window = DtypeWindow() if suffix == ".png" else None
    protect(clean, root / "out", small_umed(dims), window)
    case, other = load_cases(clean)
    item, protected = case.to_dict(), str(root / "out/protected" / case.images[0])
    flat = dims == 2 and suffix != ".png"  # MONAI gives 2D NIfTI files no channel of their own
    return SimpleNamespace(noise=root / "out/noise", item=item, protected=protected, other=other.to_dict(), flat=flat)


def values(image: torch.Tensor) -> bytes:
    return np.ascontiguousarray(image).tobytes()


def test_applied_noise_is_the_published_file(stored: SimpleNamespace) -> None:
    for load in (
        LoadScand("image"),
        LoadScand("image", dtype=np.float64),
        LoadImaged("image", ensure_channel_first=True),
    ):
        done = Compose([load, ApplyNoised("image", stored.noise)])(stored.item)["image"]
        published = load({"image": stored.protected})["image"]
        assert isinstance(done, MetaTensor) and done.dtype == published.dtype
        assert values(done) == values(published) != values(load(stored.item)["image"])
        assert done.meta["protection"] == {"state": "protected", "case_id": stored.item["case_id"]}
        assert torch.equal(done.affine, published.affine)


def test_removed_noise_gives_the_clean_file(stored: SimpleNamespace) -> None:
    for load in (LoadScand("image"), LoadImaged("image", ensure_channel_first=True)):
        remove = RemoveNoised("image", stored.noise)
        clean = load(stored.item)["image"]
        assert values(remove(load({**stored.item, "image": stored.protected}))["image"]) == values(clean)
        back = Compose([load, ApplyNoised("image", stored.noise), remove])(stored.item)["image"]
        assert values(back) == values(clean) and back.meta["protection"]["state"] == "clean"


@pytest.mark.parametrize("kind", ["numpy", "torch", "meta"])
def test_type_dtype_and_input_are_kept(stored: SimpleNamespace, kind: str) -> None:
    loaded = LoadScan()(stored.item["image"])
    image = {"numpy": loaded.numpy(), "torch": loaded.as_tensor(), "meta": loaded}[kind]
    before = values(image)
    done = ApplyNoise(stored.noise)(image, stored.item["case_id"])
    assert type(done) is type(image) and done.dtype == image.dtype and done.shape == image.shape
    assert values(done) == values(LoadScan()(stored.protected)) and values(image) == before
    assert values(RemoveNoise(NoiseStore(stored.noise))(done, stored.item["case_id"])) == before


def test_wrong_voxels(stored: SimpleNamespace) -> None:
    apply, remove = ApplyNoise(stored.noise), RemoveNoise(stored.noise)
    image, case_id = LoadScan()(stored.item["image"]).numpy(), stored.item["case_id"]
    moved = image.copy()
    moved[0, 1, 1] += 100
    for wrong in (moved, image[:, ::-1], LoadScan()(stored.other["image"]), LoadScan()(stored.protected)):
        with pytest.raises(NoiseMismatchError, match=case_id):
            apply(wrong, case_id)
    for wrong in (image[:, :-1], np.concatenate([image, image])):
        with pytest.raises(NoiseMismatchError, match=f"{case_id}: the image has"):
            apply(wrong, case_id)
    with pytest.raises(NoiseMismatchError, match="not the protected voxels"):
        remove(image, case_id)
    with pytest.raises(NoiseError, match="other.*no noise is stored"):
        apply(image, "other")


SPATIAL = {
    "Flipd": Flipd("image", 0),
    "SpatialPadd": SpatialPadd("image", (16, 16, 16)),
    "CenterSpatialCropd": CenterSpatialCropd("image", (8, 8, 8)),
    "Orientationd": Orientationd("image", "LPS", labels=None),
    "Rotate90d": Rotate90d("image"),
    "Resized": Resized("image", (8, 8, 8)),
    "Spacingd": Spacingd("image", (2, 2, 2)),
    "Zoomd": Zoomd("image", 1.5),
    "RandFlipd": RandFlipd("image", prob=1.0),
}


@pytest.mark.parametrize("name", SPATIAL)
@pytest.mark.parametrize("transform", [ApplyNoised, RemoveNoised])
def test_noise_after_a_spatial_transform_is_refused(published: SimpleNamespace, name: str, transform: type) -> None:
    item = load_cases(published.clean)[0].to_dict()
    apply = transform("image", published.out / "noise")
    with pytest.raises(NoiseMismatchError, match=r"a\.nii\.gz: \w+ was applied before the noise"):
        apply(SPATIAL[name](LoadScand("image")(item)))
    with pytest.raises(RuntimeError) as caught:  # Compose wraps what its transforms raise
        Compose([LoadScand("image"), SPATIAL[name], apply])(item)
    assert isinstance(caught.value.__cause__, NoiseMismatchError)


@pytest.mark.parametrize("lazy", [Flipd("image", 0, lazy=True), Rotate90d("image", lazy=True)])
def test_noise_after_a_pending_spatial_transform_is_refused(published: SimpleNamespace, lazy) -> None:
    data = lazy(LoadScand("image")(load_cases(published.clean)[0].to_dict()))
    assert data["image"].pending_operations
    with pytest.raises(NoiseMismatchError, match="was applied before the noise"):
        ApplyNoised("image", published.out / "noise")(data)


def test_random_transforms_that_did_not_act_are_no_obstacle(published: SimpleNamespace) -> None:
    item = load_cases(published.clean)[0].to_dict()
    idle = Compose([LoadScand("image"), RandFlipd("image", prob=0.0), RandGaussianNoised("image", prob=0.0)])
    done = ApplyNoised("image", published.out / "noise")(idle(item))
    assert values(done["image"]) == values(LoadScan()(published.out / "protected/images/a.nii.gz"))


def test_training_pipeline(published: SimpleNamespace) -> None:
    load = [LoadScand(["image", "label"]), ApplyNoised("image", published.out / "noise")]
    after = [SpatialPadd(["image", "label"], (16, 16, 16)), Flipd(["image", "label"], 0)]
    items = [case.to_dict() for case in load_cases(published.clean)]
    cached = CacheDataset(items, Compose(load + after), progress=False)
    (batch,) = DataLoader(cached, batch_size=2, num_workers=0)
    assert batch["image"].shape == (2, 1, 16, 16, 16)
    expected = Compose([LoadScand(["image", "label"]), *after])
    for one, case in zip(decollate_batch(batch), load_cases(published.out / "protected"), strict=True):
        assert one["image"].meta["protection"] == {"state": "protected", "case_id": case.case_id}
        assert values(one["image"]) == values(expected(case.to_dict())["image"])
        assert values(expected.inverse(one)["image"]) == values(LoadScan()(case.root / case.images[0]))


def test_worker_processes_give_the_same(published: SimpleNamespace) -> None:
    from monai.data import Dataset

    items = [case.to_dict() for case in load_cases(published.clean)]
    data = Dataset(items, Compose([LoadScand("image"), ApplyNoised("image", published.out / "noise")]))
    (batch,) = DataLoader(data, batch_size=2, num_workers=1)
    for image, case in zip(batch["image"], load_cases(published.out / "protected"), strict=True):
        assert values(image) == values(LoadScan()(case.root / case.images[0]))


def test_images_of_several_files(tmp_path: Path) -> None:
    for seed, name in enumerate(("t2", "t1")):
        write_nifti(tmp_path / f"clean/{name}.nii", random_image(SHAPES[3], "int16", seed))
    write_nifti(tmp_path / "clean/seg.nii", two_classes(SHAPES[3]))
    write_datalist(tmp_path / "clean", [{"image": ["t2.nii", "t1.nii"], "label": "seg.nii"}])
    protect(tmp_path / "clean", tmp_path / "out", small_umed(in_channels=2))
    (case,), (published,) = load_cases(tmp_path / "clean"), load_cases(tmp_path / "out/protected")
    done = Compose([LoadScand("image"), ApplyNoised("image", tmp_path / "out/noise")])(case.to_dict())["image"]
    assert done.shape[0] == 2 and values(done) == values(LoadScand("image")(published.to_dict())["image"])


def test_missing_keys(published: SimpleNamespace) -> None:
    for transform in (ApplyNoised, RemoveNoised):
        assert transform("image", published.out / "noise", allow_missing_keys=True)({"x": 1}) == {"x": 1}
        with pytest.raises(KeyError, match="image"):
            transform("image", published.out / "noise")({"x": 1, "case_id": "a"})


@pytest.mark.parametrize(
    "name",
    [
        "ApplyNoise",
        "RemoveNoise",
        "GenerateNoise",
        "LoadScan",
        "ScaleToWindow",
        "EncodeLabel",
        "ComputeMask",
        "SparsityMask",
    ],
)
def test_aliases(name: str) -> None:
    dictionary = getattr(transforms, f"{name}d")
    assert dictionary is getattr(transforms, f"{name}D") is getattr(transforms, f"{name}Dict")
    assert {name, f"{name}d", f"{name}D", f"{name}Dict"} <= set(transforms.__all__)
    assert dictionary.backend == getattr(transforms, name).backend

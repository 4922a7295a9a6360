# SPDX-License-Identifier: Apache-2.0
"""Loading, scaling, label encoding and masks as transforms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, MetaTensor, decollate_batch
from monai.transforms import Compose, LoadImaged

from monai_unlearnable.data import load_cases, read_case
from monai_unlearnable.errors import LabelError, ScanError, WindowError
from monai_unlearnable.intensity import DtypeWindow, FixedWindow, PercentileWindow
from monai_unlearnable.masks import ContourBand, Roi, TextureMap
from monai_unlearnable.transforms import (
    ComputeMask,
    ComputeMaskd,
    EncodeLabel,
    EncodeLabeld,
    LoadScan,
    LoadScand,
    ScaleToWindow,
    ScaleToWindowd,
)
from tests.helpers import SHAPES, random_image, two_classes, write_dataset, write_nifti

KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda x: x,
    "torch": torch.as_tensor,
    "meta": lambda x: MetaTensor(torch.as_tensor(x), affine=torch.eye(4), meta={"note": "kept"}),
}


@pytest.mark.parametrize(
    ("dims", "dtype", "suffix", "slope"),
    [
        (3, "int16", ".nii.gz", None),
        (3, "uint16", ".nii", -0.37),
        (3, "float32", ".nii", None),
        (2, "uint8", ".png", None),
    ],
)
def test_loads_what_monai_loads(tmp_path: Path, dims: int, dtype: str, suffix: str, slope: float | None) -> None:
    item = load_cases(write_dataset(tmp_path, dims, dtype, suffix=suffix, slope=slope))[0].to_dict()
    ours, theirs = LoadScand("image")(item)["image"], LoadImaged("image", ensure_channel_first=True)(item)["image"]
    assert isinstance(ours, MetaTensor) and ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert torch.allclose(ours, theirs) and torch.allclose(ours.affine, theirs.affine)
    assert ours.meta["filename_or_obj"] == item["image"]
    assert ours.meta["quantization"][0]["dtype"] == np.dtype(dtype).str


def test_several_files_are_channels(tmp_path: Path) -> None:
    paths = [
        write_nifti(tmp_path / f"{i}.nii", random_image(SHAPES[3], dtype, i))
        for i, dtype in enumerate(("int16", "float32"))
    ]
    image = LoadScan(np.float64)(paths)
    assert image.shape == (2, *SHAPES[3]) and image.dtype == torch.float64
    assert [quantization["dtype"] for quantization in image.meta["quantization"]] == ["<i2", "<f4"]
    _, step = ScaleToWindow(PercentileWindow())(image)
    assert step[0] > 0 and step[1] == 0
    write_nifti(tmp_path / "2.nii", random_image((3, 4, 5)))
    with pytest.raises(ScanError, match=r"2\.nii: shape \(3, 4, 5\) differs"):
        LoadScan()([*paths, tmp_path / "2.nii"])


def test_scaling_equals_what_methods_see(dataset: Path) -> None:
    case = load_cases(dataset)[0]
    loaded = read_case(case, PercentileWindow())
    done = Compose([LoadScand("image"), ScaleToWindowd("image", PercentileWindow())])(case.to_dict())
    assert np.array_equal(done["image"].numpy(), loaded.image)
    assert done["step"].tolist() == pytest.approx(list(loaded.step))


@pytest.mark.parametrize("kind", KINDS)
def test_scaling_keeps_the_type(kind: str) -> None:
    image = KINDS[kind](random_image((2, 9, 8), "float32"))
    done, step = ScaleToWindow(FixedWindow(-1.0, 3.0))(image)
    assert type(done) is type(image) and step.tolist() == [0, 0]
    assert np.allclose(done, np.clip((np.asarray(image) + 1) / 4, 0, 1), atol=1e-6)
    assert kind != "meta" or done.meta["note"] == "kept"


def test_scaling_of_constant_channels_is_an_error() -> None:
    image = random_image((2, 9, 8), "float32")
    image[1] = 3
    with pytest.raises(WindowError, match="constant"):
        ScaleToWindow(PercentileWindow())(image)
    with pytest.raises(ScanError, match="no window for floats"):
        ScaleToWindow(DtypeWindow())(image)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_encoded(kind: str) -> None:
    label = KINDS[kind](np.array([[[0, 255], [7, 0]]], np.float32))
    done = EncodeLabel((0, 255, 7))(label)
    assert type(done) is type(label) and done.tolist() == [[[0, 1], [2, 0]]]
    with pytest.raises(LabelError, match="unknown label value"):
        EncodeLabeld("label", (0, 255))({"label": label})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(15, 12), (9, 12, 10)])
def test_masks_equal_their_provider(kind: str, shape: tuple[int, ...]) -> None:
    image, label = random_image((1, *shape), "float32"), two_classes(shape)[None]
    provider = (ContourBand(1, 1) | Roi()) & TextureMap()
    expected = provider(torch.as_tensor(image)[None], torch.as_tensor(label)[None])[0]
    done = ComputeMaskd("image", provider)({"image": KINDS[kind](image), "label": KINDS[kind](label)})
    assert type(done["mask"]) is type(done["image"]) and done["mask"].shape == (1, *shape)
    assert np.array_equal(np.asarray(done["mask"]), expected.numpy())
    assert np.array_equal(np.asarray(done["image"]), image)


def test_masks_without_labels() -> None:
    image = random_image((1, 9, 8), "float32")
    assert ComputeMaskd("image", TextureMap(), label_key=None, mask_key="where")({"image": image})["where"].shape == (
        1,
        9,
        8,
    )
    with pytest.raises(LabelError, match="needs a label"):
        ComputeMask(Roi())(image)
    with pytest.raises(LabelError, match="does not match"):
        ComputeMask(Roi())(image, two_classes((9, 9))[None])


@pytest.mark.parametrize(
    "transform",
    [
        lambda **k: LoadScand("image", **k),
        lambda **k: ScaleToWindowd("image", PercentileWindow(), **k),
        lambda **k: EncodeLabeld("image", [0, 1], **k),
        lambda **k: ComputeMaskd("image", TextureMap(), None, **k),
    ],
)
def test_missing_keys(transform: Callable[..., Any]) -> None:
    data = {"other": 1}
    assert transform(allow_missing_keys=True)(data) == data
    with pytest.raises(KeyError, match="image"):
        transform()(data)


def test_pipeline_through_cache_loader_and_decollate(dataset: Path) -> None:
    pipeline = Compose(
        [
            LoadScand(["image", "label"]),
            EncodeLabeld("label", [0, 1, 2]),
            ScaleToWindowd("image", PercentileWindow()),
            ComputeMaskd("image", ContourBand()),
        ]
    )
    items = [case.to_dict() for case in load_cases(dataset)]
    cached = CacheDataset(items, pipeline, progress=False)
    (batch,) = DataLoader(cached, batch_size=2, num_workers=0)
    assert batch["image"].shape == batch["mask"].shape == (2, 1, *SHAPES[3]) and batch["step"].shape == (2, 1)
    for one, item in zip(decollate_batch(batch), items, strict=True):
        alone = pipeline(item)
        for key in ("image", "label", "mask"):
            assert torch.equal(one[key], alone[key])
        assert one["case_id"] == item["case_id"]

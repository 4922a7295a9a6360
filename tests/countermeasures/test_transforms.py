# SPDX-License-Identifier: Apache-2.0
"""What every image countermeasure keeps: shape, type, meta data, range, channels; and the entries of the catalog."""

from __future__ import annotations

import builtins
import inspect
import itertools
import pickle
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Randomizable

from monai_unlearnable import countermeasures
from monai_unlearnable.countermeasures import (
    BilateralFilter,
    BinomialSmooth,
    ClipSpectrum,
    GaussianFilter,
    Jpeg,
    Jpeg2000,
    NonLocalMeans,
    NormalizedTransform,
    Quantize,
    RemoveBiasField,
    ResampleBack,
    SharpenLowPass,
    TotalVariation,
)
from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from tests.countermeasures.images import unit_image

ARRAY: dict[str, Callable[[], NormalizedTransform]] = {
    "BilateralFilter": BilateralFilter,
    "BinomialSmooth": BinomialSmooth,
    "ClipSpectrum": ClipSpectrum,
    "GaussianFilter": GaussianFilter,
    "GaussianFilter along z": lambda: GaussianFilter(axes=-1),
    "Jpeg": Jpeg,
    "Jpeg along x": lambda: Jpeg(axis=0),
    "Jpeg2000": lambda: Jpeg2000(psnr=25),
    "Jpeg2000 ratio": lambda: Jpeg2000(ratio=10),
    "NonLocalMeans": NonLocalMeans,
    "NonLocalMeans wide": lambda: NonLocalMeans(patch_size=5, patch_distance=4),
    "Quantize": Quantize,
    "RemoveBiasField": lambda: RemoveBiasField(iterations=(10, 10)),
    "ResampleBack": ResampleBack,
    "ResampleBack linear": lambda: ResampleBack(1.7, order=1, anti_aliasing=True),
    "SharpenLowPass": SharpenLowPass,
    "TotalVariation": TotalVariation,
}
UNCHANGED: dict[str, NormalizedTransform] = {
    "BilateralFilter": BilateralFilter(sigma=0),
    "BilateralFilter intensity": BilateralFilter(sigma_intensity=0),
    "BinomialSmooth": BinomialSmooth(passes=0),
    "ClipSpectrum": ClipSpectrum(inner=1),
    "GaussianFilter": GaussianFilter(0),
    "NonLocalMeans": NonLocalMeans(0),
    "RemoveBiasField": RemoveBiasField(iterations=[]),
    "ResampleBack": ResampleBack(1),
    "TotalVariation": TotalVariation(0),
}
SHAPES = [(1, 17, 13), (3, 12, 9, 7), (1, 1, 1), (2, 1, 6), (1, 9, 8, 1), (1, 2, 3, 4), (1, 1, 7, 2)]
KINDS: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": lambda x: x,
    "double": lambda x: x.astype(np.float64),
    "torch": torch.as_tensor,
    "meta": lambda x: MetaTensor(torch.as_tensor(x), affine=2 * torch.eye(4), meta={"note": "kept"}),
}
CATALOG = Catalog.load("countermeasures")
IMAGE_ENTRIES = [
    *("none", "gaussian", "smooth_z", "binomial", "median", "bilateral", "tv", "nlm", "resample", "clip", "gamma"),
    *(
        "bias_field",
        "kspace_clip",
        "quantize8",
        "jpeg",
        "jpeg2000",
        "binomial+jpeg",
        "median+gaussian",
        "resample+jpeg2000",
    ),
    *("clip+gamma+quantize8", "bias_field+nlm"),
]


each = pytest.mark.parametrize("name", ARRAY)


@each
def test_any_extent(name: str) -> None:
    for shape in SHAPES:
        image = unit_image(shape)
        before = image.copy()
        done = ARRAY[name]()(image)
        assert done.shape == shape and done.dtype == np.float32, shape
        assert np.isfinite(done).all() and done.min() >= 0 and done.max() <= 1, shape
        assert np.array_equal(image, before) and not np.shares_memory(image, done), shape


@each
def test_repeatable_and_each_channel_alone(name: str) -> None:
    for shape in [(2, 17, 13), (2, 12, 9, 7)]:
        image, change = unit_image(shape), ARRAY[name]()
        done = change(image)
        assert np.array_equal(done, change(image)), shape
        assert np.array_equal(done[1:], change(image[1:])), shape
        assert not np.array_equal(done, image), shape


@each
def test_keeps_type_and_meta_data(name: str) -> None:
    plain, change = unit_image((1, 9, 8, 6)), ARRAY[name]()
    for kind, make in KINDS.items():
        image = make(plain)
        done = change(image)
        assert type(done) is type(image) and str(done.dtype).endswith("float32"), kind
        assert np.array_equal(np.asarray(done), change(plain)), kind
        if kind == "meta":
            assert done.meta["note"] == "kept" and torch.equal(done.affine, image.affine)


@each
def test_constant_images_pass(name: str) -> None:
    for value, shape in itertools.product((0.0, 0.37, 1.0), [(1, 8, 7), (1, 6, 7, 3)]):
        done = ARRAY[name]()(np.full(shape, value, np.float32))
        coarse = 6 / 255 if "Jpeg" in name else 0.5 / 255 + 1e-6  # strong compression rounds the mean of a block too
        assert np.ptp(done) < 1e-6 and np.abs(done - value).max() < coarse, (value, shape)


@pytest.mark.parametrize("name", UNCHANGED)
def test_no_strength_no_change(name: str) -> None:
    for shape in [(2, 9, 8), (1, 6, 7, 3)]:
        assert np.array_equal(UNCHANGED[name](unit_image(shape)), unit_image(shape))


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in ARRAY}))
def test_dictionary_versions(name: str) -> None:
    array, dictionary = getattr(countermeasures, name), getattr(countermeasures, f"{name}d")
    assert dictionary is getattr(countermeasures, f"{name}D") is getattr(countermeasures, f"{name}Dict")
    options = {"Jpeg2000": {"psnr": 25}, "RemoveBiasField": {"iterations": [10]}}.get(name, {})
    image, label = unit_image((1, 9, 8)), np.ones((1, 9, 8), np.uint8)
    done = dictionary("image", **options)({"image": image, "label": label})
    assert np.array_equal(done["image"], array(**options)(image)) and done["label"] is label
    assert dictionary(["image", "other"], allow_missing_keys=True, **options)({"image": image})
    with pytest.raises(KeyError):
        dictionary("other", **options)({"image": image})


def test_batches_are_refused() -> None:
    with pytest.raises(InputError, match="channel, 2 or 3 spatial axes"):
        GaussianFilter()(np.zeros((1, 1, 5, 5, 5), np.float32))
    with pytest.raises(InputError, match="2 spatial axes"):
        GaussianFilter(axes=2)(np.zeros((1, 5, 5), np.float32))
    with pytest.raises(InputError, match="2 spatial axes"):
        BinomialSmooth(axes=[1, -1])(np.zeros((1, 5, 5), np.float32))


@pytest.mark.parametrize("build", [BilateralFilter, RemoveBiasField])
def test_missing_simple_itk_names_the_extra(build: type[NormalizedTransform], monkeypatch: pytest.MonkeyPatch) -> None:
    original = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "SimpleITK":
            raise ImportError("No module named 'SimpleITK'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"monai_unlearnable\[lab\]"):
        build()
    with pytest.raises(InputError, match=r"bias_field.*monai_unlearnable\[lab\]"):
        CATALOG.build("bias_field", dims=3, size=[8, 8, 8])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", IMAGE_ENTRIES)
@pytest.mark.filterwarnings("ignore:Divide by zero")
def test_catalog(name: str, dims: int) -> None:
    steps = CATALOG.build(name, dims=dims, size=[16] * dims)
    assert isinstance(steps, list) and not any(isinstance(step, Randomizable) for step in steps)
    pipeline = Compose(steps)
    for shape in [(1, *(13, 10, 7)[:dims]), (3, *(6, 5, 1)[-dims:])]:
        image = torch.as_tensor(unit_image(shape))
        before = image.clone()
        done = pipeline({"image": image, "label": 1})["image"]
        assert isinstance(done, torch.Tensor) and done.shape == image.shape and done.dtype == torch.float32
        assert torch.isfinite(done).all() and done.min() >= 0 and done.max() <= 1 + 1e-6
        assert torch.equal(image, before) and torch.equal(done, pipeline({"image": image})["image"])
    assert torch.isfinite(pipeline({"image": torch.full((1, *[6] * dims), 0.3)})["image"]).all()


@pytest.mark.parametrize("name", sorted({name.split()[0] for name in ARRAY}))
def test_dictionary_versions_say_what_they_take_and_are_picklable(name: str) -> None:
    array, dictionary = getattr(countermeasures, name), getattr(countermeasures, f"{name}d")
    own, taken = inspect.signature(array).parameters, inspect.signature(dictionary).parameters
    assert list(taken) == ["keys", *own, "allow_missing_keys"]
    assert all(taken[argument].default == own[argument].default for argument in own)
    for argument in taken:
        assert re.search(rf"^ +{argument}: ", dictionary.__doc__, re.MULTILINE)
    assert dictionary.__name__ == f"{name}d" and dictionary.__module__ == array.__module__
    assert dictionary.backend == array.backend
    options = {"Jpeg2000": {"psnr": 25}}.get(name, {})
    copied = pickle.loads(pickle.dumps(dictionary("image", **options)))
    assert type(copied) is dictionary and vars(copied.transform) == vars(array(**options))

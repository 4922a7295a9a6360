# SPDX-License-Identifier: Apache-2.0
"""The most significant voxels, from a dictionary."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor

from monai_unlearnable.errors import InputError
from monai_unlearnable.masks import RandomScore, Sparsity
from monai_unlearnable.perturbers import GradientNoise, SalientVoxels, load_surrogate, save_perturber
from monai_unlearnable.transforms import SparsityMask, SparsityMaskd
from tests.helpers import small_surrogate, two_classes


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["ResNet18", "UNet"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, MetaTensor], ids=["numpy", "torch", "meta"])
def test_gradients_of_a_network(dims: int, name: str, kind: type) -> None:
    network, image = small_surrogate(name, dims), np.random.default_rng(0).random((1, *[16] * dims), np.float32)
    label = 1 if name == "ResNet18" else two_classes((16,) * dims)[None].astype(np.int64)
    data = {"image": kind(image), "label": label}
    done = SparsityMaskd("image", Sparsity(0.1), network)(data)
    assert done["image"] is data["image"] and set(done) == {"image", "label", "mask"}
    assert type(done["mask"]) is type(data["image"]) and done["mask"].shape == image.shape
    assert int(done["mask"].sum()) == int(0.1 * 16**dims)
    expected = SalientVoxels(network, Sparsity(0.1))(torch.as_tensor(image)[None], torch.as_tensor(label)[None])
    assert np.array_equal(np.asarray(done["mask"]), expected[0].numpy())


def test_chance_needs_no_label() -> None:
    image = torch.rand(2, 12, 10)
    done = SparsityMaskd("image", Sparsity(0.25, RandomScore()), label_key=None, mask_key="where")({"image": image})
    assert done["where"].shape == (1, 12, 10) and done["where"].sum() == 30
    assert SparsityMaskd("image", Sparsity(score=RandomScore()), allow_missing_keys=True)({"x": 1}) == {"x": 1}
    with pytest.raises(InputError, match="GradientScore needs a network"):
        SparsityMask(Sparsity())


def test_from_a_configuration(tmp_path: Path) -> None:
    networks = [small_surrogate(seed=seed) for seed in (0, 1)]
    save_perturber(GradientNoise(networks), tmp_path / "p")
    parser = ConfigParser(
        {
            "mask": {
                "_target_": "monai_unlearnable.transforms.SparsityMaskd",
                "keys": "image",
                "sparsity": {"_target_": "monai_unlearnable.masks.Sparsity", "fraction": 0.05},
                "network": {"_target_": "monai_unlearnable.perturbers.load_surrogate", "path": str(tmp_path / "p")},
            }
        }
    )
    data = {"image": torch.rand(1, 16, 16), "label": 2}
    mask = parser.get_parsed_content("mask")(data)["mask"]
    assert torch.equal(mask, SparsityMask(Sparsity(0.05), networks[-1])(data["image"], torch.tensor(2)))
    for one, other in zip(load_surrogate(tmp_path / "p", 0).parameters(), networks[0].parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(InputError, match="holds 2 surrogates, none at 2"):
        load_surrogate(tmp_path / "p", 2)

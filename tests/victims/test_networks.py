# SPDX-License-Identifier: Apache-2.0
"""Every network of the catalog trains in 2D and 3D, a seed decides on its weights; adapters do what they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.networks.nets import BasicUNet, UNet, ViT
from monai.utils import OptionalImportError
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import reset_parameters
from monai_unlearnable.victims.networks import (
    DeepSupervision,
    FirstOutput,
    Padded,
    SliceWise,
    checked_network,
    planned_dynunet,
)
from monai_unlearnable.victims.weights import freeze

SEGMENTATION = ("UNet", "BasicUNet", "DynUNet", "SegResNet", "UNETR", "UNet2D")
BROUGHT = ("SegResNetGN", "SegResNetDS", "SwinUNETR")  # for weights that others made, see test_checkpoints.py
CLASSIFICATION = ("ResNet18", "DenseNet121", "EfficientNetB0", "ViT")
SIZES = {2: [32, 48], 3: [16, 32, 16]}
CLASSES = 3


def build(name: str, dims: int, width: int = 4, check: bool = True, **values: Any) -> nn.Module:
    values = {"dims": dims, "channels": 2, "classes": CLASSES, "size": SIZES[dims], "width": width, **values}
    catalog = Catalog.load("networks")
    return checked_network(catalog, name, **values) if check else catalog.build(name, **values)


def planned(name: str, dims: int, width: int = 4, **values: Any) -> nn.Module:
    """A network whose weights are not drawn, for what their shapes and names tell."""
    with torch.device("meta"):
        return build(name, dims, width, check=False, **values)


def count_weights(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def volume(batch: int = 2, channels: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, *SIZES[3], generator=torch.Generator().manual_seed(0))


def test_catalog_holds_what_is_tested() -> None:
    assert sorted(Catalog.load("networks").names()) == sorted((*SEGMENTATION, *BROUGHT, *CLASSIFICATION))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [*SEGMENTATION, *CLASSIFICATION])
def test_network_trains_and_predicts(name: str, dims: int) -> None:
    network, size = build(name, dims), SIZES[dims]
    image = torch.randn(2, 2, *size)
    network.train()(image).square().mean().backward()
    used = [parameter.grad is not None and bool(parameter.grad.any()) for parameter in network.parameters()]
    assert sum(used) > 0.7 * len(used)  # MONAI's transformers hold a norm that they never use
    expected = (1, CLASSES, *size) if name in SEGMENTATION else (1, CLASSES)
    assert network.eval()(image[:1]).shape == expected


@pytest.mark.parametrize("name", [*SEGMENTATION, *CLASSIFICATION])
def test_seed_decides_on_all_weights(name: str) -> None:
    network = build(name, 3, check=False)

    def weights(seed: int) -> dict[str, torch.Tensor]:
        for parameter in network.parameters():
            parameter.data.fill_(12345.0)
        reset_parameters(network, seed)
        return {key: value.clone() for key, value in network.state_dict().items()}

    first, second, third = weights(5), weights(5), weights(6)
    assert [key for key in first if not torch.equal(first[key], second[key])] == []
    assert any(not torch.equal(first[key], third[key]) for key, _ in network.named_parameters())


@pytest.mark.parametrize("name", [*SEGMENTATION, *CLASSIFICATION])
def test_wider_networks_are_larger(name: str) -> None:
    counts = [count_weights(planned(name, 2, width)) for width in (4, 8, 16)]
    assert counts[0] < counts[1] < counts[2]


def test_width_eight_are_the_victims_of_published_figures() -> None:
    old = {
        "UNet": UNet(3, 1, 2, (8, 16, 32, 64), (2, 2, 2), num_res_units=1, norm="instance"),
        "BasicUNet": BasicUNet(3, 1, 2, features=(8, 8, 16, 32, 64, 8), norm="instance"),
    }
    image = torch.randn(2, 1, 32, 16, 16)
    for name, reference in old.items():
        network = build(name, 3, 8, channels=1, classes=2)
        assert str(network) == str(reference)
        for module in (network, reference):
            reset_parameters(module, 1).eval()
        assert torch.equal(network(image), reference(image))


def test_width_thirty_two_is_about_the_published_size() -> None:
    millions = {"ResNet18": 11.2, "DenseNet121": 7.0, "EfficientNetB0": 4.0, "ViT": 85.8}
    for name, published in millions.items():
        network = planned(name, 2, 32, channels=3, classes=2, size=[224, 224])
        assert count_weights(network) / 1e6 == pytest.approx(published, rel=0.03), name


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("UNet", [17, 16, 16], r"UNet cannot take images of 17 x 16 x 16; 24 x 16 x 16 would do \(multiples of 8\)"),
        ("SegResNet", [28, 28], r"SegResNet.*28 x 28; 32 x 32"),
        ("BasicUNet", [16, 16, 16], r"BasicUNet cannot take images of 16 x 16 x 16; 32 x 32 x 32"),
        ("UNet2D", [16, 12, 5], r"UNet2D.*16 x 12 x 5; 16 x 16 x 8"),
    ],
)
def test_unfit_size_says_which_would_do(name: str, size: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(name, len(size), size=size)


@pytest.mark.parametrize("size", [[28, 28], [9, 17, 10]])
@pytest.mark.parametrize("name", ["DynUNet", "UNETR", *CLASSIFICATION])
def test_odd_and_small_sizes_work(name: str, size: list[int]) -> None:
    network = build(name, len(size), size=size).eval()
    assert network(torch.randn(1, 2, *size)).shape[2:] in (torch.Size(size), torch.Size([]))


def test_unknown_name_and_hopeless_values() -> None:
    with pytest.raises(InputError, match="unknown name 'VNetty' among networks; did you mean"):
        build("VNetty", 3)
    with pytest.raises(InputError, match="ResNet18 cannot be used with images of 32 x 48"):
        build("ResNet18", 2, width=-1)


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: Any, **kwargs: Any) -> None:
        raise OptionalImportError("no einops")

    monkeypatch.setattr("monai.networks.nets.vit.ViT.__init__", missing)
    with pytest.raises(InputError, match=r"pip install 'monai_unlearnable\[lab\]'"):
        build("ViT", 2)


def test_slices_are_seen_one_at_a_time() -> None:
    network = SliceWise(nn.Conv2d(2, 3, 3, padding=1))
    image = volume()
    result = network(image)
    for index in range(image.shape[-1]):
        assert torch.allclose(result[..., index], network.network(image[..., index]), atol=1e-6)
    other = SliceWise(network.network, axis=2)(image)
    assert torch.allclose(other[:, :, 1], network.network(image[:, :, 1]), atol=1e-6)
    assert network(image[..., 0]).shape == (2, 3, 16, 32)


def test_first_output_unpacks() -> None:
    inner = ViT(2, 16, 8, 16, 16, 1, 2, classification=True, spatial_dims=2)
    image = torch.randn(2, 2, 16, 16)
    assert torch.equal(FirstOutput(inner)(image), inner(image)[0])


def test_padding_is_invisible_from_outside() -> None:
    seen = []

    class Spy(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x * 2

    image = torch.randn(1, 2, 5, 9, 8)
    assert torch.equal(Padded(Spy(), 4, 8)(image), image * 2)
    assert seen[0].shape == (1, 2, 8, 12, 8)
    assert torch.equal(seen[0][:, :, 1:6, 1:10], image) and seen[0].count_nonzero() == image.count_nonzero()
    assert Padded(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), 4)(image[..., 0]).shape == (1, 2)


def test_plan_follows_the_input_size() -> None:
    def plan(size: tuple[int, ...]) -> list[list[int]]:
        return planned_dynunet(len(size), 1, 2, size, 4).network.strides

    assert plan((40, 56, 40)) == [[1] * 3, *[[2] * 3] * 3]
    assert plan((64, 64, 16)) == [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1], [2, 2, 1]]
    assert len(plan((160, 160, 160))) == 6 and len(plan((512, 512))) == 8
    assert plan((4, 4, 4)) == [[1] * 3] * 3


def test_deep_supervision_weighs_outputs() -> None:
    loss = DeepSupervision(nn.L1Loss())
    target = torch.zeros(2, 1, 4, 4)
    outputs = torch.stack([torch.full((2, 1, 4, 4), value) for value in (1.0, 10.0, 100.0)], dim=1)
    assert loss(outputs, target).item() == pytest.approx((1 + 10 / 2 + 100 / 4) / 1.75)
    assert loss(outputs[:, 1], target).item() == 10
    assert DeepSupervision(nn.CrossEntropyLoss())(torch.zeros(2, 3), torch.tensor([0, 2])).item() > 0


def test_dynunet_supervises_in_training_only() -> None:
    network = build("DynUNet", 3)
    assert network.train()(volume()).shape == (2, 2, CLASSES, *SIZES[3])
    assert network.eval()(volume()).shape == (2, CLASSES, *SIZES[3])


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [*SEGMENTATION, *CLASSIFICATION])
def test_encoder_is_known_by_name(name: str, dims: int) -> None:
    network = planned(name, dims)
    frozen = freeze(network, "encoder")
    free = [key for key, parameter in network.named_parameters() if parameter.requires_grad]
    inputs = next(key for key, p in network.named_parameters() if p.ndim > 2)
    assert inputs in frozen and len(free) > 1
    decoder = ("model.2", "submodule.2", "upcat", "up_", "upsamples", "decoder", "final", "out", "heads")
    head = ("fc", "_fc", "class_layers", "classification_head")
    assert all(any(part in key for part in decoder + head) for key in free), free
    assert not any(any(part in key for part in decoder) for key in frozen if "submodule" in key or "up" in key)

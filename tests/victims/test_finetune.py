# SPDX-License-Identifier: Apache-2.0
"""Weights from files: what fits is taken, what does not is named; and making such files."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import reset_parameters
from monai_unlearnable.victims.pretraining import pretrain_encoder
from monai_unlearnable.victims.weights import freeze, load_pretrained, save_weights
from tests.helpers import write_nifti

SIZE = (16, 16, 8)


def build(name: str = "UNet", seed: int = 0, **values: Any) -> nn.Module:
    values = {"dims": 3, "channels": 1, "classes": 2, "size": list(SIZE), "width": 4, **values}
    return reset_parameters(Catalog.load("networks").build(name, **values), seed)


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def write_scans(root: Path, count: int = 3) -> list[dict[str, str]]:
    rng = np.random.default_rng(0)
    for index in range(count):
        write_nifti(
            root / f"{index}.nii.gz", rng.integers(0, 90, (18, 16, 8)).astype("int16").cumsum(0).astype("int16")
        )
    return [{"image": str(path)} for path in sorted(root.iterdir())]


def store(path: Path, content: dict[str, Any]) -> Path:
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


@pytest.mark.parametrize("file", ["a.safetensors", "a.pt"])
def test_all_weights_come_over(tmp_path: Path, file: str) -> None:
    source, target = build(seed=1), build(seed=2)
    loaded = load_pretrained(target, store(tmp_path / file, weights(source)))
    assert loaded.fraction == 1 and set(loaded.names) == set(source.state_dict())
    assert all(torch.equal(value, source.state_dict()[key]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "ResNet18"])  # DynUNet holds tensors under two names
def test_saved_weights_are_loaded_in_full(tmp_path: Path, name: str) -> None:
    source, target = build(name, seed=1), build(name, seed=2)
    save_weights(source, tmp_path / "a.safetensors", {"network": name})
    assert load_pretrained(target, tmp_path / "a.safetensors").fraction == 1
    assert all(torch.equal(*pair) for pair in zip(source.parameters(), target.parameters(), strict=True))


@pytest.mark.parametrize("container", ["state_dict", "model", "net"])
def test_containers_and_wrappers_are_seen_through(tmp_path: Path, container: str) -> None:
    source = build("DynUNet", seed=1)
    content = {f"module.{key.removeprefix('network.')}": value for key, value in weights(source).items()}
    file = store(tmp_path / "a.pt", {"epoch": 3, container: content})
    target = build("DynUNet", seed=2)
    assert load_pretrained(target, file).fraction == 1
    assert all(torch.equal(*pair) for pair in zip(source.parameters(), target.parameters(), strict=True))


def test_other_classes_and_channels_keep_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source, target = build(seed=1), build(seed=2, classes=5)
    before = weights(target)
    file = store(tmp_path / "a.pt", weights(source))
    with caplog.at_level(logging.INFO):
        loaded = load_pretrained(target, file)
    assert 0.5 < loaded.fraction < 1 and str(file) in caplog.text
    assert {record.levelname for record in caplog.records} == {"INFO"}
    missing = [key for key in before if key not in loaded.names]
    assert missing and all(torch.equal(target.state_dict()[key], before[key]) for key in missing)
    assert all(torch.equal(target.state_dict()[key], source.state_dict()[key]) for key in loaded.names)


def test_a_file_that_hardly_fits_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = weights(build(seed=1))
    first = next(name for name, value in source.items() if value.ndim > 1)
    others = {f"elsewhere.{name}": value for name, value in source.items() if name != first}
    file = store(tmp_path / "a.pt", {first: source[first], **others})
    with caplog.at_level(logging.WARNING):
        load_pretrained(build(seed=2), file)
    assert f"{file}: 1 of its {len(source)} tensors fit the network" in caplog.text


def test_a_part_can_be_loaded(tmp_path: Path) -> None:
    target = build("ResNet18")
    layer = {key: torch.full_like(value, 3) for key, value in weights(target.layer1).items()}
    loaded = load_pretrained(target, store(tmp_path / "a.safetensors", layer), part="layer1")
    assert all(name.startswith("layer1.") for name in loaded.names) and 0 < loaded.fraction < 0.5
    assert all((parameter == 3).all() for parameter in target.layer1.parameters())
    with pytest.raises(InputError, match="no part 'layer9'"):
        load_pretrained(target, tmp_path / "a.safetensors", part="layer9")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.pt", b"no weights", "cannot be read"),
        ("a.safetensors", b"no weights", "cannot be read"),
        ("a.pt", None, "cannot be read"),
        ("a.safetensors", None, "cannot be read"),
        ("a.pt", {"other.weight": torch.zeros(3)}, "none of the weights fits"),
        ("a.pt", [1, 2], "no state dict"),
        ("a.pt", {"state_dict": Path("x")}, "cannot be read"),  # would need to execute code
    ],
)
def test_bad_files_are_named(tmp_path: Path, file: str, content: Any, message: str) -> None:
    path = tmp_path / file
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message) as raised:
        load_pretrained(build(), path)
    assert raised.value.file == path and str(path) in str(raised.value)


def test_frozen_weights_and_statistics_stay() -> None:
    network = build("ResNet18")
    frozen = freeze(network)
    before = weights(network)
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    for _ in range(2):
        network.train()
        network(torch.randn(3, 1, *SIZE)).square().sum().backward()
        optimizer.step()
    changed = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert set(changed) == {"fc.weight", "fc.bias"} and "conv1.weight" in frozen


@pytest.mark.parametrize("pattern", ["nothing", "", "("])
def test_useless_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InputError):
        freeze(build(), pattern)


def test_pattern_ignores_wrappers() -> None:
    assert freeze(build("DynUNet"), "input_block")[0].startswith("network.input_block")


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "ResNet18"])
def test_pretraining_writes_what_finetuning_takes(tmp_path: Path, name: str) -> None:
    cases = write_scans(tmp_path / "scans")
    options: dict[str, Any] = {"size": SIZE, "width": 4, "batch_size": 2}
    before = torch.get_rng_state()
    first = pretrain_encoder(name, cases, tmp_path / "a.safetensors", iterations=2, **options)
    assert torch.equal(torch.get_rng_state(), before)
    again = pretrain_encoder(name, cases, tmp_path / "b.safetensors", iterations=2, **options)
    assert first == again and 0 < first < 10
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    network = build(name, seed=3)
    before = weights(network)
    loaded = load_pretrained(network, tmp_path / "a.safetensors")
    assert 0.9 < loaded.fraction < 1
    assert any(not torch.equal(network.state_dict()[key], before[key]) for key in loaded.names)


def test_pretraining_learns(tmp_path: Path) -> None:
    cases = write_scans(tmp_path / "scans")
    options: dict[str, Any] = {"size": SIZE, "width": 4, "batch_size": 2, "learning_rate": 1e-2}
    short = pretrain_encoder("UNet", cases, tmp_path / "a.safetensors", iterations=1, **options)
    long = pretrain_encoder("UNet", cases, tmp_path / "b.safetensors", iterations=40, **options)
    assert long < 0.8 * short


class Onlooker(nn.Conv2d):
    """A network that notes what it is to restore."""

    seen: ClassVar[list[torch.Tensor]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen.append(image.detach().clone())
        return super().forward(image)


def test_pretraining_bends_intensities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are painted over or shuffled leave the gray of a tissue as it is elsewhere; bending changes it."""
    monkeypatch.setattr(Onlooker, "seen", [])
    tissue = np.full((64, 64), 80, np.uint8)
    tissue[:, ::16], tissue[:, 8::16] = 0, 200
    write_nifti(tmp_path / "a.nii.gz", tissue)
    gray = (80 - tissue.mean()) / tissue.std()
    catalog = Catalog("networks", {"onlooker": {"_target_": f"{__name__}.Onlooker", "in_channels": 1,
                                                "out_channels": "@classes", "kernel_size": 1}})  # fmt: skip
    options: dict[str, Any] = {"size": (32, 32), "iterations": 10, "batch_size": 4, "catalog": catalog}
    pretrain_encoder("onlooker", [{"image": str(tmp_path / "a.nii.gz")}], tmp_path / "a.safetensors", **options)
    distorted = [image for batch in Onlooker.seen if batch.device.type == "cpu" and batch.any() for image in batch]
    assert len(distorted) == 40
    kept = [image for image in distorted if np.isclose(image.numpy(), gray, atol=1e-3).mean() > 0.05]
    assert len(kept) < 0.25 * len(distorted)


def test_pretraining_needs_scans(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scans"):
        pretrain_encoder("UNet", [], tmp_path / "a.safetensors", size=SIZE)

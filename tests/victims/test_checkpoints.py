# SPDX-License-Identifier: Apache-2.0
"""Weights that others made, in the layouts of their files: every tensor comes to its place."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import reset_parameters
from monai_unlearnable.victims import Recipe, Victim, checked_network, freeze, load_pretrained
from tests.victims.test_training import TASK, write_easy

State = dict[str, torch.Tensor]


def build(name: str, seed: int = 0, classes: int = 2, dims: int = 3) -> nn.Module:
    """A network of the catalog without the adapter that pads, as others train it."""
    values = {"dims": dims, "channels": 1, "classes": classes, "size": [32] * dims, "width": 8}
    return reset_parameters(Catalog.load("networks").build(name, **values), seed)


def bare(network: nn.Module) -> State:
    return {key.removeprefix("network."): value.clone() for key, value in network.state_dict().items()}


def swin_only(state: State) -> State:
    return {key.removeprefix("swinViT."): value for key, value in state.items() if key.startswith("swinViT.")}


def old_linear(key: str) -> str:
    return key.replace("mlp.linear", "mlp.fc")


def self_supervised(state: State) -> dict[str, Any]:
    """``model_swinvit.pt``: the encoder alone, wrapped, its linear layers under another name; heads of three tasks."""
    weights = {f"module.{old_linear(key)}": value for key, value in swin_only(state).items()}
    heads = {"module.rotation_head.weight": torch.zeros(4, 9), "module.contrastive_head.weight": torch.zeros(5, 9)}
    return {"epoch": 100, "state_dict": {**weights, **heads}, "optimizer": {"state": {}}}


def disrupted(state: State) -> dict[str, Any]:
    """``ssl_pretrained_weights.pth``: one level more in the blocks, a mask token and a head of other channels."""
    weights = {}
    for key, value in swin_only(state).items():
        weights["encoder." + re.sub(r"^(layers\d\.0)\.", r"\1.0.", key)] = value
    return {"model": {**weights, "encoder.mask_token": torch.zeros(1, 9), "encoder.norm.weight": torch.zeros(9)}}


def fine_tuned(state: State) -> dict[str, Any]:
    """A checkpoint of SwinUNETR on BTCV: all names as in MONAI, and a best score of numpy."""
    return {"epoch": 5000, "best_acc": np.float64(0.82), "state_dict": state}


def suprem(state: State) -> dict[str, Any]:
    extra = {"module.organ_embedding": torch.zeros(32, 512), "module.precls_conv.2.weight": torch.zeros(8, 48, 1, 1, 1)}
    weights = {f"module.backbone.{old_linear(key)}": value for key, value in state.items()}
    return {"net": {**weights, **extra}, "optimizer": {"param_groups": [{"lr": 1e-4}]}, "epoch": 2100}


def suprem_segresnet(state: State) -> dict[str, Any]:
    return {"net": {f"module.{key}": value for key, value in state.items()}, "epoch": 2100}


def vista(state: State) -> dict[str, Any]:
    """VISTA3D: its backbone as ``image_encoder`` with a second decoder, and heads; no container."""
    weights = {f"image_encoder.{key}": value for key, value in state.items()}
    second = {key.replace("up_layers", "up_layers_auto"): value + 1 for key, value in weights.items() if "up_" in key}
    return {**weights, **second, "class_head.class_embeddings.weight": torch.zeros(133, 48)}


FILES: dict[str, tuple[str, Callable[[State], dict[str, Any]], str, str]] = {
    "model_swinvit": ("SwinUNETR", self_supervised, "SwinUNETR's encoder after self-supervision", r"swinViT\."),
    "ssl_pretrained": ("SwinUNETR", disrupted, "Disruptive Autoencoders", r"swinViT\."),
    "btcv": ("SwinUNETR", fine_tuned, "the network itself", ""),
    "suprem_swinunetr": ("SwinUNETR", suprem, "SuPreM", ""),
    "suprem_segresnet": ("SegResNetGN", suprem_segresnet, "the network itself", ""),
    "vista3d": ("SegResNetDS", vista, "VISTA3D", ""),
}


@pytest.mark.parametrize("file", FILES)
def test_every_layout_is_recognized(tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture) -> None:
    name, write, layout, covered = FILES[file]
    source, target = build(name, 1), build(name, 2)
    torch.save(write(bare(source)), tmp_path / "weights.pt")
    with caplog.at_level(logging.INFO):
        loaded = load_pretrained(target, tmp_path / "weights.pt")
    wanted = {key for key in target.state_dict() if re.match(covered, key.removeprefix("network."))}
    assert set(loaded.names) == wanted and layout in caplog.text and f"{100 * loaded.fraction:.1f}%" in caplog.text
    assert all(torch.equal(target.state_dict()[key], source.state_dict()[key]) for key in wanted)
    assert (loaded.fraction == 1) == (not covered)
    rest = set(target.state_dict()) - wanted
    assert all(torch.equal(target.state_dict()[key], build(name, 2).state_dict()[key]) for key in list(rest)[:5])


def test_heads_for_other_classes_are_omitted(tmp_path: Path) -> None:
    source, target = build("SegResNetDS", 1, classes=48), build("SegResNetDS", 2)
    torch.save(vista(bare(source)), tmp_path / "model.pt")
    loaded = load_pretrained(target, tmp_path / "model.pt")
    missing = set(target.state_dict()) - set(loaded.names)
    assert missing and all("head" in name for name in missing) and loaded.fraction > 0.99


def test_only_what_came_from_the_file_is_frozen(tmp_path: Path) -> None:
    """The convolutions of SwinUNETR's encoder are in no self-supervised file: frozen, they would be noise."""
    target = build("SwinUNETR", 2)
    torch.save(self_supervised(bare(build("SwinUNETR", 1))), tmp_path / "model_swinvit.pt")
    loaded = load_pretrained(target, tmp_path / "model_swinvit.pt")
    frozen = freeze(target, "encoder", loaded.names)
    assert frozen and all(name.startswith("network.swinViT.") for name in frozen)
    assert any("encoder1" in name for name, parameter in target.named_parameters() if parameter.requires_grad)
    with pytest.raises(InputError, match="matches 0"):
        freeze(build("SwinUNETR"), "encoder", [])


@pytest.mark.parametrize(("recipe", "moves"), [("finetune", True), ("finetune_frozen", False)])
@pytest.mark.parametrize("file", ["vista3d", "suprem_segresnet"])
def test_fine_tuning_full_and_frozen(tmp_path: Path, file: str, recipe: str, moves: bool) -> None:
    cases, (name, write, _, _) = write_easy(tmp_path, 3), FILES[file]
    source, target = build(name, 1), build(name, 2)
    torch.save(write(bare(source)), tmp_path / "weights.pt")
    values = {"dims": 3, "size": [16, 16, 16], "keys": ["image", "label"], "iterations": 2, "batch_size": 2}
    settings = {**values, "learning_rate": 1e-2, "weights": str(tmp_path / "weights.pt")}
    tuned: Recipe = Catalog.load("recipes").build(recipe, **settings)
    victim = Victim(target, TASK, tuned, num_validations=1)
    victim.train_and_score(cases[:2], cases[2:])
    first = next(name for name, _ in target.named_parameters())
    assert torch.equal(target.state_dict()[first], source.state_dict()[first]) != moves
    last = list(dict(target.named_parameters()))[-1]
    assert not torch.equal(target.state_dict()[last], source.state_dict()[last])
    assert dataclasses.replace(tuned, weights=None).frozen == (None if moves else "encoder")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", ["SegResNetGN", "SegResNetDS", "SwinUNETR"])
def test_networks_for_brought_weights(name: str, dims: int) -> None:
    size = [24] * dims  # smaller than SwinUNETR and SegResNetDS take
    values = {"dims": dims, "channels": 1, "classes": 3, "size": size, "width": 8}
    network = checked_network(Catalog.load("networks"), name, **values)
    assert network.to("meta").eval()(torch.zeros(1, 1, *size, device="meta")).shape == (1, 3, *size)
    wide = Catalog.load("networks").build(name, **{**values, "width": 32})
    assert sum(p.numel() for p in wide.parameters()) > 3 * sum(p.numel() for p in network.parameters())


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> Any:
            return (print, ("harm",))

    torch.save({"state_dict": {"a": torch.zeros(1)}, "args": Harm()}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="cannot be read"):
        load_pretrained(build("SegResNetDS"), tmp_path / "weights.pt")

# SPDX-License-Identifier: Apache-2.0
"""Networks in files, with what makes their input: TorchScript, ONNX, and MONAI bundles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.data import decollate_batch, list_data_collate
from monai.inferers import Inferer, SimpleInferer
from monai.transforms import Activations, Compose, EnsureChannelFirstd, LoadImaged, SaveImage, SaveImaged
from torch import Tensor

from monai_unlearnable.errors import InputError, told
from monai_unlearnable.tracing.statistics import Answer
from monai_unlearnable.utils.files import below, file_digest, files_digest, reading
from monai_unlearnable.utils.single_images import SingleImages
from monai_unlearnable.utils.values import as_plain
from monai_unlearnable.victims.weights import read_checkpoint

__all__ = ["bundle_digest", "network_digest", "open_bundle", "open_network"]

IMAGE, PRED = "image", "pred"
ONNX = ".onnx"
CONFIGS = ("inference.json", "inference.yaml", "inference.yml")
WEIGHTS = ("model.pt", "model.safetensors")
NETWORKS = ("network_def", "network", "net")  # names of the network in a bundle
SAVERS = (SaveImage, SaveImaged)
Model = Callable[[list[str]], Answer]


def open_network(path: Path, preprocessing: str | Path | None = None) -> Model:
    """A TorchScript or ONNX network: it returns the probabilities of the classes.

    Args:
        path: file of the network.
        preprocessing: configuration file, in which ``preprocessing`` are the transforms that load the entry ``image``
            and make the input of the network, and ``inferer``, where needed, runs it; by default images are loaded, and
            given as they are.

    Raises:
        InputError: naming the file, when it cannot be loaded.
    """
    parser = None if preprocessing is None else _config(Path(preprocessing))
    transform = _part(parser, "preprocessing", lambda: Compose([LoadImaged(IMAGE), EnsureChannelFirstd(IMAGE)]))
    inferer: Inferer = _part(parser, "inferer", SimpleInferer)
    network = _onnx(path) if path.suffix.lower() == ONNX else _torchscript(path)

    def ask(files: list[str]) -> Answer:
        with torch.no_grad():
            image = transform({IMAGE: files if len(files) > 1 else files[0]})[IMAGE]
            logits = inferer(torch.as_tensor(image)[None].float(), network)[0]
        return Activations(softmax=True)(logits).numpy()  # type: ignore[no-any-return, union-attr]

    return ask


def open_bundle(folder: Path) -> Model:
    """The network of a MONAI bundle, run with its own preprocessing, inferer and postprocessing.

    The parts are those of the model zoo: ``preprocessing``, ``network_def``, ``inferer`` and ``postprocessing`` of
    ``configs/inference.json`` or ``.yaml``, and the weights ``models/model.pt``. Nothing is saved.

    Raises:
        InputError: naming the folder, when a part is missing or cannot be made.
    """
    configs = [folder / "configs" / name for name in CONFIGS]
    found = next((path for path in configs if path.is_file()), None)
    if found is None:
        raise InputError(f"the bundle has none of {', '.join(CONFIGS)}", file=folder / "configs")
    parser = _config(found)
    parser["bundle_root"] = as_plain(folder)
    parser["device"] = "cpu"
    name = next((name for name in NETWORKS if name in parser), None)
    if name is None:
        raise InputError(f"the bundle has none of {', '.join(NETWORKS)}", file=found)
    network = _part(parser, name).cpu().eval()
    weights = next((path for path in (folder / "models" / own for own in WEIGHTS) if path.is_file()), None)
    if weights is None:
        raise InputError(f"the bundle has none of {', '.join(WEIGHTS)}", file=folder / "models")
    try:
        network.load_state_dict(read_checkpoint(weights))
    except RuntimeError as error:
        raise InputError(f"the weights do not fit the network: {told(error)}", file=weights) from error
    before, inferer = _part(parser, "preprocessing"), _part(parser, "inferer", SimpleInferer)
    after = _without_savers(_part(parser, "postprocessing", lambda: Compose([])))

    def ask(files: list[str]) -> Answer:
        with torch.no_grad(), SingleImages():
            batch = list_data_collate([before({IMAGE: files if len(files) > 1 else files[0]})])
            batch[PRED] = inferer(batch[IMAGE], network)
            pred = after(decollate_batch(batch)[0])[PRED]
        return _as_answer(torch.as_tensor(pred))

    return ask


def network_digest(path: Path) -> str:
    """SHA-256 of a network file; of ONNX with the files beside it that hold its weights, such as ``net.onnx.data``."""
    if path.suffix.lower() != ONNX:
        return file_digest(path)
    parts = [file for file in path.parent.iterdir() if file.name.startswith(path.name)]
    return file_digest(path) if len(parts) == 1 else files_digest({file.name: file for file in parts})


def bundle_digest(folder: Path) -> str:
    """SHA-256 of the weights, the configurations and the scripts of a bundle."""
    with reading(folder, InputError):
        scripts = [path for path in below(folder / "scripts") if path.suffix == ".py"]
        parts = [*below(folder / "configs"), *scripts, *(folder / "models" / name for name in WEIGHTS)]
        return files_digest({path.relative_to(folder).as_posix(): path for path in parts if path.is_file()})


def _as_answer(pred: Tensor) -> Answer:
    """What a bundle predicts: classes where it gives one channel of whole numbers, else probabilities."""
    values = pred.as_subclass(Tensor)
    if len(values) == 1 and bool((values == values.round()).all()):
        return values.long().numpy()
    return values.float().numpy()


def _without_savers(transform: Any) -> Compose:
    steps = transform.transforms if isinstance(transform, Compose) else [transform]
    return Compose([step for step in steps if not isinstance(step, SAVERS)])


def _config(path: Path) -> ConfigParser:
    parser = ConfigParser()
    try:
        parser.read_config(str(path))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"the configuration cannot be read: {told(error)}", file=path) from error
    return parser


def _part(parser: ConfigParser | None, name: str, default: Callable[[], Any] | None = None) -> Any:
    if parser is None or name not in parser:
        if default is None:
            raise InputError(f"the configuration has no {name}")
        return default()
    try:
        return parser.get_parsed_content(name)
    except Exception as error:  # whatever the parts of others raise
        raise InputError(f"{name} of the configuration cannot be made: {told(error)}") from error


def _torchscript(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        network = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # noqa: TID251 - asked for
        return network.eval()  # type: ignore[no-any-return]
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError("is no TorchScript network", file=path) from error


def _onnx(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("an ONNX network needs the package onnxruntime; install it", file=path) from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # of its own kinds
        raise InputError(f"is no ONNX network: {told(error)}", file=path) from error
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])

# SPDX-License-Identifier: Apache-2.0
"""Networks of victims: probed before training, and adapted if their input or output needs it."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from monai.networks.nets import DynUNet
from monai.utils import OptionalImportError
from torch import Tensor, nn

from monai_unlearnable.errors import InputError
from monai_unlearnable.utils.arrays import even_sides
from monai_unlearnable.utils.catalog import Catalog
from monai_unlearnable.utils.seeding import isolated_seed, reset_parameters
from monai_unlearnable.utils.tensors import pad_sides

__all__ = ["DeepSupervision", "FirstOutput", "Padded", "SliceWise"]
__all__ += ["checked_network", "fresh_network", "planned_dynunet"]

SMALLEST_MAP = 4  # nnU-Net halves an axis while at least this many voxels are left of it
MOST_LEVELS = {2: 8, 3: 6}
MULTIPLES = (8, 16, 32, 64)  # multiples of sizes that are tried if a size does not fit
SMALL = 32**3  # values of an input that a network is quicker to compute than to go through by shapes
WIDEST = {2: 16, 3: 10}  # times the width of the first level: 512 and 320 at nnU-Net's 32
OTHER_TASK = {
    True: "gives a class for each image, and these data have label maps; take a network of segmentation",
    False: "gives a class for each voxel, and these data have a class for each image; take a network of classification",
}  # by whether the task has label maps


class SliceWise(nn.Module):
    """Applies a 2D network to every slice of a volume; 2D images go through unchanged.

    Args:
        network: network that takes (B, C, X, Y).
        axis: axis of the volume that is cut, counted among all axes of the batch.
    """

    def __init__(self, network: nn.Module, axis: int = -1) -> None:
        super().__init__()
        self.network, self.axis = network, axis

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4:
            return self.network(x)
        slices = x.movedim(self.axis, 1)
        result = self.network(slices.flatten(0, 1))
        return result.unflatten(0, slices.shape[:2]).movedim(1, self.axis)


class FirstOutput(nn.Module):
    """The first output of a network that returns several, such as MONAI's ViT.

    Args:
        network: network that returns a tuple or list.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[0]


class Padded(nn.Module):
    """Pads images around their center with zeros, to a size that a network takes.

    Args:
        network: network that takes (B, C, spatial...); a result with spatial axes of the same size is cropped back.
        multiple: number that every side becomes a multiple of.
        minimum: smallest size of every side.
    """

    def __init__(self, network: nn.Module, multiple: int = 1, minimum: int = 1) -> None:
        super().__init__()
        self.network, self.multiple, self.minimum = network, multiple, minimum

    def forward(self, x: Tensor) -> Tensor:
        sides = even_sides(x.shape[2:], self.multiple, self.minimum)
        result = self.network(pad_sides(x, sides))
        return result if result.ndim < x.ndim else pad_sides(result, [(-low, -high) for low, high in sides])


class DeepSupervision(nn.Module):
    """A segmentation loss over several outputs, the later ones from lower resolutions.

    The weights are 1, 1/2, 1/4, ... divided by their sum (Isensee et al., Nature Methods 18:203, 2021). Other than in
    nnU-Net, outputs of low resolution meet the label in full resolution, as MONAI's ``DynUNet`` interpolates them.

    Args:
        loss: loss of one output (B, C, spatial...) and a label (B, 1, spatial...).
    """

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """The loss of stacked outputs (B, outputs, C, spatial...), or of a single output."""
        if target.ndim < 4 or pred.ndim == target.ndim:
            return self.loss(pred, target)
        outputs = pred.unbind(1)
        weights = [0.5**index for index in range(len(outputs))]
        losses = [w * self.loss(output, target) for w, output in zip(weights, outputs, strict=True)]
        return torch.stack(losses).sum() / sum(weights)


def planned_dynunet(
    spatial_dims: int, in_channels: int, out_channels: int, size: Sequence[int], width: int = 32
) -> nn.Module:
    """MONAI's ``DynUNet`` with the depth that nnU-Net plans for an input size (Isensee et al. 2021, plain U-Net).

    Each axis is halved while at least 4 voxels remain, and features double up to ten (3D) or sixteen (2D) times the
    width. The two lowest resolutions get no output of their own. Voxels are taken to be isotropic. In training
    the network returns (B, outputs, C, spatial...), see :class:`DeepSupervision`; sides that are no multiple of the
    strides are padded.

    Args:
        spatial_dims: 2 or 3.
        in_channels: image channels.
        out_channels: classes, background included.
        size: spatial size of the network's input.
        width: features of the first level; 32 in nnU-Net.
    """
    strides = [[1] * spatial_dims]
    left = list(size)
    while len(strides) < MOST_LEVELS[spatial_dims] and max(left) >= 2 * SMALLEST_MAP:
        strides.append([2 if voxels >= 2 * SMALLEST_MAP else 1 for voxels in left])
        left = [-(-voxels // stride) for voxels, stride in zip(left, strides[-1], strict=True)]
    while len(strides) < 3:  # the class needs at least three
        strides.append([1] * spatial_dims)
    outputs = max(1, len(strides) - 3)  # besides the final one
    network = DynUNet(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=[3] * len(strides),
        strides=strides,
        upsample_kernel_size=strides[1:],
        filters=[width * min(2**level, WIDEST[spatial_dims]) for level in range(len(strides))],
        deep_supervision=True,
        deep_supr_num=outputs,
    )
    return Padded(network, multiple=2 ** sum(2 in stride for stride in strides))


def checked_network(catalog: Catalog, name: str, *, maps: bool | None = None, **values: Any) -> nn.Module:
    """Build a network and check that it can be trained on images of its size.

    Args:
        catalog: catalog of networks.
        name: name of the entry.
        maps: whether the task has label maps, rather than classes of whole images; None where that does not matter.
        values: values that the entry may refer to; ``channels`` and ``size`` among them.

    Raises:
        InputError: when the network cannot be built or cannot take such images, with a size that it would take; when
            it is one for another task; when a package that it needs is not installed.
    """
    size = [int(voxels) for voxels in values["size"]]
    catalog.description(name)  # an unknown name is no matter of size
    try:
        network, output = _tried(catalog, name, values)
    except Exception as error:  # whatever a network raises
        raise _refusal(catalog, name, size, values, error) from error
    if maps is not None and isinstance(output, Tensor) and maps != (output.ndim > 2):
        raise InputError(f"{name} {OTHER_TASK[maps]}")
    return network


def _refusal(catalog: Catalog, name: str, size: list[int], values: dict[str, Any], failure: Exception) -> InputError:
    """Why a network cannot be used, with a size that it would take."""
    if _is_missing_package(failure):
        return InputError(f"{name} needs a package that is missing; pip install 'monai_unlearnable[lab]'")
    asked = " x ".join(map(str, size))
    for multiple in MULTIPLES:
        larger = [-(-voxels // multiple) * multiple for voxels in size]
        if larger == size:
            continue
        with suppress(Exception):
            _tried(catalog, name, {**values, "size": larger})
            advice = f"{' x '.join(map(str, larger))} would do (multiples of {multiple})"
            return InputError(f"{name} cannot take images of {asked}; {advice}")
    return InputError(f"{name} cannot be used with images of {asked}: {failure}")


def fresh_network(catalog: Catalog, name: str, seed: int, **values: Any) -> nn.Module:
    """A :func:`checked_network` whose weights are drawn from a seed.

    Args:
        catalog: catalog of networks.
        name: name of the entry.
        seed: random seed of the weights.
        values: further arguments of :func:`checked_network`.

    Raises:
        InputError: when :func:`checked_network` raises it.
    """
    with isolated_seed(seed):
        network = checked_network(catalog, name, **values)
    return reset_parameters(network, seed)


def _tried(catalog: Catalog, name: str, values: dict[str, Any]) -> tuple[nn.Module, Any]:
    """A network that takes images of its size, and what it makes of a batch of two; else the error is raised.

    It is tried in training mode. Large images are tried by shapes alone, which takes no memory and the same short time
    for all; small ones are quicker to compute.
    """
    network: nn.Module = catalog.build(name, **values)
    shape = (2, values["channels"], *values["size"])
    if math.prod(shape[1:]) > SMALL:
        with suppress(Exception):  # not every layer knows "meta"
            return network, _output(network, shape, "meta")
    return network, _output(network, shape, "cpu")


def _output(network: nn.Module, shape: Sequence[int], device: str) -> Any:
    """The output of a copy of a network for an image of zeros."""
    probe = copy.deepcopy(network).to(device).train()
    with torch.no_grad():
        return probe(torch.zeros(*shape, device=device))


def _is_missing_package(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, (OptionalImportError, ModuleNotFoundError)):
            return True
        error = error.__cause__
    return False

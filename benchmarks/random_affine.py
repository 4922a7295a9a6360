# SPDX-License-Identifier: Apache-2.0
"""Is our random affine patch worth its lines? Against MONAI's ``RandAffined`` after a random crop, plain and lazy.

Times a call on an image of two channels and its label map, on one thread, and compares what MONAI's ``Affine`` makes of
the very same rotation, scale and center.

    python benchmarks/random_affine.py [--shape 48,64,48] [--size 40,56,40] [--calls 100]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from monai.data import MetaTensor
from monai.transforms import Affine, Compose, RandAffined, RandSpatialCropd
from rich.console import Console
from rich.table import Table

from monai_unlearnable.victims import RandAffinePatchd

KEYS = ("image", "label")


def sample(shape: tuple[int, ...]) -> dict[str, Any]:
    """Noise of two channels, and a label map of two balls that touch."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.meshgrid(*[torch.linspace(-1, 1, extent) for extent in shape], indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.5
    image = torch.randn(2, *shape, generator=generator)
    return {"image": image, "label": (ball * (1 + (axes[0] > 0)))[None].to(torch.uint8)}


def monai(size: tuple[int, ...], prob: float, lazy: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A random crop, then a random affine transform, as MONAI has them.

    Lazy, both are one interpolation, which sees what lies around the crop; else there are zeros around it.
    """
    prob = 1 - (1 - prob) ** 2  # ours draws rotation and scale by themselves
    angles, scales = [math.radians(30)] * len(size), [(-0.3, 0.4)] * len(size)
    affine = RandAffined(
        KEYS, prob=prob, rotate_range=angles, scale_range=scales, mode=("bilinear", "nearest"), padding_mode="zeros"
    )
    return Compose([RandSpatialCropd(KEYS, size, random_size=False), affine], lazy=lazy)


def ours(size: tuple[int, ...], prob: float) -> RandAffinePatchd:
    return RandAffinePatchd(KEYS, size, foreground=0, prob_rotation=prob, prob_scaling=prob, degrees=30)


def milliseconds(transform: Any, data: dict[str, Any], calls: int) -> float:
    transform.set_random_state(0)
    transform(data)
    begin = time.process_time()
    for _ in range(calls):
        transform(data)
    return 1000 * (time.process_time() - begin) / calls


def agreement(size: tuple[int, ...], data: dict[str, Any], calls: int) -> tuple[float, float]:
    """The largest difference of an intensity, and the smallest fraction of labels that agree."""
    transform, apart, alike = ours(size, 1).set_random_state(0), 0.0, 1.0
    shape = data["image"].shape[1:]
    for _ in range(calls):
        found = transform(data)
        assert transform.affine is not None
        matrix, factors = transform.affine
        theta = torch.eye(len(size) + 1, dtype=torch.float64)
        theta[:-1, :-1] = matrix[0] * factors
        theta[:-1, -1] = torch.tensor(
            [at + own / 2 - n / 2 for at, own, n in zip(transform.corner, size, shape, strict=True)]
        )
        options = {"affine": theta.numpy(), "spatial_size": size, "padding_mode": "zeros", "image_only": True}
        image = Affine(**options, mode="bilinear")(data["image"])
        label = Affine(**options, mode="nearest")(data["label"].float())
        apart = max(apart, float((torch.as_tensor(image) - found["image"]).abs().max()))
        alike = min(alike, float((torch.as_tensor(label) == found["label"]).float().mean()))
    return apart, alike


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="48,64,48")
    parser.add_argument("--size", default="40,56,40")
    parser.add_argument("--calls", type=int, default=100)
    arguments = parser.parse_args()
    shape, size = (tuple(map(int, text.split(","))) for text in (arguments.shape, arguments.size))
    torch.set_num_threads(1)
    data, table = sample(shape), Table("", "a change in each call, ms", "chances of the recipe, ms")
    known = {key: MetaTensor(value) for key, value in data.items()}
    rows = {
        "RandAffinePatchd": (data, ours),
        "RandAffined": (known, lambda size, prob: monai(size, prob, lazy=False)),
        "RandAffined, lazy": (known, lambda size, prob: monai(size, prob, lazy=True)),
    }
    for name, (given, make) in rows.items():
        times = [milliseconds(make(size, prob), given, arguments.calls) for prob in (1.0, 0.2)]
        table.add_row(name, *[f"{value:.1f}" for value in times])
    apart, alike = agreement(size, data, 20)
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(f"intensities differ by {apart:.1e} at most; {100 * alike:.2f}% of the labels agree at least")


if __name__ == "__main__":
    main()

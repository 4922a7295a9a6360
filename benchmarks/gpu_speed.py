# SPDX-License-Identifier: Apache-2.0
"""Which ways of training pay on a GPU: bfloat16, weights channels last, compilation, and data that stay on the device.

Phantoms are drawn, so that nothing else is needed. First the victim as the package trains it, then plain loops over the
same batches, each with one thing more. A way that does not work is told and passed over, and none is begun after the
given number of seconds.

    python benchmarks/gpu_speed.py [--device cuda] [--size 96,96,96] [--width 32] [--batch_size 2] [--steps 40]
        [--victims UNet,DynUNet,SegResNet,BasicUNet] [--recipes plain,nnunet] [--seconds 500] [--json FILE]

In miniature, to see that it runs: ``--device cpu --size 16,16,16 --width 4 --steps 2 --victims UNet``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from monai_unlearnable.evaluation.bench import Bench
from monai_unlearnable.evaluation.matrix import Matrix
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.utils.optimization import one_cycle
from monai_unlearnable.utils.precision import Autocast
from monai_unlearnable.victims import Victim

WARM, CASES = 3, 8
LOADED, RESIDENT = "loaded", "on the device"
# what plain loops have: bfloat16, channels last, compiled, data on the device
WAYS = {
    "float32": (False, False, False, LOADED),
    "bfloat16": (True, False, False, LOADED),
    "bfloat16, channels last": (True, True, False, LOADED),
    "bfloat16, data on the device": (True, False, False, RESIDENT),
    "bfloat16, data on the device, compiled": (True, False, True, RESIDENT),
    "bfloat16, data on the device, channels last, compiled": (True, True, True, RESIDENT),
}


class Measurement:
    """Milliseconds a step of a victim and of plain loops.

    Args:
        arguments: arguments of the command line.
        folder: folder that phantoms are drawn into.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.device, self.steps = torch.device(arguments.device), arguments.steps
        size = tuple(int(extent) for extent in arguments.size.split(","))
        write_phantom_dataset(folder, CASES, test_count=1, size=size)
        settings = {"batch_size": arguments.batch_size, "width": arguments.width, "iterations": arguments.steps + WARM}
        self.bench = Bench(Matrix.of(dataset_dir=str(folder), size=size, device=arguments.device, **settings))
        self.cases = [case.to_dict() for case in self.bench.originals.cases]

    def victim(self, name: str, recipe: str) -> float:
        """A step as the package takes it: a long training less a short one."""
        spent = []
        for steps in (WARM, WARM, WARM + self.steps):  # the first for what is made only once
            shortened = replace(self.bench.recipe(recipe), iterations=steps)
            network = self.bench.network(name, 0)
            victim = Victim(network, self.bench.task, shortened, device=self.device, num_validations=1)
            spent.append(self._seconds(lambda victim=victim: victim.train_and_score(self.cases, self.cases[:1])))
        return 1000 * (spent[2] - spent[1]) / self.steps

    def loop(self, name: str, recipe: str, way: str) -> float:
        """A step of a plain loop."""
        amp, last, compiled, place = WAYS[way]
        network = self.bench.network(name, 0).to(self.device).train()
        victim = Victim(network, self.bench.task, self.bench.recipe(recipe))
        batches = list(_first(victim._loader(self.cases), WARM + self.steps))
        computing: Any = Autocast(network, amp)
        if last:
            for parameter in network.parameters():
                if parameter.ndim in (4, 5):
                    layout = torch.channels_last if parameter.ndim == 4 else torch.channels_last_3d
                    parameter.data = parameter.data.contiguous(memory_format=layout)
        computing = torch.compile(computing) if compiled else computing
        optimizer, schedule = one_cycle(network.parameters(), 1e-3, len(batches))
        loss = self.bench.task.loss
        pairs = [tuple(torch.as_tensor(batch[key]) for key in ("image", "label")) for batch in batches]
        if place == RESIDENT:
            pairs = [tuple(part.to(self.device) for part in pair) for pair in pairs]

        def steps(part: list[Any]) -> None:
            for image, label in part:
                optimizer.zero_grad(set_to_none=True)
                value = loss(computing(image.to(self.device)), label.to(self.device))
                value.backward()
                optimizer.step()
                schedule.step()

        steps(pairs[:WARM])
        return 1000 * self._seconds(lambda: steps(pairs[WARM:])) / self.steps

    def _seconds(self, work: Callable[[], Any]) -> float:
        self._wait()
        begin = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - begin

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _first(items: Any, count: int) -> Any:
    for _, item in zip(range(count), items, strict=False):
        yield item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--size", default="96,96,96")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--victims", default="UNet,DynUNet,SegResNet,BasicUNet")
    parser.add_argument("--recipes", default="plain,nnunet")
    parser.add_argument("--seconds", type=float, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    begin, found, console = time.monotonic(), dict[str, dict[str, float | str]](), Console(soft_wrap=True)
    victims, recipes = arguments.victims.split(","), arguments.recipes.split(",")
    with tempfile.TemporaryDirectory() as folder:
        measurement = Measurement(arguments, Path(folder))
        # The most telling first: what is not begun in time is of later networks.
        work = [(name, recipe, "victim") for name in victims for recipe in recipes]
        work += [(name, recipes[0], way) for name in victims for way in WAYS]
        for name, recipe, way in work:
            if time.monotonic() - begin > arguments.seconds:
                console.print("out of time")
                break
            make = measurement.victim if way == "victim" else measurement.loop
            extra = () if way == "victim" else (way,)
            try:
                value: float | str = make(name, recipe, *extra)
            except Exception as error:  # whatever a compiler or a device raises
                value = f"{type(error).__name__}: {str(error).splitlines()[0][:60] if str(error) else ''}"
            found.setdefault(way, {})[f"{name}, {recipe}"] = value
            console.print(f"{name}, {recipe}, {way}: {value if isinstance(value, str) else f'{value:.1f} ms'}")
            if arguments.json:
                arguments.json.write_text(json.dumps(found, indent=1))
    columns = list(dict.fromkeys(name for values in found.values() for name in values))
    device = torch.device(arguments.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    table = Table("", *columns, title=f"{machine}, ms a step")
    for way, values in found.items():
        cells = [values.get(name, "") for name in columns]
        table.add_row(way, *[cell if isinstance(cell, str) else f"{cell:.1f}" for cell in cells])
    console.print(table)


if __name__ == "__main__":
    main()

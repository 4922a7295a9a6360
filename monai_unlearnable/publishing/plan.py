# SPDX-License-Identifier: Apache-2.0
"""What was understood of a dataset, and what protecting it will take: shown before anything is written."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import DatasetSummary, Listing
from monai_unlearnable.data.spread import blank_remark, spread_remark
from monai_unlearnable.utils.files import encode_json
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.text import counted, duration, first_few, of_255

__all__ = ["Cost", "DatasetPlan", "native_steps"]

logger = logging.getLogger(__name__)

NAMED = 5  # files and cases; the JSON has all
# Facts of the summary that people are told.
TOLD = ("spatial_dims", "channels", "median_shape", "dtypes", "window_range", "window_widths", "label_values")
TOLD_OF_CLASSES = ("class_voxels", "ignored_voxels", "empty", "targets", "tasks", "exceeding", "blank")


@dataclass(frozen=True)
class Cost:
    """What a run is expected to take, measured on the first cases.

    Args:
        preparation: seconds to read and inspect the dataset, and to set up networks and patterns.
        training: seconds of all trainings.
        publication: seconds to make the noise, and to write, read back and record all cases.
        disk: bytes of everything that is written.
        memory: bytes of memory that the trial took at its peak, on the GPU beside it where one was used.
        measured: number of cases that were published on trial.
    """

    preparation: float
    training: float
    publication: float
    disk: int
    memory: tuple[int, ...]
    measured: int

    @property
    def seconds(self) -> float:
        """Seconds of the whole run."""
        return self.preparation + self.training + self.publication


@dataclass(frozen=True)
class DatasetPlan:
    """The facts about a dataset, and what protecting it will take.

    Args:
        listing: cases, where they were found, and what was passed over.
        summary: facts about their content.
        budget: budget of each scan.
        method: name of the method.
        output: folder of the output.
        skipped: reason by case that cannot be protected, where such cases are skipped.
        cost: expected time and disk; None where it was not measured.
    """

    listing: Listing
    summary: DatasetSummary
    budget: Budget
    method: str
    output: Path
    skipped: dict[str, str] = field(default_factory=dict)
    cost: Cost | None = None

    @property
    def task(self) -> str:
        """``"segmentation"`` where each voxel has a class, else ``"classification"``."""
        return "segmentation" if self.summary.is_segmentation else "classification"

    @property
    def steps(self) -> tuple[float, float]:
        """The largest change of a voxel in the units of the files: the least and the most of all scans."""
        low, high = self.summary.window_widths
        return self.budget.epsilon * low, self.budget.epsilon * high

    def to_dict(self) -> dict[str, Any]:
        """All facts, JSON-ready."""
        listing, summary = self.listing, self.summary
        return {
            "dataset": str(listing.root),
            "source": listing.source,
            "task": self.task,
            "method": self.method,
            "cases": [case.case_id for case in listing.cases if case.case_id not in self.skipped],
            **{name: value for name, value in vars(summary).items() if name in TOLD + TOLD_OF_CLASSES},
            "passed_over": {entry.name: entry.reason for entry in listing.passed_over},
            "skipped": self.skipped,
            "budget": {**asdict(self.budget), "native": list(self.steps), "lowest_psnr": self.budget.lowest_psnr},
            "output": str(self.output),
            "cost": None if self.cost is None else {**asdict(self.cost), "seconds": self.cost.seconds},
        }

    def to_json(self) -> str:
        """All facts as the text of a JSON file."""
        return encode_json(self.to_dict()).decode()

    def announce(self) -> None:
        """Log the page, which the command line shows before the work begins."""
        logger.info("%s", self.page())

    def page(self) -> str:
        """The facts for people to read, a line each."""
        return "\n".join(f"{name:<12} {text}" for name, text in self._lines())

    def _lines(self) -> Iterator[tuple[str, str]]:
        listing, summary, budget = self.listing, self.summary, self.budget
        yield "dataset", f"{listing.root}: {listing.source}"
        channels = f"{summary.channels} channel{'s' if summary.channels > 1 else ''}"
        classes = f"{summary.num_classes} classes"
        if summary.tasks:
            classes = f"{len(summary.tasks)} labels an image, of {' + '.join(map(str, summary.task_classes))} classes"
        yield "task", f"{self.task} in {summary.spatial_dims}D, {channels}, {classes}"
        shape = " x ".join(map(str, summary.median_shape))
        yield "cases", f"{len(listing.cases) - len(self.skipped)}, of {shape} voxels in the median"
        yield "storage", ", ".join(f"{name}: {count:,}" for name, count in summary.dtypes.items())
        for words in self._classes():
            yield "classes", words
        if summary.empty:
            verb = "has" if len(summary.empty) == 1 else "have"
            found = counted(len(summary.empty), "case")
            yield "no region", f"{found} {verb} nothing to follow: {first_few(summary.empty)}"
        if summary.ignored_voxels:
            yield (
                "ignored",
                f"{counted(summary.ignored_voxels, 'voxel')} with negative label values: no class, no noise",
            )
        low, high = summary.window_range
        yield "windows", f"intensities from {low:,.6g} to {high:,.6g}"
        fraction = "" if budget.fraction == 1 else f", in at most {budget.fraction:.3g} of the voxels"
        yield "method", self.method
        native = native_steps(*self.steps)
        yield "budget", f"{of_255(budget.epsilon)} of the window: {native} in the units of the files{fraction}"
        yield "PSNR", f"{budget.lowest_psnr:.1f} dB or more: the fewer voxels change, the more"
        scans = sum(summary.dtypes.values())
        if summary.exceeding:
            yield "remark", spread_remark(summary.exceeding, scans)
        if summary.blank:
            yield "remark", blank_remark(summary.blank, scans)
        yield from self._omitted()
        yield "output", str(self.output)
        if self.cost is None:
            yield "time", "each stage tells what is left; a dry run (--dry-run) measures it before"
        else:
            yield from self._expected(self.cost)

    def _classes(self) -> list[str]:
        """How often each class occurs, a text for each task."""
        summary = self.summary
        called = self.listing.cases[0].class_names or ((),) * max(1, len(summary.tasks))
        if summary.tasks:
            tasks = zip(summary.tasks.items(), called, strict=True)
            return [f"{task}: {_images(counts, names)}" for (task, counts), names in tasks]
        if not summary.is_segmentation:
            return [_images(summary.targets, called[0])]
        total = max(1, sum(summary.class_voxels))
        pairs = list(zip(summary.label_values, summary.class_voxels, strict=True))
        named = {value: f"{value} ({names[0]})" for value, names in summary.class_names.items()}
        shown = [
            f"{named.get(value, value)}: {counted(count, 'voxel')} ({count / total:.2%})"
            for value, count in pairs[: 2 * NAMED]
        ]
        return [", ".join(shown) + (f", and {len(pairs) - len(shown)} more" if len(pairs) > len(shown) else "")]

    def _omitted(self) -> Iterator[tuple[str, str]]:
        """Lines about files and cases that will not be protected, grouped by the reason."""
        for reason, entries in grouped(self.listing.passed_over, lambda entry: entry.reason).items():
            yield "passed over", f"{len(entries):,}, {reason}: {first_few([entry.name for entry in entries])}"
        if self.skipped:
            yield "skipped", f"{counted(len(self.skipped), 'case')}: {first_few(self.skipped)}"

    def _expected(self, cost: Cost) -> Iterator[tuple[str, str]]:
        parts = {"preparation": cost.preparation, "training": cost.training, "publication": cost.publication}
        shown = ", ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items() if seconds)
        cases = counted(cost.measured, "case")
        yield "expected", f"{duration(cost.seconds)} ({shown}) and {_size(cost.disk)}, measured on {cases}"
        own, *others = map(_size, cost.memory)
        yield "memory", f"{own} at the peak" + "".join(f", and {size} of the GPU" for size in others)


def native_steps(low: float, high: float) -> str:
    """The largest change of a voxel in the units of the files, of the scan with the least and of that with the most."""
    least, most = f"{low:,.4g}", f"{high:,.4g}"
    return least if least == most else f"{least} to {most}"


def _images(counts: Sequence[int], names: Sequence[str]) -> str:
    """How many images are of each class, with its name where that is more than its number."""
    known = dict(enumerate(names))
    called = [
        f"{index} ({name})" if (name := known.get(index, "")) not in ("", str(index)) else str(index)
        for index in range(len(counts))
    ]
    return ", ".join(f"{name}: {counted(count, 'image')}" for name, count in zip(called, counts, strict=True))


def _size(count: int) -> str:
    """A number of bytes in the unit that tells it best."""
    power = min(max(count, 1).bit_length() // 10, 3)
    return f"{count / 1024**power:.1f} {('bytes', 'KiB', 'MiB', 'GiB')[power]}"

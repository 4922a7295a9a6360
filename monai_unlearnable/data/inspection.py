# SPDX-License-Identifier: Apache-2.0
"""The inspection of a dataset before anything is computed: its content, and whether all of it can be used."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_unlearnable.budget import Budget
from monai_unlearnable.data.cases import LoadedCase, read_case
from monai_unlearnable.data.grids import Crop, Grid, thick_axis
from monai_unlearnable.data.labels import LabelGeometry, soft_edges, value_counts
from monai_unlearnable.data.listing.datalist import Case
from monai_unlearnable.data.spread import blank_scans, exceeding_spread
from monai_unlearnable.data.summary import DatasetSummary
from monai_unlearnable.errors import DatalistError, LabelError, ScanError, UnlearnableError
from monai_unlearnable.intensity import WindowRule
from monai_unlearnable.utils import distributed
from monai_unlearnable.utils.arrays import fits_channels
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.text import alternatives

__all__ = ["check_tasks", "inspect_cases", "match_classes"]


@dataclass(frozen=True)
class _Facts:
    """The part of one case in the summary."""

    channels: int
    grid: Grid
    roughness: tuple[float, ...]
    counts: Mapping[int, int]
    ignored: int
    doubt: str | None
    names: Mapping[int, str]
    dtypes: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    exceeding: Mapping[str, str]
    blank: Mapping[str, str]


def inspect_cases(
    cases: Sequence[Case],
    window: WindowRule,
    label_values: Sequence[int] | None = None,
    channels: int | None = None,
    budget: Budget | None = None,
    roughness: bool = True,
    label_geometry: str = LabelGeometry.MATCH,
) -> DatasetSummary:
    """Read every case once, so that bad input is found before anything is computed or written.

    Among several processes each reads its share, and all know the results of all.

    Args:
        cases: the dataset.
        window: rule for the intensity windows.
        label_values: stored label value of each class; by default all values found, in ascending order.
        channels: number expected; by default that of the first case, of gray and color pictures that of the latter. Use
            1 to refuse 4D files.
        budget: budget that the files of all cases must be able to hold.
        roughness: whether to measure the roughness; else it is left empty.
        label_geometry: whether labels must lie where their images lie, see
            :func:`~monai_unlearnable.data.labels.read_label`.

    Raises:
        UnlearnableError: a subclass that says what is wrong, naming the first bad case and file.
    """
    _refuse_unlike_targets(cases)
    read = partial(read_case, window=window, label_values=label_values, label_geometry=label_geometry)
    facts_of = partial(_facts, read=read, is_encoded=label_values is not None, budget=budget, roughness=roughness)
    facts, channels = _of_one_kind(cases, _each(cases, facts_of), channels)
    shapes = [own.grid.shape for own in facts]
    lows, highs = zip(*(window for own in facts for window in own.windows), strict=True)
    widths = [high - low for low, high in zip(lows, highs, strict=True)]
    return DatasetSummary(
        spatial_dims=len(shapes[0]),
        channels=channels,
        median_shape=tuple(int(extent) for extent in np.median(shapes, axis=0)),
        roughness=tuple(np.mean([own.roughness for own in facts], axis=0).tolist()) if roughness else (),
        targets=() if cases[0].tasks else _counts(case.target for case in cases),
        tasks=_task_counts(cases),
        dtypes=Counter(dtype for own in facts for dtype in own.dtypes),
        window_range=(min(lows), max(highs)),
        window_widths=(min(widths), max(widths)),
        sizes=tuple(own.channels * math.prod(own.grid.shape) for own in facts),
        exceeding={name: what for own in facts for name, what in own.exceeding.items()},
        blank={name: what for own in facts for name, what in own.blank.items()},
        grids=tuple(own.grid for own in facts),
        **_of_labels(cases, facts, label_values),
    )


def _refuse_unlike_targets(cases: Sequence[Case]) -> None:
    """Refuse a dataset without cases, or one in which only some have a label map, or the tasks of the first."""
    if not cases:
        raise DatalistError("no cases given")
    unlike = next((case for case in cases if (case.target is None) != (cases[0].target is None)), None)
    if unlike is not None:
        raise LabelError("some cases have a label map and others a class", case=unlike.case_id)
    check_tasks(cases, cases[0].tasks, "the first case")


def _of_one_kind(cases: Sequence[Case], found: Iterator[_Facts], wanted: int | None) -> tuple[list[_Facts], int]:
    """The facts of all cases, which have the same axes and channels, and how many channels.

    Args:
        cases: the cases.
        found: facts of each, read one after the other.
        wanted: number of channels; None for that of the first case, of gray and color pictures that of the latter.

    Raises:
        ScanError: naming the first case and file of another kind.
    """
    all_facts, channels = list[_Facts](), wanted
    for case, facts in zip(cases, found, strict=True):
        all_facts.append(facts)
        dims = len(all_facts[0].grid.shape)
        if wanted is None and fits_channels(channels or facts.channels, facts.channels, dims):
            channels = facts.channels  # the first case, or color after gray
        if not fits_channels(facts.channels, channels or 0, dims) or len(facts.grid.shape) != dims:
            reason = f"{facts.channels} channel(s) of shape {facts.grid.shape}, where {channels} channel(s) of {dims}D"
            raise ScanError(f"{reason} are expected", case=case.case_id, file=case.root / case.images[0])
    return all_facts, int(channels or 0)


def check_tasks(cases: Sequence[Case], tasks: Sequence[str], others: str) -> None:
    """Check that cases have the same tasks as others.

    Args:
        cases: the cases.
        tasks: names of the tasks of the others, in sorted order; none where these have one label.
        others: what these are, for the error.

    Raises:
        LabelError: naming the first case that does not.
    """
    for case in cases:
        if case.tasks != tuple(tasks):
            found, known = (", ".join(names) or "none" for names in (case.tasks, tasks))
            raise LabelError(f"the tasks of the case are {found}, and those of {others} {known}", case=case.case_id)


def match_classes(cases: Sequence[Case], names: tuple[tuple[str, ...], ...], others: str) -> list[Case]:
    """Cases with the class numbers of others that call their classes by the same names.

    A dataset numbers the classes that it has: where it lacks one, those after it have other numbers. Numbers stay as
    they are where either side does not tell names.

    Args:
        cases: the cases.
        names: names of the classes of each label of the others, see :class:`Case`.
        others: what these are, for the error.

    Raises:
        LabelError: naming the first case whose class the others lack.
    """
    return [_matched(case, names, others) for case in cases]


def _matched(case: Case, names: tuple[tuple[str, ...], ...], others: str) -> Case:
    if case.target is None or case.class_names == names or len(case.class_names) != len(names):
        return case
    targets = list(case.target if isinstance(case.target, tuple) else (case.target,))
    for index, (own, known) in enumerate(zip(case.class_names, names, strict=True)):
        if not own or not known:
            continue
        name = own[targets[index]]
        if name not in known:
            label = f"class {name!r} of the task {case.tasks[index]}" if case.tasks else f"class {name!r}"
            reason = f"the {label} is none of the classes of {others}{alternatives(name, known)}"
            raise LabelError(
                f"{reason}; rename it, or leave its cases out", case=case.case_id, file=case.root / case.images[0]
            )
        targets[index] = known.index(name)
    return replace(case, target=tuple(targets) if case.tasks else targets[0], class_names=names)


def _counts(targets: Iterable[Any]) -> tuple[int, ...]:
    """The number of cases of each class, of those that have one."""
    return tuple(np.bincount([target for target in targets if target is not None]).tolist())


def _task_counts(cases: Sequence[Case]) -> dict[str, tuple[int, ...]]:
    """The number of cases of each class of each task."""
    columns = zip(*(case.target for case in cases if isinstance(case.target, tuple)), strict=True)
    return {task: _counts(column) for task, column in zip(cases[0].tasks, columns, strict=True)}


def _of_labels(cases: Sequence[Case], facts: Sequence[_Facts], label_values: Sequence[int] | None) -> dict[str, Any]:
    """The part of label maps in the summary: values, counts, and cases that are empty or doubtful."""
    if cases[0].label is None:
        return {"label_values": () if label_values is None else tuple(label_values)}
    total = sum((Counter(own.counts) for own in facts), Counter[int]())
    if not total:
        raise LabelError("all label values are negative, which means to ignore: there is nothing to follow")
    classes = sorted(total) if label_values is None else range(len(label_values))  # values, or their indices
    pairs = list(zip(cases, facts, strict=True))
    return {
        "label_values": tuple(classes if label_values is None else label_values),
        "class_voxels": tuple(total[value] for value in classes),
        "ignored_voxels": sum(own.ignored for own in facts),
        "empty": tuple(case.case_id for case, own in pairs if own.counts.keys() <= {classes[0]}),
        "class_names": _names(facts),
        "doubtful": tuple(
            LabelError(own.doubt, case=case.case_id, file=case.root / str(case.label))
            for case, own in pairs
            if own.doubt
        ),
    }


def _names(facts: Sequence[_Facts]) -> dict[int, tuple[str, ...]]:
    """The different names of each label value; spelling with other capitals, spaces or underscores is no other name."""
    found: dict[int, dict[str, str]] = {}
    for own in facts:
        for value, name in own.names.items():
            found.setdefault(value, {}).setdefault("".join(filter(str.isalnum, name.casefold())), name)
    return {value: tuple(names.values()) for value, names in sorted(found.items())}


def _each(cases: Sequence[Case], facts_of: Callable[[Case], _Facts]) -> Iterator[_Facts]:
    """The facts of each case in their order; errors as well, in all processes the same one."""

    def found(case: Case) -> _Facts | UnlearnableError:
        try:
            return facts_of(case)
        except UnlearnableError as error:
            return error

    own = distributed.share(cases)
    read = map(found, track(own, "reading and checking case") if len(cases) > 1 else own)
    for facts in distributed.gather_shares(list(read)) if distributed.count() > 1 else read:
        if isinstance(facts, UnlearnableError):
            raise facts
        yield facts


def _facts(
    case: Case, read: Callable[[Case], LoadedCase], is_encoded: bool, budget: Budget | None, roughness: bool
) -> _Facts:
    loaded = read(case)
    count = sum(len(scan.voxels) for scan in loaded.scans)
    if budget is not None:
        pairs = zip(loaded.scans, loaded.windows, strict=True)
        finest = min(window.finest_step(scan.quantization) for scan, window in pairs)
        voxels = (
            min(scan.quantization.count_data(scan.voxels) for scan in loaded.scans) if budget.fraction < 1 else None
        )
        budget.check_storage(finest, voxels, case=case.case_id)
    counts, ignored, doubt = dict[int, int](), 0, None
    if loaded.label is not None:
        counts = value_counts(loaded.label)
        if not is_encoded:
            doubt = soft_edges(loaded.label, counts)
        if loaded.ignored is not None:
            ignored = int(np.count_nonzero(loaded.ignored))
            counts = {value: number for value, number in {**counts, 0: counts[0] - ignored}.items() if number}
    return _Facts(
        channels=count,
        grid=_measured_grid(loaded),
        roughness=_roughness(loaded.image) if roughness else (),
        counts=counts,
        ignored=ignored,
        doubt=doubt,
        names=loaded.value_names,
        dtypes=tuple(scan.voxels.dtype.name for scan in loaded.scans),
        windows=tuple(ends for own in loaded.windows for ends in zip(own.low, own.high, strict=True)),
        exceeding={} if budget is None else exceeding_spread(loaded, budget.epsilon),
        blank=blank_scans(loaded),
    )


def _measured_grid(loaded: LoadedCase) -> Grid:
    """Where the voxels lie, with the box of nnU-Net's crop where the spacing that it plans may depend on it."""
    return loaded.grid if thick_axis(loaded.grid.spacing) is None else loaded.grid_after(Crop.NONZERO)


def _roughness(image: NDArray) -> tuple[float, ...]:
    """Root mean square of the second difference along each spatial axis of an image (C, spatial...)."""
    squares, counts = np.zeros(image.ndim - 1), np.zeros(image.ndim - 1)
    for channel in image:
        planes = channel.T  # (z, y, x) or (y, x): as it lies in memory, so that three planes fit into a cache
        stack = planes if planes.ndim == 3 else planes[None]
        for index, plane in enumerate(stack):
            differences = [np.diff(plane, 2, axis=1), np.diff(plane, 2, axis=0)]
            if index > 1:
                differences.append(np.diff(stack[index - 2 : index + 1], 2, axis=0))
            for axis, difference in enumerate(differences):
                squares[axis] += float(np.square(difference).sum())
                counts[axis] += difference.size
    known = counts > 0
    return tuple(np.where(known, np.sqrt(squares / np.maximum(counts, 1)), np.inf).tolist())

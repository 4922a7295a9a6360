# SPDX-License-Identifier: Apache-2.0
"""A model that is asked by hand: a shuffled folder of probes, and the judgement of the answers."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from monai_unlearnable.crypto.encrypted import place, read_owned, write_owned
from monai_unlearnable.errors import InputError, OutputError
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.tracing.answers import read_answers
from monai_unlearnable.tracing.asking import scored
from monai_unlearnable.tracing.probes import Query, query_digest
from monai_unlearnable.tracing.record import Record
from monai_unlearnable.tracing.result import TraceResult, conclude
from monai_unlearnable.tracing.setup import NAME, Setup, set_up
from monai_unlearnable.utils.files import below, encode_json
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.progress import track
from monai_unlearnable.utils.seeding import seeded
from monai_unlearnable.utils.values import check_whole

__all__ = ["judge", "prepare"]

logger = logging.getLogger(__name__)

QUERIES = "queries.json"  # who carries which mark; encrypted
BY_HAND = "asked by hand"


def prepare(
    output_dir: str | Path,
    probes_dir: str | Path,
    folder: str | Path,
    key: Any,
    keys: int = 99,
    name: str = NAME,
    epsilon: float | None = None,
    statistic: str | None = None,
    datalist: str | Path | None = None,
    max_probes: int = 10,
) -> int:
    """Write a folder of marked probes under names that tell nothing, for a model that is asked by hand.

    Which file carries which mark is known to the owner's encrypted file ``OUT/trace/NAME/queries.json.sealed`` alone.

    Args:
        output_dir: output of the protected set, with ``models/``.
        probes_dir: folder of labeled scans.
        folder: new folder for the probes.
        key: the owner's key or its file.
        keys: number of other marks; there are ``1 + keys`` files of each probe.
        name, epsilon, statistic, datalist, max_probes: see :func:`~monai_unlearnable.tracing.trace`.

    Returns:
        The number of files, each of which needs an answer.

    Raises:
        OutputError: when the folder is not empty, or other queries were prepared under the name.
        UnlearnableError: see :func:`~monai_unlearnable.tracing.trace`.
    """
    check_whole("keys", keys, 1)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise OutputError("the folder is not empty", file=folder)
    setup = set_up(output_dir, probes_dir, key, epsilon, statistic, datalist, max_probes)
    record = setup.record(name)
    record.begin(setup.plan(BY_HAND, keys, keys))
    count = len(setup.probes)
    order = torch.randperm((1 + keys) * count, generator=seeded(setup.marks.seed, "order", name)).tolist()
    names = [f"probe{position + 1:06d}" for position in order]
    queries: list[dict[str, Any]] = []
    digests: dict[str, str] = {}
    with _complete(folder) as unfinished, tempfile.TemporaryDirectory(prefix="probes-") as scratch:
        for number in track(range(1 + keys), "writing mark"):
            own = names[number * count : (number + 1) * count]
            for probe, query in enumerate(setup.probes.write(setup.marks.mark(number), Path(scratch), own)):
                queries.append({"name": query.name, "mark": number, "probe": probe})
                digests[query.name] = query_digest(query)
        for path in below(Path(scratch)):  # in the order of names, which the file system keeps
            _copy(path, unfinished / path.relative_to(scratch))
        for path in below(unfinished):
            os.utime(path, (0, 0))  # the order in which files were written would tell their marks
        write_owned(record.folder / QUERIES, encode_json({"queries": queries, "digests": digests}), setup.key)
    return len(names)


def _copy(path: Path, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        copy.mkdir()
    else:
        shutil.copyfile(path, copy)


@contextmanager
def _complete(folder: Path) -> Iterator[Path]:
    """A folder to write to, which becomes ``folder`` at the end: what was stopped half-way is not taken for whole."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        unfinished = Path(temporary) / folder.name
        yield unfinished
        if folder.exists():
            folder.rmdir()  # it is empty
        unfinished.rename(folder)


def judge(
    output_dir: str | Path,
    probes_dir: str | Path,
    folder: str | Path,
    answers_dir: str | Path,
    key: Any,
    name: str = NAME,
    answer_classes: Sequence[int | str | None] | None = None,
    datalist: str | Path | None = None,
    max_probes: int | None = None,
) -> TraceResult:
    """Judge the answers to a folder of probes that :func:`prepare` wrote.

    Args:
        output_dir: output of the protected set.
        probes_dir: folder of the clean probes.
        folder: folder of the marked probes.
        answers_dir: folder of the answers, under the names of the probes; see
            :func:`~monai_unlearnable.tracing.answers.read_answers`.
        key: the owner's key or its file.
        name, answer_classes, datalist: see :func:`~monai_unlearnable.tracing.trace`.
        max_probes: largest number of probes; by default as many as were prepared.

    Raises:
        InputError: when a probe was changed, or no probe of a mark has an answer.
    """
    plan = Record.of(Layout(output_dir).trace, name).plan
    most = len(plan.probes) if max_probes is None else max_probes
    setup = set_up(output_dir, probes_dir, key, plan.epsilon, plan.statistic, datalist, most)
    record = setup.record(name)
    record.begin(setup.plan(BY_HAND, plan.others, plan.stop_after))
    prepared = _prepared(record, setup)
    form = setup.answer_format(answer_classes)
    files = _files(Path(folder))
    for number in track(range(1 + plan.others), "judging mark"):
        own = sorted((entry for entry in prepared["queries"] if entry["mark"] == number), key=lambda e: e["probe"])
        queries = [Query(entry["name"], files.get(entry["name"], ())) for entry in own]
        for query in queries:
            if not query.files or query_digest(query) != prepared["digests"][query.name]:
                raise InputError("the probe is not there, or was changed since", case=query.name, file=folder)
        found = read_answers(Path(answers_dir), queries, form)
        digests = [prepared["digests"][query.name] for query in queries]
        record.save(scored(setup, number, digests, found, 0.0, [query.name for query in queries]), found)
    return conclude(setup, record)


def _prepared(record: Record, setup: Setup) -> dict[str, Any]:
    path = record.folder / QUERIES
    if not place(path, setup.key).is_file():
        raise InputError("no probes were prepared under this name", file=record.folder)
    content: dict[str, Any] = json.loads(read_owned(path, setup.key))
    return content


def _files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each probe by its name."""
    if not folder.is_dir():
        raise InputError("the folder of the probes does not exist", file=folder)
    found = grouped(sorted(folder.iterdir()), lambda path: path.name.partition("_")[0])
    return {name: tuple(paths) for name, paths in found.items()}

# SPDX-License-Identifier: Apache-2.0
"""The record of a trace on disk: what is asked and how it is judged, written before, and what was answered."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monai_unlearnable.errors import CommandError, InputError, OutputError, told
from monai_unlearnable.tracing.statistics import Answer
from monai_unlearnable.utils.files import encode_json, reading, write_atomic, write_json
from monai_unlearnable.utils.locks import lock, unlock

__all__ = ["AGAIN", "UNMARKED", "Answered", "Plan", "Record", "answer_digest", "kept_form"]

PLAN, RESULT, MARKS = "plan.json", "result.json", "marks"
ANSWERED, ANSWERS = "answered.json", "answers.npz"
STILL = 0.001  # mean score by which answers may move: on a GPU the last digits of a network change from call to call
UNMARKED = -1  # number of the probes without a mark
AGAIN = -2  # the same, asked again after the marks: a model that stayed as it is gets the same score
FOLDERS = {UNMARKED: "unmarked", AGAIN: "unmarked_again"}

MOVED = "no verdict: the model answers the probes without a mark otherwise than before, so that p would mean nothing"


@dataclass(frozen=True)
class Plan:
    """All that is decided before a model is asked.

    Args:
        mark_sha256: what commits to the owner's mark, as in the statement of the protected set.
        statistic: how an answer is scored.
        epsilon: largest change of a voxel in the probes, in normalized intensity.
        others: number of other marks.
        stop_after: number of other marks with a larger statistic after which no more are asked.
        probes: digests of the clean probes.
        model: what is asked.
        model_sha256: digest of the network file, or of the bundle's weights and configurations; None where the weights
            cannot be seen, and in records of earlier versions.
        preprocessing_sha256: digest of the configuration that makes the input of a network, where one was given.
        answer_classes: what stands for each class in the answers, where it was given.
    """

    mark_sha256: str
    statistic: str
    epsilon: float
    others: int
    stop_after: int
    probes: tuple[str, ...]
    model: str
    model_sha256: str | None = None
    preprocessing_sha256: str | None = None
    answer_classes: tuple[int | str | None, ...] | None = None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Plan:
        """The plan that JSON holds; earlier versions wrote less."""
        classes = content.get("answer_classes")
        read = {"probes": tuple(content["probes"]), "answer_classes": None if classes is None else tuple(classes)}
        return cls(**{**content, **read})


@dataclass(frozen=True)
class Answered:
    """What a model answered to the probes with one mark.

    Args:
        number: number of the mark; 0 is the owner's, -1 none at all, and -2 none at all, asked again.
        queries: digests of the files that the model got.
        answers: digests of the answers; None where there was none.
        scores: score of each answer; None where there was none.
        seconds: time that it took.
    """

    number: int
    queries: tuple[str, ...]
    answers: tuple[str | None, ...]
    scores: tuple[float | None, ...]
    seconds: float

    def statistic(self, worst: float) -> float:
        """The mean score over the probes; missing answers count as the worst."""
        return float(np.mean([worst if score is None else score for score in self.scores]))

    def is_like(self, other: Answered) -> bool:
        """Whether a model that answered both, one earlier and one later, may be taken for one that did not change."""
        pairs = list(zip(self.scores, other.scores, strict=True))
        if any((one is None) != (another is None) for one, another in pairs):
            return False
        moved = [one - another for one, another in pairs if one is not None and another is not None]
        return abs(float(np.mean(moved or [0.0]))) <= STILL


class Record:
    """A folder with the plan, what was answered to each mark, and the result.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[int, Answered] = {}  # what was answered does not change

    @classmethod
    def of(cls, folder: Path, name: str) -> Record:
        """The record of a model in the folder of all.

        Raises:
            InputError: when the name is not that of a folder.
        """
        if not name or name in (".", "..") or Path(name).name != name:
            raise InputError(f"{name!r} is no name of a record: it becomes that of a folder")
        return cls(folder / name)

    def begin(self, plan: Plan) -> None:
        """Write the plan, or go on with it.

        Raises:
            OutputError: naming the file, when another plan was followed here.
        """
        path, content = self.folder / PLAN, encode_json(asdict(plan))
        if not path.is_file():
            write_atomic(path, content)
        elif encode_json(asdict(self.plan)) != content:
            changed = _changed(self._read(path), json.loads(content))
            reason = f"a trace with another {changed} was begun here; give it another --name"
            raise OutputError(reason, file=path)

    @property
    def plan(self) -> Plan:
        """The plan.

        Raises:
            InputError: naming the file, when it cannot be read, or no trace was begun here.
        """
        if not (self.folder / PLAN).is_file():
            raise InputError("no trace was begun under this name", file=self.folder)
        path = self.folder / PLAN
        content = self._read(path)
        try:
            return Plan.of(content)
        except (TypeError, KeyError, AttributeError) as error:
            raise InputError(f"the plan cannot be read: {told(error)}", file=path) from error

    def refuse_moved(self) -> None:
        """Refuse a record of a model that did not stay as it was while it was asked.

        Raises:
            CommandError: when the probes without a mark got other scores after the marks than before.
        """
        first, again = self.find(UNMARKED), self.find(AGAIN)
        if first is not None and again is not None and not again.is_like(first):
            raise CommandError(f"{MOVED}; ask one that stays as it is, under another --name", file=self.folder)

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Whether this process is the one that asks a mark that was not asked yet."""
        folder = self._folder(number)
        try:
            lock(folder)
        except OutputError:
            yield False
            return
        try:
            yield self.find(number) is None
        finally:
            unlock(folder)

    def save(self, answered: Answered, answers: Sequence[Answer | None]) -> None:
        """Keep what was answered to a mark."""
        folder, stream = self._folder(answered.number), io.BytesIO()
        known = {f"{index:04d}": kept_form(answer) for index, answer in enumerate(answers) if answer is not None}
        np.savez_compressed(stream, **known)  # type: ignore[arg-type]
        write_atomic(folder / ANSWERS, stream.getvalue())
        write_json(folder / ANSWERED, asdict(answered))
        self._known.pop(answered.number, None)

    def find(self, number: int) -> Answered | None:
        """What was answered to a mark, if it was asked.

        Raises:
            InputError: naming the file, when it cannot be read.
        """
        if number in self._known:
            return self._known[number]
        path = self.file_of(number)
        if not path.is_file():
            return None
        content = self._read(path)
        lists = ("queries", "answers", "scores")
        try:
            self._known[number] = Answered(**{**content, **{name: tuple(content[name]) for name in lists}})
        except (TypeError, KeyError) as error:
            raise InputError(f"the answers cannot be read: {error}", file=path) from error
        if self._known[number].number != number:
            held = self._known.pop(number).number
            raise InputError(f"the folder of mark {number} holds what was answered to mark {held}", file=path)
        return self._known[number]

    def answers(self, number: int, count: int) -> list[Answer | None]:
        """The answers to the probes with a mark."""
        path = self._folder(number) / ANSWERS
        with reading(path, InputError), np.load(path, allow_pickle=False) as kept:
            names = [f"{index:04d}" for index in range(count)]
            known = set(kept.files)
            return [kept[name] if name in known else None for name in names]

    def answered(self) -> list[Answered]:
        """What was answered to the owner's mark and to others, in their order, up to the first that was not asked."""
        found: list[Answered] = []
        while (answered := self.find(len(found))) is not None:
            found.append(answered)
        return found

    @property
    def result(self) -> dict[str, Any]:
        """The result, as it was signed.

        Raises:
            InputError: naming the file, when it cannot be read, or there is none yet.
        """
        if not self.result_path.is_file():
            raise InputError("the trace has no result yet", file=self.folder)
        return self._read(self.result_path)

    @property
    def result_path(self) -> Path:
        """The file of the result."""
        return self.folder / RESULT

    def file_of(self, number: int) -> Path:
        """The file with what was answered to a mark."""
        return self._folder(number) / ANSWERED

    def _folder(self, number: int) -> Path:
        return self.folder / MARKS / FOLDERS.get(number, f"{number:05d}")

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
        except FileNotFoundError as error:
            raise InputError("there is none: no trace of this name was begun here", file=path) from error
        except (OSError, ValueError) as error:
            raise InputError(f"cannot be read: {told(error)}", file=path) from error
        return content


def answer_digest(answer: Answer) -> str:
    """SHA-256 of an answer as it is kept."""
    kept = np.ascontiguousarray(kept_form(answer))
    return hashlib.sha256(f"{kept.dtype.str} {kept.shape} ".encode() + kept.tobytes()).hexdigest()


def kept_form(answer: Answer) -> Answer:
    """An answer as it is kept: classes in a byte each where they fit, probabilities in four."""
    if answer.dtype.kind in "iub":
        return answer.astype(np.uint8 if answer.size == 0 or 0 <= answer.min() <= answer.max() < 256 else np.int32)
    return answer.astype(np.float32)


def _changed(earlier: dict[str, Any], later: dict[str, Any]) -> str:
    """The first setting that differs, in words; earlier versions wrote less."""
    changed = (name for name in later if name in earlier and earlier[name] != later[name])
    return next((name.removesuffix("_sha256").replace("_", " ") for name in changed), "version of the program")

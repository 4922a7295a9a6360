# SPDX-License-Identifier: Apache-2.0
"""How a suspected model is asked: a function, a network in a file, a MONAI bundle, or a command."""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from monai.utils import convert_to_numpy

from monai_unlearnable.errors import CommandError, InputError, UnlearnableError, told
from monai_unlearnable.tracing.answers import AnswerFormat, read_answers
from monai_unlearnable.tracing.probes import Query
from monai_unlearnable.tracing.statistics import Answer
from monai_unlearnable.utils.processes import finished, time_limit

__all__ = ["CommandSuspect", "FunctionSuspect", "Suspect", "open_suspect"]

FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")  # module:function
PROBES, ANSWERS = "{probes}", "{answers}"
LAST = 4096  # bytes of a log that are searched for its last line


class Suspect(ABC):
    """A model that can be asked, and whose training data are in question.

    Attributes:
        description: what it is, for the record.
        sha256: digest of all that its answers follow from; None where that cannot be seen. Then it is asked again, see
            :func:`~monai_unlearnable.tracing.trace`.
    """

    description: str
    sha256: str | None = None

    @abstractmethod
    def ask(self, queries: Sequence[Query]) -> list[Answer | None]:
        """The answers to queries.

        Args:
            queries: names and files of marked probes.

        Returns:
            An answer for each query, see :data:`~monai_unlearnable.tracing.statistics.Answer`; None where there is
            none.

        Raises:
            CommandError: when it fails, or does not end.
        """


@dataclass(frozen=True)
class FunctionSuspect(Suspect):
    """A Python function that takes the files of a probe and returns an answer.

    Args:
        function: function of a list of files. It returns class indices as whole numbers, (spatial...) or of the whole
            image; or probabilities, (classes, spatial...) or (classes,).
        description: what it is.
        seconds: time that it gets for all queries of one mark; by default there is no limit.
        sha256: see :class:`Suspect`.
    """

    function: Callable[[list[str]], Any]
    description: str = "a function"
    seconds: float | None = None
    sha256: str | None = None

    def ask(self, queries: Sequence[Query]) -> list[Answer | None]:
        with time_limit(self.seconds, self.description):
            return [self._answer(query) for query in queries]

    def _answer(self, query: Query) -> Answer:
        try:
            answer = self.function([str(path) for path in query.files])
            return np.asarray(convert_to_numpy(answer))
        except UnlearnableError:
            raise
        except Exception as error:  # anything that the function of others raises
            raise CommandError(f"the model fails: {told(error)}", case=query.name) from error


@dataclass(frozen=True)
class CommandSuspect(Suspect):
    """A command that reads a folder of probes and writes a folder of answers.

    Args:
        command: program and arguments, with ``{probes}`` and ``{answers}`` in the places of the folders. No shell is
            involved.
        format: form of the answers.
        seconds: time after which it is ended.
    """

    command: str
    format: AnswerFormat
    seconds: float = 3600.0

    @property
    def description(self) -> str:  # type: ignore[override]
        return self.command

    def ask(self, queries: Sequence[Query]) -> list[Answer | None]:
        folder = queries[0].files[0].parent
        with tempfile.TemporaryDirectory(prefix="answers-") as temporary:
            answers, log = Path(temporary) / "answers", Path(temporary) / "log.txt"
            answers.mkdir()
            places = {PROBES: str(folder), ANSWERS: str(answers)}
            words = [_filled(word, places) for word in shlex.split(self.command)]
            with log.open("wb") as stream:
                code = finished(words, dict(os.environ), stream.fileno(), seconds=self.seconds)
            if code:
                raise CommandError(f"{words[0]} failed with exit code {code}: {_last_line(log)}")
            return read_answers(answers, queries, self.format)


def open_suspect(model: Any, answers: AnswerFormat, seconds: float = 3600.0, preprocessing: Any = None) -> Suspect:
    """The suspect that a user names.

    Args:
        model: a suspect; a function of a list of files; ``module:function``; a TorchScript or ONNX file; the folder of
            a MONAI bundle; or a command with ``{probes}`` and ``{answers}``.
        answers: form of the answers of a command.
        seconds: time that it gets for the probes of one mark.
        preprocessing: configuration file whose ``preprocessing`` makes the input of a network in a file.

    Raises:
        InputError: when it is none of these.
    """
    if isinstance(model, Suspect):
        return model
    if callable(model):
        return FunctionSuspect(model, getattr(model, "__qualname__", type(model).__name__), seconds)
    text = str(model)
    if PROBES in text and ANSWERS in text:
        return CommandSuspect(text, answers, seconds)
    path = Path(text)
    if path.is_dir():
        from monai_unlearnable.tracing.networks import bundle_digest, open_bundle

        return FunctionSuspect(open_bundle(path), f"bundle {path.name}", seconds, bundle_digest(path))
    if path.is_file():
        from monai_unlearnable.tracing.networks import network_digest, open_network

        network = open_network(path, preprocessing)
        return FunctionSuspect(network, f"network {path.name}", seconds, network_digest(path))
    if FUNCTION.fullmatch(text):
        return FunctionSuspect(_function(text), text, seconds)
    reason = f"{text!r} is no model: give a file, the folder of a bundle, module:function"
    raise InputError(f"{reason}, or a command with {PROBES} and {ANSWERS}")


def _function(name: str) -> Callable[[list[str]], Any]:
    module, _, path = name.partition(":")
    try:
        found: Any = import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InputError(f"{name} cannot be loaded: {told(error)}") from error
    if not callable(found):
        raise InputError(f"{name} is no function")
    return found  # type: ignore[no-any-return]


def _filled(word: str, places: dict[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(name, value)
    return word


def _last_line(log: Path) -> str:
    text = log.read_bytes()[-LAST:].decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"

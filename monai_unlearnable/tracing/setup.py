# SPDX-License-Identifier: Apache-2.0
"""The owner's side of a trace: the protected set, the marks and the probes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from monai_unlearnable.crypto import OwnerKey, load_key
from monai_unlearnable.crypto.keys import owner
from monai_unlearnable.errors import InputError, told
from monai_unlearnable.perturbers import load_input_settings, load_mark_digest, load_perturber
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.statement import MARK
from monai_unlearnable.tracing.answers import AnswerFormat
from monai_unlearnable.tracing.marks import OWN, Marks
from monai_unlearnable.tracing.probes import Probes
from monai_unlearnable.tracing.record import Plan, Record
from monai_unlearnable.tracing.statistics import Statistic, usual_statistic
from monai_unlearnable.utils.enums import look_up
from monai_unlearnable.utils.files import file_digest
from monai_unlearnable.utils.values import check_number, check_whole

__all__ = ["NAME", "Setup", "set_up"]

NAME = "model"  # of the record, where no other is given


@dataclass(frozen=True)
class Setup:
    """The owner's side of a trace.

    Args:
        layout: layout of the output of the protected set.
        key: the owner's key.
        marks: the owner's mark and others.
        mark_sha256: what the statement commits to.
        probes: scans that they are put on.
        statistic: how answers are scored.
        num_classes: number of classes.
        label_values: stored label values of the classes; None for classes of whole images.
    """

    layout: Layout
    key: OwnerKey
    marks: Marks
    mark_sha256: str
    probes: Probes
    statistic: str
    num_classes: int
    label_values: tuple[int, ...] | None

    def plan(
        self,
        model: str,
        others: int,
        stop_after: int,
        model_sha256: str | None = None,
        preprocessing: str | Path | None = None,
        answer_classes: Sequence[int | str | None] | None = None,
    ) -> Plan:
        """The plan of a trace.

        Args:
            model: what is asked.
            others: number of other marks.
            stop_after: see :func:`~monai_unlearnable.tracing.randomization.sequential_test`.
            model_sha256: digest of the model, where it can be seen.
            preprocessing: configuration file that makes the input of a network.
            answer_classes: what stands for each class in the answers.
        """
        epsilon = self.marks.mark(OWN).epsilon
        probes = tuple(self.probes.digests)
        plan = Plan(self.mark_sha256, str(self.statistic), epsilon, others, stop_after, probes, model, model_sha256)
        before = None if preprocessing is None else file_digest(Path(preprocessing))
        classes = None if answer_classes is None else tuple(answer_classes)
        return replace(plan, preprocessing_sha256=before, answer_classes=classes)

    def answer_format(self, classes: Sequence[int | str | None] | None) -> AnswerFormat:
        """The form of the answers of a command.

        Args:
            classes: what stands for each class; by default the stored label values.

        Raises:
            InputError: when these are those of another number of classes.
        """
        if classes is not None and len(classes) != self.num_classes:
            reason = f"answer_classes names {len(classes)} classes, and the set has {self.num_classes}"
            raise InputError(f"{reason}, background included")
        return AnswerFormat(self.label_values if classes is None else tuple(classes))

    def record(self, name: str) -> Record:
        """The record of a name."""
        return Record.of(self.layout.trace, name)


def set_up(
    output_dir: str | Path,
    probes_dir: str | Path,
    key: Any,
    epsilon: float | None = None,
    statistic: str | None = None,
    datalist: str | Path | None = None,
    max_probes: int = 40,
) -> Setup:
    """Open a protected set and the probes.

    Args:
        output_dir: output of the protected set, with ``models/``.
        probes_dir: folder of labeled scans.
        key: the owner's key or its file.
        epsilon: largest change of a voxel in the probes; by default that of the set.
        statistic: how answers are scored; by default ``"dice"`` for label maps, else ``"log_probability"``.
        datalist: list of the probes.
        max_probes: largest number of probes.

    Raises:
        KeyMismatchError: when the key is another one.
        InputError: when the set carries no mark, its statement does not commit to it, or the probes do not fit it.
    """
    check_whole("max_probes", max_probes, 1)
    if epsilon is not None:
        check_number("epsilon", epsilon)
    layout = Layout(output_dir)
    if layout.records and not layout.is_encrypted:
        reason = "the set cannot be traced: it was protected without a key, so that anyone can know its mark"
        raise InputError(f"{reason}; protect with --key", file=layout.root)
    if key is None:
        raise InputError("a trace needs the owner's key: without one the set carries no secret mark; give --key")
    own = owner(load_key(key))
    marks = Marks(load_perturber(layout.checkpoint, key=own), epsilon)
    digest = load_mark_digest(layout.checkpoint, own)
    _check_commitment(layout, digest)
    settings = load_input_settings(layout.checkpoint, own)
    probes = Probes(probes_dir, settings, datalist, max_probes)
    usual = usual_statistic(probes.are_maps)
    chosen = str(usual) if statistic is None else look_up("statistic", statistic, Statistic)
    if (chosen == Statistic.DICE) != probes.are_maps and chosen != Statistic.LOG_PROBABILITY:
        raise InputError(f"the statistic {chosen} does not fit the labels; the usual one is {usual}")
    values = None if settings.label_values is None else tuple(settings.label_values)
    classes = len(values) if values else 1 + max(int(label) for label in probes.labels)
    return Setup(layout, own, marks, digest, probes, chosen, classes, values)


def _check_commitment(layout: Layout, mark: str) -> None:
    """Refuse a set whose owner could have chosen the key after he knew the model.

    Raises:
        InputError: naming the statement, when it is missing, or does not commit to the mark.
    """
    path, again = layout.statement, "write it anew with: statement OUT --key KEY"
    if not path.is_file():
        raise InputError(f"there is no statement that commits to the mark; {again}", file=path)
    try:
        stated = json.loads(path.read_bytes()).get(MARK)
    except (OSError, ValueError, AttributeError) as error:
        raise InputError(f"the statement cannot be read: {told(error)}", file=path) from error
    if stated is None:
        reason = f"the statement does not commit to the mark: it has no {MARK}"
        raise InputError(f"{reason}, so that a result would prove nothing; {again}", file=path)
    if stated != mark:
        raise InputError("the statement commits to another mark than that of the set", file=path)

# SPDX-License-Identifier: Apache-2.0
"""Entries chosen by a line of text, which documents hold where a table belongs."""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence.entries import Entry, Score
from monai_unlearnable.evidence.judging import by_strength, claim, fraction
from monai_unlearnable.evidence.words import times
from monai_unlearnable.metrics.judgement import POOR, UNKNOWN
from monai_unlearnable.utils.grouping import grouped
from monai_unlearnable.utils.text import alternatives

__all__ = ["ENTRIES", "EXPLOITERS", "MATRIX", "Condition", "Query"]

ENTRIES, EXPLOITERS, MATRIX = ROWS = ("entries", "exploiters", "matrix")
PART = re.compile(r"([a-z_][\w.#]*)(!=|>=|<=|=)(.*)", re.S)
FIELDS = [field.name for field in dataclasses.fields(Entry)] + ["claim"]
GROUPS = ("settings", "victim_settings", "extras")  # fields that hold values by name
NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Condition:
    """A condition on one field of an entry.

    Args:
        name: name of the field, ``claim``, or a value in one: ``settings.NAME``, ``victim_settings.NAME``,
            ``extras.NAME``. A score is its mean.
        sign: ``"="`` or ``"!="`` with one of several values; ``">="`` or ``"<="`` with a number.
        values: texts.
    """

    name: str
    sign: str
    values: tuple[str, ...]

    def holds(self, entry: Entry) -> bool:
        """Whether it holds for an entry; comparisons with an unknown number do not."""
        text = text_of(entry, self.name)
        if self.sign in ("=", "!="):
            return (text in self.values) == (self.sign == "=")
        number, limit = NUMBER.match(text), float(self.values[0])
        if number is None:
            return False
        return float(number[0]) >= limit if self.sign == ">=" else float(number[0]) <= limit


def text_of(entry: Entry, name: str) -> str:
    """A field of an entry as text; empty where it is not known."""
    head, _, rest = name.partition(".")
    value: Any = claim(entry) if head == "claim" else getattr(entry, head)
    if isinstance(value, Mapping):
        value = value.get(rest)
    if isinstance(value, Score):
        value = value.mean
    return times(value)


@dataclass(frozen=True)
class Query:
    """Which entries a table shows, and how.

    Args:
        conditions: conditions that all hold.
        rows: ``"entries"``, a row for each; ``"exploiters"``, a row for each kind of exploiter with the protection that
            leaves him least: his best training on it, whatever its length or the size of its input; ``"matrix"``, a row
            for each kind of exploiter and a column for each protected dataset.
        columns: names of columns, see :data:`~monai_unlearnable.evidence.tables.COLUMNS`; by default those that tell
            the rows apart.

    Example:
        >>> Query.of('dataset=hippocampus method=umed,foresight recipe!=plain psnr>=38 rows=exploiters')
    """

    conditions: tuple[Condition, ...] = ()
    rows: str = ENTRIES
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, text: str) -> Query:
        """The query of a line.

        Raises:
            InputError: when a part is no condition, or names no field.
        """
        conditions, options = [], {}
        for part in _split(text):
            match = PART.fullmatch(part)
            if match is None:
                raise InputError(f"{part!r} is no condition; they read NAME=VALUE,VALUE, NAME!=VALUE or NAME>=NUMBER")
            name, sign, values = match[1], match[2], tuple(match[3].split(","))
            if name in ("rows", "columns") and sign == "=":
                options[name] = values
            else:
                conditions.append(_condition(name, sign, values))
        rows = ",".join(options.get("rows", (ENTRIES,)))
        if rows not in ROWS:
            raise InputError(f"rows are {rows!r}; known are {', '.join(ROWS)}")
        return cls(tuple(conditions), rows, options.get("columns", ()))

    def choose(self, entries: Iterable[Entry]) -> list[Entry]:
        """The entries in their order: newest first, of one day the attack that wins first.

        Of exploiters, and in a matrix, the one that reaches most comes first, whatever the day.

        Raises:
            InputError: when there is none: the table would vanish unseen.
        """
        found = by_strength(entry for entry in entries if all(one.holds(entry) for one in self.conditions))
        if not found:
            raise InputError("no entry of the evidence meets the conditions")
        if self.rows != ENTRIES:
            found = _best_of_exploiters(found) if self.rows == EXPLOITERS else _by_exploiter(found)
        if not found:
            raise InputError("no entry that meets the conditions has a control that learned enough to compare with")
        return found


def _by_exploiter(entries: Iterable[Entry]) -> list[Entry]:
    """Those of one kind of exploiter together, first the one whom the best protection leaves most."""
    known = [entry for entry in entries if claim(entry) != UNKNOWN]
    kinds = grouped(known, lambda entry: (entry.dataset, entry.exploiter)).values()
    ordered = sorted(kinds, key=lambda members: min(map(fraction, members)), reverse=True)
    return [entry for members in ordered for entry in members]


def _best_of_exploiters(entries: Iterable[Entry]) -> list[Entry]:
    """Of each kind of exploiter what leaves him least, the exploiter who reaches most first.

    He chooses length and size of his training, whoever protects the data chooses the method.
    """
    known = [entry for entry in entries if claim(entry) not in (POOR, UNKNOWN)]
    kinds = grouped(known, lambda entry: (entry.dataset, entry.victim, entry.recipe, entry.countermeasure))
    return sorted((_least(members) for members in kinds.values()), key=fraction, reverse=True)


def _least(entries: Iterable[Entry]) -> Entry:
    """Of the best trainings on each protected dataset the one that reaches least."""
    by_data = grouped(entries, lambda entry: entry.data)
    return min((max(members, key=fraction) for members in by_data.values()), key=fraction)


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InputError(f"the query cannot be read: {error}") from error


def _condition(name: str, sign: str, values: tuple[str, ...]) -> Condition:
    head, _, rest = name.partition(".")
    if head not in FIELDS:
        raise InputError(f"entries have no field {head!r}{alternatives(head, FIELDS)}")
    if head in GROUPS and not rest:
        raise InputError(f"{head} cannot be compared by itself; write {head}.NAME")
    if rest and head not in GROUPS:
        raise InputError(f"{head} has no parts; write {head} in place of {name}")
    if sign in (">=", "<=") and not (len(values) == 1 and NUMBER.fullmatch(values[0])):
        raise InputError(f"{name} is compared with {','.join(values)!r}, which is no number")
    return Condition(name, sign, values)

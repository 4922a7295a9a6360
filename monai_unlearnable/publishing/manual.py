# SPDX-License-Identifier: Apache-2.0
"""The settings of a method, with their defaults and what they mean, as its bundle says them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from monai_unlearnable.publishing.run import configuration

__all__ = ["Manual", "Setting", "manual", "manual_of_auto", "manual_of_laboratory"]

# Names that a command has words of its own for, and parts that belong together as the bundle has them.
PLUMBING = ("bundle_root", "imports", "dataset_dir", "output_dir", "protection", "summary", "perturber", "run", "train")
LINE = re.compile(r"^(?P<indent> *)(?P<name>\w+):(?: (?P<value>[^#]*?))?(?: *# (?P<meaning>.*))?$")
TARGET = re.compile(r"_target_: (?:\w+\.)*(\w+)")
QUOTIENT = re.compile(r"^\$ *([\d.]+) */ *([\d.]+)$")
OF_PATTERN = re.compile(r'the pattern "(\w+)"')  # what one pattern of a bundle alone uses
OF_DATASET = re.compile(r"@summary|@protection")
LEVEL = 2  # spaces


@dataclass(frozen=True)
class Setting:
    """A setting of a method.

    Args:
        name: name on the command line, with ``#`` between the names of a nested one.
        default: default value, as a user would type it or in words.
        meaning: what it is, in one line.
    """

    name: str
    default: str
    meaning: str


@dataclass(frozen=True)
class Manual:
    """What a user has to know of a method.

    Args:
        method: name of the method.
        summary: what it does, in one sentence.
        settings: its settings, in the order of its bundle.
    """

    method: str
    summary: str
    settings: tuple[Setting, ...]


OF_AUTO = (  # those of monai_unlearnable.choosing.protect_auto
    Setting("stop", "patches", "the exploiter's pipelines, as a list: recipes, or victims such as nnunetv2"),
    Setting("psnr", "40", "lowest PSNR in dB, mean over changed scans; unseen: no change above the scans' own noise"),
    Setting("minutes", "", "time limit of the trainings of victims; the last ones are shortened to fit"),
    Setting("methods", "", "methods to try, as a list; default: those that fit the task"),
    Setting(
        "length", "standard", "length of the last trainings: short (500 iterations), standard (2500), long (10000)"
    ),
    Setting("iterations", "", "length of the last trainings as a number, in place of length"),
    Setting("test_dir", "", "folder of clean test cases; default: the section test of dataset_dir"),
    Setting("victims", "", "networks of the exploiter, as a list; default: one that fits the task"),
    Setting("width", "8", "filters of the first layer of his networks; more settings: docs/howto/laboratory.md"),
    Setting("seed", "0", "random seed of the methods"),
    Setting("device", "cpu", "device of the methods and of the victims: cpu, cuda, cuda:1"),
)
SHARED = ("datalist", "overwrite", "skip_invalid", "key", "window", "label_values", "label_geometry")


def manual(method: str) -> Manual:
    """The settings of a method, read from its bundle.

    Args:
        method: name of a method, or path of a configuration file.

    Raises:
        InputError: when there is no such method.
    """
    file, preset = configuration(method)
    lines = file.read_text(encoding="utf-8").splitlines()
    first = next((line[2:] for line in lines if line.startswith("# ")), "")
    # What makes the method of its bundle is no choice any more.
    fixed = {name for name in preset if isinstance(preset[name], str)}
    fixed |= {f"{name}s" for name in fixed}
    shown = (one for one in _settings(lines) if one.name.partition("#")[0] not in fixed and _is_used(one, preset))
    settings = tuple(replace(one, default=str(preset.get(one.name, one.default))) for one in shown)
    return Manual(method, first, settings)


def manual_of_auto() -> Manual:
    """The settings of the method that chooses itself, those first that are its own."""
    known = {setting.name: setting for setting in manual("carrier").settings}
    summary = (
        "Try several methods on the dataset, and publish with the one that leaves an exploiter least, or not at all."
    )
    return Manual("auto", summary, (*OF_AUTO, *(known[name] for name in SHARED)))


def manual_of_laboratory() -> Manual:
    """The settings of an examination: those of the laboratory."""
    file, _ = configuration("laboratory", "laboratory")
    lines = file.read_text(encoding="utf-8").splitlines()
    return Manual("laboratory", lines[0].removeprefix("# "), tuple(_settings(lines)))


def _is_used(setting: Setting, preset: dict[str, str]) -> bool:
    """Whether it is of no pattern, or of the one that makes the method of its bundle."""
    of = OF_PATTERN.search(setting.meaning)
    return of is None or of[1] == preset.get("pattern", of[1])


def _settings(lines: list[str]) -> Iterator[Setting]:
    """The lines of a configuration that say what they mean."""
    group = ""
    for line in lines:
        found = LINE.match(line)
        if found is None:
            continue
        depth, name = len(found["indent"]) // LEVEL, found["name"]
        group = name if depth == 0 else group
        if depth > 1 or group in PLUMBING or not found["meaning"]:
            continue
        path = name if depth == 0 else f"{group}#{name}"
        yield Setting(path, _default(found["value"] or ""), found["meaning"])


def _default(value: str) -> str:
    """The default of a setting in the words of a user."""
    value = value.strip()
    if quotient := QUOTIENT.match(value):
        return f"{quotient[1]}/{quotient[2]}"
    if value in ("null", "") or "device(" in value:
        return ""
    if value.startswith(("{", "[")):
        target = TARGET.search(value)
        return target[1] if target else value
    if value.startswith(("$", '"$')):
        return "from the dataset" if OF_DATASET.search(value) else value.strip('"').lstrip("$").strip()
    return value

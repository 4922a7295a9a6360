# SPDX-License-Identifier: Apache-2.0
"""Named descriptions in YAML: networks, recipes, countermeasures and methods, ours and the user's.

An entry is MONAI configuration (``_target_``, ``@value``, ``$expression``), so that what a matrix names can be read,
hashed and extended without code."""

from __future__ import annotations

import copy
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from monai_unlearnable.errors import InputError, root_cause, told
from monai_unlearnable.utils.text import alternatives
from monai_unlearnable.utils.values import as_plain

if TYPE_CHECKING:
    from monai.bundle import ComponentLocator

__all__ = ["KINDS", "Catalog", "component_locator"]

KINDS = ("networks", "external", "recipes", "countermeasures", "methods")
ENTRY = "entry"
WORDS = "words"  # key of an entry; no part of its configuration


@dataclass(frozen=True)
class Catalog:
    """Descriptions by name.

    Args:
        kind: kind of entries: ``"networks"``, ``"external"``, ``"recipes"``, ``"countermeasures"`` or ``"methods"``.
        entries: configuration of each name.
        words: what readers are told in place of a name, for some.
    """

    kind: str
    entries: dict[str, Any]
    words: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, kind: str, extra: str | Path | None = None) -> Catalog:
        """The catalog that comes with the package, with the entries of another file on top.

        Args:
            kind: kind of entries.
            extra: YAML file that holds more entries, or other ones of the same names, under the key ``kind``.

        Raises:
            InputError: when there is no such kind, or the file cannot be read.
        """
        if kind not in KINDS:
            raise InputError(f"unknown catalog {kind!r}; known are {', '.join(KINDS)}")
        entries = copy.deepcopy(_packaged(kind))
        if extra is not None:
            entries = {**entries, **_read(Path(extra), kind)}
        described = {name: entry for name, entry in entries.items() if isinstance(entry, dict) and WORDS in entry}
        return cls(kind, entries, {name: str(entry.pop(WORDS)) for name, entry in described.items()})

    def names(self) -> list[str]:
        """The names, in the order of the files."""
        return list(self.entries)

    def description(self, name: str) -> Any:
        """A copy of the configuration of an entry.

        Raises:
            InputError: listing the names, when there is no such entry.
        """
        if name not in self.entries:
            raise InputError(f"unknown name {name!r} among {self.kind}{alternatives(name, self.names())}")
        return copy.deepcopy(self.entries[name])

    def build(self, name: str, **values: Any) -> Any:
        """Make the object of an entry.

        Args:
            name: name of the entry.
            values: values that its references may name.

        Raises:
            InputError: when there is no such entry, or it cannot be built.
        """
        from monai.bundle import ConfigParser

        description = self.description(name)
        plain = {key: as_plain(value) if isinstance(value, str) else value for key, value in values.items()}
        try:
            parser = ConfigParser({**plain, ENTRY: description})
            parser.locator = component_locator()
            return parser.get_parsed_content(ENTRY)
        except Exception as error:  # whatever the constructor of a configured object raises
            raise InputError(f"{name!r} of {self.kind} cannot be built: {told(root_cause(error))}") from error


@lru_cache
def _packaged(kind: str) -> dict[str, Any]:
    """The entries that come with the package, which are asked for again and again; not to be changed."""
    path = files("monai_unlearnable") / "catalogs" / f"{kind}.yaml"
    entries: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return entries


def component_locator() -> ComponentLocator:
    """What finds the component that a configuration names without its module.

    It is kept: parsers of MONAI would each search all modules anew, which takes longer than to make most components.
    """
    return _locator(frozenset(name for name in sys.modules if name.startswith("monai")))


@lru_cache(maxsize=1)
def _locator(modules: frozenset[str]) -> ComponentLocator:
    """A locator of the components in these modules; when others are loaded it is another."""
    from monai.bundle import ComponentLocator

    return ComponentLocator()


def _read(path: Path, kind: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"the catalog cannot be read: {told(error)}", file=path) from error
    entries = content.get(kind, {}) if isinstance(content, dict) else None
    if not isinstance(entries, dict):
        raise InputError(f"the catalog has no names under {kind!r}", file=path)
    return entries

# SPDX-License-Identifier: Apache-2.0
"""What the owner says of a set that is published, and on which terms others may use it."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from monai_unlearnable.errors import InputError, told
from monai_unlearnable.utils.text import alternatives

__all__ = ["Creator", "DataUse", "Terms"]

# Codes of the Data Use Ontology (Lawson et al., Cell Genomics 2021), by their short names.
PERMISSIONS = {
    "NRES": ("0000004", "no restriction"),
    "HMB": ("0000006", "health or medical or biomedical research"),
    "DS": ("0000007", "disease specific research"),
    "POA": ("0000011", "population origins or ancestry research only"),
    "GRU": ("0000042", "general research use"),
}
MODIFIERS = {
    "RS": ("0000012", "research specific restrictions"),
    "NMDS": ("0000015", "no general methods research"),
    "GSO": ("0000016", "genetic studies only"),
    "NPUNCU": ("0000018", "not for profit, non commercial use only"),
    "PUB": ("0000019", "publication required"),
    "COL": ("0000020", "collaboration required"),
    "IRB": ("0000021", "ethics approval required"),
    "GS": ("0000022", "geographical restriction"),
    "MOR": ("0000024", "publication moratorium"),
    "TS": ("0000025", "time limit on use"),
    "US": ("0000026", "user specific restriction"),
    "PS": ("0000027", "project specific restriction"),
    "IS": ("0000028", "institution specific restriction"),
    "RTN": ("0000029", "return to database or resource"),
    "CC": ("0000043", "clinical care use"),
    "NPOA": ("0000044", "population origins or ancestry research prohibited"),
    "NPU": ("0000045", "not for profit organisation use only"),
    "NCU": ("0000046", "non-commercial use only"),
}
SHORT = {code: short for short, (code, _) in {**PERMISSIONS, **MODIFIERS}.items()}
DUO = re.compile(r"DUO[:_](\d{7})")
SPDX = re.compile(r"(?!LicenseRef-)[A-Za-z0-9][A-Za-z0-9.+-]*")


@dataclass(frozen=True)
class Creator:
    """Who made a set.

    Args:
        name: full name.
        is_person: whether it is a person, rather than an organization.
        url: address of a page about the creator, such as that of an ORCID iD.
    """

    name: str
    is_person: bool
    url: str | None = None


@dataclass(frozen=True)
class DataUse:
    """A term of the Data Use Ontology.

    Args:
        short: short name of the term, such as ``"GRU"``.
        detail: what a term such as ``"DS"`` or ``"GS"`` is restricted to, in the owner's words.
    """

    short: str
    detail: str | None = None

    @property
    def is_permission(self) -> bool:
        """Whether the term permits a use, rather than restricting one."""
        return self.short in PERMISSIONS

    @property
    def code(self) -> str:
        """The seven digits of the term."""
        return {**PERMISSIONS, **MODIFIERS}[self.short][0]

    @property
    def label(self) -> str:
        """The name of the term, with the detail."""
        label = {**PERMISSIONS, **MODIFIERS}[self.short][1]
        return label if self.detail is None else f"{label}: {self.detail}"


@dataclass(frozen=True)
class Terms:
    """Title, license and terms of use of a published set, as its owner gives them in a YAML file.

    Args:
        title: name of the set.
        description: what the set holds.
        creators: who made it.
        license: SPDX identifier, or the address of the text.
        url: address of the page where the set is published.
        date: day of publication, ``YYYY-MM-DD``.
        contact: where questions go: a name, a mail address, or both.
        version: version of the set.
        citation: how to cite it; by default made of creators, year, title and address.
        derived_from: address of a page about the originals, where there is one.
        duo: terms of the Data Use Ontology: one that permits, and any number of modifiers.
        prohibited: uses that are not allowed, in the owner's words.
    """

    title: str
    description: str
    creators: tuple[Creator, ...]
    license: str
    url: str
    date: str
    contact: str
    version: str | None = None
    citation: str | None = None
    derived_from: str | None = None
    duo: tuple[DataUse, ...] = ()
    prohibited: tuple[str, ...] = ()

    @property
    def license_url(self) -> str:
        """The address of the text of the license."""
        return self.license if "://" in self.license else f"https://spdx.org/licenses/{self.license}.html"

    @property
    def cited(self) -> str:
        """How to cite the set."""
        names = ", ".join(creator.name for creator in self.creators)
        version = "" if self.version is None else f" Version {self.version}."
        return self.citation or f"{names} ({self.date[:4]}). {self.title}.{version} {self.url}"

    @classmethod
    def load(cls, path: str | Path) -> Terms:
        """Read and check the terms of a file.

        Raises:
            InputError: naming the file and the first field that is missing, unknown or of another kind.
        """
        content, known = _read(Path(path)), {field.name: field for field in fields(cls)}
        for name in content:
            if name not in known:
                raise InputError(f"unknown field {name!r}{alternatives(name, known)}", file=path)
        values = {}
        for name, field in known.items():
            if content.get(name) is not None:
                try:
                    values[name] = READERS[name](content[name])
                except ValueError as error:
                    raise InputError(f"{name}: {error}", file=path) from error
            elif field.default is MISSING:
                raise InputError(f"{name} is missing", file=path)
        return cls(**values)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the terms cannot be read: {error.strerror or error}", file=path) from error
    except yaml.MarkedYAMLError as error:
        where = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise InputError(f"the terms cannot be read: {error.problem}{where}", file=path) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"the terms cannot be read: {told(error)}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("the terms are no fields with values, such as title: My scans", file=path)
    return content


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        hint = "; put it in quotes" if isinstance(value, (bool, int, float, datetime.date)) else ""
        raise ValueError(f"{value!r} is no text{hint}")
    return value.strip()


def _line(value: Any) -> str:
    return " ".join(_text(value).split())


def _url(value: Any) -> str:
    text = _line(value)
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or " " in text:
        raise ValueError(f"{text!r} is no address that begins with https://")
    return text


def _license(value: Any) -> str:
    text = _line(value)
    if "://" in text:
        return _url(text)
    if not SPDX.fullmatch(text):
        raise ValueError(f"{text!r} is neither an SPDX identifier, such as CC-BY-4.0, nor the address of a text")
    return text


def _date(value: Any) -> str:
    try:  # a day is one to YAML already
        return datetime.date.fromisoformat(str(value)).isoformat()
    except ValueError:
        raise ValueError(f"{str(value)!r} is no day such as 2026-12-31") from None


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"give a list of {what}, each on a line that begins with '-'")
    return value


def _creator(value: Any) -> Creator:
    kinds = {"person", "organization"}.intersection(value) if isinstance(value, dict) else set()
    if len(kinds) != 1 or not value.keys() <= {*kinds, "url"}:
        raise ValueError(
            f"{value!r} is neither 'person: NAME' nor 'organization: NAME', with or without 'url: ADDRESS'"
        )
    kind = kinds.pop()
    return Creator(_line(value[kind]), kind == "person", None if value.get("url") is None else _url(value["url"]))


def _data_use(value: Any) -> DataUse:
    given = value if isinstance(value, dict) else {"term": value}
    if "term" not in given or not given.keys() <= {"term", "detail"}:
        raise ValueError(f"{value!r} is neither a term, such as GRU, nor 'term: DS' with 'detail: WORDS'")
    term = _line(given["term"])
    code = DUO.fullmatch(term)
    short = SHORT.get(code[1], term) if code else term.upper()
    if short not in SHORT.values():
        raise ValueError(f"unknown term {term!r}{alternatives(term.upper(), SHORT.values())}")
    return DataUse(short, None if given.get("detail") is None else _line(given["detail"]))


def _data_uses(value: Any) -> tuple[DataUse, ...]:
    uses = tuple(map(_data_use, _list(value, "terms of the Data Use Ontology")))
    permissions = [use.short for use in uses if use.is_permission]
    if len(permissions) != 1:
        found = "none" if not permissions else " and ".join(permissions)
        raise ValueError(f"exactly one of {', '.join(PERMISSIONS)} says what is permitted; found {found}")
    return uses


READERS: dict[str, Callable[[Any], Any]] = {
    "title": _line,
    "description": _text,
    "creators": lambda value: tuple(map(_creator, _list(value, "persons and organizations"))),
    "license": _license,
    "url": _url,
    "date": _date,
    "contact": _line,
    "version": _line,
    "citation": _text,
    "derived_from": _url,
    "duo": _data_uses,
    "prohibited": lambda value: tuple(map(_line, _list(value, "uses"))),
}

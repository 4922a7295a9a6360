# SPDX-License-Identifier: Apache-2.0
"""The owner's terms are read as they were meant, or refused with the name of the field."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from monai_unlearnable.errors import InputError
from monai_unlearnable.publishing.terms import MODIFIERS, PERMISSIONS, Creator, DataUse, Terms

LEAST: dict[str, Any] = {
    "title": "Liver scans",
    "description": "Ten abdominal CT scans with labels.",
    "creators": [{"organization": "Example Hospital"}],
    "license": "CC-BY-NC-4.0",
    "url": "https://hospital.example/liver",
    "date": "2026-12-01",
    "contact": "data@hospital.example",
}


def load(folder: Path, **changes: Any) -> Terms:
    """The terms of a file with the fewest fields, with some changed."""
    path = folder / "terms.yaml"
    path.write_text(yaml.safe_dump({**LEAST, **changes}), encoding="utf-8")
    return Terms.load(path)


def test_all_that_an_owner_may_say(tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(
        """
        title: Liver   scans
        description: Ten abdominal CT scans with labels.
        creators:
          - organization: Example Hospital
            url: https://hospital.example
          - person: A. Author
        license: https://hospital.example/license
        url: https://hospital.example/liver
        date: 2026-12-01
        contact: data@hospital.example
        version: "1.0"
        duo: [hmb, "DUO:0000046", {term: DUO_0000022, detail: Switzerland}]
        prohibited: [training of models, re-identification]
        """,
        encoding="utf-8",
    )
    found = Terms.load(path)
    assert found.title == "Liver scans" and found.date == "2026-12-01"
    assert found.creators == (
        Creator("Example Hospital", False, "https://hospital.example"),
        Creator("A. Author", True),
    )
    assert found.duo == (DataUse("HMB"), DataUse("NCU"), DataUse("GS", "Switzerland"))
    assert [use.is_permission for use in found.duo] == [True, False, False]
    assert found.duo[2].label == "geographical restriction: Switzerland"
    assert found.prohibited == ("training of models", "re-identification")
    assert found.license_url == "https://hospital.example/license"
    assert found.cited == (
        "Example Hospital, A. Author (2026). Liver scans. Version 1.0. https://hospital.example/liver"
    )


def test_a_license_is_an_identifier_or_an_address(tmp_path: Path) -> None:
    assert load(tmp_path).license_url == "https://spdx.org/licenses/CC-BY-NC-4.0.html"
    assert load(tmp_path, citation="Cite our paper.").cited == "Cite our paper."


def test_no_term_has_two_names() -> None:
    known = [*PERMISSIONS.values(), *MODIFIERS.values()]
    assert len({code for code, _ in known}) == len({label for _, label in known}) == len(known)
    assert not PERMISSIONS.keys() & MODIFIERS.keys()


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        *((name, None, f"{name} is missing") for name in LEAST),
        ("title", 7, "title: 7 is no text; put it in quotes"),
        ("title", " ", "title: ' ' is no text"),
        ("version", 1.0, "version: 1.0 is no text; put it in quotes"),
        ("license", "CC BY 4.0", "license: 'CC BY 4.0' is neither an SPDX identifier, such as CC-BY-4.0, nor"),
        ("license", "LicenseRef-ours", "license: 'LicenseRef-ours' is neither an SPDX identifier"),
        ("license", "file:///license", "license: 'file:///license' is no address"),
        ("url", "hospital.example", "url: 'hospital.example' is no address that begins with https://"),
        ("date", "1.12.2026", "date: '1.12.2026' is no day such as 2026-12-31"),
        ("date", 2026, "date: '2026' is no day"),
        ("creators", "A. Author", "creators: give a list of persons and organizations"),
        ("creators", ["A. Author"], "creators: 'A. Author' is neither 'person: NAME' nor 'organization: NAME'"),
        ("creators", [{"person": "A", "organization": "B"}], "creators: {.*} is neither"),
        ("creators", [{"person": "A", "mail": "a@b.example"}], "creators: {.*} is neither"),
        ("duo", ["GRUU"], "duo: unknown term 'GRUU'.* did you mean 'GRU'"),
        ("duo", ["DUO:0000001"], "duo: unknown term 'DUO:0000001'"),
        ("duo", ["NCU"], "duo: exactly one of .* says what is permitted; found none"),
        ("duo", ["GRU", "HMB"], "duo: exactly one of .* found GRU and HMB"),
        ("duo", [{"detail": "Switzerland"}], "duo: {.*} is neither a term, such as GRU"),
        ("prohibited", "training", "prohibited: give a list of uses"),
        ("licence", "CC0-1.0", "unknown field 'licence'.* did you mean 'license'"),
    ],
)
def test_one_error_names_file_and_field(field: str, value: Any, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"terms\.yaml: {reason}"):
        load(tmp_path, **{field: value})


@pytest.mark.parametrize("content", ["", "- title", "title: [", "title: \x00", "\ttitle: a"])
def test_a_file_without_fields(content: str, tmp_path: Path) -> None:
    path = tmp_path / "terms.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"terms\.yaml: the terms "):
        Terms.load(path)
    with pytest.raises(InputError, match=r"nowhere\.yaml: the terms cannot be read: No such file"):
        Terms.load(tmp_path / "nowhere.yaml")

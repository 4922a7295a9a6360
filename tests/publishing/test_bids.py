# SPDX-License-Identifier: Apache-2.0
"""The description of a BIDS dataset is published, with what was done to it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

import monai_unlearnable as mu
from monai_unlearnable.publishing.bids import publish_description
from tests.helpers import protect, write_dataset

NAME = "dataset_description.json"
KNOWN: dict[str, Any] = {
    "Name": "Liver scans",
    "BIDSVersion": "1.10.0",
    "DatasetType": "raw",
    "Authors": ["Müller, A."],
    "SourceDatasets": [{"URL": "https://hospital.example/archive"}],
}


def test_fields_are_kept_and_this_program_is_added(tmp_path: Path) -> None:
    clean, out = write_dataset(tmp_path / "clean"), tmp_path / "out"
    earlier = {"Name": "converter", "Version": "2.1"}
    (clean / NAME).write_text(json.dumps({**KNOWN, "GeneratedBy": [earlier]}), encoding="utf-8")
    protect(clean, out)
    mu.apply(out / "noise", clean, tmp_path / "again")
    for folder in (out, tmp_path / "again"):
        found = json.loads((folder / "protected" / NAME).read_bytes())
        first, own = found.pop("GeneratedBy")
        assert found == KNOWN and first == earlier
        assert (own["Name"], own["Version"]) == ("monai_unlearnable", mu.__version__) and own["Description"]
        mu.verify(folder, clean)
        assert not mu.audit(folder / "protected", folder / "statement.json").findings
    (out / "protected" / NAME).write_text("{}")
    (finding,) = mu.audit(out / "protected", out / "statement.json").findings
    assert (finding.file, finding.what) == (NAME, "changed")


@pytest.mark.parametrize("content", ["[]", "{", '{"GeneratedBy": "me"}'])
def test_what_is_no_description_is_not_published_and_stops_nothing(
    content: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / NAME).write_text(content)
    with caplog.at_level(logging.WARNING):
        publish_description(tmp_path, tmp_path / "protected" / NAME)
    assert not (tmp_path / "protected").exists()
    (record,) = caplog.records
    assert f"{NAME} is not published" in record.message

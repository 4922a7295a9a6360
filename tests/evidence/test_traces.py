# SPDX-License-Identifier: Apache-2.0
"""Traces as evidence: kept as files, and shown in documents as they are."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from monai_unlearnable.errors import InputError
from monai_unlearnable.evidence import TraceEntry, rewrite, save_trace, stale
from monai_unlearnable.evidence.traces import load_traces, own_traces, render_traces

FOUND = TraceEntry(
    dataset="hippocampus",
    method="carrier",
    settings={"carriers": "keyed"},
    epsilon="13/255",
    psnr=41.56,
    fraction=1.0,
    victim="UNet",
    recipe="patches",
    iterations=2500,
    score=85.87,
    statistic="dice",
    probes=40,
    unmarked=0.8587,
    own=0.8603,
    others=(0.858, 0.859, 0.857, 0.86),
    p=0.2,
    date="2026-12-03",
    source="a command",
)
INNOCENT = dataclasses.replace(FOUND, fraction=0.0, own=0.857, p=1.0)


def test_a_trace_is_kept_as_it_was_and_a_later_one_replaces_it(tmp_path: Path) -> None:
    path = save_trace(FOUND, tmp_path)
    assert load_traces(tmp_path) == {path.stem: FOUND}
    assert save_trace(dataclasses.replace(FOUND, p=0.4), tmp_path) == path
    assert save_trace(INNOCENT, tmp_path) != path
    assert len(load_traces(tmp_path)) == 2


def test_what_is_common_is_said_once() -> None:
    head, _, first, second, _, note = render_traces("dataset=hippocampus", [INNOCENT, FOUND]).splitlines()
    assert head == "| Marked part | Score | Unmarked | Owner's mark | Others: mean, sd (best) | p |"
    assert first == "| 100% | 85.9 | 85.87 | 86.03 | 85.85, 0.11 (86.00) | 0.2 |"
    assert second.startswith("| 0% |")
    assert "Marked by: `carrier` `--carriers keyed`, 13/255. Iterations: 2,500. PSNR: 41.6 dB." in note


def test_a_table_of_one_trace_has_all_columns() -> None:
    head = render_traces("fraction=0", [INNOCENT, FOUND]).splitlines()[0]
    assert head.startswith("| Dataset | Model | Marked by | Iterations | PSNR |")


def test_documents_hold_tables_of_traces(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- traces: recipe=patches -->\n<!-- /evidence -->\n")
    assert rewrite([page], {}, {"a": FOUND}) == [page]
    assert "| UNet, random patches |" in page.read_text()
    assert stale([page], {}, {"a": FOUND}) == []
    assert stale([page], {}, {"a": INNOCENT}) == [page]


@pytest.mark.parametrize(
    ("text", "reason"),
    [("recipe=none", "no trace meets"), ("colour=red", "is no condition"), ("recipe", "is no condition")],
)
def test_a_query_that_finds_nothing_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        render_traces(text, [FOUND])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"p": 0.2', '"p": 0.0'),
        ('"fraction": 1.0', '"fraction": 1.5'),
        ('"dice"', '"hue"'),
        ("[0.858, 0.859, 0.857, 0.86]", "[]"),
    ],
)
def test_a_trace_that_contradicts_itself_names_its_file(tmp_path: Path, old: str, new: str) -> None:
    path = save_trace(FOUND, tmp_path)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(InputError, match="cannot be read") as caught:
        load_traces(tmp_path)
    assert caught.value.file == path


def test_traces_of_the_package_can_be_read() -> None:
    assert own_traces()

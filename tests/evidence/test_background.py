# SPDX-License-Identifier: Apache-2.0
"""After an evaluation a user hears what was measured before, and who is known to win."""

from __future__ import annotations

import dataclasses

from monai_unlearnable import perturbers
from monai_unlearnable.evidence import background
from monai_unlearnable.evidence.background import METHODS
from monai_unlearnable.publishing.run import method_names
from monai_unlearnable.report import Results
from monai_unlearnable.report.html import render_page
from tests.evidence.samples import entry, measured

NNUNET = entry(79.6, 80.4, victim="nnunetv2", recipe="own", iterations=400)
FILTER = entry(83.2, 83.1, countermeasure="gaussian")
KNOWN = {"plain": entry(8.1, 84.1), "filter": FILTER, "nnunet": NNUNET, "lsp": entry(83.0, method="lsp")}


def plain(method: str = "umed", epsilon: float = 14 / 255) -> Results:
    """A user's own evaluation of one recipe."""
    results = measured()
    rows = [
        dataclasses.replace(row, method=method if row.training == "protected" else row.method, epsilon=epsilon)
        for row in results.rows
        if row.recipe == "plain"
    ]
    return dataclasses.replace(results, rows=rows)


def test_same_exploiter_and_known_winner_are_told() -> None:
    assert background(plain(), KNOWN).sentences() == [
        "Measured before on hippocampus (UNet, no augmentation, umed, 14/255): 8.1 of 84.1; yours: 8.0 of 84.0.",
        "Known to win, and not in your matrix: nnU-Net v2 itself: 79.6 of 80.4 (hippocampus, umed, 14/255).",
    ]


def test_table_of_the_report_has_both_and_names_what_was_not_tried() -> None:
    table = background(plain(), KNOWN).table()
    assert [row[:3] for row in table.rows] == [
        ("UNet, no augmentation", "8.0 of 84.0", "8.1 of 84.1"),
        ("nnU-Net v2 itself", "not tried", "79.6 of 80.4"),
        ("UNet, no augmentation, after gaussian", "not tried", "83.2 of 83.1"),
    ]
    assert "not tried" in render_page(plain(), {}, table)


def test_what_was_tried_is_not_held_against_the_user() -> None:
    tried = {**KNOWN, "nnunet": entry(77.6, 77.2, recipe="nnunet")}
    assert [e.countermeasure for e in background(measured(), tried).winners] == ["gaussian"]


def test_the_names_of_manifests_are_understood_and_all_are_names() -> None:
    assert len(background(plain("UMed"), KNOWN).pairs) == 1
    assert all(hasattr(perturbers, name) for name in METHODS)
    assert {method for methods in METHODS.values() for method in methods} <= set(method_names())


def test_the_nearest_epsilon_and_the_same_network_and_data_are_preferred() -> None:
    others = {
        "far": entry(60.0, epsilon="4/255"),
        "network": entry(30.0, victim="BasicUNet", epsilon="8/255"),
        "data": entry(40.0, dataset="Phantom", epsilon="8/255", iterations=100),
        "long": entry(50.0, dataset="Phantom", epsilon="8/255", iterations=2500),
    }
    ((_, found),) = background(plain(epsilon=9 / 255), others).pairs
    assert found == others["data"]


def test_nothing_is_said_of_methods_without_evidence() -> None:
    known = background(plain("mine"), KNOWN)
    assert known.sentences() == [] and not known.table().rows
    assert "What was measured before" not in render_page(plain("mine"), {}, known.table())

# SPDX-License-Identifier: Apache-2.0
"""After an evaluation a user hears what was measured before, and who is known to win."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from monai_unlearnable import perturbers
from monai_unlearnable.evidence import Overstated, background
from monai_unlearnable.evidence.earlier import METHODS
from monai_unlearnable.publishing.run import method_names
from monai_unlearnable.report import Results
from monai_unlearnable.report.html import render_page
from tests.evidence.samples import entry, measured

ROOT = Path(__file__).parents[2]
SIZE = {"size": [48, 64, 48]}
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
        "Measured before on hippocampus (UNet, no augmentation, umed, 14/255, 500 iterations): "
        "8.1 of 84.1; yours: 8.0 of 84.0.",
        "Known to win, and not in your matrix: nnU-Net v2 itself: "
        "79.6 of 80.4 (hippocampus, umed, 14/255, 400 iterations).",
    ]


def test_table_of_the_report_has_both_and_names_what_was_not_tried() -> None:
    table = background(plain(), KNOWN).table()
    assert [row[:4] for row in table.rows] == [
        ("UNet, no augmentation", "8.0 of 84.0", "8.1", "84.1"),
        ("nnU-Net v2 itself", "not tried", "79.6", "80.4"),
        ("UNet, no augmentation, after gaussian", "not tried", "83.2", "83.1"),
    ]
    assert "not tried" in render_page(plain(), {}, table)


def test_what_was_tried_is_not_held_against_the_user() -> None:
    tried = {**KNOWN, "nnunet": entry(77.6, 77.2, recipe="nnunet")}
    assert [e.countermeasure for e in background(measured(), tried).winners] == ["gaussian"]


def test_the_names_of_manifests_are_understood_and_all_are_names() -> None:
    assert len(background(plain("UMed"), KNOWN).pairs) == 1
    assert all(hasattr(perturbers, name) for name in METHODS)
    assert set(METHODS.values()) - {""} <= set(method_names())
    texts = {file.parents[1].name: file.read_text() for file in ROOT.glob("bundles/*/configs/protect.yaml")}
    for name, method in METHODS.items():
        bundles = {bundle for bundle, text in texts.items() if f"perturbers.{name}" in text}
        if not method:
            assert len(bundles) > 1, "several methods share the class"
        elif bundles != {method}:
            assert re.search(rf"\b{method}:.*\n?.*perturbers\.{name}\b", texts["synthetic"]), "the pattern of that name"


def test_nothing_is_said_of_classes_that_several_methods_share() -> None:
    known = {"maximizing": entry(60.0, method="error_maximizing")}
    assert background(plain("GradientNoise"), known).sentences() == []


def test_only_the_same_noise_is_compared() -> None:
    others = {
        "stronger": entry(8.0, epsilon="18/255"),
        "changed": entry(9.0, settings={"carrier_axis": 2}),
    }
    assert background(plain(), others).pairs == ()
    assert background(plain(), {"close": entry(7.0, epsilon="16/255")}).pairs


def test_what_a_stronger_run_says_is_told() -> None:
    mark = Overstated(by="nnunet", remark="nnU-Net v2 itself reaches 79.6.")
    known = background(plain(), {"plain": entry(8.1, overstated=mark, moving=True)})
    assert "A stronger run found more: nnU-Net v2 itself reaches 79.6." in known.sentences()
    assert known.table().rows[0][2] == "8.1†~"
    assert "† overstated" in known.table().caption and "~ still moved" in known.table().caption


def test_the_nearest_epsilon_and_the_same_network_and_data_are_preferred() -> None:
    others = {
        "far": entry(60.0, epsilon="10/255"),
        "size": entry(20.0, dataset="Phantom", epsilon="8/255", victim_settings={"size": [40, 56, 40]}),
        "network": entry(30.0, victim="BasicUNet", epsilon="8/255"),
        "data": entry(40.0, dataset="Phantom", epsilon="8/255", iterations=100, victim_settings=SIZE),
        "long": entry(50.0, dataset="Phantom", epsilon="8/255", iterations=2500, victim_settings=SIZE),
    }
    ((_, found),) = background(plain(epsilon=8.9 / 255), others).pairs
    assert found == others["data"]


def test_nothing_is_said_of_methods_without_evidence() -> None:
    known = background(plain("mine"), KNOWN)
    assert known.sentences() == [] and not known.table().rows
    assert "What was measured before" not in render_page(plain("mine"), {}, known.table())

# SPDX-License-Identifier: Apache-2.0
"""Settings that are expressions."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_unlearnable.publishing.run import protect


def test_an_expression_may_refer_to_other_settings(dataset: Path, tmp_path: Path) -> None:
    manifest = protect("lattice", dataset, tmp_path / "out", epsilon="$(@protection#seed + @seed + 3) / 255", seed=2)
    assert manifest.scans[0].budget.epsilon == pytest.approx(7 / 255)

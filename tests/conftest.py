# SPDX-License-Identifier: Apache-2.0
"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from matplotlib.figure import Figure
from PIL import Image

from tests.helpers import protect, write_dataset

settings.register_profile(
    "suite",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """nnU-Net itself, which takes longest, comes first: else one worker would be at it when the others are done."""
    items.sort(key=lambda item: item.get_closest_marker("nnunet") is None)


def pytest_collection_finish() -> None:
    """What was imported stays: collecting garbage, as laboratories do after each training, need not go through it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def unsynced() -> Iterator[None]:
    """Nobody waits until files are on the disk, which matters where machines lose power. What fails then has tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real scans, see tests/README.md."""
    default = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("MONAI_UNLEARNABLE_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans in {folder}; set MONAI_UNLEARNABLE_DATA to their folder")
    return folder


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are composed but not drawn, where a test is about something else: each takes a third of a second."""
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "png")
    monkeypatch.setattr(Figure, "savefig", lambda figure, stream, **arguments: stream.write(content.getvalue()))


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two labeled 3D cases, ``a`` and ``b``, int16 in .nii.gz."""
    return write_dataset(tmp_path / "clean")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two protected 3D cases: ``clean``, ``out`` and ``manifest``. Shared: read only."""
    root = tmp_path_factory.mktemp("published")
    clean = write_dataset(root / "clean")
    return SimpleNamespace(clean=clean, out=root / "out", manifest=protect(clean, root / "out"))

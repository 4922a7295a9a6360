# SPDX-License-Identifier: Apache-2.0
"""Noise on disk comes back as it was, or with one clear error."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monai_unlearnable.budget import Budget, VoxelChange
from monai_unlearnable.errors import NoiseError, NoiseMismatchError
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.noise import Manifest, NoiseEntry, NoiseStore, package_versions
from monai_unlearnable.utils.files import fingerprint
from tests.helpers import tree

ENTRY = NoiseEntry(
    scan_id="images/a",
    case_id="images/a",
    case_scans=("images/a",),
    file="images/a.nii.gz",
    output="images/a.nii.gz",
    output_sha256="4" * 64,
    label="labels/a.nii.gz",
    label_sha256="0" * 64,
    shape=(1, 3, 5, 7),
    affine=tuple(map(tuple, np.eye(4).tolist())),
    quantization=StorageQuantization("<i2", 0.5, -3.0),
    window=IntensityWindow((0.0,), (1.0,)),
    budget=Budget(0.1),
    clean_sha256="1" * 64,
    protected_sha256="2" * 64,
    run="3" * 64,
    measured={"linf": 0.05},
)


def change_of(dtype: str = "int8", seed: int = 0) -> VoxelChange:
    rng = np.random.default_rng(seed)
    extents = (ENTRY.shape[0], *ENTRY.shape[:0:-1])
    return VoxelChange((0,) * len(extents), rng.integers(0, 100, extents).astype(dtype))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint32", "uint64"])
def test_save_and_load(tmp_path: Path, dtype: str) -> None:
    store, change = NoiseStore(tmp_path), change_of(dtype)
    assert "images/a" not in store
    store.save(ENTRY, change)
    entry, loaded = store.load("images/a")
    assert entry == ENTRY == store.entry("images/a") and "images/a" in store
    assert loaded.corner == change.corner
    assert loaded.steps.dtype == change.steps.dtype and np.array_equal(loaded.steps, change.steps)
    assert store.ids() == ["images/a"] == store.of_case("images/a")


def test_same_noise_same_bytes(tmp_path: Path) -> None:
    for folder in ("x", "y"):
        NoiseStore(tmp_path / folder).save(ENTRY, change_of())
    assert tree(tmp_path / "x") == tree(tmp_path / "y")


def test_size_follows_the_support(tmp_path: Path) -> None:
    entry, steps = replace(ENTRY, shape=(1, 64, 64, 64)), np.zeros((1, 50, 60, 40), np.int8)
    steps[0, 30, 30] = 1
    NoiseStore(tmp_path).save(entry, VoxelChange((0, 14, 4, 24), steps))
    assert len(tree(tmp_path)["images/a.npz"]) < 5000


def test_cases_of_several_scans_keep_the_order_of_their_channels(tmp_path: Path) -> None:
    store = NoiseStore(tmp_path)
    for case_id, names in {"case": ("z", "b"), "y": ("y", "x")}.items():  # a case may bear the name of its first file
        for name in names:
            store.save(replace(ENTRY, scan_id=name, case_id=case_id, case_scans=names), change_of())
        assert store.of_case(case_id) == list(names)
        store = NoiseStore(tmp_path)
    with pytest.raises(NoiseError, match="other, .*no noise is stored for this case"):
        store.of_case("other")


def test_missing_noise(tmp_path: Path) -> None:
    with pytest.raises(NoiseError, match=r"images/a, .*images/a\.npz: no noise is stored"):
        NoiseStore(tmp_path).load("images/a")


@given(position=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.booleans())
def test_broken_files_are_noise_errors_or_mismatch_nothing(tmp_path: Path, position: int, bits: int, cut: bool) -> None:
    check_damage(tmp_path, ENTRY, change_of(), position, bits, cut)


def check_damage(folder: Path, saved: NoiseEntry, change: VoxelChange, position: int, bits: int, cut: bool) -> None:
    """Save noise, flip bits of a byte or cut the file there: it is refused, or what it holds is the same."""
    store = NoiseStore(folder)
    store.save(saved, change)
    path = store.path("images/a")
    content = bytearray(path.read_bytes())
    position %= len(content)
    content[position] ^= bits
    path.write_bytes(content[:position] if cut else content)
    try:
        entry, loaded = store.load("images/a")
    except NoiseError as error:
        assert error.case == "images/a" and error.file == path
    else:  # a byte that carries no content, such as a date inside the archive
        assert not cut and entry == saved and np.array_equal(loaded.steps, change.steps)


def rewrite(path: Path, **arrays: Any) -> None:
    with np.load(path) as content:
        np.savez(path, **{**{name: content[name] for name in content.files}, **arrays})


@pytest.mark.parametrize(
    "arrays",
    [
        {"steps": np.ones(3, np.int8)},
        {"steps": np.array(3, np.int8)},
        {"steps": np.array(["x"] * 31)},
        {"steps": np.ones((ENTRY.shape[0], *ENTRY.shape[:0:-1]), np.float32)},
        {"steps": np.array([object()] * 31)},
        {"steps": np.ones((9,) * len(ENTRY.shape), np.int8)},
        {"corner": np.ones(2, np.float64)},
        {"corner": np.zeros(0, np.int64)},
        {"corner": np.array([-1] * len(ENTRY.shape))},
        {"corner": np.array([1] * len(ENTRY.shape))},
        {"entry": np.frombuffer(b"{", np.uint8)},
        {"entry": np.frombuffer(b"[]", np.uint8)},
        {"entry": np.frombuffer(b"\xff\xfe", np.uint8)},
        {"entry": np.frombuffer(json.dumps({**ENTRY.to_dict(), "shape": [-1, 3]}).encode(), np.uint8)},
        {"entry": np.frombuffer(json.dumps({**ENTRY.to_dict(), "shape": ["x"]}).encode(), np.uint8)},
    ],
    ids=lambda arrays: next(iter(arrays)),
)
def test_files_with_other_content_are_noise_errors(tmp_path: Path, arrays: dict[str, Any]) -> None:
    store = NoiseStore(tmp_path)
    store.save(ENTRY, change_of())
    rewrite(store.path("images/a"), **arrays)
    with pytest.raises(NoiseError, match=r"images/a, .*a\.npz: the noise cannot be read"):
        store.load("images/a")


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"not noise at all"])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(NoiseError, match="cannot be read"):
        NoiseStore(tmp_path).load("a")


def test_plain_arrays_are_no_archive(tmp_path: Path) -> None:
    with open(tmp_path / "a.npz", "wb") as stream:
        np.save(stream, np.arange(3))
    with pytest.raises(NoiseError, match="cannot be read"):
        NoiseStore(tmp_path).load("a")


def test_noise_is_bound_to_voxels() -> None:
    NoiseStore.bind(ENTRY, ENTRY.clean_sha256)
    NoiseStore.bind(ENTRY, ENTRY.protected_sha256, protected=True)
    with pytest.raises(NoiseMismatchError, match="images/a: the voxels are not the clean voxels") as caught:
        NoiseStore.bind(ENTRY, "f" * 64)
    assert (caught.value.value, caught.value.limit) == ("f" * 64, ENTRY.clean_sha256)
    with pytest.raises(NoiseMismatchError, match="protected voxels"):
        NoiseStore.bind(ENTRY, ENTRY.clean_sha256, protected=True)


@pytest.mark.parametrize("target", [None, 0, 3])
def test_entries_round_trip_through_json(target: int | None) -> None:
    entry = replace(ENTRY, target=target)
    assert NoiseEntry.from_dict(json.loads(json.dumps(entry.to_dict()))) == entry


@pytest.mark.parametrize("field", ["scan_id", "file", "output", "label"])
@pytest.mark.parametrize("name", ["../a", "/etc/a", "images/../../a"])
def test_records_cannot_point_outside(field: str, name: str) -> None:
    with pytest.raises(NoiseError, match="lies outside the folder"):
        NoiseEntry.from_dict({**ENTRY.to_dict(), field: name})


@pytest.mark.parametrize(
    "change",
    [
        {"extra": 1},
        {"case_scans": ["../a"]},
        {"case_scans": []},
        {"budget": {"epsilon": 7}},
        {"budget": {"epsilon": 0.1, "fraction": 2}},
        {"shape": [1, float("inf"), 3]},
        {"quantization": {"dtype": "<i2", "x": 1}},
        {"quantization": {"dtype": "<i2", "slope": [1.0, 2.0]}},
        {"quantization": {"dtype": "<i2", "slope": [1.0] * 6 + [2.0], "inter": [1.0, 2.0]}},
        {"shape": 3},
        {"affine": None},
        {"target": -1},
        {"target": True},
        {"target": "cyst"},
    ],
    ids=str,
)
def test_malformed_records(change: dict[str, Any]) -> None:
    with pytest.raises(NoiseError, match="broken noise record"):
        NoiseEntry.from_dict({**ENTRY.to_dict(), **change})


def test_incomplete_records() -> None:
    for name in ENTRY.to_dict():
        if name not in ("measured", "target", "file_sha256", "clean_label_sha256"):  # earlier releases have none
            with pytest.raises(NoiseError):
                NoiseEntry.from_dict({k: v for k, v in ENTRY.to_dict().items() if k != name})


def test_records_of_earlier_releases_use_all_bits_and_have_no_padding() -> None:
    content = ENTRY.to_dict()
    content["quantization"] = {"dtype": "<i2", "slope": 0.5, "inter": -3.0}
    assert NoiseEntry.from_dict(content) == ENTRY and (ENTRY.quantization.bits, ENTRY.quantization.padding_high) == (
        0,
        -1,
    )


def test_records_hold_what_differs_from_slice_to_slice(tmp_path: Path) -> None:
    slopes, low = tuple(1 + 0.1 * index for index in range(ENTRY.shape[-1])), tuple(range(ENTRY.shape[-1]))
    entry = replace(ENTRY, quantization=StorageQuantization("<i2", slopes, padding_low=low, padding_high=9))
    store = NoiseStore(tmp_path)
    store.save(entry, change_of())
    assert store.entry(entry.scan_id) == entry
    Manifest({}, (entry,), "0").save(tmp_path / "manifest.json")
    assert Manifest.load(tmp_path / "manifest.json").scans == (entry,)


@pytest.mark.parametrize("headers", [b"", b"of the original"])
def test_headers_are_kept_beside_the_change(tmp_path: Path, headers: bytes) -> None:
    store = NoiseStore(tmp_path)
    store.save(ENTRY, change_of(), headers)
    assert store.headers(ENTRY.scan_id) == headers and store.entry(ENTRY.scan_id) == ENTRY
    with pytest.raises(NoiseError, match="no noise is stored"):
        store.headers("other")


def test_records_of_earlier_releases_limit_no_fraction() -> None:
    content = ENTRY.to_dict()
    del content["budget"]["fraction"]
    assert NoiseEntry.from_dict(content).budget == Budget(0.1, fraction=1)


def test_records_in_the_words_of_earlier_releases() -> None:
    content = ENTRY.to_dict()
    content["lattice"] = content.pop("quantization")
    content["budget"] = {"radius": 0.1, "share": 0.25}
    assert NoiseEntry.from_dict(content) == replace(ENTRY, budget=Budget(0.1, fraction=0.25))


def test_manifest_round_trip(tmp_path: Path) -> None:
    manifest = Manifest(
        {"method": "x", "config": {"a": [1, 2]}}, (ENTRY, replace(ENTRY, scan_id="b", case_scans=("b",))), "5" * 64
    )
    manifest.save(tmp_path / "m.json")
    assert Manifest.load(tmp_path / "m.json") == manifest
    before = tree(tmp_path)
    manifest.save(tmp_path / "m.json")
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b"3",
        b"\xff",
        b'{"schema_version": 3}',
        b'{"schema_version": 3, "run": {}, "scans": [{}], "datalist_sha256": ""}',
        b'{"schema_version": 3, "run": {}, "scans": []}',
    ],
)
def test_broken_manifests(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.json").write_bytes(content)
    with pytest.raises(NoiseError, match=r"m\.json: the manifest cannot be read"):
        Manifest.load(tmp_path / "m.json")


@pytest.mark.parametrize("version", [1, 99])
def test_manifests_of_another_schema(tmp_path: Path, version: int) -> None:
    (tmp_path / "m.json").write_text(json.dumps({"schema_version": version, "run": {}, "scans": []}))
    with pytest.raises(NoiseError, match=f"schema version {version} is none of 2, 3"):
        Manifest.load(tmp_path / "m.json")
    with pytest.raises(NoiseError, match=r"gone\.json"):
        Manifest.load(tmp_path / "gone.json")


def test_fingerprints_and_versions() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1}) != fingerprint({"a": 2, "b": [2]})
    assert {"torch", "monai", "numpy", "monai_unlearnable"} <= set(package_versions())

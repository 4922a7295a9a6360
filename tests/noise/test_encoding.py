# SPDX-License-Identifier: Apache-2.0
"""Noise files are as large as what changed, come back as they were, and are not trusted."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monai_unlearnable.budget import VoxelChange
from monai_unlearnable.errors import NoiseError
from monai_unlearnable.noise import NoiseStore
from monai_unlearnable.noise.store import FEW, SMALL_BOX, decode, encode
from tests.helpers import tree
from tests.noise.test_store import ENTRY, check_damage, rewrite

BOX = (1, 30, 28, 26)
SCATTERED = replace(ENTRY, shape=(1, 32, 32, 32))


def scattered(
    share: float, extents: tuple[int, ...] = BOX, dtype: str = "int8", seed: int = 0, largest: int = 8
) -> VoxelChange:
    """Steps of so large a share of a box; its first and its last voxel are among them."""
    rng = np.random.default_rng(seed)
    steps = np.zeros(extents, dtype)
    low = 1 if steps.dtype.kind == "u" else -largest
    voxels = np.r_[0, steps.size - 1, rng.choice(np.arange(1, steps.size - 1), int(share * steps.size) - 2, False)]
    values = rng.integers(low, largest, voxels.size, endpoint=True)
    steps.flat[voxels] = np.where(values == 0, 1, values)
    return VoxelChange(tuple(range(len(extents))), steps)


def archive(arrays: dict[str, Any]) -> zipfile.ZipFile:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return zipfile.ZipFile(stream)


def file_bytes(arrays: dict[str, Any]) -> int:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return len(stream.getvalue())


def dense(change: VoxelChange) -> dict[str, Any]:
    return {"corner": np.asarray(change.corner, np.int64), "steps": change.steps}


@st.composite
def changes(draw: Any) -> tuple[VoxelChange, tuple[int, ...]]:
    """A change of any density, dtype and box in a scan of 2D or 3D, and the shape of that scan."""
    extents = draw(st.sampled_from([(1, 96, 96), (3, 70, 60), (1, 24, 25, 26), (2, 5, 40, 50), (1, 3, 4), (1, 0, 0)]))
    corner, margin = ([draw(st.integers(0, 3)) for _ in extents] for _ in range(2))
    dtype = draw(st.sampled_from(["int8", "int16", "int64", "uint32", "uint64"]))
    steps = np.zeros(extents, dtype)
    voxels = draw(st.lists(st.integers(0, max(steps.size - 1, 0)), max_size=30)) if steps.size else []
    steps.flat[voxels] = draw(hnp.arrays(dtype, len(voxels)))
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    extra = rng.random(extents) < draw(st.sampled_from([0, 0.001, 0.1, 0.3, 0.4, 1]))
    steps[extra] = rng.integers(1, 100, int(extra.sum()))
    whole = [sum(sides) for sides in zip(corner, extents, margin, strict=True)]
    return VoxelChange(tuple(corner), steps), (whole[0], *whole[:0:-1])


@given(changes())
def test_round_trip(problem: tuple[VoxelChange, tuple[int, ...]]) -> None:
    change, shape = problem
    with archive(encode(change)) as content:
        loaded = decode(content, shape)
    assert loaded.corner == change.corner and loaded.steps.dtype == change.steps.dtype
    assert np.array_equal(loaded.steps, change.steps)
    again = encode(loaded)
    assert {name: a.tobytes() for name, a in again.items()} == {n: a.tobytes() for n, a in encode(change).items()}
    with archive(dense(change)) as content:  # as earlier releases wrote all
        assert np.array_equal(decode(content, shape).steps, change.steps)


@pytest.mark.parametrize("extents", [(1, 128, 128), (3, 128, 96), (1, 64, 64, 64)])
@pytest.mark.parametrize(("dtype", "largest"), [("int8", 8), ("int16", 1000), ("uint32", 2**21)])
def test_the_encoding_that_is_chosen_is_the_smaller(extents: tuple[int, ...], dtype: str, largest: int) -> None:
    for share in (0.05, 0.1, 0.3, 0.6, 1.0):
        change = scattered(share, extents, dtype, largest=largest)
        arrays, gaps = encode(change), np.diff(np.flatnonzero(change.steps), prepend=-1) - 1
        voxels = {
            "box": np.zeros((2, len(extents)), np.int64),
            "gaps": gaps.astype(np.min_scalar_type(gaps.max())),
            "values": change.steps[change.steps != 0],
        }
        assert ("gaps" in arrays) == (share < 1 / FEW), share
        if "gaps" in arrays:
            assert file_bytes(arrays) < file_bytes(dense(change)), share
        else:
            assert file_bytes(arrays) < 1.1 * file_bytes(voxels), share


def test_small_boxes_stay_dense() -> None:
    assert set(encode(scattered(0.05, (1, 28, 28)))) == {"corner", "steps"}
    assert 28 * 28 < SMALL_BOX <= 96 * 96


@pytest.mark.parametrize(
    ("shape", "dtype"), [((1, 512, 512), "int8"), ((1, 64, 64, 64), "int8"), ((3, 256, 256), "u4")]
)
def test_files_grow_with_the_changed_voxels(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    store, sizes = NoiseStore(tmp_path), {}
    for count in (0, 1000, 2000, 4000, 8000):
        steps = np.zeros((shape[0], *shape[:0:-1]), dtype)
        rng = np.random.default_rng(count)
        steps.flat[rng.choice(steps.size, count, False)] = rng.integers(1, 16, count)
        store.save(replace(ENTRY, shape=shape), VoxelChange((0,) * len(shape), steps))
        sizes[count] = store.path("images/a").stat().st_size
    each = [(sizes[count] - sizes[0]) / count for count in (1000, 2000, 4000, 8000)]
    assert max(each) < 2.5 and max(each) < 2 * min(each)  # gaps are shorter where more changed


def test_files_do_not_grow_with_the_box() -> None:
    near, far = np.zeros((1, 40, 40, 40), np.int8), np.zeros((1, 160, 160, 160), np.int8)
    for steps in (near, far):
        steps.flat[np.linspace(0, steps.size - 1, 200).astype(int)] = 3
    assert file_bytes(encode(VoxelChange((0,) * 4, far))) < 3 * file_bytes(encode(VoxelChange((0,) * 4, near)))
    assert 8 * file_bytes(encode(VoxelChange((0,) * 4, far))) < file_bytes(dense(VoxelChange((0,) * 4, far)))


@pytest.mark.parametrize("dtype", ["int8", "int16", "int64", "uint32", "uint64"])
def test_same_noise_same_bytes_however_it_lies_in_memory(tmp_path: Path, dtype: str) -> None:
    change = scattered(0.05, dtype=dtype)
    variants = [change, replace(change, steps=np.asfortranarray(change.steps))]
    for folder, variant in zip("xy", variants, strict=True):
        NoiseStore(tmp_path / folder).save(SCATTERED, variant)
    assert tree(tmp_path / "x") == tree(tmp_path / "y")
    NoiseStore(tmp_path / "z").save(*NoiseStore(tmp_path / "x").load("images/a"))
    assert tree(tmp_path / "z") == tree(tmp_path / "x")


@given(position=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.booleans())
def test_damaged_files_are_noise_errors_or_mismatch_nothing(
    tmp_path: Path, position: int, bits: int, cut: bool
) -> None:
    check_damage(tmp_path, SCATTERED, scattered(0.05), position, bits, cut)


def box(*sides: int) -> np.ndarray:
    return np.array(sides, np.int64).reshape(2, -1)


GAPS, VALUES = np.array([3, 0, 70], np.uint8), np.array([1, -2, 3], np.int8)
SOUND = {"box": box(0, 1, 2, 3, 1, 5, 5, 5), "gaps": GAPS, "values": VALUES}
BROKEN_ARRAYS: dict[str, dict[str, Any]] = {
    "no box": {"box": None},
    "no gaps": {"gaps": None},
    "no values": {"values": None},
    "box of other dimensions": {"box": box(0, 1, 2, 1, 5, 5)},
    "flat box": {"box": np.zeros(8, np.int64)},
    "box of floats": {"box": SOUND["box"].astype(np.float64)},
    "negative corner": {"box": box(0, -1, 2, 3, 1, 5, 5, 5)},
    "negative extents": {"box": box(0, 1, 2, 3, 1, -5, -5, 5)},
    "box beyond the scan": {"box": box(0, 28, 2, 3, 1, 5, 5, 5)},
    "box whose end overflows": {"box": box(0, 2**63 - 1, 2, 3, 1, 5, 5, 5)},
    "box whose size overflows": {"box": box(0, 0, 0, 0, 2**62, 2**62, 2**62, 4)},
    "last voxel beyond the box": {"box": box(0, 1, 2, 3, 1, 5, 5, 3)},
    "box without room": {"box": box(0, 1, 2, 3, 1, 0, 5, 5)},
    "gap beyond the box": {"gaps": np.array([3, 0, 120], np.uint8)},
    "signed gaps": {"gaps": np.array([3, 0, 7], np.int8)},
    "gaps of floats": {"gaps": GAPS.astype(np.float32)},
    "gaps in rows": {"gaps": GAPS[None]},
    "one gap for all": {"gaps": np.uint8(3)},
    "gaps whose sum overflows": {"gaps": np.array([2**63, 2**63, 3], np.uint64)},
    "gaps whose sum overflows by steps": {"gaps": np.full(3, 2**64 // 3 + 1, np.uint64)},
    "a gap that overflows": {"gaps": np.array([3, 2**64 - 1, 3], np.uint64)},
    "more gaps than voxels": {"gaps": np.zeros(126, np.uint8), "values": np.ones(126, np.int8)},
    "fewer values": {"values": VALUES[:2]},
    "more values": {"values": np.ones(4, np.int8)},
    "values of floats": {"values": VALUES.astype(np.float32)},
    "values of objects": {"values": np.array([object()] * 3)},
    "text": {"values": np.array(["x"] * 3)},
    "records": {"values": np.zeros(3, "i1,i1")},
}


def put(store: NoiseStore, arrays: dict[str, Any]) -> Path:
    store.save(SCATTERED, scattered(0.05))
    path = store.path("images/a")
    with np.load(path) as content:
        entry = content["entry"]
    np.savez(path, **{name: array for name, array in {"entry": entry, **arrays}.items() if array is not None})
    return path


def test_few_voxels_by_hand(tmp_path: Path) -> None:
    put(NoiseStore(tmp_path), SOUND)
    change = NoiseStore(tmp_path).load("images/a")[1]
    assert change.corner == (0, 1, 2, 3) and change.steps.shape == (1, 5, 5, 5) and change.steps.dtype == np.int8
    assert np.flatnonzero(change.steps).tolist() == [3, 4, 75] and change.steps[0, 0, 0, 3:].tolist() == [1, -2]


@pytest.mark.parametrize("kind", BROKEN_ARRAYS)
def test_arrays_that_do_not_fit_are_noise_errors(tmp_path: Path, kind: str) -> None:
    store = NoiseStore(tmp_path)
    path = put(store, {**SOUND, **BROKEN_ARRAYS[kind]})
    with pytest.raises(NoiseError, match=r"images/a, .*a\.npz: the noise cannot be read") as caught:
        store.load("images/a")
    assert caught.value.case == "images/a" and caught.value.file == path
    assert store.entry("images/a") == SCATTERED


INTEGERS = st.sampled_from(["u1", "u2", ">u4", "u8", "i1", "i8"])
SIDES = st.integers(-(2**63), 2**63 - 1) | st.integers(-1, 40)


@given(
    hnp.arrays(np.int64, st.sampled_from([(2, 4), (2, 3), (4,), (2, 4, 1)]), elements=SIDES),
    hnp.arrays(INTEGERS, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)),
    hnp.arrays(INTEGERS, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0)),
)
def test_any_integers_are_a_change_inside_the_scan_or_a_noise_error(
    sides: np.ndarray, gaps: np.ndarray, values: np.ndarray
) -> None:
    with archive({"box": sides, "gaps": gaps, "values": values}) as content:
        try:
            change = decode(content, (1, 32, 31, 30))
        except NoiseError:
            return
    assert np.array_equal(change.steps[change.steps != 0], values[values != 0])
    ends = [low + extent for low, extent in zip(change.corner, change.steps.shape, strict=True)]
    assert min(change.corner) >= 0 and all(end <= limit for end, limit in zip(ends, (1, 30, 31, 32), strict=True))


@given(hnp.arrays("u8", st.integers(1, 6), elements=st.integers(0, 2**64 - 1) | st.integers(0, 60)))
def test_gaps_are_followed_exactly_or_refused(gaps: np.ndarray) -> None:
    voxels = np.cumsum([int(gap) + 1 for gap in gaps], dtype=object) - 1
    with archive({"box": box(0, 0, 0, 0, 1, 5, 5, 5), "gaps": gaps, "values": np.ones(len(gaps), np.int8)}) as content:
        if voxels[-1] < 125:
            assert np.flatnonzero(decode(content, (1, 5, 5, 5)).steps).tolist() == list(voxels)
        else:
            with pytest.raises(NoiseError, match="beyond their box"):
                decode(content, (1, 5, 5, 5))


def header(text: str) -> bytes:
    padded = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode("latin1")


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000000,)}",
        "{'descr': '|i1', 'fortran_order': False, 'shape': (1, 10000000000, 10000000000, 1)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999999,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-3,)}",
        "{'descr': '(9999,)i8', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '|O', 'fortran_order': False, 'shape': (3,)}",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (",
        "  x\n y",
        "'''",
    ],
    ids=range(9),
)
def test_headers_that_lie_are_noise_errors(tmp_path: Path, text: str) -> None:
    for name in ("entry", "steps", "corner", "box", "gaps", "values"):
        store = NoiseStore(tmp_path / name)
        path = put(store, dense(scattered(0.05)) if name in ("steps", "corner") else SOUND)
        with zipfile.ZipFile(path) as content:
            members = {member: content.read(member) for member in content.namelist()}
        assert f"{name}.npy" in members
        with zipfile.ZipFile(path, "w") as content:
            for member, raw in members.items():
                content.writestr(member, header(text) if member == f"{name}.npy" else raw)
        with pytest.raises(NoiseError, match=rf"images/a, .*\b{name}\b.*a\.npz: the noise cannot be read"):
            store.load("images/a")


@pytest.mark.parametrize("name", ["steps", "corner", "box", "gaps", "values"])
def test_memory_is_taken_only_for_what_fits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    arrays = dense(scattered(0.05)) if name in ("steps", "corner") else SOUND
    read, made = np.lib.format.read_array, []
    monkeypatch.setattr(np.lib.format, "read_array", lambda *args, **kw: made.append(read(*args, **kw)) or made[-1])
    with (
        archive({**arrays, name: np.zeros(10**6, arrays[name].dtype)}) as content,
        pytest.raises(NoiseError, match=f"{name} of type .* do not fit the scan"),
    ):
        decode(content, SCATTERED.shape)
    assert max((array.size for array in made), default=0) < 10**6


def test_boxes_that_no_memory_holds(tmp_path: Path) -> None:
    store, extent = NoiseStore(tmp_path), 2**17
    store.save(replace(SCATTERED, shape=(1, extent, extent, extent)), scattered(0.05))
    rewrite(store.path("images/a"), box=box(0, 0, 0, 0, 1, extent, extent, extent))
    with pytest.raises(NoiseError, match="Unable to allocate"):
        store.load("images/a")


def test_content_of_another_version_of_the_format_is_refused() -> None:
    change = scattered(0.05, (1, 28, 28))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as content:
        for name, array in encode(change).items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(2, 0))
            content.writestr(f"{name}.npy", member.getvalue())
    with zipfile.ZipFile(stream) as content, pytest.raises(NoiseError, match="another version"):
        decode(content, (1, 64, 64))

# SPDX-License-Identifier: Apache-2.0
"""Stored, physical and normalized intensity."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monai_unlearnable.data import Scan
from monai_unlearnable.errors import ScanError, WindowError
from monai_unlearnable.intensity import (
    AutoWindow,
    DtypeWindow,
    FixedWindow,
    IntensityWindow,
    PercentileWindow,
    StorageQuantization,
)

SLOPES = st.sampled_from([1.0, 0.5, -3.0, 0.0039]) | st.floats(0.01, 50)
INTERS = st.floats(-2000, 2000)


@given(st.sampled_from(["|u1", "<i2", ">i2", "<u2"]), SLOPES, INTERS, st.data())
def test_float32_physical_values_go_back_to_the_same_integers(
    dtype: str, slope: float, inter: float, data: Any
) -> None:
    quantization = StorageQuantization(dtype, slope, inter)
    stored = data.draw(hnp.arrays(dtype, (1, 3, 4)))
    size = np.abs(slope) / (np.abs(stored.astype(float) * slope).max() + abs(inter) + 1e-9)
    if size > 1e-6:  # float32 tells neighbors apart
        assert quantization.to_stored(quantization.to_physical(stored)).tobytes() == stored.tobytes()
    assert quantization.to_stored(quantization.to_physical(stored, np.float64)).tobytes() == stored.tobytes()


@given(st.sampled_from(["<f4", ">f4", "<f8"]), st.data())
def test_floats_without_slope_go_back_bit_for_bit(dtype: str, data: Any) -> None:
    elements = hnp.from_dtype(np.dtype(dtype), allow_nan=False, allow_infinity=False)
    stored = data.draw(hnp.arrays(dtype, (1, 3, 4), elements=elements))
    quantization = StorageQuantization(dtype)
    assert quantization.to_stored(quantization.to_physical(stored, np.float64)).tobytes() == stored.tobytes()


@st.composite
def storages(draw: Any, slices: int) -> StorageQuantization:
    """Integer storage whose numbers differ from slice to slice."""
    many = {"min_size": slices, "max_size": slices}
    slope, inter = (tuple(draw(st.lists(numbers, **many))) for numbers in (SLOPES, INTERS))
    bits = tuple(draw(st.lists(st.sampled_from([0, 12, 16]), **many)))
    low = draw(st.lists(st.integers(0, 9), **many))
    high = tuple(start + draw(st.integers(-1, 3)) for start in low)
    return StorageQuantization(draw(st.sampled_from(["<i2", ">u2"])), slope, inter, bits, tuple(low), high)


@given(st.integers(1, 4).flatmap(lambda slices: st.tuples(storages(slices), st.just(slices))), st.data())
def test_storage_that_differs_from_slice_to_slice_is_that_of_each_slice(given_: Any, data: Any) -> None:
    quantization, slices = given_
    assert quantization.num_slices in (slices, None)
    stored = data.draw(hnp.arrays(quantization.dtype, (2, 3, 4, slices), elements=st.integers(0, 2047)))
    physical, nodata = quantization.to_physical(stored, np.float64), quantization.is_nodata(stored)
    assert np.array_equal(quantization.to_stored(physical), stored)
    for index in range(slices):
        part = slice(index, index + 1)
        own = quantization.slices(part)
        assert own.num_slices is None
        assert np.array_equal(physical[..., part], own.to_physical(stored[..., part], np.float64))
        assert np.array_equal(nodata[..., part], own.is_nodata(stored[..., part]))
        for bound, other in zip(quantization.bounds, own.bounds, strict=True):
            assert np.broadcast_to(bound, slices)[index] == other
    ends = [bound for index in range(slices) for bound in quantization.slices(slice(index, index + 1)).steps]
    assert quantization.steps == (min(ends), max(ends))


def test_a_tuple_of_equal_numbers_is_this_number() -> None:
    quantization = StorageQuantization("<i2", (2.0, 2.0), (1.0, 1.0), (12, 12), (-5, -5), (-4, -4))
    assert quantization == StorageQuantization("<i2", 2.0, 1.0, 12, -5, -4) and quantization.num_slices is None
    assert StorageQuantization("<i2", [1.0, 2.0]) == StorageQuantization("<i2", (1.0, 2.0))  # type: ignore[arg-type]


def test_physical_values_of_many_slices_are_those_of_few() -> None:
    stored = np.random.default_rng(0).integers(-900, 900, (1, 90, 80, 70)).astype(np.int16)  # computed in pieces
    slope, inter = np.random.default_rng(1).random((2, 70)) + 0.5
    expected = stored * slope + inter
    for order in ("C", "F"):
        physical = StorageQuantization("<i2", tuple(slope), tuple(inter)).to_physical(np.asarray(stored, order=order))
        assert physical.tobytes() == expected.astype(np.float32).tobytes()


def test_to_stored_clips_at_the_dtype() -> None:
    quantization = StorageQuantization("|u1", 2.0, 10.0)
    assert quantization.to_stored(np.array([-500.0, 10.0, 13.1, 5000.0])).tolist() == [0, 0, 2, 255]


@given(st.lists(st.tuples(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4)), min_size=1, max_size=3))
def test_unit_intensity_maps_the_window_to_zero_and_one(bounds: list[tuple[float, float]]) -> None:
    low, high = (tuple(b) for b in zip(*[(start, start + width) for start, width in bounds], strict=True))
    window = IntensityWindow(low, high)
    physical = np.stack([np.array([[a - 1, a], [(a + b) / 2, b]]) for a, b in zip(low, high, strict=True)])
    unit = window.to_unit(physical)
    assert unit.dtype == np.float32
    assert np.allclose(unit, [[0, 0], [0.5, 1]], atol=1e-5)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_window_without_width_is_an_error(low: float, high: float) -> None:
    with pytest.raises(WindowError, match="channel 1"):
        IntensityWindow((0.0, low), (1.0, high))


def test_percentiles_are_taken_a_channel_at_a_time() -> None:
    physical = np.stack([np.arange(101.0), 10 * np.arange(101.0)]).reshape(2, 101, 1)
    window = PercentileWindow(5, 95)(physical, StorageQuantization("<i2"))
    assert window.low == (5.0, 50.0) and window.high == (95.0, 950.0)


@pytest.mark.parametrize("shape", [(1, 90, 80, 70), (2, 30, 40)])
def test_windows_do_not_depend_on_how_voxels_lie_in_memory(shape: tuple[int, ...]) -> None:
    stored = np.random.default_rng(0).integers(-900, 900, shape).astype(np.int16)
    quantization = StorageQuantization("<i2", 0.3, -7.0)
    expected = (stored * np.float64(0.3) - 7.0).astype(np.float32)
    for order in ("C", "F"):
        physical = quantization.to_physical(np.asarray(stored, order=order))
        assert physical.tobytes() == expected.tobytes()
        window = PercentileWindow()(physical, quantization)
        bounds = np.percentile(expected.reshape(len(expected), -1), [0.5, 99.5], axis=1)
        assert (window.low, window.high) == tuple(map(tuple, bounds.tolist()))
        low, high = (np.reshape(bound, (-1, *[1] * (len(shape) - 1))) for bound in (window.low, window.high))
        unit = ((expected - low) / (high - low)).clip(0, 1).astype(np.float32)
        assert window.to_unit(physical).tobytes() == unit.tobytes()


@pytest.mark.parametrize(
    ("quantization", "nodata"),
    [
        (StorageQuantization("<i2"), [-32768, -3024]),
        (StorageQuantization("<i2", 1.0, -1024.0), [-32768, -2000]),
        (StorageQuantization("<i2", float(np.float32(0.1)), 0.0), [-32768, -30240]),
        (StorageQuantization("<i2", -2.0, 0.0), [-32768, 1512]),
        (StorageQuantization("<i2", 5.0, 0.0), [-32768]),
        (StorageQuantization("<i2", bits=12, padding_low=-2000, padding_high=-1999), [-2000, -1999]),
        (StorageQuantization("<u2", 1.0, -8192.0), [5168]),
        (StorageQuantization("|u1"), []),
        (StorageQuantization("<i4"), [-3024]),
    ],
)
def test_integers_that_are_no_data(quantization: StorageQuantization, nodata: list[int]) -> None:
    low, high = (int(bound) for bound in quantization.bounds)
    stored = np.arange(max(low, -(2**16)), min(high, 2**16) + 1).astype(quantization.dtype)[None, None]
    assert stored[quantization.is_nodata(stored)].tolist() == nodata
    assert quantization.count_data(stored) == stored.size - len(nodata)


@pytest.mark.parametrize("dtype", ["<f4", ">f4", "<f8"])
def test_floats_that_are_no_data(dtype: str) -> None:
    limit = np.finfo(np.float32).max
    stored = np.array(
        [[np.nan, np.inf, -np.inf, limit, -limit, np.nextafter(limit, np.float32(0)), -3024, 0, 5]], dtype
    )
    quantization = StorageQuantization(dtype)
    assert quantization.is_nodata(stored[None]).tolist() == [[[True] * 5 + [False, True, False, False]]]
    assert quantization.is_nodata(quantization.to_stored(quantization.to_physical(stored[None]))).sum() == 6
    if dtype == "<f8":
        assert quantization.is_nodata(np.array([[[np.finfo(dtype).min, 1e300, 3e38]]])).tolist() == [
            [[True, True, False]]
        ]


@given(st.sampled_from(["<f4", ">f8", "<i2", "<u2"]), st.data())
def test_windows_and_normalized_intensity_do_not_depend_on_voxels_without_data(dtype: str, data: Any) -> None:
    values = data.draw(hnp.arrays(dtype, (1, 4, 5), elements=st.integers(0, 100)))
    outside = data.draw(hnp.arrays(bool, (1, 4, 5)))
    inside = values[~outside]
    assume(inside.size and inside.min() < inside.max())
    marks = [np.nan, np.inf, -np.inf, -np.finfo("f4").max, -3024] if dtype[1] == "f" else [300, 301]
    marked = np.where(outside, data.draw(hnp.arrays(dtype, (1, 4, 5), elements=st.sampled_from(marks))), values)
    scan = Scan(Path("a"), marked, StorageQuantization(dtype, padding_low=300, padding_high=301))
    alone = Scan(Path("a"), inside[None, None], StorageQuantization(dtype))
    for rule in (PercentileWindow(), FixedWindow(10, 50)):
        window = scan.window(rule)
        assert window == alone.window(rule)
        unit = scan.unit(window)
        assert (unit[outside] == 0).all() and unit[~outside].tobytes() == alone.unit(window).tobytes()
    filled = scan.filled()
    assert (filled[outside] == inside.min()).all() and np.array_equal(filled[~outside], inside)


@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<i2", ">i2", "<u2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_normalized_intensity_of_many_voxels_is_that_of_each(dtype: str, order: Any) -> None:
    info = np.iinfo(dtype)
    stored = np.random.default_rng(0).integers(info.min, info.max + 1, (2, 60, 50, 40)).astype(dtype)
    storage = StorageQuantization(dtype, -0.37, 12.0, padding_low=3, padding_high=20)
    window = IntensityWindow((-3.0, -5000.0), (40.0, 3000.0))
    unit = Scan(Path("a"), np.asarray(stored, order=order), storage).unit(window)
    assert unit.tobytes() == window.to_unit(storage.to_data(stored)).tobytes() and unit.dtype == np.float32
    assert (unit[storage.is_nodata(stored)] == 0).all()


def test_a_channel_without_data_has_no_window() -> None:
    physical = np.stack([np.arange(4.0), np.full(4, np.nan)])[..., None]
    with pytest.raises(WindowError, match="channel 1 of the image holds no data"):
        PercentileWindow()(physical, StorageQuantization("<f4"))
    with pytest.raises(WindowError, match="the image holds no data"):
        FixedWindow(0, 1)(physical[1:], StorageQuantization("<f4"))


def test_step_of_a_quantization() -> None:
    window = IntensityWindow((0.0, 0.0), (100.0, 200.0))
    assert window.step(StorageQuantization("<i2", -2.0)) == pytest.approx((0.02, 0.01))
    assert window.step(StorageQuantization("<f4", 2.0)) == (0.0, 0.0)
    many = StorageQuantization("<i2", (1.0, -4.0, 2.0))
    assert window.step(many) == pytest.approx((0.04, 0.02)) and window.finest_step(many) == pytest.approx(0.005)


@pytest.mark.parametrize(("dtype", "slope", "bounds"), [("|u1", 1.0, (0, 255)), ("<i2", -1.0, (-32767, 32768))])
def test_dtype_window(dtype: str, slope: float, bounds: tuple[int, int]) -> None:
    window = DtypeWindow()(np.arange(4.0).reshape(1, 2, 2), StorageQuantization(dtype, slope))
    assert (window.low[0], window.high[0]) == bounds


def test_dtype_window_spans_all_slices() -> None:
    window = DtypeWindow()(np.arange(8.0).reshape(1, 2, 2, 2), StorageQuantization("|u1", (1.0, -2.0), (0.0, 10.0)))
    assert (window.low[0], window.high[0]) == (-500, 255)


def test_dtype_window_needs_integers() -> None:
    with pytest.raises(ScanError, match="<f4"):
        DtypeWindow()(np.arange(4.0).reshape(1, 2, 2), StorageQuantization("<f4"))


@pytest.mark.parametrize("ends", [(-1, 99), (1, 101), (99, 1), (50, 50), (math.nan, 99)])
def test_percentiles_that_are_none(ends: tuple[float, float]) -> None:
    with pytest.raises(WindowError, match="percentiles of a window rise within 0 and 100"):
        PercentileWindow(*ends)


@pytest.mark.parametrize(
    ("ends", "reason"), [((240, -160), "no width"), ((5, 5), "no width"), ((0, math.inf), "not finite")]
)
def test_a_fixed_window_that_is_none(ends: tuple[float, float], reason: str) -> None:
    """It is told at once, not for each scan, which could be skipped then."""
    with pytest.raises(WindowError, match=reason):
        FixedWindow(*ends)


@pytest.mark.parametrize("rule", [PercentileWindow(), FixedWindow(0, 1), DtypeWindow(), AutoWindow()])
def test_constant_images_have_no_window(rule: Any) -> None:
    with pytest.raises(WindowError, match="constant: 7 everywhere"):
        rule(np.full((1, 4, 4), 7.0), StorageQuantization("<i2"))


def test_images_that_are_nearly_constant_are_told_of_other_windows() -> None:
    physical = np.full((1, 40, 40), -1000.0)
    physical[0, 3, 3:5] = 40
    reason = r"nearly all voxels of channel 0 are -1000.*--window, such as a FixedWindow from -1000 to 40"
    with pytest.raises(WindowError, match=reason) as caught:
        PercentileWindow()(physical, StorageQuantization("<i2"))
    assert "nan" not in str(caught.value)
    assert AutoWindow()(physical, StorageQuantization("<i2")) == IntensityWindow((-1000.0,), (40.0,))


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("|u1", DtypeWindow()), *((dtype, PercentileWindow()) for dtype in ("|i1", "<u2", ">i2", "<f4", ">f8"))],
)
def test_the_default_window_is_decided_for_each_scan(dtype: str, expected: Any) -> None:
    physical, storage = np.arange(100.0).reshape(1, 10, 10), StorageQuantization(dtype)
    assert AutoWindow()(physical, storage) == expected(physical, storage)


@pytest.mark.parametrize("broken", [{"slope": 0.0}, {"slope": np.nan}, {"slope": (1.0, np.inf)}, {"inter": np.nan}])
def test_storage_without_a_scale_is_refused(broken: Any) -> None:
    with pytest.raises(ScanError, match="slope of storage"):
        StorageQuantization("<i2", **broken)

# SPDX-License-Identifier: Apache-2.0
"""Noise meets images: within the budget, on the quantization of the file, and undone bit for bit."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monai_unlearnable.budget import STEP_TOLERANCE, Budget, apply_change, apply_noise, changed_fraction, undo_change
from monai_unlearnable.errors import BudgetError
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.utils.arrays import differ, file_order

INTEGERS = ["|u1", "|i1", "<i2", ">i2", "<u2", ">u2", "<i4", ">u4"]
FLOATS = ["<f4", ">f4", "<f8", ">f8"]
SHAPES = hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=5)
SLOPES = st.sampled_from([1.0, 0.37, -2.0, 1e-4, 250.0])


@st.composite
def problems(draw: Any, dtypes: list[str]) -> dict[str, Any]:
    """Arguments of :func:`apply_noise`, with a budget of at least one storage step."""
    dtype, shape = draw(st.sampled_from(dtypes)), draw(SHAPES)
    floats = {"allow_nan": False, "allow_infinity": False} if dtype[1] == "f" else {}
    stored = draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **floats)))
    noise = draw(hnp.arrays(np.float32, shape, elements=st.floats(-2, 2, width=32)))
    quantization = StorageQuantization(dtype, draw(SLOPES), draw(st.sampled_from([0.0, -1024.0, 3.5])))
    epsilon, steps = draw(st.sampled_from([0.03, 8 / 255, 0.5, 1.0])), draw(st.floats(1.01, 300))
    low = draw(st.floats(-100, 100))
    width = steps * abs(quantization.slope) / epsilon
    window = IntensityWindow((low,) * shape[0], (low + width,) * shape[0])
    return {"stored": stored, "noise": noise, "budget": Budget(epsilon), "window": window, "quantization": quantization}


def wanted_steps(p: dict[str, Any]) -> np.ndarray:
    """The projected noise in (fractional) stored steps."""
    width = np.asarray(p["window"].high) - np.asarray(p["window"].low)
    width = width.reshape(-1, *[1] * (p["stored"].ndim - 1))
    return (
        np.clip(p["noise"].astype(np.float64), -p["budget"].epsilon, p["budget"].epsilon)
        * width
        / p["quantization"].slope
    )


@given(problems(INTEGERS))
def test_integers_move_toward_zero_within_the_budget(p: dict[str, Any]) -> None:
    protected, _ = apply_noise(**p)
    wanted, info = wanted_steps(p), np.iinfo(p["stored"].dtype)
    moved = protected.astype(np.int64) - p["stored"].astype(np.int64)
    assert protected.dtype == p["stored"].dtype and protected.shape == p["stored"].shape
    tolerance = STEP_TOLERANCE * (1 + 1e-3)
    assert (np.abs(moved) <= np.abs(wanted) + tolerance).all()
    assert (moved * wanted >= 0).all()
    is_nodata = p["quantization"].is_nodata
    further = (protected.astype(np.int64) + np.sign(wanted)).clip(info.min, info.max).astype(protected.dtype)
    stopped = (further == protected) | is_nodata(further) | is_nodata(p["stored"])
    assert ((np.abs(moved) > np.abs(wanted) - 1 - tolerance) | stopped).all()


@given(problems(FLOATS))
def test_floats_stay_within_the_budget(p: dict[str, Any]) -> None:
    protected, _ = apply_noise(**p)
    wanted = np.abs(wanted_steps(p))
    with np.errstate(over="ignore"):
        moved = np.abs(protected.astype(np.longdouble) - p["stored"].astype(np.longdouble))
    assert np.isfinite(protected).all() and protected.dtype == p["stored"].dtype
    assert (moved <= wanted * (1 + 1e-12)).all()
    small = (np.abs(p["stored"].astype(np.longdouble)) < 1e3) & ~p["quantization"].is_nodata(p["stored"])
    assert (moved[small] >= wanted[small] * (1 - 1e-6) - 1e-3).all()


@given(problems(INTEGERS + FLOATS))
def test_undo_and_repeat_are_bit_exact(p: dict[str, Any]) -> None:
    before = p["stored"].tobytes()
    protected, change = apply_noise(**p)
    assert p["stored"].tobytes() == before
    assert undo_change(protected, change).tobytes() == before
    assert undo_change(protected, change).dtype == p["stored"].dtype
    assert apply_change(p["stored"], change).tobytes() == protected.tobytes()
    differs = protected.view(f"V{protected.itemsize}") != p["stored"].view(f"V{protected.itemsize}")
    assert np.count_nonzero(change.steps) == differs.sum()
    assert np.array_equal(change.steps != 0, file_order(differs)[change.box])


@given(problems(INTEGERS + FLOATS), st.integers(0, 2**31))
def test_mask_keeps_noise_out(p: dict[str, Any], seed: int) -> None:
    mask = (np.random.default_rng(seed).random((1, *p["stored"].shape[1:])) > 0.5).astype(np.float32)
    protected, _ = apply_noise(**p, mask=mask)
    outside = np.broadcast_to(mask == 0, p["stored"].shape)
    assert protected[outside].tobytes() == p["stored"][outside].tobytes()


def window(*widths: float) -> IntensityWindow:
    return IntensityWindow((0.0,) * len(widths), widths)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32"])
def test_overflow_shrinks_instead_of_wrapping(dtype: str) -> None:
    info = np.iinfo(dtype)
    lowest = info.min + (dtype == "int16")  # -32768 is no data
    stored = np.array([[[lowest, lowest + 2, info.max - 2, info.max]]], dtype)
    up, change = apply_noise(
        stored,
        np.ones(stored.shape),
        budget=Budget(0.1),
        window=window(100.0),
        quantization=StorageQuantization(stored.dtype.str),
    )
    assert up.tolist() == [[[lowest + 10, lowest + 12, info.max, info.max]]]
    assert undo_change(up, change).tolist() == stored.tolist()
    down, _ = apply_noise(
        stored,
        -np.ones(stored.shape),
        budget=Budget(0.1),
        window=window(100.0),
        quantization=StorageQuantization(stored.dtype.str),
    )
    assert down.tolist() == [[[lowest, lowest, info.max - 12, info.max - 10]]]


@pytest.mark.parametrize(("dtype", "bounds"), [("<i2", (-2048, 2047)), ("<u2", (0, 4095))])
def test_noise_stays_within_the_bits_that_hold_numbers(dtype: str, bounds: tuple[int, int]) -> None:
    stored, quantization = np.array([[[bounds[0] + 2, bounds[1] - 2]]], dtype), StorageQuantization(dtype, bits=12)
    noise = np.array([[[-1, 1]]])
    protected, _ = apply_noise(stored, noise, budget=Budget(0.1), window=window(100.0), quantization=quantization)
    assert protected.tolist() == [[list(bounds)]] and quantization.bounds == bounds


@given(
    stored=hnp.arrays("<i2", (1, 4, 5), elements=st.integers(-12, 12)),
    noise=hnp.arrays(np.float64, (1, 4, 5), elements=st.floats(-1, 1)),
    low=st.integers(-5, 5),
    extent=st.integers(0, 4),
)
def test_padding_never_changes_and_nothing_becomes_padding(stored, noise, low: int, extent: int) -> None:
    quantization = StorageQuantization("<i2", padding_low=low, padding_high=low + extent)
    arguments = {"budget": Budget(0.1), "window": window(60.0)}
    protected, change = apply_noise(stored, noise, quantization=quantization, **arguments)
    free, _ = apply_noise(stored, noise, quantization=StorageQuantization("<i2"), **arguments)
    fixed = quantization.is_nodata(stored)
    assert np.array_equal(protected[fixed], stored[fixed]) and np.array_equal(quantization.is_nodata(protected), fixed)
    assert (np.abs(protected - stored) <= np.abs(free - stored)).all()
    same = ~fixed & ~quantization.is_nodata(free)
    assert np.array_equal(protected[same], free[same])
    assert np.array_equal(undo_change(protected, change), stored)


@given(problems(INTEGERS + FLOATS), st.data())
def test_storage_that_differs_from_slice_to_slice_changes_each_slice_as_its_own_does(p: dict[str, Any], data) -> None:
    assume(p["stored"].ndim == 4)
    slices, unit = p["stored"].shape[-1], p["quantization"].slope
    factors = data.draw(st.lists(st.sampled_from([0.1, 0.7, 1.0, -1.0]), min_size=slices, max_size=slices))
    quantization = StorageQuantization(p["stored"].dtype.str, tuple(unit * factor for factor in factors))
    protected, change = apply_noise(**{**p, "quantization": quantization})
    for index in range(slices):
        part = np.s_[..., index : index + 1]
        own = quantization.slices(part[1])
        single, _ = apply_noise(**{**p, "stored": p["stored"][part], "noise": p["noise"][part], "quantization": own})
        assert protected[part].tobytes() == single.tobytes()
    assert undo_change(protected, change).tobytes() == p["stored"].tobytes()


def test_a_budget_below_the_step_of_some_slices_changes_the_others() -> None:
    stored, noise = np.full((1, 2, 2, 3), 100, "<i2"), np.ones((1, 2, 2, 3))
    quantization = StorageQuantization("<i2", (1.0, 20.0, 5.0))
    protected, _ = apply_noise(stored, noise, budget=Budget(0.1), window=window(100.0), quantization=quantization)
    assert (protected - stored)[0, 0, 0].tolist() == [10, 0, 2]
    with pytest.raises(BudgetError, match="less than one storage step"):
        apply_noise(stored, noise, budget=Budget(0.001), window=window(100.0), quantization=quantization)


def test_padding_differs_from_slice_to_slice() -> None:
    stored = np.array([[[[0, 0], [1, 1], [5, 5]]]], "<i2")
    quantization = StorageQuantization("<i2", padding_low=(0, 5), padding_high=(0, 6))
    arguments = {"budget": Budget(0.1), "window": window(20.0), "quantization": quantization}
    up, _ = apply_noise(stored, np.ones(stored.shape), **arguments)
    down, _ = apply_noise(stored, -np.ones(stored.shape), **arguments)
    assert up[0, 0].T.tolist() == [[0, 3, 7], [2, 3, 5]] and down[0, 0].T.tolist() == [[0, -1, 3], [-2, -1, 5]]


LIMIT = float(np.finfo(np.float32).max)
NO_DATA: dict[str, list[float]] = {
    "<i2": [-32768, -3024, -10, -9],
    ">i2": [-32768, -3024, -10, -9],
    "<u2": [],
    "<i4": [-3024, -10, -9],
    "<f4": [np.nan, np.inf, -np.inf, LIMIT, -LIMIT, -3024],
    ">f8": [np.nan, np.inf, -np.inf, LIMIT, -LIMIT, -3024, np.finfo(np.float64).min, 1e300],
}


@given(st.sampled_from(sorted(NO_DATA)), st.data(), st.sampled_from([1.0, 0.2]))
def test_voxels_without_data_never_change_and_none_loses_its_data(dtype: str, data: Any, fraction: float) -> None:
    beside = [-32767, -32766, -3026, -3025, -3023, -12, -11, -8, 0, 5, 3e38]
    usual = [value for value in beside if dtype[1] == "f" or np.iinfo(dtype).min <= value <= np.iinfo(dtype).max]
    stored = data.draw(hnp.arrays(dtype, (2, 5, 6), elements=st.sampled_from(usual + NO_DATA[dtype])))
    noise = data.draw(hnp.arrays(np.float64, (2, 5, 6), elements=st.sampled_from([-1, -0.04, 0, 0.02, 1])))
    padding = {"padding_low": -10, "padding_high": -9} if dtype[1] == "i" else {}
    quantization = StorageQuantization(dtype, **padding)
    nodata = quantization.is_nodata(stored)
    assert np.array_equal(nodata, np.isin(stored, NO_DATA[dtype]) | (np.isnan(stored) if dtype[1] == "f" else False))
    assume(not nodata.all(axis=0).all() and quantization.count_data(stored) >= 5)
    budget = Budget(0.1, fraction=fraction)
    protected, change = apply_noise(stored, noise, budget=budget, window=window(100, 50), quantization=quantization)
    assert protected[nodata].tobytes() == stored[nodata].tobytes()
    assert np.array_equal(quantization.is_nodata(protected), nodata)
    moved = protected[~nodata].astype(np.float64) - stored[~nodata].astype(np.float64)
    assert (moved * np.broadcast_to(noise, stored.shape)[~nodata] >= 0).all() and np.abs(moved).max() <= 10
    count = quantization.count_data(stored)
    assert changed_fraction(stored, protected, count) <= fraction * (1 + 1e-9)
    assert undo_change(protected, change).tobytes() == stored.tobytes()
    assert apply_change(stored, change).tobytes() == protected.tobytes()


def test_noise_stops_before_gaps_that_lie_side_by_side() -> None:
    quantization = StorageQuantization("<i2", padding_low=-32767, padding_high=-32765)
    stored = np.array([[[-32760, -32764, -32766, -32768]]], "<i2")
    down, _ = apply_noise(
        stored, -np.ones(stored.shape), budget=Budget(0.1), window=window(100.0), quantization=quantization
    )
    assert down.tolist() == [[[-32764, -32764, -32766, -32768]]]


def test_the_fraction_is_one_of_the_voxels_with_data() -> None:
    stored = np.zeros((1, 10, 10), np.float32)
    stored[0, :5] = np.nan
    protected, _ = apply_noise(
        stored,
        np.ones(stored.shape),
        budget=Budget(0.1, fraction=0.1),
        window=window(1.0),
        quantization=StorageQuantization("<f4"),
    )
    assert np.count_nonzero(protected > 0) == 5 and changed_fraction(stored, protected) == 0.05


def test_negative_slope_moves_stored_numbers_the_other_way() -> None:
    quantization = StorageQuantization("<i2", -2.0, 50.0)
    stored = np.full((1, 2, 2), 100, "<i2")
    protected, _ = apply_noise(
        stored, np.full((1, 2, 2), 0.099), budget=Budget(0.1), window=window(100.0), quantization=quantization
    )
    assert (protected == 96).all()  # 9.9 physical units up are 4.95 stored steps down, truncated to 4


@pytest.mark.parametrize(
    ("noise", "steps"), [(0.0199, 1), (-0.0199, -1), (0.0099, 0), (-0.0099, 0), (0.03, 3), (0.9, 5)]
)
def test_truncation_toward_zero_after_projection(noise: float, steps: int) -> None:
    protected, _ = apply_noise(
        np.full((1, 2, 2), 100, np.uint8),
        np.full((1, 2, 2), noise, np.float32),
        budget=Budget(0.05),
        window=window(100.0),
        quantization=StorageQuantization("|u1"),
    )
    assert (protected.astype(int) - 100 == steps).all()


def test_each_channel_has_its_own_scale() -> None:
    stored = np.full((2, 2, 2), 100, np.uint8)
    protected, _ = apply_noise(
        stored,
        np.ones(stored.shape),
        budget=Budget(0.1),
        window=window(100.0, 200.0),
        quantization=StorageQuantization("|u1"),
    )
    assert (protected[0] == 110).all() and (protected[1] == 120).all()


@pytest.mark.parametrize("epsilon", [8 / 255, 0.1, 0.03, 4 / 255])
def test_saturated_float32_noise_passes_the_check_of_its_budget(epsilon: float) -> None:
    stored = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    noise = np.full(stored.shape, np.float32(epsilon))
    protected, _ = apply_noise(
        stored, noise, budget=Budget(epsilon), window=window(1.0), quantization=StorageQuantization("<f4")
    )
    Budget(epsilon).check(float(np.abs(protected.astype(np.float64) - stored).max()))


def test_budget_below_a_storage_step_is_an_error() -> None:
    arguments = {"budget": Budget(0.001), "quantization": StorageQuantization("|u1"), "case": "case7"}
    stored = np.full((2, 2, 2), 100, np.uint8)
    with pytest.raises(BudgetError, match=r"case7.*less than one storage step.*Raise the budget") as caught:
        apply_noise(stored, np.ones(stored.shape), window=window(100.0, 200.0), **arguments)
    assert caught.value.value == 0.001 and caught.value.limit == pytest.approx(0.005)
    protected, _ = apply_noise(stored, np.ones(stored.shape), window=window(100.0, 2000.0), **arguments)
    assert (protected[0] == 100).all() and (protected[1] == 102).all()  # one channel can still move


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_noise_that_is_not_finite_is_an_error(bad: float) -> None:
    noise = np.zeros((1, 2, 2))
    noise[0, 1, 1] = bad
    with pytest.raises(BudgetError, match="case7.*NaN or infinite"):
        apply_noise(
            np.zeros((1, 2, 2), "f4"),
            noise,
            budget=Budget(0.1),
            window=window(1.0),
            quantization=StorageQuantization("<f4"),
            case="case7",
        )


def test_zero_epsilon_changes_nothing() -> None:
    stored = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    protected, change = apply_noise(
        stored,
        np.ones(stored.shape),
        budget=Budget(0),
        window=window(1.0, 1.0),
        quantization=StorageQuantization("|u1"),
    )
    assert protected.tobytes() == stored.tobytes() and change.steps.size == 0


@pytest.mark.parametrize("epsilon", [-0.1, 1.1, float("nan")])
def test_epsilon_is_a_fraction(epsilon: float) -> None:
    with pytest.raises(BudgetError, match=r"\[0, 1\]"):
        Budget(epsilon)


def test_only_linf() -> None:
    with pytest.raises(BudgetError, match="'l2'"):
        Budget(0.1, "l2")


@pytest.mark.parametrize("noise", [np.linspace(-1, 1, 9), torch.linspace(-1, 1, 9)])
def test_project_takes_arrays_and_tensors(noise: Any) -> None:
    projected = Budget(0.25).project(noise)
    assert type(projected) is type(noise) and float(abs(projected).max()) == 0.25
    assert bool((projected[3:6] == noise[3:6]).all())


def test_check_says_value_and_limit() -> None:
    Budget(0.1).check(0.1)
    with pytest.raises(BudgetError, match=r"case7: the noise reaches 0\.11") as caught:
        Budget(0.1).check(0.11, case="case7")
    assert (caught.value.value, caught.value.limit) == (0.11, 0.1)
    with pytest.raises(BudgetError):
        Budget(0.1).check(float("nan"))


@given(problems(INTEGERS + FLOATS), st.floats(0.01, 1))
def test_only_the_voxels_of_largest_change_move(p: dict[str, Any], fraction: float) -> None:
    count = p["quantization"].count_data(p["stored"])
    assume(fraction * count >= 1)
    free, _ = apply_noise(**p)
    budget = Budget(p["budget"].epsilon, fraction=fraction)
    protected, change = apply_noise(**{**p, "budget": budget})
    stored, unit = p["stored"], abs(p["quantization"].slope)
    size = np.abs(free.astype(np.float64) - stored.astype(np.float64)) * unit / p["window"].width(stored.ndim)
    moved = np.flatnonzero(differ(stored, free).any(axis=0))
    largest_first = sorted(moved.tolist(), key=lambda voxel: (-size.reshape(len(size), -1)[:, voxel].max(), voxel))
    keep = np.zeros(stored[0].size, bool)
    keep[largest_first[: budget.limit(count)]] = True
    expected, left = free.copy(), ~keep.reshape(stored.shape[1:])
    expected[:, left] = stored[:, left]
    assert protected.tobytes() == expected.tobytes() and protected.dtype == stored.dtype
    changed = changed_fraction(stored, protected, count)
    assert changed * count == pytest.approx(min(len(moved), budget.limit(count)))
    budget.check(0, fraction=changed)
    assert undo_change(protected, change).tobytes() == stored.tobytes()
    assert apply_change(stored, change).tobytes() == protected.tobytes()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", "<i2", ">u2", "<f4"])
@pytest.mark.parametrize("shape", [(1, 5, 8), (3, 5, 8), (2, 4, 5, 2)])
def test_of_equal_changes_the_first_voxels_move(shape: tuple[int, ...], dtype: str, order: Any) -> None:
    stored = np.full(shape, 64, dtype, order)
    protected, change = apply_noise(
        stored,
        np.where(np.arange(40).reshape(shape[1:]) % 2, -0.125, 0.125),
        budget=Budget(0.125, fraction=0.3),
        window=window(*[64.0] * shape[0]),
        quantization=StorageQuantization(stored.dtype.str),
    )
    moved = protected.reshape(shape[0], -1) != 64
    assert moved[:, :12].all() and not moved[:, 12:].any()
    assert np.count_nonzero(change.steps) == 12 * shape[0]


def test_voxels_are_ranked_by_what_is_stored_in_unit_intensity() -> None:
    stored = np.array([[[254, 100, 100, 100, 100]], [[100, 100, 100, 100, 100]]], np.uint8)
    noise = np.array([[[0.1, 0.05, 0, 0.019, 0.01]], [[0, 0, 0.07, 0.07, 0.004]]])
    protected, _ = apply_noise(
        stored,
        noise,
        budget=Budget(0.1, fraction=0.4),
        window=window(100.0, 200.0),
        quantization=StorageQuantization("|u1"),
    )
    # The first voxel wants most but has one step left; the third and fourth move 0.07, the fourth in both channels.
    assert (protected - stored).tolist() == [[[0, 0, 0, 1, 0]], [[0, 0, 14, 14, 0]]]


def test_voxels_that_no_step_reaches_are_not_counted() -> None:
    stored, noise = np.full((1, 10, 10), 100, np.uint8), np.full((1, 10, 10), 0.009)
    noise[0, 7, 3:6] = 0.05
    protected, _ = apply_noise(
        stored, noise, budget=Budget(0.1, fraction=0.03), window=window(100.0), quantization=StorageQuantization("|u1")
    )
    assert np.argwhere(protected != stored).tolist() == [[0, 7, 3], [0, 7, 4], [0, 7, 5]]


def test_a_fraction_below_one_voxel_is_refused() -> None:
    stored, noise = np.full((1, 3, 3), 100, np.uint8), np.ones((1, 3, 3))
    arguments = {
        "budget": Budget(0.1, fraction=0.1),
        "window": window(100.0),
        "quantization": StorageQuantization("|u1"),
    }
    with pytest.raises(BudgetError, match="less than one of 9 voxels") as caught:
        apply_noise(stored, noise, **arguments, case="case7")
    assert caught.value.case == "case7" and (caught.value.value, caught.value.limit) == (0.1, 1 / 9)


@given(st.integers(1, 10**9), st.integers(1, 10**9))
def test_the_limit_is_exact_where_the_fraction_is_a_count(voxels: int, count: int) -> None:
    count = min(count, voxels)
    budget = Budget(0.1, fraction=count / voxels)
    assert budget.limit(voxels) == count
    budget.check(0, fraction=count / voxels)
    with pytest.raises(BudgetError):
        budget.check(0, fraction=(count + 1) / voxels)


@given(st.integers(0, 10**6), st.integers(1, 1000))
def test_the_limit_is_the_floor(voxels: int, thousandths: int) -> None:
    assert Budget(0.1, fraction=thousandths / 1000).limit(voxels) == Fraction(thousandths, 1000) * voxels // 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_fraction_is_a_fraction(fraction: float) -> None:
    with pytest.raises(BudgetError, match=r"\(0, 1\] of the voxels") as caught:
        Budget(0.1, fraction=fraction)
    assert caught.value.limit == 1


def test_check_of_the_fraction_says_value_and_limit() -> None:
    Budget(0.1, fraction=0.29).check(0.1, fraction=29 / 100)
    with pytest.raises(
        BudgetError, match=r"case7: the noise changes 0\.3 of the voxels, the budget is 0\.29"
    ) as caught:
        Budget(0.1, fraction=0.29).check(0.1, fraction=0.3, case="case7")
    assert (caught.value.value, caught.value.limit) == (0.3, 0.29)
    with pytest.raises(BudgetError):
        Budget(0.1, fraction=0.29).check(0.1, fraction=float("nan"))


def test_a_voxel_is_changed_when_any_channel_is() -> None:
    before = np.zeros((3, 4, 5), np.int16)
    after = before.copy()
    after[0, 1, 1] = after[2, 1, 1] = after[1, 3, 4] = 7
    assert changed_fraction(before, after) == 2 / 20 and changed_fraction(before, before) == 0

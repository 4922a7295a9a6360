# SPDX-License-Identifier: Apache-2.0
"""Percentiles and counts against numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from monai_unlearnable.intensity import StorageQuantization
from monai_unlearnable.utils.distributions import Distribution, count_numbers

PERCENTS = st.sampled_from([0, 0.5, 1, 25, 50, 99.5, 100]) | st.floats(0, 100)


@given(st.sampled_from(["|u1", "|i1", "<i2", ">i2", "<u2", "<i4", "<f4", ">f8"]), st.data(), PERCENTS, PERCENTS)
def test_percentiles_are_exactly_those_of_numpy(dtype: str, data: Any, lower: float, upper: float) -> None:
    kind, shape = np.dtype(dtype).kind, data.draw(hnp.array_shapes(min_dims=2, max_dims=3))
    elements = st.integers(0, 120) | st.just(100) if kind in "iu" else st.floats(-1e6, 1e6, width=32)
    stored = data.draw(hnp.arrays(dtype, (2, *shape), elements=elements))
    slope, inter = data.draw(st.sampled_from([1.0, -2.0, 0.37])), data.draw(st.sampled_from([0.0, 0.1]))
    quantization = StorageQuantization(dtype, slope, inter)
    if data.draw(st.booleans()):
        stored = np.asfortranarray(stored)
    assume(not quantization.is_nodata(stored).any())
    physical = quantization.to_physical(stored, np.float64)
    for values, channel in zip(quantization.distributions(stored), physical, strict=True):
        assert values.size == channel.size and values.ends == (channel.min(), channel.max())
        assert values.percentiles(lower, upper) == np.percentile(channel, [lower, upper]).tolist()


def test_percentiles_of_many_values_are_exactly_those_of_numpy() -> None:
    rng = np.random.default_rng(0)
    for size in (70001, 2**18, 2**18 + 1, 600000):
        numbers = rng.normal(-300, 700, (1, size, 1)).astype(np.int16)
        for slope, inter in ((1.0, 0.0), (0.37, -1024.0), (-0.0039, 1.0)):
            quantization = StorageQuantization("<i2", slope, inter)
            (values,) = quantization.distributions(numbers)
            percents = [0.5, 99.5, *rng.uniform(0, 100, 20)]
            expected = np.percentile(quantization.to_physical(numbers, np.float64), percents)
            assert values.percentiles(*percents) == expected.tolist()


@pytest.mark.parametrize("dtype", ["|u1", "|i1", "<i2", ">i2", "<u2", "<i8"])
@pytest.mark.parametrize("low", [-100, 0, 20])
def test_numbers_are_counted(dtype: str, low: int) -> None:
    low = max(low, 0) if np.dtype(dtype).kind == "u" else low
    numbers = np.random.default_rng(0).integers(low, low + 50, (1, 90, 80, 70)).astype(dtype)
    expected = np.unique(numbers, return_counts=True)
    for order in ("C", "F"):
        found = count_numbers(np.asarray(numbers, order=order))
        assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_values_without_data_are_not_counted() -> None:
    assert Distribution.of(np.array([np.nan, 3, 1, np.nan])).values.tolist() == [3, 1]
    (values,) = StorageQuantization("<i2", -1.0).distributions(np.array([[[-32768, 4, 3024, 4, 7]]], "<i2"))
    assert values.values.tolist() == [-7, -4] and values.counts is not None and values.counts.tolist() == [1, 2]

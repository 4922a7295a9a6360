# SPDX-License-Identifier: Apache-2.0
"""Statistics of regions against the published phantom of the IBSI, SimpleITK and SciPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import stats

from monai_unlearnable.errors import InputError
from monai_unlearnable.metrics import region_changes, region_statistics

PHANTOM = np.repeat([1, 3, 4, 6], [50, 1, 16, 7])  # the 74 voxels of the IBSI's digital phantom, 2 mm wide
PUBLISHED = {  # reference manual of the IBSI, digital phantom
    "mean": 2.15,
    "median": 1,
    "minimum": 1,
    "percentile_10": 1,
    "percentile_90": 4,
    "maximum": 6,
    "interquartile_range": 3,
    "skewness": 1.08,
    "energy": 567,
    "entropy": 1.27,
    "uniformity": 0.512,
    "volume": 592,
}


def scan(shape: tuple[int, ...] = (14, 12, 10)) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    image, label = rng.gamma(2, 100, shape).astype(np.float32), np.zeros(shape, np.uint8)
    label[2:9], label[9:12, 3:] = 1, 3
    return image, label


def test_phantom_of_the_ibsi() -> None:
    image = np.concatenate([PHANTOM, [9] * 6]).reshape(5, 4, 4)
    label = np.concatenate([np.ones(74, int), [0] * 6]).reshape(5, 4, 4)
    figures = region_statistics(image, label, (2, 2, 2), bin_width=1)[1]
    assert {name: figures[name] for name in PUBLISHED} == pytest.approx(PUBLISHED, rel=5e-3)
    assert figures["standard_deviation"] ** 2 == pytest.approx(3.05, rel=5e-3)
    assert figures["kurtosis"] - 3 == pytest.approx(-0.355, rel=5e-3)


def test_agrees_with_simple_itk() -> None:
    image, label = scan()
    spacing = (0.5, 1.5, 2.0)
    first, second = (sitk.GetImageFromArray(array) for array in (image, label))
    for volume in (first, second):
        volume.SetSpacing(spacing[::-1])
    plain, rich = sitk.LabelStatisticsImageFilter(), sitk.LabelIntensityStatisticsImageFilter()
    plain.Execute(first, second)
    rich.Execute(second, first)
    found = region_statistics(image, label, spacing)
    assert list(found) == [1, 3]
    for index, figures in found.items():
        count = (label == index).sum()
        assert figures["mean"] == pytest.approx(plain.GetMean(index))
        assert figures["minimum"] == pytest.approx(plain.GetMinimum(index))
        assert figures["maximum"] == pytest.approx(plain.GetMaximum(index))
        unbiased = figures["standard_deviation"] * math.sqrt(count / (count - 1))  # SimpleITK divides by n - 1
        assert unbiased == pytest.approx(plain.GetSigma(index))
        assert figures["volume"] == pytest.approx(rich.GetPhysicalSize(index))
        assert figures["skewness"] == pytest.approx(rich.GetSkewness(index), rel=0.02)
        assert figures["kurtosis"] - 3 == pytest.approx(rich.GetKurtosis(index), rel=0.05)


@pytest.mark.parametrize("bin_width", [None, 25.0])
def test_agrees_with_scipy(bin_width: float | None) -> None:
    image, label = scan()
    figures, values = region_statistics(image, label, None, bin_width)[1], image[label == 1].astype(float)
    edges = np.arange(0, values.max() + 50, 25) if bin_width else 32
    counts = np.histogram(values, edges)[0]
    expected = {
        "volume": values.size,
        "mean": values.mean(),
        "standard_deviation": stats.tstd(values, ddof=0),
        "minimum": values.min(),
        "percentile_10": stats.scoreatpercentile(values, 10),
        "median": stats.scoreatpercentile(values, 50),
        "percentile_90": stats.scoreatpercentile(values, 90),
        "maximum": values.max(),
        "interquartile_range": stats.iqr(values),
        "skewness": stats.skew(values),
        "kurtosis": stats.kurtosis(values, fisher=False),
        "energy": (values**2).sum(),
        "entropy": stats.entropy(counts, base=2),
        "uniformity": ((counts / counts.sum()) ** 2).sum(),
    }
    assert figures == pytest.approx(expected)


def test_constant_regions() -> None:
    figures = region_statistics(np.full((6, 6), 5.0), np.ones((6, 6), int), (0.5, 0.5))[1]
    assert figures["volume"] == 9 and figures["uniformity"] == 1
    assert figures["skewness"] == figures["kurtosis"] == figures["entropy"] == figures["standard_deviation"] == 0
    assert region_statistics(np.ones((6, 6)), np.zeros((6, 6), int)) == {}


def test_channels_and_tensors() -> None:
    image, label = scan()
    expected = region_statistics(image, label)
    assert region_statistics(image[None], label) == expected
    assert region_statistics(torch.as_tensor(image), torch.as_tensor(label)[None]) == expected


def test_changes_are_relative() -> None:
    image, label = scan()
    changes = region_changes(image, 1.25 * image, label, (1, 1, 2))
    for figures in changes.values():
        for name in ("mean", "standard_deviation", "minimum", "median", "maximum", "interquartile_range"):
            assert figures[name] == pytest.approx(0.25, rel=1e-5)
        assert figures["energy"] == pytest.approx(0.5625, rel=1e-5)
        unmoved = ("volume", "skewness", "kurtosis", "entropy", "uniformity")  # bins follow the range
        assert [figures[name] for name in unmoved] == pytest.approx([0] * 5, abs=1e-5)
    same = region_changes(image, image, label)
    assert {value for figures in same.values() for value in figures.values()} == {0.0}
    assert region_changes(-image, -1.25 * image, label)[1]["mean"] == pytest.approx(-0.25, rel=1e-5)


def test_regions_found_anew() -> None:
    image, label = scan()
    smaller = np.where(label == 3, 0, label)
    smaller[2] = 0
    changes = region_changes(image, image, label, protected_label=smaller)
    assert changes[1]["volume"] == pytest.approx(-1 / 7)
    assert changes[3]["volume"] == -1 and math.isnan(changes[3]["mean"])


def test_nothing_relative_to_zero() -> None:
    flat, label = np.zeros((4, 4)), np.ones((4, 4), int)
    assert math.isnan(region_changes(flat, flat + 1, label)[1]["mean"])
    assert region_changes(flat, flat, label)[1]["mean"] == 0


def test_errors() -> None:
    image, label = scan()
    with pytest.raises(InputError, match="do not fit"):
        region_statistics(image[1:], label)
    with pytest.raises(InputError, match="do not fit"):
        region_statistics(image, label, (1, 1))
    with pytest.raises(InputError, match="positive"):
        region_statistics(image, label, bin_width=0)

# SPDX-License-Identifier: Apache-2.0
"""Figures against scikit-image, noise levels and statistics of regions against SciPy, SimpleITK and the IBSI."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import stats
from scipy.ndimage import convolve, gaussian_filter
from scipy.stats import median_abs_deviation
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from monai_unlearnable.data import Scan
from monai_unlearnable.errors import InputError, ScanError
from monai_unlearnable.intensity import IntensityWindow, PercentileWindow, StorageQuantization
from monai_unlearnable.metrics import LOSSLESS_PSNR, measure_fidelity, noise_level, region_changes, region_statistics
from monai_unlearnable.metrics.fidelity import MAX_VOXELS
from tests.helpers import random_image, two_classes


def scans(
    shape: tuple[int, ...], dtype: str, slope: float = 1.0, corner: bool = False
) -> tuple[Scan, Scan, np.ndarray]:
    """A clean scan, one with noise inside a region, and the region's label."""
    voxels, label = random_image((1, *shape), dtype), two_classes(shape)[None]
    if corner:
        label = np.zeros_like(label)
        label[(0, *[slice(0, 3)] * len(shape))] = 1
    rng = np.random.default_rng(1)
    spread = np.ptp(voxels.astype(float)) / 20
    changed = voxels + np.where(label > 0, rng.uniform(-spread, spread, voxels.shape), 0)
    clean = Scan(Path("x.nii"), voxels, StorageQuantization(voxels.dtype.str, slope, 7.0))
    return clean, replace(clean, voxels=changed.astype(dtype)), label


@pytest.mark.parametrize("shape", [(40, 33), (25, 24, 30), (30, 6), (12, 9, 3)])
@pytest.mark.parametrize(("dtype", "slope"), [("uint8", 1.0), ("int16", -0.5), ("float32", 3.0)])
@pytest.mark.parametrize("corner", [False, True])
def test_agrees_with_scikit_image(shape: tuple[int, ...], dtype: str, slope: float, corner: bool) -> None:
    clean, protected, label = scans(shape, dtype, slope, corner)
    window = clean.window(PercentileWindow())
    width = window.high[0] - window.low[0]
    figures = measure_fidelity(clean, protected, window, label)
    first, second = clean.physical(np.float64)[0], protected.physical(np.float64)[0]
    assert figures["psnr"] == pytest.approx(peak_signal_noise_ratio(first, second, data_range=width), abs=1e-6)
    a, b = ((x.clip(window.low[0], window.high[0]) - window.low[0]) / width for x in (first, second))
    size = min(7, *(extent - (extent + 1) % 2 for extent in shape))
    _, similarity = structural_similarity(a, b, win_size=size, data_range=1.0, full=True)
    assert figures["ssim"] == pytest.approx(similarity.mean(), abs=2e-5)
    assert figures["ssim_roi"] == pytest.approx(similarity[label[0] > 0].mean(), abs=2e-4)
    change = (second - first) / width
    assert figures["linf"] == pytest.approx(np.abs(change).max())
    assert figures["linf_sigma"] == pytest.approx(np.abs(second - first).max() / first.std(), rel=1e-5)
    assert figures["l0"] == pytest.approx((first != second).mean())
    assert figures["psnr_roi"] == pytest.approx(-10 * np.log10((change[label[0] > 0] ** 2).mean()), abs=1e-6)
    assert 0 < figures["ssim_roi"] <= figures["ssim"] < 1


@pytest.mark.parametrize("shape", [(30, 26, 2), (2, 9, 12), (40, 2)])
def test_scans_of_two_slices_are_compared_slice_by_slice(shape: tuple[int, ...]) -> None:
    clean, protected, label = scans(shape, "int16")
    window, short = clean.window(PercentileWindow()), shape.index(2)
    first, second = (np.moveaxis(window.to_unit(scan.physical(np.float64))[0], short, 0) for scan in (clean, protected))
    pairs = zip(first, second, strict=True)
    maps = [structural_similarity(a, b, data_range=1.0, win_size=7, full=True)[1] for a, b in pairs]
    figures = measure_fidelity(clean, protected, window, label)
    assert figures["ssim"] == pytest.approx(np.mean(maps), abs=1e-6)
    assert figures["ssim_roi"] == pytest.approx(np.stack(maps)[np.moveaxis(label[0], short, 0) > 0].mean(), abs=1e-6)


@pytest.mark.parametrize("value", [np.nan, -np.inf, -3024.0])
def test_voxels_without_data_are_omitted(value: float) -> None:
    clean, protected, label = scans((25, 24, 30), "float32")
    storage = StorageQuantization("<f4")
    clean, protected = (replace(scan, quantization=storage) for scan in (clean, protected))
    border = ((0, 0), (6, 0), (0, 0), (0, 9))  # SSIM near the border differs
    around = [replace(s, voxels=np.pad(s.voxels, border, constant_values=value)) for s in (clean, protected)]
    window = clean.window(PercentileWindow())
    assert around[0].window(PercentileWindow()) == window
    alone = measure_fidelity(clean, protected, window, label)
    figures = measure_fidelity(*around, window, np.pad(label, border, constant_values=1))
    assert figures.pop("nodata") == pytest.approx(1 - 25 * 30 / (31 * 39)) and "nodata" not in alone
    assert figures.pop("ssim") == pytest.approx(alone.pop("ssim"), abs=0.02)
    del figures["ssim_roi"], alone["ssim_roi"]
    assert figures == pytest.approx(alone)
    if np.isfinite(value):
        counted = measure_fidelity(*around, window, omit_nodata=False)
        assert counted["l0"] < figures["l0"] and "nodata" not in counted


def test_figures_of_storage_that_differs_from_slice_to_slice_are_those_of_its_physical_values() -> None:
    clean, protected, label = scans((25, 24, 30), "int16")
    storage = StorageQuantization("<i2", tuple(np.linspace(0.2, 3, 30)), tuple(np.linspace(-50, 50, 30)))
    stored = [replace(scan, quantization=storage) for scan in (clean, protected)]
    values = [replace(s, voxels=s.physical(np.float64), quantization=StorageQuantization("<f8")) for s in stored]
    window = stored[0].window(PercentileWindow())
    figures = measure_fidelity(*stored, window, label)
    assert figures == pytest.approx(measure_fidelity(*values, window, label), rel=1e-6)


@pytest.mark.parametrize(("dtype", "slope"), [("uint8", 1.0), ("int16", -0.5), ("uint16", 2.0), ("float32", 3.0)])
@pytest.mark.parametrize("shape", [(40, 33), (25, 24, 30)])
def test_peaks_of_the_scan_itself(shape: tuple[int, ...], dtype: str, slope: float) -> None:
    clean, protected, _ = scans(shape, dtype, slope)
    figures = measure_fidelity(clean, protected, clean.window(PercentileWindow()))
    first, second = clean.physical(np.float64)[0], protected.physical(np.float64)[0]
    for name, peak in (("psnr_range", np.ptp(first)), ("psnr_5sigma", 10 * first.std())):
        assert figures[name] == pytest.approx(peak_signal_noise_ratio(first, second, data_range=peak), abs=1e-6)
    change = (second - first)[first != second]
    assert figures["noise_ratio"] == pytest.approx(change.std() / noise_level(first))


def test_noise_ratio_of_known_noise() -> None:
    rng = np.random.default_rng(0)
    voxels = (1000 + 20 * rng.normal(size=(1, 200, 150))).astype("int16")
    clean = Scan(Path("x.nii"), voxels, StorageQuantization("<i2"))
    protected = replace(clean, voxels=voxels + np.where(rng.random(voxels.shape) < 0.5, 5, -5).astype("int16"))
    assert measure_fidelity(clean, protected, IntensityWindow((0.0,), (2000.0,)))["noise_ratio"] == pytest.approx(
        5 / 20, rel=0.02
    )


def test_channels_have_peaks_of_their_own() -> None:
    rng = np.random.default_rng(0)
    voxels = np.stack([rng.normal(0, 10, (30, 30)), rng.normal(0, 100, (30, 30)), np.zeros((30, 30))])
    change = np.stack([np.ones((30, 30)), np.full((30, 30), 20.0) * rng.choice([-1, 1], (30, 30)), np.zeros((30, 30))])
    clean = Scan(Path("x.nii"), voxels, StorageQuantization("<f8"))
    window = IntensityWindow((-50.0, -500.0, 0.0), (50.0, 500.0, 1.0))
    figures = measure_fidelity(clean, replace(clean, voxels=voxels + change), window)
    for name, peaks in (
        ("psnr_range", np.ptp(voxels[:2], axis=(1, 2))),
        ("psnr_5sigma", 10 * voxels[:2].std(axis=(1, 2))),
    ):
        error = np.mean((change[:2] / peaks[:, None, None]) ** 2)
        assert figures[name] == pytest.approx(-10 * np.log10(error))
    assert figures["noise_ratio"] == pytest.approx(20 / noise_level(voxels[1]), rel=0.01)


def test_a_scan_without_noise_has_no_ratio() -> None:
    voxels = np.zeros((1, 20, 20), "uint8")
    voxels[0, 10:] = 200
    clean = Scan(Path("x.png"), voxels, StorageQuantization("|u1"))
    figures = measure_fidelity(clean, replace(clean, voxels=voxels + np.uint8(3)), IntensityWindow((0.0,), (255.0,)))
    assert "noise_ratio" not in figures and figures["psnr_range"] == pytest.approx(20 * np.log10(200 / 3))


def test_a_constant_scan_has_no_peak_of_its_own() -> None:
    clean = Scan(Path("x.png"), np.full((1, 9, 9), 7, "uint8"), StorageQuantization("|u1"))
    figures = measure_fidelity(
        clean, replace(clean, voxels=clean.voxels + np.uint8(1)), IntensityWindow((0.0,), (9.0,))
    )
    assert "psnr" in figures and not {"psnr_range", "psnr_5sigma", "noise_ratio"} & set(figures)


def test_unchanged_scans() -> None:
    clean, _, label = scans((20, 20), "int16")
    figures = measure_fidelity(clean, clean, clean.window(PercentileWindow()), label)
    assert figures["psnr"] == figures["psnr_roi"] == figures["psnr_range"] == figures["psnr_5sigma"] == LOSSLESS_PSNR
    assert figures["noise_ratio"] == 0
    assert (
        figures["ssim"] == figures["ssim_roi"] == 1 and figures["linf"] == figures["l0"] == figures["linf_sigma"] == 0
    )


def test_no_figures_of_an_empty_region() -> None:
    clean, protected, label = scans((20, 20), "int16")
    window = clean.window(PercentileWindow())
    assert "ssim_roi" not in measure_fidelity(clean, protected, window)
    assert "psnr_roi" not in measure_fidelity(clean, protected, window, np.zeros_like(label))


def test_other_shapes_are_refused() -> None:
    clean, protected, _ = scans((20, 20), "int16")
    for voxels in (protected.voxels[:, 1:], protected.voxels.astype("int32")):
        with pytest.raises(ScanError, match="shape or dtype"):
            measure_fidelity(clean, replace(protected, voxels=voxels), clean.window(PercentileWindow()))


SHAPES = [(220, 180), (64, 60, 56)]


def anatomy(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Blobs with sharp borders on a smooth ground, 0 to about 1000."""
    rng = np.random.default_rng(seed)
    smooth = gaussian_filter(rng.normal(size=shape), 8)
    return 300 * (smooth / smooth.std()) + 400 * (gaussian_filter(rng.normal(size=shape), 12) > 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_level_agrees_with_scipy(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).normal(size=shape)
    kernel = reduce(np.multiply.outer, [np.array([-1.0, 2.0, -1.0])] * len(shape))
    residual = convolve(image, kernel)[(slice(1, -1),) * len(shape)]
    expected = median_abs_deviation(residual, None, center=lambda *_, **__: 0, scale="normal")
    assert noise_level(image) == pytest.approx(expected / np.linalg.norm(kernel))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [10, 50, 200])
def test_finds_known_noise_under_anatomy(shape: tuple[int, ...], sigma: float) -> None:
    image = anatomy(shape) + np.random.default_rng(1).normal(0, sigma, shape)
    for dtype in (np.float64, np.float32, np.int16):
        assert noise_level(image.astype(dtype)) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("shape", SHAPES)
def test_padding_and_saturation_hold_no_noise(shape: tuple[int, ...]) -> None:
    image = (anatomy(shape) + np.random.default_rng(1).normal(0, 30, shape)).astype(np.int16)
    image[: int(0.8 * shape[0])] = -1000
    assert noise_level(image) == pytest.approx(30, rel=0.2)


@pytest.mark.parametrize("shape", [(900, 800), (110, 100, 90)])
def test_large_images_are_sampled(shape: tuple[int, ...]) -> None:
    assert np.prod(shape) > MAX_VOXELS
    image = np.random.default_rng(2).normal(100, 7, shape)
    assert noise_level(image) == pytest.approx(7, rel=0.02)
    assert noise_level(np.asfortranarray(image)) == noise_level(image)


def test_narrow_axes_are_left_alone() -> None:
    noise = np.random.default_rng(3).normal(0, 5, (2, 300, 200))
    assert noise_level(noise) == pytest.approx(5, rel=0.05)
    assert noise_level(noise[:, :2, :2]) == noise_level(np.full((9, 9), 3)) == 0
    assert noise_level(np.add.outer(np.arange(9), 3 * np.arange(8))) == 0  # a ramp


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
def test_statistics_agree_with_scipy(bin_width: float | None) -> None:
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

# SPDX-License-Identifier: Apache-2.0
"""Figures against scikit-image on whole arrays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from monai_unlearnable.data import Scan
from monai_unlearnable.errors import ScanError
from monai_unlearnable.intensity import IntensityWindow, PercentileWindow, StorageQuantization
from monai_unlearnable.metrics import LOSSLESS_PSNR, measure_fidelity, noise_level
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

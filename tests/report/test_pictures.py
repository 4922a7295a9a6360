# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from monai_unlearnable.data.scan import Scan
from monai_unlearnable.errors import InputError
from monai_unlearnable.intensity import IntensityWindow, StorageQuantization
from monai_unlearnable.report.canvas import DARK, LIGHT, Theme, baseline_panels, telling_panels
from monai_unlearnable.report.charts import bars, curves, frontier_chart, result_pictures
from monai_unlearnable.report.heat import heat, heat_maps
from monai_unlearnable.report.planes import cut_planes
from monai_unlearnable.report.slices import montage, prediction_montage

from .samples import matrix, picture, results, row, scan, sweep

WINDOW = IntensityWindow((0.0,), (200.0,))


class TestMontage:
    def test_volume_in_three_planes(self):
        clean, protected = scan((1, 20, 24, 10), (1.0, 1.0, 3.0))
        label = np.zeros((1, 20, 24, 10), np.uint8)
        label[:, 5:12, 6:14, 3:7] = 1
        label[:, 5:12, 14:18, 3:7] = 2
        wide = picture(montage(clean, protected, label, WINDOW))
        flat = picture(montage(*scan((1, 20, 24, 10)), label[0], WINDOW))
        assert wide.width == flat.width > 1000
        assert wide.height > flat.height > 700  # taller voxels, taller planes

    @pytest.mark.parametrize("channels", [1, 3])
    def test_image_in_one_row(self, channels):
        clean, protected = scan((channels, 40, 30))
        window = IntensityWindow((0.0,) * channels, (200.0,) * channels)
        image = picture(montage(clean, protected, np.eye(40, 30, dtype=np.uint8), window))
        assert image.width > 1000
        assert 200 < image.height < image.width / 2

    def test_without_label_or_change(self):
        clean, _ = scan((1, 12, 12, 6))
        assert picture(montage(clean, clean, None, WINDOW)).width > 1000

    def test_degenerate_affine(self):
        clean, protected = scan((1, 12, 12, 6), (0, 0, 0))
        assert picture(montage(clean, protected, None, WINDOW)).width > 1000

    def test_orientation_does_not_depend_on_storage(self):
        clean, protected = scan((1, 12, 16, 8))
        flip = np.diag([-1.0, -1, 1, 1])
        flipped = [dataclasses.replace(s, voxels=s.voxels[:, ::-1, ::-1], affine=flip) for s in (clean, protected)]
        label = np.zeros((12, 16, 8), np.uint8)
        label[3:6, 4:9, 2:4] = 1
        assert montage(*flipped, label[::-1, ::-1], WINDOW) == montage(clean, protected, label, WINDOW)


class TestSides:
    """Radiological: the patient's right is at the left edge, the front and the head are above, however it is stored."""

    @staticmethod
    def stored(body, axes="RAS"):
        """A scan of a body whose axes grow to the right, the front and the head, stored along other axes."""
        turn = nib.orientations.ornt_transform(*(nib.orientations.axcodes2ornt(codes) for codes in ("RAS", axes)))
        image = nib.Nifti1Image(body, np.eye(4)).as_reoriented(turn)
        return Scan(Path("scan.nii"), np.asarray(image.dataobj)[None], StorageQuantization("<i2"), image.affine)

    @pytest.mark.parametrize("axes", ["RAS", "LPS", "ASL", "IPR"])
    def test_what_is_left_in_front_and_at_the_head(self, axes):
        body = np.zeros((12, 16, 20), np.int16)
        body[1:4, 11:15, 14:18] = 200
        found = self.stored(body, axes)
        planes = {plane.cut.name: plane for plane in cut_planes(found, found, found.voxels > 0, WINDOW)}
        places = {name: np.argwhere(plane.scan > 0.5).mean(0) / plane.scan.shape for name, plane in planes.items()}
        assert all(row < 0.5 for row, _ in places.values()), "the front and the head are above"
        assert {name: "right" if column > 0.5 else "left" for name, (_, column) in places.items()} == {
            "axial": "right",
            "coronal": "right",
            "sagittal": "left",
        }
        assert {name: plane.cut.marks for name, plane in planes.items()} == {
            "axial": ("R", "A"),
            "coronal": ("R", "S"),
            "sagittal": ("A", "S"),
        }

    def test_left_and_right_of_the_drawn_axial_picture(self):
        body = np.zeros((16, 16, 16), np.int16)
        body[2:6, 4:12, 4:12], body[10:14, 4:12, 4:12] = 200, 100  # white on the patient's left, gray on the right
        found = self.stored(body)
        drawn = np.asarray(picture(montage(found, found, None, WINDOW)).convert("L"))
        axial = drawn[: drawn.shape[0] // 3, : drawn.shape[1] // 4]
        white, gray = (np.argwhere((axial >= low) & (axial <= high))[:, 1] for low, high in ((245, 255), (120, 135)))
        assert min(len(white), len(gray)) > 1000
        assert np.median(gray) < np.median(white)


class TestPredictions:
    def test_volume(self):
        image = np.random.default_rng(0).random((12, 14, 10)).astype(np.float32)
        truth = np.zeros((12, 14, 10), np.uint8)
        truth[3:8, 4:9, 2:7] = 1
        truth[3:8, 9:11, 2:7] = 2
        drawn = picture(prediction_montage(image, truth[None], {"clean": truth, "umed": np.zeros_like(truth)}))
        wide = picture(prediction_montage(image, truth, dict.fromkeys(("a", "b", "c"), truth)))
        assert drawn.height == wide.height > 700
        assert wide.width > drawn.width > 800

    def test_planes_are_those_of_the_body_whatever_the_order_of_axes(self):
        image, truth = np.random.default_rng(0).random((12, 14, 10)), np.zeros((12, 14, 10), np.uint8)
        truth[3:8, 4:9, 2:7] = 1
        right, turned = np.diag([1.0, 2.0, 3.0, 1.0]), np.eye(4)[[2, 0, 1, 3]] @ np.diag([2.0, 3.0, 1.0, 1.0])
        order = (1, 2, 0)  # axes to the front, the head and the right
        stored = (image, truth, right), (image.transpose(order), truth.transpose(order), turned)
        found = [prediction_montage(array, label, {"clean": label}, affine) for array, label, affine in stored]
        assert found[0] == found[1] != prediction_montage(image, truth, {"clean": truth}, right, is_placed=False)

    def test_image_without_label(self):
        truth = np.zeros((16, 12), np.uint8)
        assert picture(prediction_montage(np.eye(16, 12)[None], truth, {"clean": truth})).height > 200

    @pytest.mark.parametrize(
        ("shape", "predictions"), [((8, 8), {}), ((8, 8), {"clean": np.zeros((8, 9))}), ((8,), {"clean": np.zeros(8)})]
    )
    def test_bad_shapes(self, shape, predictions):
        with pytest.raises(InputError, match="shape"):
            prediction_montage(np.zeros(shape), np.zeros(shape), predictions)


class TestCharts:
    @pytest.mark.parametrize(("draw", "dark"), [(bars, False), (curves, True)])
    def test_bars_and_curves(self, draw, dark):
        rows = [
            *results().rows,
            row("clean", 80.0, "SegResNet"),
            row("protected", 5.0, "SegResNet"),
            row("clean", 1.0, "X"),
        ]
        image = picture(draw(results(rows=rows), dark))
        assert image.width > 1000
        assert image.height > 400
        assert (np.asarray(image.convert("L"))[0, 0] < 100) == dark

    @pytest.mark.parametrize("figure", ["psnr", "ssim_roi"])
    def test_frontier(self, figure):
        lines = sweep({"umed": 37.0, "tap": 60.0, "random noise": 0.0}).frontier()
        image = picture(frontier_chart(lines, figure, dark=figure == "psnr"))
        assert image.width > 700
        assert image.height > 600

    def test_frontier_without_control(self):
        lines = results(rows=[row("protected", 5.0, ssim_roi=0.9)]).frontier()
        assert picture(frontier_chart(lines)).width > 700


class TestHeat:
    def test_panels_of_a_matrix(self):
        panels = heat_maps(matrix())
        assert [panel.title for panel in panels] == [
            "Trained on umed, 500 iterations",
            "Trained on random noise, 500 iterations",
            "Trained on originals, 500 iterations",
        ]
        assert panels[0].columns == ("none", "median")
        assert panels[0].rows == ("UNet, plain", "UNet, nnunet", "SegResNet, plain", "SegResNet, nnunet")
        assert panels[0].squares["SegResNet, nnunet", "median"].failure == "diverged"

    def test_data_are_columns_without_countermeasures(self):
        (panel,) = heat_maps(sweep({"umed": 37.0}))
        assert panel.columns == ("umed 2/255", "umed 4/255", "umed 8/255", "umed 16/255", "originals")

    def test_wide_matrices_are_cut(self):
        rows = [row("clean", 80.0), *(row("protected", 8.0, countermeasure=f"c{i}") for i in range(14))]
        panels = heat_maps(results(rows=rows))
        assert [(panel.title, len(panel.columns)) for panel in panels] == [
            ("Trained on protected, 500 iterations", 12),
            ("Trained on protected, 500 iterations, continued", 3),
            ("Trained on originals, 500 iterations", 12),
        ]

    @pytest.mark.parametrize("dark", [False, True])
    def test_drawn(self, dark):
        image = picture(heat(matrix(), heat_maps(matrix())[0], dark))
        assert image.width > 600
        assert image.height > 500
        colors = np.asarray(image.convert("RGB")).reshape(-1, 3).astype(int)
        assert (colors[:, 0] - colors[:, 2] > 60).any()  # orange: below half-way
        assert (colors[:, 2] - colors[:, 0] > 10).any()  # blue: above

    @staticmethod
    def orange_and_blue(pixels):
        """How many pixels are clearly of each color."""
        balance = pixels[..., 0].astype(int) - pixels[..., 2]
        return (balance > 60).sum(), (balance < -60).sum()

    @pytest.mark.parametrize("dark", [False, True])
    def test_orange_is_nothing_learned_and_blue_is_all(self, dark):
        def drawn(score):
            """A cell of that score, and the scale below it."""
            found = results(protected=score)
            panel = dataclasses.replace(heat_maps(found)[0], columns=("protected",))
            image = np.asarray(picture(heat(found, panel, dark)).convert("RGB"))
            return np.split(image, [image.shape[0] // 2])

        (nothing, scale), (all_of_it, _) = drawn(1.0), drawn(84.0)
        orange, blue = self.orange_and_blue(nothing)
        assert orange > 1000 and not blue
        orange, blue = self.orange_and_blue(all_of_it)
        assert blue > 1000 and not orange
        (orange, _), (_, blue) = ends = [self.orange_and_blue(half) for half in np.array_split(scale, 2, axis=1)]
        assert ends == [(orange, 0), (0, blue)] and orange > 100 and blue > 100, "from chance to the clean control"


class TestChoice:
    def test_telling_panels(self):
        names = [name for name, _ in telling_panels(matrix().summaries(), 3)]
        assert names == ["UNet, plain", "UNet, nnunet, median", "UNet, nnunet"]

    def test_each_method_is_shown_at_its_strongest(self):
        ((_, members),) = baseline_panels(sweep({"umed": 37.0, "tap": 33.0, "random noise": 0.0}).summaries(), 4)
        assert [s.words for s in members] == [
            "originals",
            "umed 2/255",
            "umed 16/255",
            "tap 16/255",
            "random noise 16/255",
        ]

    def test_what_is_drawn(self, monkeypatch):
        module = "monai_unlearnable.report.charts"
        for name in ("bars", "curves", "heat", "frontier_chart"):
            monkeypatch.setattr(f"{module}.{name}", lambda *_, **__: b"")
        assert set(result_pictures(results())) == {"bars", "bars_dark", "curves", "curves_dark"}
        assert {"heat-1", "heat-2", "heat-3", "heat-3_dark", "bars", "curves"} <= set(result_pictures(matrix()))
        assert {"frontier-1-psnr", "frontier-1-ssim_roi_dark"} <= set(result_pictures(sweep({"umed": 37.0})))
        assert result_pictures(results(rows=[])) == {}
        failed = results(rows=[row("clean", 0.0, status="diverged")])
        assert result_pictures(failed) == {}


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_every_color_of_a_chart_can_be_read_as_text(theme: Theme) -> None:
    """Contrast of at least 4.5 (WCAG 2.2), since charts are labeled in the colors of their lines."""

    def luminance(color: str) -> float:
        parts = np.array(to_rgb(color))
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    for color in (theme.ink, theme.muted, *theme.training.values(), *theme.methods):
        low, high = sorted((luminance(color), luminance(theme.background)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, color

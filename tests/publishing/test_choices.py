# SPDX-License-Identifier: Apache-2.0
"""What bundles choose by name, and by looking at the cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.data import Dataset

from monai_unlearnable.data import DatasetSummary, load_cases, read_scan
from monai_unlearnable.errors import InputError, LabelError
from monai_unlearnable.intensity import AutoWindow, DtypeWindow, PercentileWindow
from monai_unlearnable.masks import Everywhere, MaskProvider, OfClasses, Roi, Sparsity
from monai_unlearnable.perturbers import ClasswiseNoise, GradientNoise, LinearSurrogate, Objective, Surrogate
from monai_unlearnable.publishing import choices
from monai_unlearnable.publishing.choices import fit_linear
from monai_unlearnable.training.data import class_weights
from tests.helpers import write_class_folders, write_dataset

CLASSES = DatasetSummary(2, 1, (), (20, 24), targets=(3, 2, 7))
MAPS = DatasetSummary(3, 1, (0, 1, 2), (20, 24, 9))


@pytest.mark.parametrize(
    ("unperturbed", "expected"),
    [
        ("largest", Everywhere() & ~OfClasses([2])),
        (0, Everywhere() & ~OfClasses([0])),
        (1, Everywhere() & ~OfClasses([1])),
        (None, Everywhere()),
        ("none", Everywhere()),
    ],
)
def test_support_of_classes(unperturbed: int | str | None, expected: MaskProvider) -> None:
    assert choices.support(CLASSES, unperturbed) == expected
    assert choices.support(MAPS, unperturbed) == Roi()


def test_the_largest_class_is_spared_by_default() -> None:
    assert choices.support(CLASSES) == choices.support(CLASSES, 2)
    image, label = torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2])
    assert [bool(mask.any()) for mask in choices.support(CLASSES)(image, label)] == [True, True, False]


@pytest.mark.parametrize("unperturbed", [3, -1, True, 1.0, "1", "smallest", "null"])
def test_classes_that_cannot_be_spared(unperturbed: Any) -> None:
    with pytest.raises(
        InputError, match=rf"class {unperturbed!r} cannot be left unperturbed; give 'largest', 'none' or 0 to 2"
    ):
        choices.support(CLASSES, unperturbed)


@pytest.mark.parametrize(
    ("dims", "dtype", "suffix", "expected"),
    [
        (2, "uint8", ".png", DtypeWindow()),
        (2, "uint16", ".tif", PercentileWindow()),
        (3, "uint8", ".nii.gz", DtypeWindow()),
        (3, "int16", ".nii.gz", PercentileWindow()),  # the range of this dtype is far beyond that of any scan
        (3, "float32", ".nii", PercentileWindow()),
    ],
)
def test_windows(tmp_path: Path, dims: int, dtype: str, suffix: str, expected: Any) -> None:
    for case in load_cases(write_class_folders(tmp_path / "classes", dims, dtype, (1, 1), suffix)):
        scan = read_scan(case.root / case.images[0])
        assert scan.window(AutoWindow()) == scan.window(expected)


def test_classes_are_drawn_equally_often(tmp_path: Path) -> None:
    cases = load_cases(write_class_folders(tmp_path / "classes", counts=(3, 1, 2)))
    weights = class_weights(cases)
    assert weights is not None and weights == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1 / 2])
    assert class_weights(load_cases(write_dataset(tmp_path / "maps"))) is None


def test_names_are_known() -> None:
    assert [choices.approach(name) for name in choices.APPROACHES] == ["error_minimizing", "error_maximizing"]
    assert [choices.granularity(name) for name in choices.GRANULARITIES] == ["case", "class", "universal"]
    assert choices.look_up("pattern", "ar", {"lsp": 1, "ar": 2}) == 2


def test_unknown_names() -> None:
    with pytest.raises(InputError, match="unknown approach 'minimizing'; known are error_minimizing, error_maximizing"):
        choices.approach("minimizing")
    with pytest.raises(InputError, match="protect synthetic --pattern"):
        choices.approach("synthetic")
    with pytest.raises(InputError, match="unknown granularity 'cases'; known are case, class, universal"):
        choices.granularity("cases")
    with pytest.raises(InputError, match="unknown pattern 'cuda'; known are lsp, ar"):
        choices.look_up("pattern", "cuda", {"lsp": 1, "ar": 2})


def test_voxels_are_selected_for_noise_of_cases_alone() -> None:
    assert choices.granularity("case", Sparsity(0.1)) == "case"
    with pytest.raises(InputError, match="sparsity selects voxels for noise of granularity 'case'"):
        choices.granularity("class", Sparsity(0.1))


def images(count: int = 10) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    kinds = [index % 2 for index in range(count)]
    return [{"image": torch.rand(1, 12, 8, generator=generator) + kind, "label": kind} for kind in kinds]


@pytest.mark.parametrize("batch_size", [1, 3, 10, 64])
def test_a_linear_surrogate_is_fitted_to_a_whole_dataset(batch_size: int) -> None:
    perturber, items = LinearSurrogate(2, (4, 4)), images()
    fit_linear(perturber, Dataset(items), batch_size)
    image, label = torch.stack([item["image"] for item in items]), torch.tensor([item["label"] for item in items])
    expected = LinearSurrogate(2, (4, 4)).fit([(image, label)])
    assert perturber.weight.any() and torch.allclose(perturber.weight, expected.weight, atol=1e-6)


def test_a_linear_surrogate_takes_no_maps() -> None:
    items = [{"image": torch.rand(1, 12, 8), "label": torch.zeros(1, 12, 8)}]
    with pytest.raises(LabelError, match="needs one class for each whole image, and these cases have label maps"):
        fit_linear(LinearSurrogate(2, (4, 4)), Dataset(items), 2)


def test_objectives() -> None:
    assert choices.objective(True, "targeted", [1, 0], 2) == Objective("minimize")
    assert choices.objective(False, "untargeted", None, 2) == Objective("maximize")
    assert choices.objective(False, "targeted", [1, 0], 2) == Objective("target", [1, 0])
    with pytest.raises(InputError, match="unknown goal of error-maximizing noise 'minimize'"):
        choices.objective(False, "minimize", None, 2)
    with pytest.raises(InputError, match="number of targets"):
        choices.objective(False, "targeted", [1, 0], 3)


def test_classes_that_a_method_does_not_know() -> None:
    image, label = torch.rand(2, 1, 16, 16), torch.tensor([0, 3])
    for perturber in (GradientNoise([Surrogate("ResNet18", 2, 1, 3, (16, 16), 4)]), ClasswiseNoise(1, 3, (16, 16))):
        with pytest.raises(LabelError, match="not known to the method") as caught:
            perturber.support(image, label)
        assert caught.value.value == 3


@pytest.mark.parametrize(
    ("dims", "values", "distinct", "expected"),
    [
        (3, (0, 1, 2), None, [1.0]),
        (3, (0, 1), None, [0.6, 0.4]),
        (3, (0, 1, 2), False, [0.6, 0.4]),
        (2, (0, 1, 2), None, [0.6, 0.4]),
    ],
)
def test_drawn_carriers_are_mixed_where_a_trace_needs_more_marks(
    dims: int, values: tuple[int, ...], distinct: bool | None, expected: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    summary = DatasetSummary(dims, 1, values, (9,) * len(values))
    assert choices.mixture(None, "keyed", distinct, summary) == expected
    assert choices.mixture(None, None, distinct, summary) == [1.0]
    assert not caplog.records


@pytest.mark.parametrize(("weights", "dims", "marks"), [(None, 2, 6), ([1.0], 3, 7)])
def test_the_owner_hears_that_a_set_cannot_be_traced(
    weights: list[float] | None, dims: int, marks: int, caplog: pytest.LogCaptureFixture
) -> None:
    choices.mixture(weights, "keyed", None, DatasetSummary(dims, 1, (0, 1), (9, 9)))
    assert f"only {marks} marks can be drawn: no trace can find a p much below 0.1" in caplog.text


def test_a_mixture_without_drawn_carriers_is_refused() -> None:
    assert choices.mixture([1.0], "rows", None, MAPS) == (1.0,)
    with pytest.raises(InputError, match=r"mixture is \[0.5, 0.5\], which changes nothing"):
        choices.mixture([0.5, 0.5], "rows", None, MAPS)


@pytest.mark.parametrize("carriers", ["keyed", None])
def test_a_mixture_that_is_none_is_one_error(carriers: str | None) -> None:
    with pytest.raises(InputError, match="1 to 7 positive weights of sum 1, not 0.5"):
        choices.mixture(0.5, carriers, None, MAPS)  # type: ignore[arg-type]

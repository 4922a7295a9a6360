# SPDX-License-Identifier: Apache-2.0
"""The contract once more, for perturbers of datasets whose images have one class for the whole."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases
from monai_unlearnable.intensity import DtypeWindow, PercentileWindow, WindowRule
from monai_unlearnable.masks import Everywhere, MaskProvider, OfClasses, Sparsity
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import (
    Augmentation,
    AutoregressiveNoise,
    ClassConvolution,
    DeepHiding,
    FixedVoxels,
    GradientNoise,
    HidingNetwork,
    LinearPatterns,
    LinearSurrogate,
    MultiTaskNoise,
    NyquistCarriers,
    Perturber,
    RandomNoise,
    SymmetricLattice,
)
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import (
    BUDGET,
    SHAPES,
    nifti_header,
    raw_bytes,
    small_shared,
    small_surrogate,
    stored_voxels,
    tree,
    window_width,
    write_class_folders,
)

COUNTS = (2, 1, 2)
Make = Callable[[int, int, MaskProvider], Perturber]


def linear_surrogate(dims: int, seed: int, support: MaskProvider) -> Perturber:
    images = torch.rand(6, 1, *SHAPES[dims], generator=torch.Generator().manual_seed(seed))
    model = LinearSurrogate(3, [4] * dims, epsilon=BUDGET.epsilon, support=support)
    return model.fit([(images, torch.arange(6) % 3)])


def carriers(dims: int, seed: int, support: MaskProvider) -> Perturber:
    chosen = [(0, 1), (0,), (1,)]  # seeds decide on signs alone, which may agree
    return NyquistCarriers(3, dims, BUDGET.epsilon, support, carriers=[*chosen[seed:], *chosen[:seed]], seed=seed)


def gradient(dims: int, seed: int, support: MaskProvider) -> Perturber:
    return GradientNoise([small_surrogate(dims=dims, seed=seed)], BUDGET.epsilon, steps=3, step_size=0.04,
                         support=support, augmentation=Augmentation([16] * dims), batch_size=3)  # fmt: skip


def sparse(dims: int, seed: int, support: MaskProvider) -> Perturber:
    return GradientNoise(
        [small_surrogate(dims=dims, seed=seed)],
        BUDGET.epsilon,
        steps=3,
        step_size=0.04,
        fitted=1e-3,
        support=support,
        sparsity=Sparsity(0.1),
        augmentation=Augmentation([16] * dims),
        batch_size=3,
    )


def multitask(dims: int, seed: int, support: MaskProvider) -> Perturber:
    perturber = MultiTaskNoise(dims, 1, [3], epsilon=BUDGET.epsilon, channels=(4, 8), support=support)
    reset_parameters(perturber, seed)
    return perturber


def hiding(dims: int, seed: int, support: MaskProvider) -> Perturber:
    perturber = DeepHiding(3, [8] * dims, HidingNetwork(dims, blocks=2, width=4), BUDGET.epsilon, support, seed=seed)
    reset_parameters(perturber, seed)
    for coupling in perturber.network.couplings:  # as much noise as after training
        coupling.phi[-1].weight.data *= 20  # type: ignore[index, union-attr, operator]
    return perturber


# Add a perturber of classes here: a function of dimensions, seed and support.
PERTURBERS: dict[str, Make] = {
    "random": lambda dims, seed, support: RandomNoise(BUDGET.epsilon, support, seed),
    "linear-patterns": lambda dims, seed, support: LinearPatterns(BUDGET.epsilon, support, cells=4, seed=seed),
    "autoregressive": lambda dims, seed, support: AutoregressiveNoise(BUDGET.epsilon, support, seed=seed),
    "class-convolution": lambda dims, seed, support: ClassConvolution(BUDGET.epsilon, support, seed=seed),
    "fixed-voxels": lambda dims, seed, support: FixedVoxels(BUDGET.epsilon, support, fraction=0.2, seed=seed),
    "symmetric-lattice": lambda dims, seed, support: SymmetricLattice(BUDGET.epsilon, support, code="axes"),
    "keyed-lattice": lambda dims, seed, support: SymmetricLattice(BUDGET.epsilon, support, code="keyed", seed=seed),
    "carriers": carriers,
    "linear-surrogate": linear_surrogate,
    "multitask": multitask,
    "hiding": hiding,
    "gradient": gradient,
    "sparse": sparse,
    "shared": lambda dims, seed, support: small_shared(SHAPES[dims], seed, support=support),
}
SEEDLESS = {"symmetric-lattice"}
FAINT = {"class-convolution"}  # as strong as the contrast of the image in its window
Combination = tuple[str, int, str, str, WindowRule]  # perturber, dimensions, dtype, suffix, window
PERTURBED: list[Combination] = [
    (name, *kind)
    for name in PERTURBERS
    for kind in ((2, "uint8", ".png", DtypeWindow()), (3, "float32", ".nii", PercentileWindow()))
]
STORED: list[Combination] = [
    ("random", 2, "uint8", ".png", DtypeWindow()),
    ("random", 2, "uint16", ".tif", PercentileWindow()),
    ("random", 3, "int16", ".nii.gz", PercentileWindow()),
    ("random", 3, "float32", ".nii", PercentileWindow()),
]


def with_each(combinations: list[Combination]) -> pytest.MarkDecorator:
    names = [f"{name}-{dtype}{suffix}" for name, _, dtype, suffix, _ in combinations]
    return pytest.mark.parametrize("setup", combinations, ids=names, indirect=True)


each_perturber, each_storage = with_each(PERTURBED), with_each(STORED)
each = with_each(list(dict.fromkeys(PERTURBED + STORED)))
once = with_each(list(dict.fromkeys(PERTURBED[::2] + STORED)))  # each perturber in 2D alone


@dataclass(frozen=True)
class Setup:
    clean: Path
    out: Path
    name: str
    dims: int
    rule: WindowRule
    suffix: str

    def protect(
        self, out: Path, budget: Budget = BUDGET, seed: int = 0, support: MaskProvider | None = None
    ) -> Manifest:
        perturber = PERTURBERS[self.name](self.dims, seed, Everywhere() if support is None else support)
        return Publication(load_cases(self.clean), perturber, out, self.rule, budget).run()

    def images(self, out: Path) -> dict[str, tuple[Path, Path]]:
        """Clean and protected file of every case, by its name."""
        cases = load_cases(self.clean)
        return {case.case_id: (self.clean / case.images[0], out / "protected" / case.images[0]) for case in cases}


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Setup]:
    """Protects a dataset, once for all tests that read it."""

    @functools.cache
    def make(name: str, dims: int, dtype: str, suffix: str, rule: WindowRule) -> Setup:
        root = tmp_path_factory.mktemp("classes")
        clean = write_class_folders(root / "clean", dims, dtype, COUNTS, suffix)
        setup = Setup(clean, root / "out", name, dims, rule, suffix)
        setup.protect(setup.out)
        return setup

    return make


@pytest.fixture
def setup(request: pytest.FixtureRequest, make: Callable[..., Setup]) -> Setup:
    return make(*request.param)


@each
def test_budget_is_used_and_held_on_disk(setup: Setup) -> None:
    for before, after in setup.images(setup.out).values():
        clean, protected = stored_voxels(before), stored_voxels(after)
        width = window_width(setup.rule, clean)
        change = np.abs(protected.astype(np.float64) - clean.astype(np.float64)) / width
        slack = 1e-9 + (1e-4 / width if clean.dtype.kind in "iu" else 0)
        assert (0.01 if setup.name in FAINT else 0.1) * BUDGET.epsilon < change.max() <= BUDGET.epsilon + slack


@each_storage
def test_files_keep_shape_dtype_and_header(setup: Setup) -> None:
    for clean, protected in setup.images(setup.out).values():
        assert stored_voxels(protected).shape == stored_voxels(clean).shape
        assert stored_voxels(protected).dtype == stored_voxels(clean).dtype
        if not setup.suffix.startswith(".nii"):
            assert Image.open(protected).mode == Image.open(clean).mode
            continue
        assert np.array_equal(nib.load(clean).affine, nib.load(protected).affine)
        (first, offset), (second, _) = nifti_header(clean), nifti_header(protected)
        assert all(first[field].tobytes() == second[field].tobytes() for field in first)
        assert raw_bytes(clean)[:offset] == raw_bytes(protected)[:offset]


@each_storage
def test_published_cases_keep_their_classes(setup: Setup) -> None:
    def classes(root: Path) -> list[tuple[str, int | None]]:
        return [(case.case_id, case.target) for case in load_cases(root)]

    assert classes(setup.out / "protected") == classes(setup.clean)
    assert [case[1] for case in classes(setup.clean)] == [0, 0, 1, 2, 2]
    (setup.out / "protected" / "datalist.json").rename(setup.out / "datalist.json")
    assert classes(setup.out / "protected") == classes(setup.clean), "the folders tell the same"
    (setup.out / "datalist.json").rename(setup.out / "protected" / "datalist.json")


@each
def test_verify_passes(setup: Setup) -> None:
    assert len(verify(setup.out, setup.clean).scans) == len(verify(setup.out).scans) == sum(COUNTS)


@each
def test_restore_is_bit_exact(setup: Setup, tmp_path: Path) -> None:
    restore(setup.out, tmp_path)
    for clean, _ in setup.images(setup.out).values():
        restored = tmp_path / clean.relative_to(setup.clean)
        if setup.suffix.startswith(".nii"):
            assert raw_bytes(restored) == raw_bytes(clean)
        else:
            assert stored_voxels(restored).tobytes() == stored_voxels(clean).tobytes()


@each_perturber
def test_same_seed_same_bytes_and_another_seed_other_noise(setup: Setup, tmp_path: Path) -> None:
    setup.protect(tmp_path / "same")
    assert tree(tmp_path / "same") == tree(setup.out)
    setup.protect(tmp_path / "other", seed=1)
    for name, (_, other) in setup.images(tmp_path / "other").items():
        same = stored_voxels(other).tobytes() == stored_voxels(setup.images(setup.out)[name][1]).tobytes()
        assert same == (setup.name in SEEDLESS)


@once
def test_zero_epsilon_is_identity(setup: Setup, tmp_path: Path) -> None:
    manifest = setup.protect(tmp_path, Budget(0))
    assert all(entry.measured["linf"] == 0 and entry.measured["l0"] == 0 for entry in manifest.scans)
    for clean, protected in setup.images(tmp_path).values():
        assert stored_voxels(clean).tobytes() == stored_voxels(protected).tobytes()


@each_perturber
def test_a_spared_class_is_untouched(setup: Setup, tmp_path: Path) -> None:
    setup.protect(tmp_path, support=Everywhere() & ~OfClasses([2]))
    verify(tmp_path, setup.clean)
    for name, (before, after) in setup.images(tmp_path).items():
        same = stored_voxels(before).tobytes() == stored_voxels(after).tobytes()
        assert same == name.startswith("c/")
        if not same and setup.name not in ("gradient", "sparse"):  # there the batch says where rounding errors go
            assert stored_voxels(after).tobytes() == stored_voxels(setup.images(setup.out)[name][1]).tobytes()

# SPDX-License-Identifier: Apache-2.0
"""One contract for every perturber: what :class:`Publication` writes with it, on every kind of storage."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from monai_unlearnable.budget import Budget
from monai_unlearnable.data import load_cases
from monai_unlearnable.errors import BudgetError, LabelError, ScanError, UnlearnableError
from monai_unlearnable.intensity import DtypeWindow, PercentileWindow, WindowRule
from monai_unlearnable.masks import Everywhere, MaskProvider, Roi, Sparsity
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import (
    AutoregressiveNoise,
    ClassConvolution,
    FixedVoxels,
    GradientNoise,
    LinearPatterns,
    NyquistCarriers,
    Perturber,
    RandomNoise,
    SalientVoxels,
    SymmetricLattice,
    VoxShield,
)
from monai_unlearnable.publishing.publication import Publication
from monai_unlearnable.publishing.restore import apply_stored, restore
from monai_unlearnable.publishing.verify import verify
from monai_unlearnable.utils.seeding import reset_parameters
from tests.helpers import (
    BUDGET,
    fixed_window,
    nifti_header,
    raw_bytes,
    small_shared,
    small_surrogate,
    small_umed,
    stored_voxels,
    tree,
    window_width,
    write_dataset,
)


def gradient(dims: int, seed: int) -> Perturber:
    return GradientNoise([small_surrogate("UNet", dims, seed=seed)], BUDGET.epsilon, steps=3, step_size=0.04,
                         support=Roi(), divisor=8, batch_size=2)  # fmt: skip


def voxshield(dims: int, seed: int) -> Perturber:
    perturber = VoxShield(dims, 1, BUDGET.epsilon, channels=(4, 8))
    reset_parameters(perturber, seed)
    perturber.generator.head.weight.data *= 50  # as much noise as after training
    return perturber


def salient(dims: int) -> MaskProvider:
    return SalientVoxels(small_surrogate("UNet", dims), Sparsity(0.05), within=Roi())


def sparse(dims: int, seed: int) -> Perturber:
    return GradientNoise([small_surrogate("UNet", dims, seed=seed)], BUDGET.epsilon, steps=3, step_size=0.04,
                         support=Roi(), sparsity=Sparsity(0.02), divisor=8)  # fmt: skip


# Add a perturber here: a function of dimensions and seed.
PERTURBERS: dict[str, Callable[[int, int], Perturber]] = {
    "umed": small_umed,
    "umed-carrier": lambda dims, seed: small_umed(dims, seed, carrier_axis=1),
    "voxshield": voxshield,
    "random": lambda dims, seed: RandomNoise(BUDGET.epsilon, seed=seed),
    "random-low-pass": lambda dims, seed: RandomNoise(BUDGET.epsilon, seed=seed, distribution="low_pass", rms=0.05),
    "linear-patterns": lambda dims, seed: LinearPatterns(BUDGET.epsilon, patch=2, spread=0.4, seed=seed),
    "autoregressive": lambda dims, seed: AutoregressiveNoise(BUDGET.epsilon, seed=seed),
    "class-convolution": lambda dims, seed: ClassConvolution(BUDGET.epsilon, seed=seed),
    "fixed-voxels": lambda dims, seed: FixedVoxels(BUDGET.epsilon, fraction=0.2, seed=seed),
    "symmetric-quantization": lambda dims, seed: SymmetricLattice(BUDGET.epsilon, code="axes"),
    "carriers": lambda dims, seed: NyquistCarriers(3, dims, BUDGET.epsilon, carriers=[(), (0, 1), (0,)], seed=seed),
    "gradient": gradient,
    "sparse": sparse,
    "umed-salient": lambda dims, seed: small_umed(dims, seed, support=salient(dims), texture=Everywhere()),
    "shared": lambda dims, seed: small_shared((8,) * dims, seed, support=Roi()),
}
SEEDLESS = {"symmetric-quantization"}
FAINT = {"class-convolution"}  # as strong as the contrast of the image in its window

Combination = tuple[str, int, str, str]  # perturber, dimensions, dtype, window
# Each perturber in 2D and in 3D; float storage rounds nothing away. Each kind of storage with a perturber that is at
# home there: how noise was made and how it is stored have nothing to do with each other.
PERTURBED: list[Combination] = [
    (name, *kind) for name in PERTURBERS for kind in ((2, "uint8", "percentile"), (3, "float32", "percentile"))
]
STORED: list[Combination] = [
    ("random" if dims == 2 else "umed", dims, dtype, rule)
    for dims in (2, 3)
    for dtype in ("uint8", "int16", "uint16", "float32")
    for rule in ("percentile", "fixed", "dtype")
    if not (dtype == "float32" and rule == "dtype")
]


def with_each(combinations: list[Combination]) -> pytest.MarkDecorator:
    names = ["-".join(map(str, combination)) for combination in combinations]
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
    dtype: str
    rule: WindowRule
    suffix: str

    def protect(self, out: Path, budget: Budget = BUDGET, clean: Path | None = None, seed: int = 0) -> Manifest:
        perturber = PERTURBERS[self.name](self.dims, seed)
        return Publication(load_cases(clean or self.clean), perturber, out, self.rule, budget, [0, 1, 2]).run()

    def image(self, name: str) -> tuple[Path, Path]:
        file = f"images/{name}{self.suffix}"
        return self.clean / file, self.out / "protected" / file


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Setup]:
    """Protects a dataset, once for all tests that read it."""

    @functools.cache
    def make(name: str, dims: int, dtype: str, rule: str) -> Setup:
        rules = {"percentile": PercentileWindow(), "fixed": fixed_window(dtype), "dtype": DtypeWindow()}
        suffix = ".png" if (dims, dtype) == (2, "uint8") else ".nii.gz"
        root = tmp_path_factory.mktemp("contract")
        clean = write_dataset(root / "clean", dims, dtype, ("a", "b", "none"), suffix, empty=("none",))
        setup = Setup(clean, root / "out", name, dims, dtype, rules[rule], suffix)
        setup.protect(setup.out)
        return setup

    return make


@pytest.fixture
def setup(request: pytest.FixtureRequest, make: Callable[..., Setup]) -> Setup:
    return make(*request.param)


@each
def test_budget_is_used_and_held_on_disk(setup: Setup) -> None:
    for case in ("a", "b"):
        clean, protected = map(stored_voxels, setup.image(case))
        change = np.abs(protected.astype(np.float64) - clean.astype(np.float64)) / window_width(setup.rule, clean)
        step = 1e-4 / window_width(setup.rule, clean) if clean.dtype.kind in "iu" else 0
        least = 0.01 if setup.name in FAINT else 0.1
        assert least * BUDGET.epsilon < change.max() <= BUDGET.epsilon + step + 1e-9, case


@each
def test_verify_passes(setup: Setup) -> None:
    assert len(verify(setup.out).scans) == 3
    assert len(verify(setup.out, setup.clean).scans) == 3


@each
def test_restore_is_bit_exact(setup: Setup, tmp_path: Path) -> None:
    restore(setup.out, tmp_path)
    for name, content in tree(setup.clean).items():
        restored = tmp_path / name
        if setup.suffix == ".png":
            assert stored_voxels(restored).tobytes() == stored_voxels(setup.clean / name).tobytes()
        else:
            assert raw_bytes(restored) == raw_bytes(setup.clean / name)
        assert name.startswith("images") or restored.read_bytes() == content


@each_storage
def test_stored_noise_gives_the_very_same_files(setup: Setup, tmp_path: Path) -> None:
    apply_stored(setup.out / "noise", setup.clean, tmp_path)
    assert tree(tmp_path / "protected") == tree(setup.out / "protected")
    assert tree(tmp_path / "noise") == tree(setup.out / "noise")
    verify(tmp_path, setup.clean)


@once
def test_zero_epsilon_is_identity(setup: Setup, tmp_path: Path) -> None:
    manifest = setup.protect(tmp_path, Budget(0))
    for entry in manifest.scans:
        assert np.array_equal(
            stored_voxels(tmp_path / "protected" / entry.output), stored_voxels(setup.clean / entry.file)
        )
        assert entry.measured["linf"] == 0 and entry.measured["l0"] == 0 and entry.measured["ssim"] == 1
    verify(tmp_path, setup.clean)


@each_perturber
def test_empty_label_is_identity(setup: Setup) -> None:
    clean, protected = map(stored_voxels, setup.image("none"))
    assert clean.tobytes() == protected.tobytes()


@each_perturber
def test_same_seed_same_bytes_and_another_seed_other_noise(setup: Setup, tmp_path: Path) -> None:
    setup.protect(tmp_path / "same")
    assert tree(tmp_path / "same") == tree(setup.out)
    setup.protect(tmp_path / "other", seed=1)
    same = tree(tmp_path / "other" / "protected" / "images") == tree(setup.out / "protected" / "images")
    assert same == (setup.name in SEEDLESS), "SEEDLESS lists exactly the perturbers that no seed changes"


@each_storage
def test_files_keep_shape_dtype_and_header_and_labels_every_byte(setup: Setup) -> None:
    assert tree(setup.out / "protected" / "labels") == tree(setup.clean / "labels")
    for case in ("a", "b", "none"):
        clean, protected = setup.image(case)
        assert stored_voxels(protected).shape == stored_voxels(clean).shape
        assert stored_voxels(protected).dtype == stored_voxels(clean).dtype
        if setup.suffix == ".png":
            continue
        assert np.array_equal(nib.load(clean).affine, nib.load(protected).affine)
        (first, offset), (second, _) = nifti_header(clean), nifti_header(protected)
        for field in first:
            assert first[field].tobytes() == second[field].tobytes(), field
        assert raw_bytes(clean)[:offset] == raw_bytes(protected)[:offset]


@with_each([combination for combination in STORED if combination[2] != "float32"])
def test_a_budget_below_a_storage_step_names_the_case(setup: Setup, tmp_path: Path) -> None:
    with pytest.raises(BudgetError) as caught:
        setup.protect(tmp_path / "out", Budget(1e-6))
    assert caught.value.case == "images/a" and "images/a" in str(caught.value)
    assert not list(tmp_path.rglob("*.part"))


@with_each([("random", 2, "uint8", "percentile"), ("umed", 3, "float32", "percentile")])
@pytest.mark.parametrize(("kind", "expected"), [("image", ScanError), ("label", LabelError)])
def test_errors_name_the_case(setup: Setup, tmp_path: Path, kind: str, expected: type[UnlearnableError]) -> None:
    clean = Path(shutil.copytree(setup.clean, tmp_path / "clean"))
    broken = clean / f"{kind}s" / f"b{setup.suffix}"
    broken.write_bytes(broken.read_bytes()[:-40])
    with pytest.raises(expected) as caught:
        setup.protect(tmp_path / "out", clean=clean)
    assert caught.value.case == "images/b" and "images/b" in str(caught.value) and caught.value.file == broken
    assert not list(tmp_path.rglob("*.part"))

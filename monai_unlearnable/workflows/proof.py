# SPDX-License-Identifier: Apache-2.0
"""The proof of a protected dataset: its control, its victims, its report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_unlearnable.config import build
from monai_unlearnable.noise import Manifest
from monai_unlearnable.perturbers import RandomNoise
from monai_unlearnable.report import Results, write_report
from monai_unlearnable.report.montage import montage
from monai_unlearnable.report.pictures import result_pictures
from monai_unlearnable.report.rows import CLEAN, PROTECTED, RANDOM, TRAININGS
from monai_unlearnable.scans import Case, encode_label, inspect_cases, load_cases, read_label, read_scan
from monai_unlearnable.victims import Recipe
from monai_unlearnable.workflows.evaluation import Evaluation
from monai_unlearnable.workflows.layout import Layout
from monai_unlearnable.workflows.protection import Protection

__all__ = ["evaluate_folders", "random_control", "report"]


def evaluate_folders(
    output_dir: str | Path,
    dataset_dir: str | Path,
    test_dir: str | Path | None = None,
    datalist: str | Path | None = None,
    iterations: int = 500,
    victims: Sequence[str] = ("UNet",),
    seeds: Sequence[int] = (0,),
    size: Sequence[int] | None = None,
    trainings: Sequence[str] = TRAININGS,
    device: str = "cpu",
) -> tuple[Results, Path]:
    """Train victims on the clean, the protected and a control dataset, and write ``report/`` of the output.

    Args:
        output_dir: an output with ``protected/`` and ``noise/``; the control goes to its ``control/``.
        dataset_dir: the clean dataset.
        test_dir: clean held-out cases; by default section ``test`` of the dataset's datalist.
        datalist: of the clean dataset.
        iterations: training steps of each victim.
        victims: names of networks.
        seeds: of the trainings.
        size: network input; by default the median size of the training scans, rounded up to a multiple of 8.
        trainings: which of clean, protected and random-noise data to train on.
        device: where to train.

    Returns:
        The results and the report's page.
    """
    output, root = Path(output_dir), Path(dataset_dir)
    manifest = Manifest.load(Layout(output).manifest)
    cases = load_cases(root, datalist)
    test = load_cases(root, datalist, section="test") if test_dir is None else load_cases(test_dir)
    summary = inspect_cases(cases, build(manifest.run["window"]), manifest.run["label_values"])
    control = random_control(cases, output, output / "control")
    training = {CLEAN: cases, PROTECTED: load_cases(output / "protected"), RANDOM: load_cases(control / "protected")}
    evaluation = Evaluation(
        training={name: training[name] for name in trainings},
        outputs={PROTECTED: output, RANDOM: control},
        test=test,
        summary=summary,
        recipe=Recipe(tuple(size or summary.patch_size()), iterations=iterations),
        victims=victims,
        seeds=seeds,
        device=device,
    )
    method = str(manifest.run["method"])
    results = evaluation.run(f"{method} on {root.name}", root.name, {"epsilon": manifest.scans[0].budget.radius})
    return results, report(results, output, root)


def random_control(cases: Sequence[Case], output_dir: Path, control_dir: Path, seed: int = 0) -> Path:
    """Write the control of a protected dataset: the same cases with random noise of equal radius in the region.

    Args:
        cases: the clean cases.
        output_dir: output whose budget, window and label values are taken.
        control_dir: where to; an earlier control there is replaced.
        seed: of the noise.
    """
    manifest = Manifest.load(Layout(output_dir).manifest)
    budget, window = manifest.scans[0].budget, build(manifest.run["window"])
    noise = RandomNoise(budget.radius, seed=seed)
    Protection(cases, noise, control_dir, window, budget, manifest.run["label_values"], overwrite=True).run()
    return control_dir


def report(results: Results, output_dir: Path, dataset_dir: Path, pictured: int = 2) -> Path:
    """Write ``report/`` of an output: figures, pictures of a few scans, one self-contained page.

    Args:
        results: what to report.
        output_dir: of the protected dataset.
        dataset_dir: the clean dataset.
        pictured: number of scans shown.

    Returns:
        The page.
    """
    layout = Layout(output_dir)
    manifest = Manifest.load(layout.manifest)
    pictures = {}
    for number, entry in enumerate(manifest.scans[:pictured], 1):
        clean, protected = read_scan(dataset_dir / entry.file), read_scan(layout.protected / entry.output)
        label = None
        if entry.label is not None:
            stored = read_label(layout.protected / entry.label, clean.spatial_shape, entry.case_id)
            label = encode_label(stored, manifest.run["label_values"], entry.case_id)
        pictures[f"montage-{number}"] = montage(clean, protected, label, entry.window)
    write_report(results, {**pictures, **result_pictures(results)}, layout.report)
    return layout.report / "index.html"

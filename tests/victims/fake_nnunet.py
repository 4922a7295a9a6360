# SPDX-License-Identifier: Apache-2.0
"""Stands in for nnU-Net's commands: checks what they are given as nnU-Net 2.8.1 does, and writes what it writes.

Its model knows that images are ten times their label; before the end of a training it predicts background. The folder
of the commands may hold ``fail.json``: ``{"command": ..., "say": ..., "code": ...}`` makes that command fail once."""

import argparse
import json
import os
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

PLANNED = {"batch_size": 5, "architecture": {"arch_kwargs": {"features_per_stage": [32, 64, 128, 256]}}}
NAME = "Dataset001_Victim"


def variable(name: str) -> str:
    return os.environ[name]


def place(name: str) -> Path:
    return Path(variable(name)) / NAME


def options(*names: str, flags: tuple[str, ...] = ()) -> Any:
    parser = argparse.ArgumentParser()
    for name in names:
        parser.add_argument(name)
    for name in flags:
        parser.add_argument(name, action="store_true")
    return parser.parse_args()


def read(path: Path) -> Any:
    import nibabel as nib
    import numpy as np

    if path.suffix == ".png":
        from PIL import Image

        return np.asarray(Image.open(path)).T
    return np.asarray(nib.load(path).dataobj)


def nnUNetv2_plan_and_preprocess() -> None:
    args = options("-d", "-c", "-npfp", "-np", flags=("--verbose",))
    assert int(variable("nnUNet_n_proc_DA")) > 0, "set_num_threads expects a positive integer"
    assert args.d == "1"
    raw, folder = place("nnUNet_raw"), place("nnUNet_preprocessed")
    dataset = json.loads((raw / "dataset.json").read_text())
    ending, channels = dataset["file_ending"], len(dataset["channel_names"])
    labels = sorted((raw / "labelsTr").iterdir())
    assert len(labels) == dataset["numTraining"]
    per_case = 1 if ending == ".png" else channels
    for label in labels:
        name = label.name.removesuffix(ending)
        images = [raw / "imagesTr" / f"{name}_{channel:04d}{ending}" for channel in range(per_case)]
        truth = read(label)
        assert all(read(image).shape[: truth.ndim] == truth.shape for image in images)
        assert set(truth.ravel().tolist()) <= set(dataset["labels"].values())
    kinds = ["2d"] if read(labels[0]).ndim == 2 else ["2d", "3d_fullres"]
    folder.mkdir(parents=True)
    plans = {"plans_name": "nnUNetPlans", "configurations": dict.fromkeys(kinds, PLANNED)}
    (folder / "nnUNetPlans.json").write_text(json.dumps(plans))


def model(args: Any) -> Path:
    assert (args.tr, args.d if hasattr(args, "d") else args.dataset) == ("MeasuredTrainer", "1")
    return place("nnUNet_results") / f"{args.tr}__{args.p}__{args.configuration}" / "fold_all"


def nnUNetv2_train() -> None:
    args = options("dataset", "configuration", "fold", "-tr", "-p", "-device", flags=("--c",))
    assert args.fold == "all"
    trainer = Path(variable("nnUNet_extTrainer"))
    assert f"class {args.tr}(" in (trainer / "measured_trainer.py").read_text()
    settings = json.loads((trainer / "settings.json").read_text())
    plans = json.loads((place("nnUNet_preprocessed") / f"{args.p}.json").read_text())
    assert plans["plans_name"] == args.p
    planned = plans["configurations"][args.configuration]
    folder = model(args)
    folder.mkdir(parents=True, exist_ok=True)
    latest = folder / "checkpoint_latest.pth"
    assert args.c == latest.is_file(), "a stopped training goes on with --c, and a new one starts without"
    latest.write_text("")
    fail("nnUNetv2_train_half_way")
    for moment in (*settings["moments"], "final"):
        (folder / f"checkpoint_{moment}.pth").write_text(json.dumps({"went_on": args.c, "plan": planned}))
    (folder / "progress.json").write_text(json.dumps({"losses": [1.0, 0.5], "seconds": 3.0}))
    latest.unlink()


def nnUNetv2_predict() -> None:
    names = ("-i", "-o", "-d", "-tr", "-p", "-c", "-f", "-chk", "-device", "-npp", "-nps")
    args = options(*names, flags=("--disable_progress_bar",))
    args.configuration = args.c
    assert (model(args) / args.chk).is_file()
    for path in sorted(Path(args.i).glob("*_0000*")):
        found = (read(path) / 10).round().astype("uint8") * (args.chk == "checkpoint_final.pth")
        target = Path(args.o) / path.name.replace("_0000", "")
        if path.suffix == ".png":
            from PIL import Image

            Image.fromarray(found.T).save(target)
        else:
            import nibabel as nib

            nib.Nifti1Image(found, nib.load(path).affine).to_filename(target)
    (Path(args.o) / "dataset.json").write_text("{}")


def fail(command: str) -> None:
    told = Path(sys.argv[0]).parent / "fail.json"
    wanted = json.loads(told.read_text()) if told.is_file() else {}
    if wanted.get("command") != command:
        return
    told.unlink()
    sys.stderr.write(f"Traceback (most recent call last):\n  File somewhere\n{wanted['say']}\nand a remark\n")
    if wanted["code"] < 0:
        os.kill(os.getpid(), -wanted["code"])
    sys.exit(wanted["code"])


def install(folder: Path) -> Path:
    """Make an environment whose commands are these, with a distribution called nnunetv2."""
    programs, known = folder / "bin", folder / "known"
    (known / "nnunetv2-2.8.1.dist-info").mkdir(parents=True)
    (known / "nnunetv2-2.8.1.dist-info" / "METADATA").write_text("Name: nnunetv2\nVersion: 2.8.1\n")
    programs.mkdir()
    python = programs / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={known} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    source = files("tests.victims") / "fake_nnunet.py"
    for name in ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"):
        command = programs / name
        command.write_text(f"#!{python}\n{source.read_text()}")
        command.chmod(0o755)
    return folder


if __name__ == "__main__":
    called = Path(sys.argv[0]).name
    fail(called)
    globals()[called]()

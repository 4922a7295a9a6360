# SPDX-License-Identifier: Apache-2.0
"""Whether a model was trained on protected scans, from its answers alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

import monai_unlearnable as mu
from monai_unlearnable.cli import main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.crypto.keyfiles import from_base64
from monai_unlearnable.crypto.signing import is_signed
from monai_unlearnable.data import list_dataset
from monai_unlearnable.errors import CommandError, InputError, KeyMismatchError, OutputError
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.statement import audit, canonical
from monai_unlearnable.tracing import Suspect, judge, prepare
from tests.helpers import tree
from tests.tracing.models import VoxelModel

KEYS = 39
Model = Callable[[list[str]], NDArray]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A set with a mark: ``clean``, ``out``, ``key``, ``values``. Tests keep records under names of their own."""
    root = tmp_path_factory.mktemp("traced")
    write_phantom_dataset(root / "clean", count=3, test_count=0, size=(24, 24, 16), structures=("liver", "spleen"))
    OwnerKey(bytes(range(32))).save(root / "owner.key")
    settings = {"key": str(root / "owner.key"), "carriers": "keyed", "mixture": [0.6, 0.4], "epsilon": 16 / 255}
    manifest = mu.protect("carrier", root / "clean", root / "out", **settings)
    return SimpleNamespace(
        clean=root / "clean", out=root / "out", key=root / "owner.key", values=manifest.run["label_values"]
    )


@pytest.fixture(scope="module")
def guilty(traced: SimpleNamespace) -> Model:
    """A model that learned from the published files."""
    return VoxelModel(list_dataset(traced.out / "protected").cases, traced.values)


@pytest.fixture(scope="module")
def innocent(traced: SimpleNamespace) -> Model:
    """A model that learned from the originals."""
    return VoxelModel(list_dataset(traced.clean).cases, traced.values)


def threshold(files: list[str]) -> NDArray:
    """A model that is fast, and knows nothing of marks."""
    voxels = np.asarray(nib.load(files[0]).dataobj)
    return (voxels > np.quantile(voxels, 0.8)).astype(int)


def test_a_model_that_learned_from_the_set_answers_to_its_mark(traced: SimpleNamespace, guilty: Model) -> None:
    result = mu.trace(traced.out, traced.clean, guilty, traced.key, keys=KEYS, name="guilty")
    assert result.outcome is not None
    assert result.outcome.p == pytest.approx(1 / (1 + KEYS))
    assert "the model answers to the owner's mark" in result.sentence()
    content = json.loads((result.folder / "result.json").read_text())
    assert is_signed(canonical(content), from_base64(content["signature"]), from_base64(content["public_key"]))
    statement = json.loads((traced.out / "statement.json").read_text())
    assert content["plan"]["mark_sha256"] == statement["mark_sha256"]


def test_a_model_that_learned_from_the_originals_does_not(traced: SimpleNamespace, innocent: Model) -> None:
    result = mu.trace(traced.out, traced.clean, innocent, traced.key, keys=KEYS, name="innocent", stop_after=5)
    assert result.outcome is not None
    assert result.outcome.p > 0.05
    assert "no evidence" in result.sentence()


def test_a_traceable_set_is_published_like_others(traced: SimpleNamespace) -> None:
    mu.verify(traced.out, traced.clean, traced.key)
    assert not audit(traced.out / "protected", traced.out / "statement.json").findings
    told = (traced.out / "statement.json").read_text()
    assert "carriers" not in told and "seed" not in told  # nothing that helps to find the mark


def test_a_stopped_trace_goes_on(traced: SimpleNamespace) -> None:
    asked: list[str] = []

    def tired(files: list[str]) -> NDArray:
        asked.append(files[0])
        if len(asked) > 12:
            raise KeyboardInterrupt
        return threshold(files)

    arguments = (traced.out, traced.clean)
    settings: dict[str, Any] = {"key": traced.key, "keys": 5, "name": "resumed"}
    with pytest.raises(KeyboardInterrupt):
        mu.trace(*arguments, tired, **settings)
    before = len(asked)
    asked.clear()

    def rested(files: list[str]) -> NDArray:
        asked.append(files[0])
        return threshold(files)

    rested.__qualname__ = tired.__qualname__  # the same model
    result = mu.trace(*arguments, rested, **settings)
    assert result.outcome is not None
    assert len(asked) == 3 * 7 - (before - 1) // 3 * 3  # marks with all answers are not asked again
    with pytest.raises(OutputError, match=r"another others.*another --name"):
        mu.trace(*arguments, rested, **{**settings, "keys": 6})


def test_answers_that_are_missing_count_as_the_worst(traced: SimpleNamespace) -> None:
    """So that a model cannot gain by silence, and the test stays exact."""

    def silent(files: list[str]) -> NDArray:
        return threshold(files)

    class Silent(Suspect):
        description = "answers one probe alone"

        def ask(self, queries: Any) -> list[NDArray | None]:
            return [silent([str(queries[0].files[0])]), *[None] * (len(queries) - 1)]

    result = mu.trace(traced.out, traced.clean, Silent(), traced.key, keys=3, name="silent")
    kept = json.loads((result.folder / "marks" / "00000" / "answered.json").read_text())
    assert kept["scores"][1:] == [None, None]
    assert result.own == pytest.approx(kept["scores"][0] / 3)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda files: np.zeros((3, 3), int), InputError, r"probe0001: the answer has shape \(3, 3\)"),
        (lambda files: np.full((24, 24, 16), 7), InputError, "holds classes 7 to 7"),
        (lambda files: np.full((3, 24, 24, 16), np.nan), InputError, "not within 0 and 1"),
        (lambda files: 1 / 0, CommandError, "the model fails: division by zero"),
        ("no_module:function", InputError, "no_module"),
        ("a-command-without-places", InputError, r"is no model.*\{probes\}"),
        ("no-such-program {probes} {answers}", CommandError, "no-such-program: cannot be run"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_in_one_line(
    traced: SimpleNamespace, model: Any, error: type[Exception], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(error, match=message) as caught:
        mu.trace(traced.out, traced.clean, model, traced.key, keys=3, name=f"unusable {request.node.name[-4:]}")
    assert "\n" not in str(caught.value)


def test_a_model_that_fails_now_and_then_is_asked_on(traced: SimpleNamespace) -> None:
    calls: list[int] = []

    def shaky(files: list[str]) -> NDArray:
        calls.append(1)
        if len(calls) == 10:
            raise ValueError("out of luck")
        return threshold(files)

    settings: dict[str, Any] = {"key": traced.key, "keys": 4, "name": "shaky"}
    with pytest.raises(CommandError, match="run again: the model fails: out of luck"):
        mu.trace(traced.out, traced.clean, shaky, **settings)
    result = mu.trace(traced.out, traced.clean, shaky, **settings)
    assert result.outcome is not None and result.outcome.others == 4


def test_only_the_owner_can_trace(traced: SimpleNamespace, tmp_path: Path) -> None:
    OwnerKey.generate().save(tmp_path / "other.key")
    with pytest.raises(KeyMismatchError):
        mu.trace(traced.out, traced.clean, threshold, tmp_path / "other.key")
    with pytest.raises(InputError, match=r"needs the owner's key.*--key"):
        mu.trace(traced.out, traced.clean, threshold, None)
    mu.protect("carrier", traced.clean, tmp_path / "plain", carriers="keyed")
    with pytest.raises(InputError, match="protected without a key"):
        mu.trace(tmp_path / "plain", traced.clean, threshold, traced.key)


COMMAND = """
import sys
from pathlib import Path
import nibabel as nib
import numpy as np
probes, answers = map(Path, sys.argv[1:])
for path in sorted(probes.iterdir()):
    image = nib.load(path)
    voxels = np.asarray(image.dataobj)
    found = (voxels > np.quantile(voxels, 0.8)).astype(np.uint8)
    nib.save(nib.Nifti1Image(found, image.affine), answers / path.name.replace("_0000", ""))
"""


def test_a_command_reads_a_folder_and_writes_one(traced: SimpleNamespace, tmp_path: Path, capsys: Any) -> None:
    """As the commands of nnU-Net and TotalSegmentator do; and it gets the answers that a function would get."""
    script = tmp_path / "segment.py"
    script.write_text(COMMAND)
    words = ["trace", str(traced.out), str(traced.clean), "--key", str(traced.key), "--keys", "2", "--name", "command"]
    assert main([*words, "--model", f"{sys.executable} {script} {{probes}} {{answers}}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("p = ") and "record: " in told
    mu.trace(traced.out, traced.clean, threshold, traced.key, keys=2, name="function")
    kept = [
        json.loads((traced.out / "trace" / name / "marks" / "00000" / "answered.json").read_text())["scores"]
        for name in ("command", "function")
    ]
    assert kept[0] == kept[1]


def test_a_command_that_hangs_is_ended(traced: SimpleNamespace) -> None:
    model = f"{sys.executable} -c 'import time; time.sleep(60)' {{probes}} {{answers}}"
    with pytest.raises(CommandError, match="it took too long"):
        mu.trace(traced.out, traced.clean, model, traced.key, keys=1, name="hangs", timeout=0.5)


def test_a_model_can_be_asked_by_hand(traced: SimpleNamespace, tmp_path: Path, guilty: Model) -> None:
    settings: dict[str, Any] = {"key": traced.key, "name": "by hand", "max_probes": 2}
    count = prepare(traced.out, traced.clean, tmp_path / "probes", keys=9, **settings)
    files = sorted((tmp_path / "probes").iterdir())
    assert len(files) == count == 20
    first = [json.loads((traced.out / "statement.json").read_text())["scans"][0]["file"]]
    assert not any(name in file.name for file in files for name in first)
    (tmp_path / "answers").mkdir()
    for file in files:
        answer = guilty([str(file)]).astype(np.uint8)
        nib.save(nib.Nifti1Image(answer, nib.load(file).affine), tmp_path / "answers" / file.name)
    result = judge(traced.out, traced.clean, tmp_path / "probes", tmp_path / "answers", **settings)
    assert result.outcome is not None
    assert result.outcome.p == pytest.approx(0.1)
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(InputError, match=r"probe\d+: the probe is not there, or was changed|probe\d+, .*changed since"):
        judge(traced.out, traced.clean, tmp_path / "probes", tmp_path / "answers", **settings)


def test_who_carries_which_mark_is_the_owners_secret(traced: SimpleNamespace, tmp_path: Path) -> None:
    prepare(traced.out, traced.clean, tmp_path / "probes", traced.key, keys=3, name="secret", max_probes=1)
    plain = [name for name, content in tree(traced.out / "trace" / "secret").items() if b'"mark"' in content]
    assert not plain

# SPDX-License-Identifier: Apache-2.0
"""Whether a model was trained on protected scans, from its answers alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import safetensors.torch
import torch
from monai.networks.nets import UNet
from numpy.typing import NDArray
from PIL import Image
from scipy.special import softmax

import monai_unlearnable as mu
from monai_unlearnable.cli import main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.crypto.encrypted import read_owned, write_owned
from monai_unlearnable.crypto.keyfiles import from_base64
from monai_unlearnable.crypto.signing import is_signed
from monai_unlearnable.data import list_dataset
from monai_unlearnable.errors import CommandError, InputError, KeyMismatchError, OutputError, VerificationError
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing.layout import Layout
from monai_unlearnable.publishing.run import run_bundle
from monai_unlearnable.publishing.statement import audit, canonical, signed
from monai_unlearnable.tracing import Suspect, check_trace, judge, prepare
from monai_unlearnable.tracing.setup import set_up
from monai_unlearnable.utils.files import fingerprint
from tests.helpers import tree, write_class_folders
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


def test_a_set_of_a_release_that_knew_fewer_settings_can_be_traced(traced: SimpleNamespace, tmp_path: Path) -> None:
    """Its statement commits to the mark as it was described then."""
    out, key = tmp_path / "out", OwnerKey.load(traced.key)
    shutil.copytree(traced.out, out, ignore=shutil.ignore_patterns("trace"))
    path = Layout(out).checkpoint
    content = read_owned(path, key)
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    description = json.loads(header["__metadata__"]["description"])
    del description["perturber"]["same_sign"]
    packed = safetensors.torch.save(safetensors.torch.load(content), {"description": json.dumps(description)})
    write_owned(path, packed, key)
    mark = fingerprint(description["perturber"])
    stated = json.loads((out / "statement.json").read_text())
    (out / "statement.json").write_text(json.dumps({**stated, "mark_sha256": mark}))
    setup = set_up(out, traced.clean, traced.key)
    assert setup.plan("model", KEYS, 10).mark_sha256 == mark


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
    unmarked = 2 * 3  # asked again as the call goes on, and at the end
    assert len(asked) == 3 * 7 - (before - 1) // 3 * 3 + unmarked  # marks with all answers are not asked again
    with pytest.raises(OutputError, match=r"another others.*another --name"):
        mu.trace(*arguments, rested, **{**settings, "keys": 6})


def bright(level: float, stop: float = float("inf")) -> Model:
    """A function of the same name for each level, which is interrupted after some calls."""
    calls: list[str] = []

    def model(files: list[str]) -> NDArray:
        calls.append(files[0])
        if len(calls) > stop:
            raise KeyboardInterrupt
        voxels = np.asarray(nib.load(files[0]).dataobj)
        return (voxels > np.quantile(voxels, level)).astype(int)

    return model


@pytest.mark.parametrize("stop", [3, float("inf")])
def test_the_answers_of_one_function_do_not_count_for_another(traced: SimpleNamespace, stop: float) -> None:
    """Neither where a trace goes on, nor where it was finished: their names are the same, and they are not."""
    settings: dict[str, Any] = {"key": traced.key, "keys": 3, "name": f"function {stop}", "max_probes": 1}
    try:
        mu.trace(traced.out, traced.clean, bright(0.8, stop), **settings)
    except KeyboardInterrupt:
        assert stop == 3
    with pytest.raises(CommandError, match=r"no verdict: the model answers .* otherwise than before.*another --name"):
        mu.trace(traced.out, traced.clean, bright(0.2), **settings)
    assert mu.trace(traced.out, traced.clean, bright(0.8), **settings).outcome is not None  # nothing was spoiled


def test_a_model_that_changes_while_it_is_asked_gets_no_verdict(traced: SimpleNamespace) -> None:
    """Its answers get worse: the owner's mark, asked among the first, would seem to be known to it."""
    level = [0.8]

    def worse(files: list[str]) -> NDArray:
        level[0] += 0.005
        return bright(level[0])(files)

    settings: dict[str, Any] = {"key": traced.key, "keys": 20, "stop_after": 1, "name": "worse", "max_probes": 1}
    for _ in range(2):  # even if it is as before again, the record is spoiled
        with pytest.raises(CommandError, match="no verdict"):
            mu.trace(traced.out, traced.clean, worse, **settings)
        level[0] = 0.8
    assert not (traced.out / "trace" / "worse" / "result.json").exists()


def test_a_model_whose_last_digits_change_gets_a_verdict_that_can_be_checked(traced: SimpleNamespace) -> None:
    """As networks on a GPU do; probabilities are scored as they are kept, in four bytes."""
    rng = np.random.default_rng(0)

    def rounded(files: list[str]) -> NDArray:
        found = bright(0.8)(files) * (1 / 3) + rng.uniform(0, 1e-6)
        return np.stack([1 - found, found / 2, found / 2])

    settings: dict[str, Any] = {"keys": 3, "name": "rounded", "max_probes": 1, "statistic": "log_probability"}
    result = mu.trace(traced.out, traced.clean, rounded, traced.key, **settings)
    assert result.outcome is not None
    assert check_trace(traced.out, traced.clean, traced.key, name="rounded").outcome == result.outcome


def test_the_owners_mark_has_no_turn_of_its_own(traced: SimpleNamespace) -> None:
    """Else a model could answer that one badly."""

    class Watching(Suspect):
        description = "sees how many marks were asked before the owner's"

        def __init__(self, marks: Path) -> None:
            self.marks, self.before = marks, -1

        def ask(self, queries: Any) -> list[NDArray | None]:
            is_owners = (self.marks / "00000").exists()
            self.before += self.before < 0 or not is_owners
            return [threshold([str(query.files[0])]) for query in queries]

    turns = set()
    for number in range(3):
        suspect = Watching(traced.out / "trace" / f"turn {number}" / "marks")
        mu.trace(traced.out, traced.clean, suspect, traced.key, keys=3, name=suspect.marks.parent.name, max_probes=1)
        turns.add(suspect.before)
    assert len(turns) > 1 and turns <= set(range(4))


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
import shutil
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
    words = ["trace", str(traced.out), str(traced.clean), "--key", str(traced.key), "--keys", "1", "--name", "command"]
    assert main([*words, "--model", f"{sys.executable} {script} {{probes}} {{answers}}"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("p = ") and "report: " in told
    mu.trace(traced.out, traced.clean, threshold, traced.key, keys=1, name="function")
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
    settings.pop("max_probes")  # as many as were prepared
    assert judge(traced.out, traced.clean, tmp_path / "probes", tmp_path / "answers", **settings) == result
    assert check_trace(traced.out, traced.clean, **settings).outcome == result.outcome
    files[0].write_bytes(files[1].read_bytes())
    with pytest.raises(InputError, match=r"probe\d+: the probe is not there, or was changed|probe\d+, .*changed since"):
        judge(traced.out, traced.clean, tmp_path / "probes", tmp_path / "answers", **settings)


def test_files_asked_by_hand_do_not_tell_their_marks_by_their_times(traced: SimpleNamespace, tmp_path: Path) -> None:
    prepare(traced.out, traced.clean, tmp_path / "probes", traced.key, keys=2, name="times", max_probes=2)
    assert len({path.stat().st_mtime for path in (tmp_path / "probes").iterdir()}) == 1


def test_files_asked_by_hand_do_not_tell_their_marks_by_their_order(traced: SimpleNamespace, tmp_path: Path) -> None:
    prepare(traced.out, traced.clean, tmp_path / "probes", traced.key, keys=4, name="order", max_probes=2)
    content = json.loads(read_owned(traced.out / "trace" / "order" / "queries.json", OwnerKey.load(traced.key)))
    marks = {entry["name"]: entry["mark"] for entry in content["queries"]}
    files = sorted((tmp_path / "probes").iterdir(), key=lambda path: path.stat().st_ino)
    found = [marks[path.name.partition("_")[0]] for path in files]
    assert found != sorted(found)


def test_probes_that_were_not_all_written_are_written_anew(
    traced: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, times: Any) -> None:
        raise KeyboardInterrupt

    arguments = (traced.out, traced.clean, tmp_path / "probes", traced.key)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "utime", stop)
        prepare(*arguments, keys=2, name="stopped", max_probes=1)
    assert not list(tmp_path.iterdir())
    assert prepare(*arguments, keys=2, name="stopped", max_probes=1) == 3 == len(list((tmp_path / "probes").iterdir()))


def test_who_carries_which_mark_is_the_owners_secret(traced: SimpleNamespace, tmp_path: Path) -> None:
    prepare(traced.out, traced.clean, tmp_path / "probes", traced.key, keys=3, name="secret", max_probes=1)
    plain = [name for name, content in tree(traced.out / "trace" / "secret").items() if b'"mark"' in content]
    assert not plain


@pytest.fixture(scope="module")
def concluded(traced: SimpleNamespace) -> Path:
    """The record of a finished trace."""
    return mu.trace(traced.out, traced.clean, threshold, traced.key, keys=4, name="concluded").folder


def test_somebody_else_can_recompute_p(traced: SimpleNamespace, concluded: Path, capsys: Any) -> None:
    words = ["trace", "check", str(traced.out), str(traced.clean), "--key", str(traced.key), "--name", concluded.name]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("the record holds: p = ")


def resigned(traced: SimpleNamespace, folder: Path, **changed: Any) -> None:
    """Sign a forged result anew, as an owner could."""
    content = json.loads((folder / "result.json").read_text())
    paths = [folder / "marks" / f"{number:05d}" / "answered.json" for number in range(len(content["statistics"]))]
    content["answered_sha256"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    content = {**content, **changed}
    del content["signature"]
    (folder / "result.json").write_text(json.dumps(signed(content, OwnerKey.load(traced.key))))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("swapped", "the folder of mark 0 holds what was answered to mark 1"),
        ("unanswered", "the score of no answer"),
        ("short", "the statistics"),
        ("sentence", "the sentence"),
    ],
)
def test_a_result_that_was_forged_and_signed_is_found(
    traced: SimpleNamespace, concluded: Path, kind: str, message: str
) -> None:
    folder = concluded.parent / f"forged {kind}"
    shutil.copytree(concluded, folder)
    marks, changed = folder / "marks", {}
    if kind == "swapped":
        shutil.rmtree(marks / "00000")
        shutil.copytree(marks / "00001", marks / "00000")
    elif kind == "unanswered":
        content = json.loads((marks / "00000" / "answered.json").read_text())
        content |= {"answers": [None] * 3, "scores": [1.0] * 3}
        (marks / "00000" / "answered.json").write_text(json.dumps(content))
        np.savez_compressed(marks / "00000" / "answers.npz")
    elif kind == "short":
        changed = {"statistics": json.loads((folder / "result.json").read_text())["statistics"][:1]}
    else:
        changed = {"sentence": "p = 0.0001: the model answers to the owner's mark"}
    resigned(traced, folder, **changed)
    with pytest.raises(VerificationError) as caught:
        check_trace(traced.out, traced.clean, traced.key, name=folder.name)
    assert any(message in str(finding) for finding in caught.value.findings)


@pytest.mark.parametrize("what", ["scores", "p", "answers"])
def test_a_record_that_was_changed_is_found(
    traced: SimpleNamespace, concluded: Path, tmp_path: Path, what: str
) -> None:
    shutil.copytree(concluded, concluded.parent / what)
    folder = concluded.parent / what
    if what == "scores":
        path = folder / "marks" / "00000" / "answered.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "scores": [1.0] * 3}))
    elif what == "p":
        content = json.loads((folder / "result.json").read_text())
        content["result"]["p"] = 0.001
        (folder / "result.json").write_text(json.dumps(content))
    else:
        (folder / "marks" / "00001" / "answers.npz").write_bytes(
            (folder / "marks" / "00002" / "answers.npz").read_bytes()
        )
    with pytest.raises(VerificationError, match="not hold"):
        check_trace(traced.out, traced.clean, traced.key, name=what)


def test_the_page_says_what_was_found_and_what_not(concluded: Path) -> None:
    page = (concluded / "index.html").read_text()
    content = json.loads((concluded / "result.json").read_text())
    assert content["sentence"].split(":")[0].replace("'", "&#39;") in page
    assert "What this does not show" in page
    assert "<script" not in page
    assert page.count("data:image/png") >= 1


def test_a_network_in_a_file_is_asked_with_its_preprocessing(traced: SimpleNamespace, tmp_path: Path) -> None:
    class Brightness(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.cat([1 - image, image, image - 0.5], 1)

    example = torch.zeros(1, 1, 24, 24, 16)
    torch.jit.save(torch.jit.trace(Brightness(), example), tmp_path / "net.ts")
    (tmp_path / "input.yaml").write_text(
        "preprocessing: {_target_: Compose, transforms: ["
        "{_target_: LoadImaged, keys: image}, {_target_: EnsureChannelFirstd, keys: image},"
        "{_target_: ScaleIntensityd, keys: image}]}"
    )
    settings: dict[str, Any] = {"preprocessing": tmp_path / "input.yaml", "statistic": "log_probability"}
    result = mu.trace(traced.out, traced.clean, tmp_path / "net.ts", traced.key, keys=1, name="network", **settings)
    path = sorted((traced.clean / "imagesTr").iterdir())[0]
    image = np.asarray(nib.load(path).dataobj).astype(np.float32)
    image = (image - image.min()) / (image.max() - image.min())
    assert not (result.folder / "marks" / "unmarked_again").exists()  # its digest tells that it is still the same
    kept = np.load(result.folder / "marks" / "unmarked" / "answers.npz")["0000"]
    assert kept == pytest.approx(softmax(np.stack([1 - image, image, image - 0.5]), 0), abs=1e-5)
    page = (result.folder / "index.html").read_text()
    assert hashlib.sha256((tmp_path / "net.ts").read_bytes()).hexdigest() in page
    again: tuple[Any, ...] = (traced.out, traced.clean, tmp_path / "net.ts", traced.key, 1, "network")
    with pytest.raises(OutputError, match=r"another preprocessing was begun here.*another --name"):
        mu.trace(*again, statistic="log_probability")
    with pytest.raises(OutputError, match="another answer classes was begun here"):
        mu.trace(*again, answer_classes=[0, 2, 1], **settings)
    torch.jit.save(torch.jit.trace(torch.nn.Softmax(1), example), tmp_path / "net.ts")
    with pytest.raises(OutputError, match="another model was begun here"):  # of the same name
        mu.trace(*again, **settings)
    with pytest.raises(InputError, match="is no TorchScript network"):
        mu.trace(traced.out, traced.clean, tmp_path / "input.yaml", traced.key, keys=1, name="none")


def test_the_bundle_gives_the_result_of_the_command(traced: SimpleNamespace, tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(UNet(3, 1, 3, (4, 8), (2,)).eval(), torch.zeros(1, 1, 24, 24, 16)), tmp_path / "n")
    (tmp_path / "input.yaml").write_text(
        "preprocessing: {_target_: Compose, transforms: ["
        "{_target_: LoadImaged, keys: image}, {_target_: EnsureChannelFirstd, keys: image}]}"
    )
    settings: dict[str, Any] = {"model": str(tmp_path / "n"), "preprocessing": str(tmp_path / "input.yaml"), "keys": 3}
    paths = {"dataset_dir": str(traced.clean), "output_dir": str(traced.out), "key": str(traced.key)}
    run_bundle("trace", "trace", **paths, **settings, name="by bundle")
    words = ["trace", str(traced.out), str(traced.clean), "--key", str(traced.key), "--name", "by command"]
    assert main([*words, *(word for name, value in settings.items() for word in (f"--{name}", str(value)))]) == 0
    first, second = (traced.out / "trace" / f"by {way}" / "result.json" for way in ("bundle", "command"))
    assert json.loads(first.read_text())["statistics"] == json.loads(second.read_text())["statistics"]


def test_a_bundle_is_asked_with_its_own_parts(
    traced: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("%bundle")  # a reference to another file, if it were read as configuration
    network = {"_target_": "UNet", "spatial_dims": 3, "in_channels": 1, "out_channels": 3, "channels": [4, 8]}
    network |= {"strides": [2]}
    steps = ("LoadImaged", "EnsureChannelFirstd", "ScaleIntensityd")
    content = {
        "network_def": network,
        "network": "$@network_def.to('cpu')",
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": t, "keys": "image"} for t in steps]},
        "inferer": {"_target_": "SimpleInferer"},
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [
                {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
                {"_target_": "SaveImaged", "keys": "pred", "output_dir": str(tmp_path / "saved")},
            ],
        },
    }
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="has none of model.pt"):
        mu.trace(traced.out, traced.clean, folder, traced.key, keys=1, name="no weights")
    (folder / "models").mkdir()
    net = UNet(3, 1, 3, (4, 8), (2,))
    torch.save(net.state_dict(), folder / "models" / "model.pt")
    result = mu.trace(traced.out, traced.clean, str(folder), traced.key, keys=1, name="bundle")
    assert not (tmp_path / "saved").exists()
    kept = np.load(result.folder / "marks" / "unmarked" / "answers.npz")["0000"]
    image = np.asarray(nib.load(sorted((traced.clean / "imagesTr").iterdir())[0]).dataobj).astype(np.float32)
    scaled = torch.from_numpy((image - image.min()) / (image.max() - image.min()))[None, None]
    with torch.no_grad():
        assert np.array_equal(kept[0], net.eval()(scaled).argmax(1)[0].numpy())
    torch.save(UNet(3, 1, 3, (4, 8), (2,)).state_dict(), folder / "models" / "model.pt")
    with pytest.raises(OutputError, match="another model was begun here"):
        mu.trace(traced.out, traced.clean, str(folder), traced.key, keys=1, name="bundle")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A set of classes of whole images with a mark."""
    root = tmp_path_factory.mktemp("pictures")
    write_class_folders(root / "clean", counts=(3, 3), shape=(32, 32))
    OwnerKey(bytes(range(32))).save(root / "owner.key")
    mu.protect("lsp", root / "clean", root / "out", key=str(root / "owner.key"), unperturbed="none", epsilon=16 / 255)
    return SimpleNamespace(clean=root / "clean", out=root / "out", key=root / "owner.key")


def by_mean(files: list[str]) -> NDArray:
    """Probabilities of two classes, from the brightness of a picture alone."""
    brightness = float(np.asarray(Image.open(files[0])).mean()) / 255
    return np.array([brightness, 1 - brightness])


TABLE = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
probes, answers = map(Path, sys.argv[1:])
lines = ["name,a,b"]
for path in sorted(probes.iterdir()):
    brightness = float(np.asarray(Image.open(path)).mean()) / 255
    lines.append(f"{path.name},{brightness!r},{1 - brightness!r}")
(answers / "answers.csv").write_text("\\n".join(lines))
"""


def test_classes_of_whole_images_are_asked_for_probabilities(pictures: SimpleNamespace, tmp_path: Path) -> None:
    """A function, and a command that writes a table, which gives the same scores; masks alone are told."""
    script = tmp_path / "classify.py"
    script.write_text(TABLE)
    models = {"function": by_mean, "table": f"{sys.executable} {script} {{probes}} {{answers}}"}
    found = [
        mu.trace(pictures.out, pictures.clean, model, pictures.key, keys=1, name=name) for name, model in models.items()
    ]
    assert found[0].own == pytest.approx(found[1].own)
    assert found[0].own < 0  # the mean logarithm of a probability
    nothing = f"{sys.executable} -c 0 {{probes}} {{answers}}"
    with pytest.raises(InputError, match="there is no table of answers"):
        mu.trace(pictures.out, pictures.clean, nothing, pictures.key, keys=3, name="nothing")

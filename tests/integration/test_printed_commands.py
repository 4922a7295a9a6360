# SPDX-License-Identifier: Apache-2.0
"""Every command and every Python example of the pages runs as it is printed, on small phantoms.

A page is followed from top to bottom, in a folder that gets what a command reads and the page has not made. Each block
makes its outputs anew: two blocks may show two ways to the same folder, one block may not. What another page has done
in the same words, with what was made in the same words, is not done again.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser, workflows

from monai_unlearnable.cli import main
from monai_unlearnable.evaluation import matrix
from monai_unlearnable.phantoms import write_phantom_dataset
from monai_unlearnable.publishing import run as runs
from monai_unlearnable.publishing.run import configuration
from tests import dicom
from tests.helpers import write_class_folders, write_dataset
from tests.integration.commands import as_words
from tests.integration.printed import PYTHON, ROOT, SHELL, Block, Command, blocks, in_sentences, pages
from tests.pictures import write_pictures

pytestmark = pytest.mark.usefixtures("undrawn")

# Commands that are checked for unknown options and settings alone, by what is in them, and why.
NOT_RUN = {
    "protect auto ": "tens of trainings; test_choosing.py runs it",
    "nnunetv2": "needs nnU-Net; tests/victims/test_nnunet.py runs a stand-in",
    "nnUNetv2_predict": "needs nnU-Net; tests/tracing/test_trace.py asks another command",
    "dicomweb://": "needs a PACS; tests/publishing/test_pacs.py runs one",
    "--clean OUT/fetched/studies": "needs studies of a PACS; tests/publishing/test_pacs.py",
    "model_swinvit.pt": "needs published weights; tests/victims/test_finetune.py makes its own",
    "frontier ": "an output for each epsilon; test_command_line.py runs it",
    "bundles/laboratory": "test_examiner_bundles.py runs it",
    "bundles/trace": "tests/tracing/test_trace.py runs it",
    "--length standard": "the laboratory of another block runs",
    "monai-unlearnable run LAB": "test_command_line.py runs the command of each row",
    "--workers 4": "starts processes; tests/evaluation/test_laboratory.py does",
    "--victims UNet,DynUNet": "test_command_line.py runs a smaller laboratory",
    "--victims UNet,BasicUNet,DynUNet": "the block above evaluates with one network",
}
# Statements of other programs that are not run, by how they begin, and why.
NOT_OURS = {
    "./demo.sh": "test_command_line.py runs what it runs",
    "./runtests.sh": "runs the tests",
    "./setup.sh": "makes an environment",
    "source ": "enters an environment",
    "pip ": "installs packages",
    "nnunet-env/": "installs packages",
    "python -m venv": "makes an environment",
    "docker build": "needs Docker",
    "export ": "settings of the shell",
    "eval ": "completion of the shell",
    "head=": "needs a cluster",
    "shard=": "needs a cluster",
    "[ ": "a test of the shell",
    "python benchmarks/countermeasure_strength.py": "hours of training",
    "python -m benchmarks.": "measures",
    "python -m pytest": "runs tests",
    "python -c from pathlib": "needs scans of others",
}
# Python that is not run, by what is in it, and why.
NOT_PYTHON = {
    ">>> ": "shows what a study holds",
    'protect("lattice", "dicomweb://': "needs a PACS; tests/publishing/test_pacs.py runs one",
    "read_owned(": "needs a run that skipped cases; tests/integration/test_owner_key.py",
    "separability(protected_images": "begins with arrays of the reader; tests/countermeasures/test_detectors.py",
    "load_pretrained(network": "begins with a network of the reader; tests/victims/test_finetune.py",
    "LinearSurrogate(num_classes": "begins with batches of the reader; tests/perturbers/test_linear_surrogate.py",
}
ELSEWHERE = ("docs/tutorial.md", "docs/quickstart.md")  # pages whose Python test_tutorial and test_quickstart run

# What makes Python short that a command would be told by an option.
SHORTER = {
    "[64, 64, 64]": "[24, 24, 16]",
    "iterations=500": "iterations=2",
    "iterations=2000": "iterations=2",
    "epochs=20": "epochs=1",
}
SHORTER |= dict.fromkeys(
    ("seeds=[0, 1, 2]", "seeds=3"), "part=(0, 1000), authorized=False, detectors=False, pictured=0"
)
BRIEF: dict[str, Any] = {"epochs": 1, "epoch_length": 1, "steps": 1, "horizon": 2, "advance": 1}
EXAMINED: dict[str, Any] = {"num_validations": 1, "width": 4, "iterations": 2, "part": [0, 1000]}
EXAMINED |= {"authorized": False, "detectors": False}
ASKED = {"--keys": 5, "--max-probes": 2}
STANDS_FOR = {"METHOD": "lattice", "ARCHIVE": "mine.npz", "TARGET": "new.npz"}
STANDS_FOR |= {"$DATASET": "DATASET", "$OUT": "OUT", "OUT/$shard": "OUT/001", "shards/$shard.json": "shards/001.json"}

WRITES = {"protect": "out", "apply": "out", "laboratory": "out", "frontier": "out", "restore": "destination"}
WRITES |= {"unpack": "folder", "pack": "target", "key": "file"}  # what is written, as commands call it
# The same in Python.
WRITTEN = re.compile(r'(?:(?:protect|run_bundle|Publication|restore)\(.*|save\()"(OUT|RESTORED|[\w.]+\.json)"')


def phantoms(path: Path, count: int = 4, seed: int = 0) -> None:
    write_phantom_dataset(path, count=count, test_count=2, size=(32, 24, 16), seed=seed)  # as small as BasicUNet takes


def others(path: Path) -> None:
    phantoms(path, 2, 1)


def pictures(path: Path) -> None:
    write_pictures(path, 12, 6, ("brightness",))


def several_labels(path: Path) -> None:
    write_pictures(path, 12, 6, ("brightness", "stripes"))


def numbered(path: Path) -> None:
    write_dataset(path, names=("case_01", "case_07"))


def archive(path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 255, (8, 16, 16), np.uint8)
    labels = np.arange(8, dtype=np.uint8)[:, None] % 2
    np.savez(
        path,
        **{
            f"{part}_{name}": content
            for part in ("train", "val", "test")
            for name, content in (("images", images), ("labels", labels))
        },
    )


def protected(method: str, dataset: str = "DATASET") -> Callable[[Path], None]:
    def make(path: Path) -> None:
        assert main(["protect", method, str(provided(dataset)), str(path), *as_words(_brief(method))]) == 0

    return make


def laboratory(path: Path) -> None:
    words = ["laboratory", str(provided("ORIGINALS")), str(path), "--protected", str({"umed": str(provided("OUT"))})]
    assert main([*words, *as_words(EXAMINED)]) == 0


def copy_of(source: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        provided(source.partition("/")[0])
        _copy(Path(source), path)

    return make


def key(path: Path) -> None:
    assert main(["key", "new", str(path)]) == 0


def answers(path: Path) -> None:
    """Label maps for the probes of ``trace prepare``."""
    path.mkdir()
    for probe in Path("FOLDER").rglob("*.nii.gz"):
        scan = nib.load(probe)
        voxels = np.asarray(scan.dataobj)
        found = (voxels > np.quantile(voxels, 0.8)).astype(np.uint8)
        nib.save(nib.Nifti1Image(found, scan.affine), path / probe.name)


MAKERS: dict[str, Callable[[Path], Any]] = {
    "DATASET": phantoms,
    "ORIGINALS": phantoms,
    "phantoms": phantoms,
    "DATA": write_class_folders,
    "CLASSES": write_class_folders,
    "MRI48": pictures,
    **dict.fromkeys(("TEST", "MORE_SCANS", "PROBES", "OTHER", "OTHER_CLEAN_SCANS"), others),
    **dict.fromkeys(("mine.npz", "pneumoniamnist.npz"), archive),
    "OUT": protected("umed"),
    "FIRST": protected("salm"),
    "LAB": laboratory,
    "PROTECTED": copy_of("OUT/protected"),
    "statement.json": copy_of("OUT/statement.json"),
    "models/perturber.safetensors": copy_of("OUT/models/perturber.safetensors"),
    "owner.key": key,
    "ANSWERS": answers,
}
# What a name stands for on pages where it is something else.
OWN: dict[str, dict[str, Callable[[Path], Any]]] = {
    "docs/howto/dicom.md": {"DATASET": dicom.write_dataset},
    "docs/howto/owner-key.md": {"DATASET": numbered},
    "docs/howto/transforms.md": {"OUT": protected("salm")},
    "docs/methods/hiding.md": {"DATASET": pictures},
    "docs/methods/multitask.md": {"DATASET": several_labels},
    "bundles/hiding/docs/README.md": {"DATASET": pictures},
    "bundles/multitask/docs/README.md": {"DATASET": several_labels},
}


@dataclass
class Page:
    """The folder of a page, and what the commands on it made.

    Args:
        name: the page.
        done: copies of what commands of all pages wrote, by their words and those that made what they read.
        kept: folder of the copies.
        made: how each name came about, where it was not provided.
    """

    name: str
    done: dict[Any, Path | None]
    kept: Path
    made: dict[str, Any] = field(default_factory=dict)

    def run(self, command: Command) -> None:
        """Run a command, or copy what it wrote where it was run before."""
        written = output(command)
        history = [self.made.get(name) for name in sorted(self.made) if _is_named(name, " ".join(command.words))]
        key = (self.name if self.name in OWN else "", command.words, *history)
        if key in self.done:
            earlier = self.done[key]
            if earlier is not None:
                _copy(earlier, Path(written))
        else:
            _provide(" ".join(command.words), Path(written or "/").parts[0])
            assert shortened(command).run() == 0, str(command)
            is_new = bool(written) and Path(written).exists()  # a dry run writes nothing
            self.done[key] = _copy(Path(written), self.kept / f"{len(self.done)}") if is_new else None
        if written:
            self.made[written] = key


def provided(name: str) -> Path:
    """What a name stands for, made where it is missing, in the folder of the page."""
    path = Path(name)
    if not path.exists():
        MAKERS[name](path)
    return path


def _copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return target


def _is_named(name: str, text: str) -> bool:
    return re.search(rf"(?<![\w./-]){re.escape(name)}(?![\w.-])", text) is not None


def _provide(text: str, *written: str) -> None:
    """Make all that a command or a block of Python reads."""
    for name in MAKERS:
        if name not in written and _is_named(name, text):
            provided(name)


def _brief(method: str) -> dict[str, Any]:
    known = ConfigParser.load_config_file(str(configuration(method)[0]))
    return {name: value for name, value in BRIEF.items() if name in known}


def shortened(command: Command) -> Command:
    """A command with settings behind its own that only make it short."""
    given, more = command.given(), {}
    if command.is_bundle:
        known = ConfigParser.load_config_file(str(given["config_file"]))
        more = {name: value for name, value in {**BRIEF, **EXAMINED}.items() if name in known}
    elif command.names == ["protect"]:
        more = _brief(given["method"])
    elif command.names[0] in ("evaluate", "laboratory", "frontier"):
        more = {**EXAMINED, **({} if command.names[0] == "frontier" else {"pictured": 0})}
        if "--length" in command.words:
            del more["iterations"]
    words = as_words(more)
    if command.names[0] == "trace":
        words = [word for option, value in ASKED.items() if option in command.words for word in (option, str(value))]
    return dataclasses.replace(command, words=(*command.words, *words))


def output(command: Command) -> str:
    """What a command writes; empty where it is nothing new."""
    given = command.given()
    return str(given["output_dir"] if command.is_bundle else given.get(WRITES.get(command.names[0], ""), ""))


def for_page(command: Command) -> Command:
    """A command with what stands for its names, and with files in the place of their patterns."""
    words = [STANDS_FOR.get(word, word) for word in command.words]
    found = [sorted(map(str, Path().glob(word))) if re.search(r"\*\.?|\*/", word) else [word] for word in words]
    return dataclasses.replace(command, words=tuple(word for several in found for word in several))


def run_shell(block: Block, page: Page) -> None:
    """Run a block of the shell from top to bottom."""
    statements = [for_page(each) if isinstance(each, Command) else each for each in block.commands()]
    runnable = [each for each in statements if not (isinstance(each, Command) and _reason(str(each), NOT_RUN))]
    for path in (Path(output(each)) for each in runnable if isinstance(each, Command) and output(each)):
        _remove(path)
        page.made.pop(str(path), None)
    for each in statements:
        if isinstance(each, list):
            _run_other(each)
        elif each not in runnable:
            each.check()
        else:
            page.run(each)


def _run_other(words: list[str]) -> None:
    line = " ".join(words)
    if words[:2] == ["python", "-c"] and not _reason(line, NOT_OURS):
        _provide(line)
        exec(compile(words[2], line, "exec"), {})
    elif words[0] == "cp" or words[:3] == ["python", "-m", "zipfile"]:
        _provide(line)
        program = sys.executable if words[0] == "python" else words[0]
        subprocess.run([program, *words[1:]], check=True)
    else:
        assert _reason(line, NOT_OURS), f"nothing says whether this is to be run: {line}"


def _reason(text: str, reasons: dict[str, str]) -> str:
    """Why a text is not run; empty where it is."""
    begins = reasons is NOT_OURS
    return next((why for what, why in reasons.items() if (text.startswith(what) if begins else what in text)), "")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)


def run_python(block: Block, page: Page, names: dict[str, Any]) -> None:
    """Run a block of Python with the names of the blocks before it."""
    if _reason(block.text, NOT_PYTHON):
        return
    text = block.text
    for word, shorter in SHORTER.items():
        text = text.replace(word, shorter)
    written = WRITTEN.findall(text)
    for name in written:
        _remove(Path(name))
        page.made[name] = block.text
    _provide(text, *written)
    exec(compile(text, block.place, "exec"), names)


def checkout(page: str) -> None:
    """The files of the project that a page names."""
    patterns = ["bundles/*/*/*"]
    patterns += ["*.md", "docs/**/*.md", "benchmarks/*.md"] if "evidence render" in (ROOT / page).read_text() else []
    for file in (found for pattern in patterns for found in ROOT.glob(pattern) if found.is_file()):
        _copy(file, Path(file.relative_to(ROOT)))


def write_files(page: str) -> None:
    """The files that a page prints and its commands read."""
    for block in blocks(page, "yaml"):
        for name in ("terms.yaml", "my_countermeasures.yaml"):
            if any(name in other.text for other in blocks(page, *SHELL, *PYTHON)):
                Path(name).write_text(block.text)


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Work is short where no option says so, and settings of the logging end with the test."""

    def short(method: str, config: str = "protect") -> tuple[Path, dict[str, Any]]:
        file, preset = configuration(method, config)
        return file, {**preset, **(_brief(method) if config == "protect" else {})}

    root, package = logging.getLogger(), logging.getLogger("monai_unlearnable")
    handlers, levels = list(root.handlers), (root.level, package.level)
    monkeypatch.setattr(runs, "configuration", short)
    monkeypatch.setattr(workflows, "fileConfig", lambda *words, **more: None)
    monkeypatch.setenv("MONAI_UNLEARNABLE_PASSPHRASE", "twelve grey herons")
    for name in matrix.LENGTHS:
        monkeypatch.setitem(matrix.LENGTHS, name, 2)
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, package), levels, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="module")
def done() -> dict[Any, Path | None]:
    return {}


@pytest.mark.parametrize("name", pages())
@pytest.mark.usefixtures("brief")
def test_a_page_does_as_it_says(
    name: str,
    done: dict[Any, Path | None],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for what, make in OWN.get(name, {}).items():
        monkeypatch.setitem(MAKERS, what, make)
    checkout(name)
    write_files(name)
    page, names = Page(name, done, tmp_path_factory.mktemp("kept")), {"__name__": "__main__"}
    for block in blocks(name, *SHELL, *PYTHON):
        if block.language in SHELL:
            run_shell(block, page)
        elif name not in ELSEWHERE:
            run_python(block, page, names)


def test_every_exception_is_still_needed() -> None:
    found = [block for page in pages() for block in blocks(page, *SHELL, *PYTHON)]
    shell = [each for block in found if block.language in SHELL for each in block.commands()]
    commands = [str(each) for each in shell if isinstance(each, Command)]
    lines = [" ".join(each) for each in shell if isinstance(each, list)]
    python = [block.text for block in found if block.language in PYTHON]
    assert [what for what in NOT_RUN if not any(what in text for text in commands)] == []
    assert [what for what in NOT_OURS if not any(text.startswith(what) for text in lines)] == []
    assert [what for what in (*NOT_PYTHON, *SHORTER) if not any(what in text for text in python)] == []


@pytest.mark.parametrize("name", pages())
def test_sentences_name_options_that_there_are(name: str) -> None:
    for command in in_sentences(name):
        # A sentence may name a part of a command, or its help.
        with suppress(click.MissingParameter, click.BadOptionUsage, click.exceptions.Exit):
            dataclasses.replace(command, words=tuple(STANDS_FOR.get(word, word) for word in command.words)).check()

# SPDX-License-Identifier: Apache-2.0
"""What a user installs: metadata, the image, and a clear word where an optional part is missing."""

from __future__ import annotations

import configparser
import fnmatch
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from pydicom.uid import JPEGLosslessSV1

import monai_unlearnable as mu
from monai_unlearnable.cli import main
from monai_unlearnable.data import read_scan
from monai_unlearnable.errors import InputError, ScanError
from monai_unlearnable.publishing.protect import Protection
from tests import dicom
from tests.helpers import random_image, write_dataset

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def requirements() -> dict[str, Requirement]:
    """What the package and its extras require, by name in small letters."""
    groups = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    found = [Requirement(line) for group in groups for line in lines(group)]
    return {requirement.name.lower(): requirement for requirement in found}


def test_the_versions_that_were_tried_are_among_those_that_are_required() -> None:
    required = requirements()
    pinned = [Requirement(line) for line in lines((ROOT / "constraints.txt").read_text(encoding="utf-8"))]
    assert len(pinned) > 20
    for pin in pinned:
        (version,) = (specifier.version for specifier in pin.specifier)
        assert required[pin.name.lower()].specifier.contains(version), pin.name


def test_tests_have_every_optional_part() -> None:
    extras = {name: set(lines(text)) for name, text in SETUP["options.extras_require"].items()}
    for name in ("gdcm", "tensorboard", "pacs", "lab"):
        assert extras[name] <= extras["test"], name
        assert not extras[name] & set(lines(SETUP["options"]["install_requires"])), name


def test_the_classifiers_name_the_versions_of_python_that_are_allowed() -> None:
    allowed = SpecifierSet(SETUP["options"]["python_requires"])
    named = re.findall(r"Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    assert named == ["3.10", "3.11", "3.12", "3.13"] and all(version in allowed for version in named)


def interpreter(version: str) -> Path | None:
    """An interpreter of a version of Python: on the search path, or of pyenv."""
    beside = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for place in (*beside, shutil.which(f"python{version}")):
        if place and subprocess.run([place, "--version"], capture_output=True, check=False).returncode == 0:
            return Path(place)
    return None


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13"])
def test_every_version_of_python_that_is_here_reads_the_code(version: str) -> None:
    found = interpreter(version)
    if found is None:
        pytest.skip(f"there is no Python {version}")
    code = "import pathlib, sys; [compile(f.read_bytes(), f, 'exec') for f in pathlib.Path(sys.argv[1]).rglob('*.py')]"
    done = subprocess.run(
        [found, "-W", "error", "-c", code, ROOT / "monai_unlearnable"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (cited["title"], cited["version"]) == ("monai_unlearnable", mu.__version__)
    assert cited["license"] == SETUP["metadata"]["license"]
    assert [author["name"] for author in cited["authors"]] == [SETUP["metadata"]["author"]]
    assert {"cff-version", "message", "authors", "title"} <= cited.keys(), "what the format requires"


class TestImage:
    """The Dockerfile, as far as it can be checked without building it."""

    TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    COPIED = [name for line in re.findall(r"^COPY (.+)$", TEXT, re.MULTILINE) for name in line.split()[:-1]]

    def test_what_is_copied_exists_and_is_not_ignored(self) -> None:
        kept = [line[1:] for line in lines((ROOT / ".dockerignore").read_text(encoding="utf-8")) if line[0] == "!"]
        assert all((ROOT / name).exists() for name in self.COPIED)
        assert all(any(fnmatch.fnmatch(name, pattern) for pattern in kept) for name in self.COPIED)
        needed = {"setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "monai_unlearnable", "bundles"}
        assert needed <= set(self.COPIED), "all that an installation is made of"

    def test_versions_are_those_of_the_package(self) -> None:
        (python,) = re.findall(r"^ARG PYTHON=(.+)$", self.TEXT, re.MULTILINE)
        assert f"Programming Language :: Python :: {python}" in SETUP["metadata"]["classifiers"]
        installs = re.findall(r"^RUN pip install (.+)$", self.TEXT, re.MULTILINE)
        assert len(installs) == 2 and all("--constraint constraints.txt" in line for line in installs)
        assert installs[0].endswith(" torch"), "no version of its own"
        extras = re.findall(r"\.\[(.+)\]", installs[1])[0].split(",")
        assert set(extras) <= set(SETUP["options.extras_require"])

    def test_the_command_runs_without_privileges(self) -> None:
        entry, user = self.TEXT.index('ENTRYPOINT ["monai-unlearnable"]'), self.TEXT.index("USER owner")
        assert self.TEXT.index("useradd --create-home owner") < user < entry
        assert "monai-unlearnable = " in SETUP["options.entry_points"]["console_scripts"]


def test_the_command_tells_its_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0 and mu.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "typed, completed",
    [
        ("desc", {"plain,describe"}),
        ("protect ca", {"plain,carrier"}),
        ("protect carrier D O --ep", {"plain,--epsilon"}),
        ("protect carrier D O --epsilon 8/255 --same", {"plain,--same_sign"}),
        ("protect no_such_method D O --ep", set()),
        ("evaluate O D --vic", {"plain,--victims"}),
        ("restore O D --k", {"plain,--key"}),
        ("restore ", {"file,"}),
    ],
)
def test_the_shell_completes(
    typed: str, completed: set[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = f"monai-unlearnable {typed}"
    monkeypatch.setenv("_MONAI_UNLEARNABLE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    with pytest.raises(SystemExit):
        main([])
    assert set(capsys.readouterr().out.split()) == completed


def test_pixels_that_need_gdcm_say_so_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = random_image((40, 30), "uint16")
    path = dicom.save(dicom.make_slice(image.T), tmp_path / "a.dcm", JPEGLosslessSV1)
    plain = dicom.save(dicom.make_slice(image.T), tmp_path / "b.dcm")
    monkeypatch.setitem(sys.modules, "gdcm", None)
    with pytest.raises(ScanError, match=r"a\.dcm: pixels in the form 'JPEG Lossless.*monai_unlearnable\[gdcm\]"):
        read_scan(path)
    assert (read_scan(plain).voxels[0] == image).all(), "all others need it not"


def test_without_tensorboard_there_are_no_curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, out = write_dataset(tmp_path / "data"), tmp_path / "out"
    assert Protection(data, out, 8 / 255).curves is not None
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    assert Protection(data, out, 8 / 255).curves is None
    with pytest.raises(InputError, match=r"need TensorBoard: pip install 'monai_unlearnable\[tensorboard\]'"):
        Protection(data, out, 8 / 255, curves=True)

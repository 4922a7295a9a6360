# SPDX-License-Identifier: Apache-2.0
"""Studies of a PACS are protected and stored there: against Orthanc, over a loopback port."""

from __future__ import annotations

import json
import logging
import re
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom import dcmread
from pydicom.dataset import FileDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, RLELossless

import monai_unlearnable as mu
from monai_unlearnable.cli import CHECK_FAILED, WRONG_INPUT, main
from monai_unlearnable.crypto import OwnerKey
from monai_unlearnable.errors import InputError, OutputError, ServerError, SkippedCasesError
from monai_unlearnable.publishing.pacs import fetched_studies
from tests import dicom, pacs
from tests.helpers import SHAPES, protect, random_image, tree, two_classes, write_dataset
from tests.publishing.test_archives import METHOD

STUDY = "1.2.826.0.2"
LIBRARIES = ("dicomweb_client", "requests", "retrying", "urllib3")
_numbers = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pacs.Orthanc]:
    """A PACS that holds a study of somebody else."""
    with pacs.running(tmp_path_factory.mktemp("orthanc")) as found:
        found.upload(*write_study(tmp_path_factory.mktemp("other") / "study").files)
        yield found


@pytest.fixture
def orthanc(server: pacs.Orthanc) -> Iterator[pacs.Orthanc]:
    """A PACS without what other tests left, all of which would be looked through again and again."""
    before = server.studies()
    yield server
    server.remove(server.studies() - before)


@pytest.fixture
def proxy(orthanc: pacs.Orthanc) -> Iterator[pacs.Proxy]:
    with pacs.Proxy(orthanc) as found:
        yield found


@pytest.fixture(autouse=True)
def login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MONAI_UNLEARNABLE_DICOMWEB_USER", pacs.USER)
    monkeypatch.setenv("MONAI_UNLEARNABLE_DICOMWEB_PASSWORD", pacs.PASSWORD)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def method(tmp_path: Path) -> Path:
    """A method's configuration that takes a datalist."""
    path = tmp_path / "bundle/configs/protect.yaml"
    path.parent.mkdir(parents=True)
    text = METHOD.replace("output_dir: .\n", "output_dir: .\ndatalist: null\n")
    path.write_text(
        text.replace("  output_dir: '@output_dir'\n", "  output_dir: '@output_dir'\n  datalist: '@datalist'\n")
    )
    (path.parent / "metadata.json").write_text("{}")
    return path


def write_study(folder: Path, shape: tuple[int, ...] = SHAPES[3]) -> SimpleNamespace:
    """A study of a CT and an MR series and a segmentation of each, with UIDs that no other study has."""
    number = next(_numbers)
    study, series = f"{STUDY}.{number}", [f"{STUDY}.{number}.{index}" for index in (1, 2)]
    for index, (modality, syntax) in enumerate({"CT": ExplicitVRLittleEndian, "MR": RLELossless}.items()):

        def rename(position: int, ds: FileDataset, index: int = index, modality: str = modality) -> None:
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series[index]}.{position + 1}"
            if modality == "MR":
                ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = MRImageStorage

        tags = {"StudyInstanceUID": study, "SeriesInstanceUID": series[index], "Modality": modality}
        person = {"PatientID": f"P{number}", "PatientName": "Doe^Jane"}
        voxels = random_image(shape, "int16", index)
        dicom.write_series(folder / modality, voxels, 12, syntax, change=rename, **tags, **person)

        def name(ds: FileDataset, index: int = index) -> None:
            ds.SeriesInstanceUID = f"{series[index]}.0"
            ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"{series[index]}.0.1"

        dicom.write_seg(folder / modality, folder / f"{modality}.seg.dcm", two_classes(shape), change=name)
    listed = [{"image": f"{study}/{uid}", "label": f"{study}/{uid}.0/{uid}.0.1.dcm"} for uid in series]
    (folder / "list.json").write_text(json.dumps({"training": listed}))
    files = sorted(path for path in folder.rglob("*.dcm"))
    return SimpleNamespace(uid=study, series=series, files=files, datalist=folder / "list.json", patient=f"P{number}")


@pytest.fixture
def study(orthanc: pacs.Orthanc, tmp_path: Path) -> SimpleNamespace:
    """A study in the PACS."""
    found = write_study(tmp_path / "study")
    orthanc.upload(*found.files)
    return found


def by_uid(files: dict[str, bytes]) -> dict[str, FileDataset]:
    return {ds.SOPInstanceUID: ds for ds in (dcmread(BytesIO(content)) for content in files.values())}


def published(out: Path) -> dict[str, FileDataset]:
    return by_uid({name: file for name, file in tree(out / "protected").items() if name != "datalist.json"})


Fails = Callable[[int, Sequence[str]], str]


@pytest.fixture
def fails(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Fails:
    """Runs a command that ends with a code, and gives the only line that it prints; libraries log nothing."""

    def run(code: int, command: Sequence[str]) -> str:
        capsys.readouterr()
        caplog.clear()
        assert main(command) == code
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        assert not [record for record in caplog.records if record.name.split(".")[0] in LIBRARIES]
        return lines[0]

    return run


def test_from_a_pacs_and_back(
    orthanc: pacs.Orthanc, study: SimpleNamespace, method: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, out = orthanc.content(), tmp_path / "out"
    address = f"{orthanc.address}?StudyInstanceUID={study.uid}"
    assert main(["protect", str(method), address, str(out)]) == 0
    fetched = tree(out / "fetched/studies")
    assert sorted(fetched.values()) == sorted(file.read_bytes() for file in study.files), "byte for byte"
    assert all(name.startswith(f"{study.uid}/") and name.count("/") == 2 for name in fetched)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=out / "fetched", check=True)
    capsys.readouterr()
    assert main(["publish", str(out), orthanc.address]) == 0
    files = published(out)
    assert capsys.readouterr().out == f"published: {len(files)} instances stored, 0 were there; all read back equal\n"
    after = orthanc.content()
    assert {name: after[name] for name in before} == before, "originals are as they were"
    added = by_uid({name: after[name] for name in after.keys() - before.keys()})
    assert added.keys() == files.keys() and len(files) == 2 * SHAPES[3][2] + 2
    originals = by_uid(before)
    for uid, ds in files.items():
        assert added[uid].PixelData == ds.PixelData and added[uid].StudyInstanceUID == study.uid
    changed = {ds.PixelData for ds in files.values()} - {ds.PixelData for ds in originals.values()}
    assert len(changed) == 2 * SHAPES[3][2], "every slice, and no segmentation"
    assert main(["publish", str(out), orthanc.address]) == 0
    assert f"0 instances stored, {len(files)} were there" in capsys.readouterr().out
    assert orthanc.content() == after
    mu.verify(out, out / "fetched/studies")
    mu.restore(out, tmp_path / "back")
    restored = tree(tmp_path / "back")
    assert all(fetched[name] == content for name, content in restored.items() if name.startswith(study.series[0]))


def test_what_an_address_names_is_fetched(orthanc: pacs.Orthanc, study: SimpleNamespace, tmp_path: Path) -> None:
    others = write_study(tmp_path / "others")
    orthanc.upload(*others.files)

    def fetched(query: str) -> set[str]:
        out = tmp_path / str(next(_numbers))
        with fetched_studies(f"{orthanc.address}?{query}", out) as folder:
            return {path.relative_to(folder).as_posix() for path in folder.rglob("*.dcm")}

    one, two = (fetched(f"StudyInstanceUID={each.uid}") for each in (study, others))
    assert len(one) == len(two) == len(study.files) and not one & two
    assert fetched(f"StudyInstanceUID={study.uid}&StudyInstanceUID={others.uid}") == one | two
    assert fetched(f"PatientID={others.patient}") == two
    of_series = fetched(f"StudyInstanceUID={study.uid}&SeriesInstanceUID={study.series[0]}")
    assert of_series == {name for name in one if f"/{study.series[0]}/" in name}
    for query, named in {
        f"StudyInstanceUID={study.uid}.9": f"there is no study {study.uid}.9",
        f"StudyInstanceUID={study.uid}&SeriesInstanceUID=1.2.9": r"there is no series 1\.2\.9",
        "PatientID=nobody": "there is no study of that PatientID",
        f"StudyInstanceUID={study.uid}&PatientID=nobody": "there is no study",
    }.items():
        with pytest.raises(ServerError, match=rf"^127\.0\.0\.1:{orthanc.port}: {named}"):
            fetched(query)
    assert not (tmp_path / str(next(_numbers) - 1)).exists(), "nothing is written before anything is found"
    with pytest.raises(InputError, match="names no study"):
        fetched("")


def test_a_server_may_send_results_in_pages(
    proxy: pacs.Proxy, study: SimpleNamespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.fault = lambda method, path: "pages" if path.partition("?")[0].endswith(("series", "instances")) else None
    with fetched_studies(f"{proxy.address}?StudyInstanceUID={study.uid}", tmp_path) as folder:
        assert len(tree(folder)) == len(study.files)
    assert "there is more" not in caplog.text, "texts of a server are not printed"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("cut", "the connection was cut"),
        ("cut, unseen", "the connection was cut"),
        ("lost", "the connection was cut"),
        ("500", "the server answers 500 Internal Server Error"),
        ("html", "is the path of the address right"),
        ("redirect", "the server points to another place"),
    ],
)
def test_a_fetch_goes_on_where_it_stopped(
    proxy: pacs.Proxy,
    study: SimpleNamespace,
    method: Path,
    tmp_path: Path,
    fault: str,
    reason: str,
    fails: Fails,
) -> None:
    address, out = f"{proxy.address}?StudyInstanceUID={study.uid}", tmp_path / "out"
    command = ["protect", str(method), address, str(out), "--datalist", str(study.datalist)]
    proxy.fault = once(fault, "GET", 7)
    line = fails(WRONG_INPUT, command)
    assert f"127.0.0.1:{proxy.server_port}: cannot fetch instance " in line and reason in line and "boom" not in line
    left = [path for path in out.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".dcm" for path in left) == 7 and not [p for p in left if p.suffix == ".part"]
    assert not (out / "protected").exists()
    proxy.seen.clear()
    proxy.fault = lambda method, path: None
    assert main(command) == 0
    assert sum(is_file(path) for _, path in proxy.seen) == len(study.files) - 7, "what is there is not fetched again"
    assert sorted(tree(out / "fetched/studies").values()) == sorted(file.read_bytes() for file in study.files)
    assert published(out)


def is_file(path: str) -> bool:
    return "/instances/" in path


def once(fault: str, method: str, number: int) -> pacs.Fault:
    """A fault of one request alone: of those that send a file, counted from 0."""
    calls = count()
    sends = ("POST",) if method == "POST" else ()
    return lambda name, path: (
        fault if name == method and (name in sends or is_file(path)) and next(calls) == number else None
    )


@pytest.mark.parametrize("fault", ["500", "html", "outside", "cut", "lost"])
def test_a_search_that_fails_leaves_nothing(
    proxy: pacs.Proxy, study: SimpleNamespace, tmp_path: Path, fault: str
) -> None:
    proxy.fault = lambda method, path: fault
    with (
        pytest.raises(ServerError, match=rf"^127\.0\.0\.1:{proxy.server_port}: cannot search for series") as caught,
        fetched_studies(f"{proxy.address}?StudyInstanceUID={study.uid}", tmp_path / "out"),
    ):
        pass
    assert "\n" not in str(caught.value) and "x" not in str(caught.value).split("cannot")[0]
    assert not (tmp_path / "out").exists()


def test_an_instance_that_was_not_asked_for_is_refused(
    proxy: pacs.Proxy, study: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_study(tmp_path / "other")
    proxy.orthanc.upload(*other.files)
    proxy.fault = lambda method, path: f"as {other.uid}/" if is_file(path) else None
    with (
        pytest.raises(ServerError, match="cannot fetch instance .*: the answer is not that"),
        fetched_studies(f"{proxy.address}?StudyInstanceUID={study.uid}", tmp_path / "out"),
    ):
        pass
    assert not list((tmp_path / "out").rglob("*.dcm"))


def test_what_was_changed_or_is_of_another_study_is_not_used(
    orthanc: pacs.Orthanc, study: SimpleNamespace, tmp_path: Path
) -> None:
    address = f"{orthanc.address}?StudyInstanceUID={study.uid}"
    with fetched_studies(address, tmp_path / "out") as folder:
        good = tree(folder)
    name = next(iter(good))
    (folder / name).write_bytes(good[name][:-1])
    with pytest.raises(OutputError, match="not as it was fetched"), fetched_studies(address, tmp_path / "out"):
        pass
    with fetched_studies(address, tmp_path / "out", overwrite=True):
        assert tree(folder) == good
    sums = (tmp_path / "out/fetched/SHA256SUMS").read_text()
    (folder / sums.splitlines()[-1].partition("  studies/")[2]).unlink()  # as if killed between line and file
    (tmp_path / "out/fetched/SHA256SUMS").write_text(sums[:-40])
    with fetched_studies(address, tmp_path / "out"):
        assert tree(folder) == good
    assert (tmp_path / "out/fetched/SHA256SUMS").read_text() == sums
    half = f"{address}&SeriesInstanceUID={study.series[0]}"
    with pytest.raises(OutputError, match="this output is of"), fetched_studies(half, tmp_path / "out"):
        pass
    with fetched_studies(half, tmp_path / "out", overwrite=True):
        assert tree(folder) == {name: content for name, content in good.items() if f"/{study.series[0]}/" in name}


def test_with_a_key_originals_do_not_stay(
    orthanc: pacs.Orthanc, study: SimpleNamespace, method: Path, tmp_path: Path
) -> None:
    key, out = OwnerKey.generate(), tmp_path / "out"
    address = f"{orthanc.address}?StudyInstanceUID={study.uid}"
    mu.protect(method, address, out, key=key, datalist=str(study.datalist))
    assert not (out / "fetched").exists() and (out / "protected").is_dir()
    assert mu.publish(out, orthanc.address).stored == len(study.files)


def test_with_a_key_originals_do_not_stay_where_cases_were_skipped(
    orthanc: pacs.Orthanc, study: SimpleNamespace, tmp_path: Path
) -> None:
    address, out = f"{orthanc.address}?StudyInstanceUID={study.uid}", tmp_path / "out"
    with pytest.raises(SkippedCasesError), fetched_studies(address, out, key=OwnerKey.generate()) as studies:
        assert studies.is_dir()
        raise SkippedCasesError("a case was skipped")
    assert not (out / "fetched").exists()


def test_a_dry_run_with_a_key_leaves_what_it_fetched(
    orthanc: pacs.Orthanc, study: SimpleNamespace, method: Path, tmp_path: Path
) -> None:
    address, out, key = f"{orthanc.address}?StudyInstanceUID={study.uid}", tmp_path / "out", OwnerKey.generate()
    mu.plan(method, address, out, key=key, datalist=str(study.datalist))
    assert len(list((out / "fetched/studies").rglob("*.dcm"))) == len(study.files)
    mu.protect(method, address, out, key=key, datalist=str(study.datalist))
    assert not (out / "fetched").exists()


@pytest.mark.parametrize("place", ["environment", "address", "netrc"])
def test_passwords_are_taken_and_never_written(
    orthanc: pacs.Orthanc,
    study: SimpleNamespace,
    method: Path,
    tmp_path: Path,
    place: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    service, right = orthanc.address, pacs.PASSWORD
    for password, code in (("wrong-sesame", WRONG_INPUT), (right, 0)):
        if place != "environment":
            monkeypatch.delenv("MONAI_UNLEARNABLE_DICOMWEB_USER", raising=False)
        if place == "environment":
            monkeypatch.setenv("MONAI_UNLEARNABLE_DICOMWEB_PASSWORD", password)
        elif place == "address":
            service = orthanc.address.replace("://", f"://{pacs.USER}:{password}@")
        else:
            (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login {pacs.USER} password {password}\n")
            monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        out = tmp_path / f"out{code}"
        command = ["protect", str(method), f"{service}?StudyInstanceUID={study.uid}", str(out)]
        with caplog.at_level(logging.DEBUG):
            assert main([*command, "--datalist", str(study.datalist)]) == code
        said = capsys.readouterr()
        if code:
            assert "user or password is wrong or missing (401)" in said.err and said.err.count("\n") == 1
            assert f"127.0.0.1:{orthanc.port}" in said.err and not out.exists()
        texts = [said.out, said.err, caplog.text, *map(str, tree(tmp_path / "out0").values())]
        assert not any(password in text for text in texts)
        if not code:
            assert (out / "fetched/source.txt").read_text() == f"{orthanc.address}?StudyInstanceUID={study.uid}\n"


def test_publish_repeated_stores_what_is_missing(
    orthanc: pacs.Orthanc,
    proxy: pacs.Proxy,
    study: SimpleNamespace,
    method: Path,
    tmp_path: Path,
    fails: Fails,
) -> None:
    out, originals = tmp_path / "out", orthanc.content()
    mu.protect(method, f"{orthanc.address}?StudyInstanceUID={study.uid}", out, datalist=str(study.datalist))
    for fault, reason in (
        (once("500", "POST", 3), "cannot store instance .*: the server answers 500"),
        (once("refused", "POST", 3), "cannot store instance .*: the server refuses it, with the failure reason A700h"),
        (once("lost", "POST", 3), "cannot store instance .*: the connection was cut"),  # after it was stored
        (once("cut", "GET", 4), "cannot fetch instance .*: the connection was cut"),
    ):
        proxy.fault = fault
        line = fails(WRONG_INPUT, ["publish", str(out), proxy.address])
        assert re.search(reason, line)
    proxy.fault = lambda method, path: None
    there = len(orthanc.content()) - len(originals)
    assert 6 < there < len(study.files)
    done = mu.publish(out, proxy.address)
    assert (done.stored, done.known, done.omitted) == (len(study.files) - there, there, ())
    after = orthanc.content()
    assert {name: after[name] for name in originals} == originals
    added = by_uid({name: after[name] for name in after.keys() - originals.keys()})
    assert {uid: ds.PixelData for uid, ds in added.items()} == {u: ds.PixelData for u, ds in published(out).items()}
    assert {method for method, _ in proxy.seen} == {"GET", "POST"}, "nothing is deleted or replaced"


def test_other_content_under_a_uid_is_an_error_and_stays(
    orthanc: pacs.Orthanc,
    study: SimpleNamespace,
    method: Path,
    tmp_path: Path,
    fails: Fails,
) -> None:
    out = tmp_path / "out"
    mu.protect(method, f"{orthanc.address}?StudyInstanceUID={study.uid}", out, datalist=str(study.datalist))
    file = next(path for path in sorted((out / "protected").rglob("*.dcm")) if path.parent.name == study.series[0])
    ds = dcmread(file)
    ds.PixelData = ds.PixelData[::-1]
    ds.save_as(tmp_path / "other.dcm")
    orthanc.upload(tmp_path / "other.dcm")
    before = orthanc.content()
    line = fails(CHECK_FAILED, ["publish", str(out), orthanc.address])
    assert "other content under this UID" in line and str(file) in line
    assert orthanc.content() == before


def test_what_is_read_back_otherwise_is_found(
    proxy: pacs.Proxy, study: SimpleNamespace, method: Path, tmp_path: Path, fails: Fails
) -> None:
    out = tmp_path / "out"
    address = f"{proxy.address}?StudyInstanceUID={study.uid}&SeriesInstanceUID={study.series[0]}"
    study.datalist.write_text(json.dumps({"training": [{"image": f"{study.uid}/{study.series[0]}", "label": 0}]}))
    mu.protect(method, address, out, datalist=str(study.datalist))
    proxy.fault = once("other pixels", "GET", 2)
    line = fails(CHECK_FAILED, ["publish", str(out), proxy.address])
    assert "the server returns other content than was stored" in line


def test_series_without_a_label_are_fetched_and_passed_over(
    orthanc: pacs.Orthanc, method: Path, tmp_path: Path, fails: Fails
) -> None:
    study = write_study(tmp_path / "study")
    orthanc.upload(*(file for file in study.files if file.name != "MR.seg.dcm"))
    address, out = f"{orthanc.address}?StudyInstanceUID={study.uid}", tmp_path / "out"
    manifest = mu.protect(method, address, out)
    assert [entry.scan_id for entry in manifest.scans] == [f"{study.uid}/{study.series[0]}"]
    assert mu.publish(out, orthanc.address).stored == SHAPES[3][2] + 1
    command = ["protect", str(method), f"{address}&SeriesInstanceUID={study.series[1]}", str(tmp_path / "unlabeled")]
    line = fails(WRONG_INPUT, command)
    assert study.series[1] in line and not (tmp_path / "unlabeled/protected").exists()
    (tmp_path / "unlabeled/fetched/studies/datalist.json").write_text(
        json.dumps({"training": [{"image": f"{study.uid}/{study.series[1]}", "label": 0}]})
    )
    assert main(command) == 0


def test_series_that_were_protected_are_not_protected_again(
    orthanc: pacs.Orthanc, study: SimpleNamespace, method: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    address, out = f"{orthanc.address}?StudyInstanceUID={study.uid}", tmp_path / "out"
    mu.protect(method, address, out, datalist=str(study.datalist))
    mu.publish(out, orthanc.address)
    added = {ds.SeriesInstanceUID for ds in published(out).values()} - {f"{uid}.0" for uid in study.series}
    caplog.clear()
    mu.protect(method, address, out, datalist=str(study.datalist), overwrite=True)
    assert {path.parent.name for path in (out / "fetched").rglob("*.dcm")} & added == set()
    assert all(any(f"series {uid} is protected already" in text for text in caplog.messages) for uid in added)
    with fetched_studies(f"{address}&SeriesInstanceUID={min(added)}", tmp_path / "named") as folder:
        assert len(tree(folder)) == SHAPES[3][2]


def test_only_what_the_statement_says_is_stored(
    proxy: pacs.Proxy, study: SimpleNamespace, method: Path, tmp_path: Path, fails: Fails
) -> None:
    out = tmp_path / "out"
    mu.protect(method, f"{proxy.address}?StudyInstanceUID={study.uid}", out, datalist=str(study.datalist))
    (out / "protected/notes.txt").write_text("mine")
    proxy.seen.clear()
    line = fails(CHECK_FAILED, ["publish", str(out), proxy.address])
    assert "notes.txt: extra" in line and not proxy.seen
    protect(write_dataset(tmp_path / "nifti"), tmp_path / "other")
    line = fails(WRONG_INPUT, ["publish", str(tmp_path / "other"), proxy.address])
    assert "a.nii.gz: not in the file format of DICOM" in line and not proxy.seen
    line = fails(WRONG_INPUT, ["publish", str(out), f"{proxy.address}?StudyInstanceUID=1.2"])
    assert "names no study" in line
    line = fails(WRONG_INPUT, ["publish", str(tmp_path), proxy.address])
    assert "there is no statement; publish a complete output" in line and not proxy.seen


def test_a_label_that_is_not_dicom_is_named(
    orthanc: pacs.Orthanc, study: SimpleNamespace, method: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, out = f"{orthanc.address}?StudyInstanceUID={study.uid}&SeriesInstanceUID={study.series[0]}", tmp_path / "o"
    image = f"{study.uid}/{study.series[0]}"
    study.datalist.write_text(json.dumps({"training": [{"image": image, "label": "labels/ct.nii.gz"}]}))
    with fetched_studies(address, out) as folder:
        dicom.write_label(folder / image, folder / "labels/ct.nii.gz", two_classes(SHAPES[3]))
    mu.protect(method, address, out, datalist=str(study.datalist))
    capsys.readouterr()
    assert main(["publish", str(out), orthanc.address]) == 0
    assert "not DICOM, and not stored: labels/ct.nii.gz" in capsys.readouterr().out


def test_encryption_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Fails) -> None:
    certificate = write_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with ThreadingHTTPServer(("127.0.0.1", 0), Silent) as server:
        plain = server.socket
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        place = f"localhost:{server.server_port}"
        command = ["protect", "lattice", f"dicomweb://{place}/dicom-web?StudyInstanceUID=1.2", str(tmp_path / "out")]
        line = fails(WRONG_INPUT, command)
        assert "no encrypted connection" in line and place in line
        server.socket = context.wrap_socket(plain, server_side=True)
        line = fails(WRONG_INPUT, command)
        assert "its certificate is not trusted: self-signed certificate" in line and place in line
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        line = fails(WRONG_INPUT, command)
        assert "the server answers 501 Not Implemented" in line, "it is trusted, and knows no DICOMweb"
        server.shutdown()
    line = fails(WRONG_INPUT, command)
    assert "no connection: Connection refused" in line
    assert not (tmp_path / "out").exists()


class Silent(BaseHTTPRequestHandler):
    """Knows no request, and prints nothing."""

    def log_message(self, *_: object) -> None:
        pass


def write_certificate(folder: Path) -> Path:
    """A certificate of localhost that only itself vouches for, with its key."""
    secret, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=localhost")
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, secret.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
        .add_extension(x509.BasicConstraints(True, None), True)
        .sign(secret, hashes.SHA256())
    )
    path, kind = folder / "certificate.pem", serialization.PrivateFormat.PKCS8
    pem = serialization.Encoding.PEM
    content = secret.private_bytes(pem, kind, serialization.NoEncryption()) + certificate.public_bytes(pem)
    path.write_bytes(content)
    return path


@pytest.mark.data
def test_real_series_from_a_pacs_and_back(orthanc: pacs.Orthanc, real_data: Path, method: Path, tmp_path: Path) -> None:
    folder = real_data / "dicom" / "mr_oblique_512x512x22"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    files = sorted(folder.glob("*.dcm"))
    first = dcmread(files[0], stop_before_pixels=True)
    orthanc.upload(*files)
    before, out = orthanc.content(), tmp_path / "out"
    listed = [{"image": f"{first.StudyInstanceUID}/{first.SeriesInstanceUID}", "label": 0}]
    (tmp_path / "list.json").write_text(json.dumps({"training": listed}))
    query = f"StudyInstanceUID={first.StudyInstanceUID}&SeriesInstanceUID={first.SeriesInstanceUID}"
    mu.protect(method, f"{orthanc.address}?{query}", out, datalist=str(tmp_path / "list.json"))
    assert mu.publish(out, orthanc.address).stored == len(files) == 22
    after, protected = orthanc.content(), published(out)
    assert {name: after[name] for name in before} == before
    added = by_uid({name: after[name] for name in after.keys() - before.keys()})
    assert added.keys() == protected.keys()
    assert all(added[uid].PixelData == ds.PixelData for uid, ds in protected.items())

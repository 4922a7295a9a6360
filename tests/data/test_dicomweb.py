# SPDX-License-Identifier: Apache-2.0
"""Addresses of studies: what they mean, and what is refused."""

from __future__ import annotations

import sys

import pytest

from monai_unlearnable.data.dicomweb import Address, Server, is_address
from monai_unlearnable.errors import InputError

HOST = "pacs.example:8042/dicom-web"


@pytest.mark.parametrize(
    ("text", "service", "written"),
    [
        (f"dicomweb://{HOST}", f"https://{HOST}", f"dicomweb://{HOST}"),
        (f"dicomwebs://{HOST}/", f"https://{HOST}", f"dicomweb://{HOST}"),
        (f"dicomweb+https://{HOST}", f"https://{HOST}", f"dicomweb://{HOST}"),
        (f"DICOMweb+HTTP://{HOST}", f"http://{HOST}", f"dicomweb+http://{HOST}"),
        ("dicomweb://pacs.example", "https://pacs.example", "dicomweb://pacs.example"),
    ],
)
def test_a_connection_is_encrypted_unless_http_is_said(text: str, service: str, written: str) -> None:
    address = Address.parse(text)
    assert address.service == service and str(address) == written
    query = "StudyInstanceUID=1.2&StudyInstanceUID=1.3&SeriesInstanceUID=1.2.4&PatientID=a+b%2F"
    address = Address.parse(f"{text}?{query}")
    assert (address.studies, address.series, address.patient) == (("1.2", "1.3"), ("1.2.4",), "a b/")
    assert str(address) == f"{written}?{query}" and Address.parse(str(address)) == address


def test_a_password_is_shown_nowhere() -> None:
    address = Address.parse(f"dicomweb://me:s%40cret@{HOST}?StudyInstanceUID=1.2")
    assert address.login == ("me", "s@cret") and address.host == "pacs.example:8042"
    assert "cret" not in f"{address}{address!r}{address.service}"
    for wrong in ("dicomweb://me:secret@pacs.example:x", "dicomweb://me:secret@", f"http://me:secret@{HOST}"):
        with pytest.raises(InputError) as caught:
            Address.parse(wrong)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"http://{HOST}", "http:// is not an address of studies"),
        (f"dicomweb+ftp://{HOST}", "is not an address of studies"),
        ("dicomweb:///dicom-web", "no name of a host"),
        ("dicomweb://[::1]/dicom-web", "no name of a host"),
        ("dicomweb://pacs.example:99999/", "cannot be read"),
        (f"dicomweb://{HOST}?StudyInstanceUID=../../x", "'../../x' is not a UID"),
        (f"dicomweb://{HOST}?StudyInstanceUID={'1' * 65}", "is not a UID"),
        (f"dicomweb://{HOST}?StudyInstanceUID=", "is not a UID"),
        (f"dicomweb://{HOST}?PatientID=*", "the id of one patient"),
        (f"dicomweb://{HOST}?PatientID=1&PatientID=2", "the id of one patient"),
        (f"dicomweb://{HOST}?studyinstanceuid=1.2", "asks for studyinstanceuid; known are StudyInstanceUID"),
        (f"dicomweb://{HOST}?1.2", "cannot be read"),
    ],
)
def test_what_is_no_address_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason.replace("*", r"\*")):
        Address.parse(text)


def test_paths_are_no_addresses() -> None:
    for path in ("scans", "/data/scans", "./dicomweb:", r"C:\scans", "C://scans", "a.npz"):
        assert not is_address(path)
    assert is_address("dicomweb://x") and is_address("s3://bucket")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dicomweb_client", None)
    with pytest.raises(InputError, match=r"pip install 'monai_unlearnable\[pacs\]'"):
        Server(Address.parse(f"dicomweb://{HOST}"))

# SPDX-License-Identifier: Apache-2.0
"""DICOMweb: addresses of studies in a PACS, and the server there, which searches, sends and stores instances.

Needs the extra ``pacs``. What a server answers is checked before it is used: UIDs become names of files.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from pydicom import dcmread

from monai_unlearnable.errors import InputError, ServerError

__all__ = ["Address", "Instance", "Server", "identify", "is_address"]

SCHEMES = {"dicomweb": "https", "dicomwebs": "https", "dicomweb+https": "https", "dicomweb+http": "http"}
STUDY, SERIES, INSTANCE, PATIENT = "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"
TAGS = {STUDY: "0020000D", SERIES: "0020000E", INSTANCE: "00080018", PATIENT: "00100020"}
FAILED, REASON = "00081198", "00081197"
LOGIN = ("MONAI_UNLEARNABLE_DICOMWEB_USER", "MONAI_UNLEARNABLE_DICOMWEB_PASSWORD")
BEARER = "MONAI_UNLEARNABLE_DICOMWEB_TOKEN"
NOTHING = "there is no {}, you may not see it, or the path of the address is wrong"
PATIENCE = 120  # seconds without a byte
UID = re.compile(r"(?=.{1,64}\Z)[0-9]+(\.[0-9]+)*")
DICOM, JSON = "application/dicom", "application/dicom+json"


def is_address(dataset: str | Path) -> bool:
    """Whether a dataset is given as an address rather than as a folder or file."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(dataset)) is not None


class Instance(NamedTuple):
    """The UIDs of one DICOM file."""

    study: str
    series: str
    uid: str

    @property
    def path(self) -> PurePosixPath:
        """Its place among fetched files: a folder for each study, and in it one for each series."""
        return PurePosixPath(self.study, self.series, f"{self.uid}.dcm")


@dataclass(frozen=True)
class Address:
    """A DICOMweb service, and the studies there that are meant.

    Args:
        service: URL of the service, without user and password.
        studies: UIDs of studies.
        series: UIDs of their series; all if there are none.
        patient: id of the patient whose studies are meant.
        login: user and password that were written into the address.
    """

    service: str
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    patient: str | None = None
    login: tuple[str, str] | None = field(default=None, repr=False)

    @property
    def host(self) -> str:
        """Host and port."""
        return urlsplit(self.service).netloc

    def __str__(self) -> str:
        """The address without user and password."""
        scheme, _, rest = self.service.partition("://")
        wanted = [*((STUDY, uid) for uid in self.studies), *((SERIES, uid) for uid in self.series)]
        query = urlencode([*wanted, *([] if self.patient is None else [(PATIENT, self.patient)])])
        return f"dicomweb{'+http' if scheme == 'http' else ''}://{rest}{'?' if query else ''}{query}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read ``dicomweb://HOST[:PORT]/PATH?StudyInstanceUID=UID``, where studies and series may be several.

        ``dicomweb://`` means https; http is only used where ``dicomweb+http://`` says so.

        Raises:
            InputError: when it is no such address. Its text is not repeated, since it may hold a password.
        """
        scheme, mark, rest = text.partition("://")
        if scheme.lower() not in SCHEMES:
            known = "dicomweb:// (encrypted, https) or dicomweb+http:// (not encrypted)"
            begins = f"{scheme}:// is not an address of studies; they begin" if mark else "an address of studies begins"
            raise InputError(f"{begins} with {known}")
        try:
            parts = urlsplit(f"{SCHEMES[scheme.lower()]}://{rest}")
            host, port = parts.hostname, parts.port
            found = parse_qs(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
        except ValueError:  # its text may hold a password too
            raise InputError("the address of the studies cannot be read; a character may need %XX") from None
        if not host or not re.fullmatch(r"[A-Za-z0-9._-]+", host) or parts.fragment:
            raise InputError("the address has no name of a host: dicomweb://HOST[:PORT]/PATH?StudyInstanceUID=UID")
        if others := sorted(found.keys() - {STUDY, SERIES, PATIENT}):
            raise InputError(f"{host}: the address asks for {others[0]}; known are {STUDY}, {SERIES} and {PATIENT}")
        for name in (STUDY, SERIES):
            if wrong := [uid for uid in found.get(name, ()) if not UID.fullmatch(uid)]:
                raise InputError(f"{host}: {wrong[0]!r} is not a UID, for {name}")
        patients = found.get(PATIENT, [None])
        if len(patients) > 1 or (patients[0] is not None and not re.fullmatch(r"[^*?\\]+", patients[0])):
            raise InputError(f"{host}: {PATIENT} is the id of one patient, without * and ?")
        login = None if parts.username is None else (unquote(parts.username), unquote(parts.password or ""))
        service = f"{parts.scheme}://{host}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"
        studies, series = (tuple(dict.fromkeys(found.get(name, ()))) for name in (STUDY, SERIES))
        return cls(service, studies, series, patients[0], login)


class Server:
    """A DICOMweb server.

    User and password are those of the address, else of the environment, else of the file that ``NETRC`` names or of
    ``~/.netrc``. Redirections are not followed: they would lead to a place that the user did not name.

    Args:
        address: address of the service; which studies it names does not matter.

    Attributes:
        host: host and port.

    Raises:
        InputError: when the extra ``pacs`` is not installed.
    """

    def __init__(self, address: Address) -> None:
        try:
            import requests
            from dicomweb_client import DICOMwebClient
        except ImportError:
            raise InputError("dicomweb-client is not installed: pip install 'monai_unlearnable[pacs]'") from None
        self._service, self.host = address.service, address.host
        self._session = requests.Session()
        self._session.auth = _authorization(address)
        self._session.max_redirects = 0
        self._client = DICOMwebClient(address.service, self._session, timeout=PATIENCE)
        self._client.set_http_retry_params(retry=False)

    def find(self, address: Address) -> list[Instance]:
        """The instances that an address names, in the order of their UIDs.

        Raises:
            InputError: when the address names neither study nor patient.
            ServerError: when there are none, or the server fails.
        """
        if not address.studies and address.patient is None:
            raise InputError(f"{self.host}: the address names no study: add ?{STUDY}=UID, or ?{PATIENT}=ID")
        found = []
        for study in address.studies if address.patient is None else self._studies(address):
            for uid in sorted(self._search(f"series of {study}", self._client.search_for_series, SERIES, study)):
                if not address.series or uid in address.series:
                    found += [Instance(study, uid, instance) for instance in self.instances(study, uid)]
        seen = {uid for instance in found for uid in instance}
        series, studies = ([uid for uid in uids if uid not in seen] for uids in (address.series, address.studies))
        if missing := [*(f"series {uid}" for uid in series), *(f"study {uid}" for uid in studies)]:
            raise ServerError(f"{self.host}: {NOTHING.format(missing[0])}")
        if not found:
            raise ServerError(f"{self.host}: {NOTHING.format(f'study of that {PATIENT}')}")
        return found

    def _studies(self, address: Address) -> list[str]:
        """The studies of a patient; servers that pass over a filter would send those of others."""
        filters = {PATIENT: address.patient}
        found = self._search("studies", self._client.search_for_studies, STUDY, search_filters=filters)
        patients = [value for study in found.values() if (value := _value(study, PATIENT)) is not None]
        wanted = str(address.patient).strip().casefold()
        if any(str(patient).strip().casefold() != wanted for patient in patients):
            raise ServerError(f"{self.host}: cannot search for studies: the answer names other patients")
        return sorted(uid for uid in found if not address.studies or uid in address.studies)

    def instances(self, study: str, series: str) -> list[str]:
        """The UIDs of the instances of a series; none where the server knows no such series."""
        find = self._client.search_for_instances
        return sorted(self._search(f"instances of series {series}", find, INSTANCE, study, series))

    def _search(
        self, what: str, find: Callable[..., Sequence[Any]], name: str, *where: str, **filters: Any
    ) -> dict[str, Any]:
        """The results of a search by UID. Servers send as many as they like at once: ask on until nothing new comes."""
        from requests import HTTPError

        found: dict[str, Any] = {}
        with self._asking(f"cannot search for {what}"):
            while True:
                try:
                    page = find(*where, **filters, **({"offset": len(found)} if found else {}))
                except HTTPError as error:
                    if _status(error) != HTTPStatus.NOT_FOUND:
                        raise
                    page = ()
                new = {str(_value(result, name)): result for result in page}
                if not all(map(UID.fullmatch, new)):
                    raise ValueError(f"no {name}")
                if not new.keys() - found.keys():
                    return found
                found |= new

    def fetch(self, instance: Instance) -> bytes:
        """The file of an instance, every byte as the server has it.

        The library would parse the file and write it anew.

        Raises:
            ServerError: when the server fails, or sends something else.
        """
        kind = f'multipart/related; type="{DICOM}"; transfer-syntax=*'
        accepted = {"Accept": kind, "Accept-Encoding": "identity"}  # pixels hardly become smaller
        url = f"{self._service}/studies/{instance.study}/series/{instance.series}/instances/{instance.uid}"
        with self._asking(f"cannot fetch instance {instance.uid}"):
            response = self._session.get(url, headers=accepted, timeout=PATIENCE)
            response.raise_for_status()
            content = _only_part(response.content, response.headers.get("Content-Type", ""))
            if identify(content) != instance:
                raise ValueError("another instance")
            return content

    def store(self, content: bytes) -> None:
        """Add a file to the studies of the server.

        Raises:
            ServerError: when the server fails or refuses it.
        """
        what = f"cannot store instance {identify(content).uid}"
        boundary = hashlib.sha256(content).hexdigest()
        body = f"--{boundary}\r\nContent-Type: {DICOM}\r\n\r\n".encode() + content + f"\r\n--{boundary}--\r\n".encode()
        headers = {"Content-Type": f'multipart/related; type="{DICOM}"; boundary={boundary}', "Accept": JSON}
        with self._asking(what):
            response = self._session.post(f"{self._service}/studies", body, headers=headers, timeout=PATIENCE)
            response.raise_for_status()
            answer = response.json() if JSON in response.headers.get("Content-Type", "") else {}
            if failed := answer.get(FAILED, {}).get("Value"):
                code = int(failed[0].get(REASON, {}).get("Value", [0])[0])
                raise ServerError(f"{self.host}: {what}: the server refuses it, with the failure reason {code:04X}h")

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Turn whatever happens on the way into one error. Texts of the server are not repeated."""
        from requests import HTTPError, RequestException

        try:
            with _hushed():
                yield
        except HTTPError as error:
            raise ServerError(f"{self.host}: {what}: {_refusal(_status(error))}") from error
        except (RequestException, EOFError) as error:
            raise ServerError(f"{self.host}: {what}: {_cause(error)}") from error
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            reason = "the answer is not that of a DICOMweb service; is the path of the address right?"
            raise ServerError(f"{self.host}: {what}: {reason}") from error


def identify(file: bytes | Path) -> Instance:
    """The UIDs of a file in DICOM's file format.

    Args:
        file: content or path of the file.

    Raises:
        ValueError: when it is none, or a UID is missing or not of the right form.
    """
    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        header = dcmread(source, stop_before_pixels=True, specific_tags=[STUDY, SERIES, INSTANCE])
        uids = [str(header[name].value) for name in (STUDY, SERIES, INSTANCE)]
    except Exception as error:  # whatever pydicom raises for damaged content
        raise ValueError("no DICOM file") from error
    if not all(map(UID.fullmatch, uids)):
        raise ValueError("not a UID")
    return Instance(*uids)


@contextmanager
def _hushed() -> Iterator[None]:
    """No log lines of the libraries: tracebacks of what becomes one error here, and texts of the server."""
    loggers = [logging.getLogger(name) for name in ("dicomweb_client.web", "retrying", "urllib3.connectionpool")]
    try:
        for logger in loggers:
            logger.addFilter(_nothing)
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:
    return False


def _value(result: Any, name: str) -> Any:
    """The value of an element of DICOM JSON; None where there is none."""
    values = result.get(TAGS[name], {}).get("Value")
    return values[0] if values else None


def _only_part(body: bytes, content_type: str) -> bytes:
    """The content of a message of one part, which must be complete; some servers send it bare."""
    kind, *parameters = (part.strip() for part in content_type.split(";"))
    if kind.lower() == DICOM:
        return body
    boundary = next((p[9:].strip('"') for p in parameters if p.lower().startswith("boundary=")), "")
    head, separator, content = body.partition(b"\r\n\r\n")
    end = f"\r\n--{boundary}--".encode()
    if kind.lower() != "multipart/related" or not boundary or not separator or not head.strip().startswith(end[2:-2]):
        raise ValueError("not a message of one part")
    if not content.rstrip(b"\r\n").endswith(end):
        raise EOFError("the end is missing")
    return content[: content.rindex(end)]


def _authorization(address: Address) -> Any:
    """User and password, or a token; None leaves it to ``requests`` to look into the file of ``NETRC``."""
    user, password = (os.environ.get(name) for name in LOGIN)
    token = os.environ.get(BEARER)
    if address.login is not None:
        return address.login
    if token is None:
        return None if user is None else (user, password or "")

    def authorize(request: Any) -> Any:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return authorize


def _status(error: Any) -> int:
    return int(error.response.status_code)


def _refusal(status: int) -> str:
    """What a status says, with what helps."""
    if status == HTTPStatus.UNAUTHORIZED:
        return f"user or password is wrong or missing (401); set {' and '.join(LOGIN)}, or {BEARER}"
    if status == HTTPStatus.FORBIDDEN:
        return "this user may not do that (403)"
    known = {code.value: code.phrase for code in HTTPStatus}
    return f"the server answers {status} {known.get(status, '')}".rstrip()


def _cause(error: BaseException) -> str:
    """Why a request got no answer, from the first error in its chain."""
    from requests import TooManyRedirects

    if isinstance(error, TooManyRedirects):
        return "the server points to another place, which is not followed; give that address"
    if isinstance(error, ValueError):  # what is no JSON, or no URL
        return "the answer is not that of a DICOMweb service; is the path of the address right?"
    while error.__context__ is not None:
        error = error.__context__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}; REQUESTS_CA_BUNDLE names a file of authorities"
    if isinstance(error, ssl.SSLError):
        return f"no encrypted connection: {error.reason or error.strerror}; without encryption it is dicomweb+http://"
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE} seconds"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection: {error.strerror}"
    return "the connection was cut"

# SPDX-License-Identifier: Apache-2.0
"""A PACS to test with: Orthanc on a loopback port, and a proxy before it that makes mistakes."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import requests

PROGRAM = shutil.which("Orthanc") or "/usr/sbin/Orthanc"
PLACES = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"), Path("/usr/lib/orthanc"))
PLUGIN = next((found for place in PLACES for found in place.glob("libOrthancDicomWeb.so*")), None)
USER, PASSWORD = "doctor", "open-sesame"
SECONDS = 30


@dataclass(frozen=True)
class Orthanc:
    """A running PACS, asked by its own interface and not by DICOMweb."""

    port: int

    @property
    def address(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.port}/dicom-web"

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        url = f"http://127.0.0.1:{self.port}{path}"
        plain = {"Accept-Encoding": "identity"}
        answer = requests.request(method, url, auth=(USER, PASSWORD), headers=plain, timeout=SECONDS, **more)
        answer.raise_for_status()
        return answer

    def upload(self, *files: Path) -> None:
        for file in files:
            assert self.ask("POST", "/instances", data=file.read_bytes()).json()["Status"] == "Success"

    def studies(self) -> set[str]:
        """Every study by the name that Orthanc gave it."""
        return set(self.ask("GET", "/studies").json())

    def remove(self, studies: set[str]) -> None:
        for name in studies:
            self.ask("DELETE", f"/studies/{name}")

    def content(self) -> dict[str, bytes]:
        """Every file by the name that Orthanc gave it."""
        names = self.ask("GET", "/instances").json()
        return {name: self.ask("GET", f"/instances/{name}/file").content for name in names}


@contextmanager
def running(folder: Path) -> Iterator[Orthanc]:
    """Orthanc with its DICOMweb plugin and an empty storage; skips the test where it is not installed."""
    if PLUGIN is None or not Path(PROGRAM).is_file():
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (Debian: orthanc, orthanc-dicomweb)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": port,
        "HttpBindAddresses": ["127.0.0.1"],
        "DicomServerEnabled": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(settings))
    command = [PROGRAM, "--no-jobs", str(folder / "orthanc.json")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "Orthanc has started" in line:
                break
        else:
            pytest.fail(f"Orthanc did not start: {''.join(said)}")
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield Orthanc(port)
        finally:
            process.kill()  # its storage is thrown away


# What a proxy does with a request of method and path: None passes it on.
Fault = Callable[[str, str], str | None]


class Proxy(ThreadingHTTPServer):
    """Passes requests on to a PACS, but for those that ``fault`` names a mishap for."""

    daemon_threads = True

    def __init__(self, orthanc: Orthanc) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.orthanc, self.seen = orthanc, list[tuple[str, str]]()
        self.fault: Fault = lambda method, path: None

    @property
    def address(self) -> str:
        return f"dicomweb+http://127.0.0.1:{self.server_port}/dicom-web"

    def __enter__(self) -> Proxy:
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Proxy
    REPLIES: ClassVar[dict[str, tuple[int, dict[str, str], bytes]]] = {
        "500": (500, {"Content-Type": "text/html"}, b"<h1>boom</h1>"),
        "html": (200, {"Content-Type": "text/html"}, b"<h1>Welcome</h1>"),
        "refused": (
            200,
            {"Content-Type": "application/dicom+json"},
            b'{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [42752]}}]}}',
        ),
        "redirect": (302, {"Location": "http://127.0.0.1:1/elsewhere"}, b""),
        "outside": (
            200,
            {"Content-Type": "application/dicom+json"},
            json.dumps([{tag: {"vr": "UI", "Value": ["../../x"]} for tag in ("0020000E", "00080018")}]).encode(),
        ),
    }

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._pass_on("GET")

    def do_POST(self) -> None:
        self._pass_on("POST")

    def _pass_on(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(method, self.path)
        self.server.seen.append((method, self.path))
        if fault in self.REPLIES:
            return self._answer(*self.REPLIES[fault])
        path = self.path
        if fault == "pages":
            path += ("&" if "?" in path else "?") + "limit=2"
        if fault is not None and fault.startswith("as "):
            path = f"/dicom-web/studies/{fault[3:]}"
        link = http.client.HTTPConnection("127.0.0.1", self.server.orthanc.port, timeout=SECONDS)
        dropped = ("host", "accept-encoding") if fault == "cut, unseen" else ("host",)
        link.request(method, path, body, {k: v for k, v in self.headers.items() if k.lower() not in dropped})
        response = link.getresponse()
        content, headers = response.read(), dict(response.getheaders())
        link.close()
        if fault == "pages":
            headers["Warning"] = '299 pacs "there is more"'
        if fault == "other pixels":
            content = content[:-200] + bytes(byte ^ 1 for byte in content[-200:-150]) + content[-150:]
        if fault == "lost":
            return None
        if fault == "cut":
            return self._answer(response.status, headers, content[: len(content) // 2])
        if fault == "cut, unseen":
            headers = {name: value for name, value in headers.items() if name != "Content-Length"}
            return self._answer(response.status, headers, content[: len(content) // 2])
        return self._answer(response.status, headers, content)

    def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("connection", "keep-alive", "transfer-encoding"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

# SPDX-License-Identifier: Apache-2.0
"""A browser that tests look at pages with: Chromium without a window, spoken to in its DevTools protocol over pipes.

Nothing but Chromium is needed, no driver of it. https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
SECONDS = 120.0  # for one answer, on a machine that is busy
OPTIONS = ["--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--hide-scrollbars"]
EXAMINE = Path(__file__).with_name("examine.js").read_text(encoding="utf-8")
# The protocol is spoken on file descriptors 3 and 4.
PIPED = 'exec "$@" 3<&0 4>&1 0</dev/null 1>&2'

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=f"no Chromium on this machine: none of {', '.join(NAMES)}")


class Browser:
    """One process of Chromium.

    Args:
        process: the process, whose input and output are the protocol.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self._rest, self._number = process, b"", 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **arguments: Any) -> dict[str, Any]:
        """The result of a command; events that come before it are kept in :attr:`events`."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": arguments}
        if session is not None:
            message["sessionId"] = session
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(message).encode() + b"\0")
        self.process.stdin.flush()
        for answer in self._messages():
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)
        raise AssertionError(f"{method}: Chromium ended")

    def _messages(self) -> Iterator[dict[str, Any]]:
        assert self.process.stdout is not None
        pipe, end = self.process.stdout.fileno(), time.monotonic() + SECONDS
        while True:
            while b"\0" not in self._rest:
                ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
                assert ready, f"Chromium gave no answer within {SECONDS:.0f} seconds"
                if not (content := os.read(pipe, 1 << 20)):
                    return
                self._rest += content
            message, self._rest = self._rest.split(b"\0", 1)
            yield json.loads(message)

    def open(self, page: Path, width: int = 1280, height: int = 800, touch: bool = False) -> Tab:
        """A page in a tab of its own, once it is loaded. It has the functions of ``examine.js`` beside its own.

        Args:
            page: file of the page.
            width: width of the window, in pixels.
            height: height of the window, in pixels.
            touch: whether the screen takes fingers.
        """
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        tab = Tab(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            tab.call(f"{domain}.enable")
        tab.call("Performance.enable", timeDomain="threadTicks")
        tab.resize(width, height)
        tab.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=EXAMINE)
        tab.call("Page.navigate", url=page.as_uri())
        tab.run("new Promise((done) => document.readyState === 'complete' ? done() : addEventListener('load', done))")
        return tab


class Tab:
    """One page, and what a reader does with it.

    Args:
        browser: the browser.
        target: what the protocol calls the tab.
        session: what it calls the connection to it.
    """

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session

    def close(self) -> None:
        """Close the tab."""
        self.browser.call("Target.closeTarget", targetId=self.target)

    def call(self, method: str, **arguments: Any) -> dict[str, Any]:
        """The result of a command that concerns this page."""
        return self.browser.call(method, self.session, **arguments)

    def run(self, expression: str) -> Any:
        """The value of an expression in the page, once it is known."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def resize(self, width: int, height: int = 800) -> None:
        """Give the window a size, in pixels."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, scheme: str = "light", medium: str = "screen") -> None:
        """Show the page to a reader who wants a light or dark one, on a screen or on paper."""
        self.call(
            "Emulation.setEmulatedMedia",
            media=medium,
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.frame()

    def frame(self) -> None:
        """Let the page draw what was asked for."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def press(self, key: str, text: str = "") -> None:
        """Press a key: the element that has the focus gets it."""
        what = {"key": key, "code": key, "text": text, "windowsVirtualKeyCode": CODES.get(key, 0)}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, **what)
        self.frame()

    def click(self, selector: str) -> None:
        """Click into the middle of the first element of a selector."""
        x, y = self.middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
        self.frame()

    def drag(self, selector: str, across: float, along: float) -> None:
        """Drag from the middle of an element with the mouse, so many pixels."""
        x, y = self.middle(selector)
        steps = (("mousePressed", 0.0), ("mouseMoved", 0.5), ("mouseMoved", 1.0), ("mouseReleased", 1.0))
        for kind, part in steps:
            place = {"x": x + part * across, "y": y + part * along}
            self.call("Input.dispatchMouseEvent", type=kind, **place, button="left", buttons=1, clickCount=1)
        self.frame()

    def swipe(self, selector: str, across: float) -> None:
        """Swipe sideways over the middle of an element with a finger, so many pixels."""
        x, y = self.middle(selector)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x - across / 2, "y": y}])
        for part in (-0.25, 0.0, 0.25, 0.5):
            self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": x + part * across, "y": y}])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
        self.frame()

    def middle(self, selector: str) -> tuple[float, float]:
        """The middle of the first element of a selector, in pixels of the window, once it is scrolled into sight."""
        place = f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{ block: "center" }});
            const box = element.getBoundingClientRect();
            return [box.x + box.width / 2, box.y + box.height / 2];
        }})()"""
        x, y = self.run(place)
        return x, y

    def tree(self) -> list[dict[str, Any]]:
        """The page as readers hear it: elements with role, name and further properties."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        return [
            {
                "role": node["role"]["value"],
                "name": node.get("name", {}).get("value", ""),
                **{entry["name"]: entry["value"].get("value") for entry in node.get("properties", ())},
            }
            for node in nodes
            if not node["ignored"]
        ]

    def work(self) -> float:
        """Processor seconds of the page's main thread so far, whatever else the machine does."""
        found = self.call("Performance.getMetrics")["metrics"]
        return next(entry["value"] for entry in found if entry["name"] == "TaskDuration")

    def picture(self, selector: str | None = None) -> bytes:
        """A PNG of the whole page, or of one element."""
        area = f"document.querySelector({json.dumps(selector or 'html')}).getBoundingClientRect()"
        box = self.run(f"(() => {{ const b = {area}; return [b.x + scrollX, b.y + scrollY, b.width, b.height]; }})()")
        clip = {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(found["data"])

    @property
    def complaints(self) -> list[str]:
        """What the console says: errors, warnings, and all else that was logged."""
        self.run("0")  # events that were under way are here now
        found = []
        for event in self.browser.events:
            if event.get("sessionId") != self.session:
                continue
            if event["method"] == "Log.entryAdded":
                found.append(event["params"]["entry"]["text"])
            elif event["method"] == "Runtime.exceptionThrown":
                found.append(event["params"]["exceptionDetails"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(event["params"]["args"]))
        return found

    @property
    def requests(self) -> list[str]:
        """Addresses that were loaded, but for those that hold their content."""
        self.run("0")
        urls = [
            event["params"]["request"]["url"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]


CODES = {
    "Backspace": 8,
    "Tab": 9,
    " ": 32,
    "PageUp": 33,
    "PageDown": 34,
    "End": 35,
    "Home": 36,
    "ArrowUp": 38,
    "ArrowDown": 40,
}


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with its profile in a folder; it has ended afterwards."""
    assert CHROMIUM is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium refuses its sandbox to root
    words = [CHROMIUM, *OPTIONS, *sandbox, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with open(folder / "chromium.log", "wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", PIPED, "sh", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        browser = Browser(process)
        try:
            yield browser
        finally:
            try:
                browser.call("Browser.close")
                process.wait(SECONDS)
            finally:
                process.kill()

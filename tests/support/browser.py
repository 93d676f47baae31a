"""A real browser for tests: headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None) or (
    shutil.which("google-chrome")
)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium or Chrome on the PATH, and there is none"
)
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
]


class Browser:
    """One page of a browser; its methods wait for what they ask."""

    def __init__(self, port: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._last = 0
        self.errors: list[str] = []
        """What the page complained about: exceptions, console errors, failed requests."""
        self._loop.run_until_complete(self._connect(port))
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    async def _connect(self, port: int) -> None:
        self._session = aiohttp.ClientSession()
        address = f"http://127.0.0.1:{port}/json/new?about:blank"
        async with self._session.put(address) as answer:
            target = json.loads(await answer.text())
        self._socket = await self._session.ws_connect(
            target["webSocketDebuggerUrl"], max_msg_size=0
        )

    def close(self) -> None:
        async def ended() -> None:
            await self._socket.close()
            await self._session.close()

        self._loop.run_until_complete(ended())
        self._loop.close()

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        return self._loop.run_until_complete(asyncio.wait_for(self._call(method, params), 60))

    async def _call(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive()).data)
            if message.get("id") == self._last:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        found = message.get("params", {})
        match message.get("method"):
            case "Runtime.exceptionThrown":
                self.errors.append(str(found["exceptionDetails"].get("text")))
            case "Runtime.consoleAPICalled" if found["type"] in ("error", "assert"):
                self.errors.append(" ".join(str(a.get("value")) for a in found["args"]))
            case "Log.entryAdded" if found["entry"]["level"] == "error":
                self.errors.append(found["entry"]["text"])

    def look(self, *, width: int, height: int, dark: bool = False, phone: bool = False) -> None:
        """Set the size of the window and what the person prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, address: str) -> None:
        # A change of the fragment alone would load nothing.
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        found = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never became true: {condition}\n{self.text()}"
            time.sleep(0.2)

    def text(self) -> str:
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def screenshot(self, path: Path) -> None:
        data = self.call("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A fresh browser, whose profile lies in the folder; it ends with all its children."""
    assert CHROMIUM is not None
    process = subprocess.Popen(
        [CHROMIUM, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        known = folder / "profile" / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (known.is_file() and known.read_text().count("\n")):
            assert process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser did not start"
            time.sleep(0.1)
        page = Browser(int(known.read_text().split()[0]))
        try:
            yield page
        finally:
            page.close()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()

"""Headless Chromium for the tests: start it, serve a folder, note what goes wrong."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

LOOK = Path(__file__).parents[2] / "runs/look"  # screenshots
# what is wrong with the part of a page that a selector names, in sentences
CHECKS = Path(__file__).with_name("look.js").read_text(encoding="utf-8")
# folds opened, mathematics set, pictures there
READY = """async () => {
  document.querySelectorAll('details').forEach((fold) => { fold.open = true; });
  await window.MathJax?.startup?.promise;
  await Promise.all([...document.images].map((image) => {
    image.loading = 'eager';
    return image.decode().catch(() => {});
  }));
}"""
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def chromium() -> str:
    """The path of an installed Chromium; without one the test is skipped."""
    if found := next(filter(None, map(shutil.which, CHROMIUM)), None):
        return found
    pytest.skip("no Chromium: install it (Debian and Ubuntu: apt install chromium)")


@contextmanager
def launch() -> Iterator[Browser]:
    """A browser that reaches nothing but this machine; its sandbox is off for root."""
    alone = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    path = chromium()
    with sync_playwright() as tools:
        browser = tools.chromium.launch(executable_path=path, chromium_sandbox=not root,
                                        args=alone)
        yield browser
        browser.close()


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, over connections that stay open; prints nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing: what failed is read in the browser."""


class Server(ThreadingHTTPServer):
    """Serves many files at once; a browser may hang up when its page is closed."""

    def handle_error(self, *_: object) -> None:
        """Say nothing, for the same reason."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """The address, with no slash at its end, under which `folder` is served."""
    with Server(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def watch(page: Page, base: str, ignore: tuple[str, ...] = ()) -> list[str]:
    """A list that fills with the page's troubles: errors, failures, foreign requests.

    What contains a text of `ignore` is left out.
    """
    troubles: list[str] = []

    def note(kind: str, text: str) -> None:
        if not any(harmless in text for harmless in ignore):
            troubles.append(f"{kind}: {text}")

    def console(message: ConsoleMessage) -> None:
        if message.type == "error":
            note("console", f"{message.text} ({message.location['url']})")

    def request(asked: Request) -> None:
        here = (base, base.replace("http", "ws"), "data:", "blob:")
        if not asked.url.startswith(here):
            note("another host", asked.url)

    page.on("pageerror", lambda error: note("page error", str(error)))
    page.on("console", console)
    page.on("request", request)
    page.on("requestfailed", lambda r: note("failed", f"{r.url} {r.failure}"))
    page.on("response", lambda r: r.status < 400 or note(f"HTTP {r.status}", r.url))
    return troubles

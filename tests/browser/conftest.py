"""One browser for all tests of this folder: a process can hold only one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

SWITCHES = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip


@pytest.fixture(scope="session")
def chromium(pytestconfig: pytest.Config) -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make browser installs it")
    found = pytestconfig.getoption("--chromium") or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium on the PATH: install one (apt-get install chromium), or name it with --chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=SWITCHES)
        yield browser
        browser.close()

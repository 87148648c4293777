"""Pages in a real browser: the mark `in_browser`, and how pytest-playwright starts it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

import pytest

CHROMIUM = os.environ.get("STEADYPIX_CHROMIUM") or shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
in_browser = pytest.mark.skipif(
    CHROMIUM is None or importlib.util.find_spec("pytest_playwright") is None,
    reason="needs pytest-playwright and chromium (Debian: apt-get install chromium; or STEADYPIX_CHROMIUM)",
)


@pytest.fixture(scope="session")
def base_url() -> None:
    """None; the plugin's own fixture of this name warns of its definition, and warnings are errors."""


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """Debian's chromium instead of a download of Playwright's."""
    return {"executable_path": CHROMIUM, "args": FLAGS}

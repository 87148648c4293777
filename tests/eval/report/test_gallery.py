"""The page of a translated split: its text, and what a browser makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from steadypix.eval.report.gallery import Shown, write_gallery
from tests.eval.conftest import in_browser

COUNT = 30
L1 = [0.01 * ((7 * number) % COUNT) for number in range(COUNT)]


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """Thirty pictures with names that a page or an address could trip over."""
    shown = []
    for number, distance in enumerate(L1):
        name = f"a #{number} <i> 50%?"
        files = [("input", f"input/{name}.png"), ("output", f"{name}.png"), ("target", f"target/{name}.png")]
        for _, file in files:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            Image.fromarray(np.full((60, 90, 3), 5 * number, np.uint8)).save(tmp_path / file)
        shown.append(Shown(name, files, 90, 60, distance))
    return write_gallery(tmp_path, "net", [("direction", "AtoB")], shown)


def test_equal_pictures_give_equal_bytes_and_without_targets_nothing_is_ordered(
    gallery: Path, tmp_path: Path
) -> None:
    text = gallery.read_text()
    assert "<i>" not in text
    assert f"{sum(L1) / COUNT:.4f}" in text
    alone = tmp_path / "alone"
    pictures = [Shown("a", [("input", "input/a.png"), ("output", "a.png")], 4, 4)]
    first = write_gallery(alone, "net", [], pictures).read_bytes()
    assert write_gallery(alone, "net", [], pictures).read_bytes() == first
    assert b"<select" not in first
    assert b"L1" not in first.split(b"<script>")[0]


@in_browser
@pytest.mark.parametrize("width", [1200, 390])
def test_it_works_from_a_folder_on_a_wide_and_on_a_narrow_screen(
    gallery: Path, page: Any, width: int
) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_viewport_size({"width": width, "height": 700})
    page.goto(gallery.as_uri())
    page.wait_for_load_state("load")
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # Pictures far below have not been asked for yet.
    pictures = [url for url in requests if url.endswith(".png")]
    assert 3 <= len(pictures) < 3 * COUNT
    shown = "[...document.querySelectorAll('li:first-child img')].map(i => [i.naturalWidth, i.clientWidth])"
    for natural, seen in page.evaluate(shown):
        assert natural == 90
        assert seen > 150
    page.evaluate("document.querySelectorAll('img')[3 * 29].scrollIntoView()")
    for _ in range(500):  # the page's policy forbids what `wait_for_function` waits by
        if page.evaluate("document.querySelectorAll('img')[3 * 29].naturalWidth") == 90:
            break
        page.wait_for_timeout(20)
    else:
        pytest.fail("a picture that was scrolled to was not loaded")
    order = "[...document.querySelectorAll('li')].map(card => Number(card.dataset.l1))"
    page.select_option("#order", "worst")
    assert page.evaluate(order) == sorted(L1, reverse=True)
    page.select_option("#order", "best")
    assert page.evaluate(order) == sorted(L1)
    page.select_option("#order", "name")
    assert page.evaluate(order) == L1


def test_help_of_the_report_loads_no_measure() -> None:
    script = (
        "import sys, contextlib\nfrom steadypix.eval.report.__main__ import main\n"
        "with contextlib.suppress(SystemExit): main(['--help'])\n"
        "loaded = {'numpy', 'jinja2', 'steadypix.eval.measure.registry'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr

"""The calibration table: its rows with the peers that are here, and what it says of those that are not."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks import calibration
from benchmarks.calibration import MissingError, Peers, Row, compare, difference, main, page

NONE = Peers(None, None)


def test_difference_is_the_largest_of_equal_shapes() -> None:
    assert difference(torch.tensor([1.0, 2.0, -4.0]), torch.tensor([1.5, 2.0, -3.0])) == 1.0
    assert difference(3.0, 2.5) == 0.5
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        difference(torch.zeros(2), torch.zeros(3))


def test_peers_that_are_not_here(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no-such-peer is not installed"):
        NONE.package("no-such-peer", "no_such_peer")
    with pytest.raises(MissingError, match=r"stylegan3/metrics/equivariance\.py is not in --peers"):
        Peers(tmp_path, None).source("stylegan3", "metrics/equivariance.py")


def test_a_source_file_is_imported_with_its_commit(tmp_path: Path) -> None:
    file = tmp_path / "some-project" / "models" / "nets.py"
    file.parent.mkdir(parents=True)
    file.write_text("ANSWER = 42\n")
    (tmp_path / "some-project" / "COMMIT").write_text("abc1234\n")
    module, version = Peers(tmp_path, None).source("some-project", "models/nets.py")
    assert (module.ANSWER, version) == (42, "abc1234")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PSNR", "SSIM", "consistency"])
def test_what_means_the_same_is_the_same(name: str) -> None:
    """Beside the peers that the tests have installed: scikit-image and torchmetrics."""
    try:
        rows = list(calibration.COMPARISONS[name](NONE))
    except MissingError as error:
        pytest.skip(str(error))
    alike = [row for row in rows if not row.why]
    assert alike
    for row in alike:
        assert row.largest is not None
        assert row.largest < 1e-5, row  # torchmetrics takes the logarithm of a peak in single precision


def test_the_page_says_what_differs_and_what_was_not_run() -> None:
    rows = [
        Row("a layer", "peer", "1.2", "2 x 3", 1e-15),
        Row("a measure", "peer", "1.2", "2 x 3", 0.25, "dB", "theirs has another window"),
        Row("a network", "", why="nowhere is not in --peers"),
    ]
    text = page(rows, "2.6.0")
    assert "| a layer | peer | 1.2 | 2 x 3 | 1.0e-15 |" in text
    assert "| a measure | peer | 1.2 | 2 x 3 | 2.5e-01 dB | theirs has another window |" in text
    assert "- a network: nowhere is not in --peers" in text
    assert "largest difference of 1 rows is 1.0e-15" in text
    assert "torch 2.6.0" in text
    assert "are excerpts of one file each" in text


def test_a_missing_peer_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def absent(peers: Peers) -> object:
        raise MissingError("it is not installed")

    def here(peers: Peers) -> list[Row]:
        return [Row("layer", "peer", "1", "1 x 1", float("inf"), "dB", "capped")]

    monkeypatch.setattr(calibration, "COMPARISONS", {"gone": absent, "here": here})
    assert compare(NONE)[0] == Row("gone", "", why="it is not installed")
    main(["--out", str(tmp_path / "page.md")])
    figures = json.loads((tmp_path / "page.json").read_text())
    assert [row["largest"] for row in figures["rows"]] == [None, "Infinity"]
    assert "it is not installed" in (tmp_path / "page.md").read_text()


def test_the_committed_page_is_of_these_comparisons() -> None:
    """docs/calibration.md is what docs/calibration.json gives, and equal rows are equal."""
    docs = Path(__file__).parents[2] / "docs"
    kept = json.loads((docs / "calibration.json").read_text())
    rows = [Row(**{**row, "largest": row["largest"] and float(row["largest"])}) for row in kept["rows"]]
    text = (docs / "calibration.md").read_text()
    assert text == page(rows, kept["torch"])
    assert len(rows) > 15
    for row in rows:
        if row.largest is not None and not row.why:
            assert row.largest < 1e-4, row
            assert row.version
    assert not re.search(r"/(work|tmp|home)/", text)

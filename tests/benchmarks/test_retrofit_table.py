"""The table of the retrofit says what was found, what was changed, and why the rest was not."""

from __future__ import annotations

import pytest

from benchmarks.retrofit import main
from tests.conftest import REPOSITORY


def test_rows_are_those_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--only", "PatchDiscriminator"])
    printed = capsys.readouterr().out.splitlines()
    documented = (REPOSITORY / "docs" / "retrofit.md").read_text(encoding="utf-8").splitlines()
    assert len(printed) == 3
    assert all(line in documented for line in printed)
    assert "3 PatchDiscriminator layer 1/2" in printed[2]

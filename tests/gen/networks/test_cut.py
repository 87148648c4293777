"""CUT's ResNet generator by itself; `test_published.py` compares it with the published graph."""

from __future__ import annotations

import pytest
import torch

from steadypix.gen.networks.cut import CutResnetGenerator


def network(**words: object) -> CutResnetGenerator:
    torch.manual_seed(0)
    return CutResnetGenerator(**{"ngf": 3, "n_blocks": 1, **words}).double().eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("resampling", [("blur", "blur"), ("blur", "strided"), ("strided", "blur")])
def test_a_circular_network_moves_with_its_input(resampling: tuple[str, str]) -> None:
    """By the stride, 4 px, exactly."""
    sampling, upsampling = resampling
    x = torch.rand(1, 3, 32, 24, dtype=torch.float64) * 2 - 1
    circular = network(padding="circular", sampling=sampling, upsampling=upsampling)
    with torch.no_grad():
        moved, expected = circular(x.roll((4, 8), (2, 3))), circular(x).roll((4, 8), (2, 3))
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-12)
    with torch.no_grad():
        assert (network()(x.roll(4, 3)) - network()(x).roll(4, 3)).abs().max() > 1e-6


def test_any_size_is_kept() -> None:
    for size in ((8, 8), (21, 34), (13, 9)):
        with torch.no_grad():
            assert network()(torch.zeros(2, 3, *size, dtype=torch.float64)).shape == (2, 3, *size)


def test_unknown_names() -> None:
    for words in (
        {"sampling": "preblur"},
        {"upsampling": "blur_late"},
        {"padding": "same"},
        {"norm": "layer"},
    ):
        with pytest.raises(ValueError, match="is unknown; expected one of"):
            network(**words)

"""A run in strips that is interrupted and gone on with, to the bit; and what a run costs, counted before."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from steadypix import ResnetGenerator, UNetGenerator
from steadypix.budget import available_bytes, resident_bytes
from steadypix.errors import InputError
from steadypix.files import write_text
from steadypix.gen.large import maps
from steadypix.gen.large.cost import count, largest_that_fits, memory_bytes
from steadypix.gen.large.frozen import blank_statistics, freeze, gather, looking_norms, with_frozen
from steadypix.gen.large.journal import Journal, Record
from steadypix.gen.large.sampled import SHARE, mosaic, sample_places, window_for
from steadypix.gen.large.strips import Strips, output_map, run_in_strips
from steadypix.gen.large.workspace import Workspace

STRIP, KEEP = 6000, 4000


class Interrupted(Exception):
    """Stands for a kill."""


def picture(height: int = 128, width: int = 72) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def networks() -> dict[str, Callable[[], nn.Module]]:
    return {
        "blur": lambda: UNetGenerator(ngf=4, num_downs=3, sampling="blur"),
        "strided": lambda: UNetGenerator(ngf=4, num_downs=3, sampling="strided", norm="group"),
        "late": lambda: UNetGenerator(ngf=4, num_downs=3, sampling="blur_late", texture="anchored", head=4),
        "resnet": lambda: ResnetGenerator(ngf=4, n_blocks=1),
    }


def run(network: nn.Module, x: Tensor, folder: Path | None, stop_after: int = 10**9) -> tuple[Tensor, int]:
    """The output, and how many strips of stored maps were made for it; every strip of all counts to stop."""
    made = 0

    def step(strips: int) -> None:
        nonlocal made
        made += strips
        if made >= stop_after:
            raise Interrupted

    journal = None if folder is None else Journal(folder)
    workspace = Workspace(strip_samples=STRIP, keep_samples=KEEP, journal=journal)
    workspace.made = step
    if journal is None:
        return torch.cat(list(run_in_strips(network, x, workspace)), dim=2), made
    with journal:
        return torch.cat(list(run_in_strips(network, x, workspace)), dim=2), made


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    return networks()[name]().eval()


@pytest.mark.parametrize("name", networks())
def test_interrupted_anywhere_the_output_is_the_same_to_the_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "GROUP_STRIPS", 2)
    network, x = make(name), picture()
    expected, total = run(network, x, tmp_path / "whole")
    assert not list((tmp_path / "whole").glob("*.map")), "maps that nobody needs are removed"
    torch.testing.assert_close(expected, run(network, x, None)[0], rtol=0, atol=1e-5)
    for stop in np.linspace(1, total - 1, 7).astype(int):
        folder = tmp_path / str(stop)
        with pytest.raises(Interrupted):
            run(network, x, folder, stop)
        found, _ = run(network, x, folder)
        assert torch.equal(found, expected)


def test_interrupted_again_and_again_it_comes_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is made is not made again, but for the group that was cut."""
    monkeypatch.setattr(maps, "GROUP_STRIPS", 2)
    network, x = make("blur"), picture()
    expected, total = run(network, x, tmp_path / "whole")
    convolved = 0
    plain = maps.Moments.add

    def counting(self: maps.Moments, rows: Tensor) -> None:
        nonlocal convolved
        convolved += 1
        plain(self, rows)

    monkeypatch.setattr(maps.Moments, "add", counting)
    found = None
    for stop in range(4, total + 8, 4):
        try:
            found, _ = run(network, x, tmp_path / "cut", stop)
            break
        except Interrupted:
            continue
    assert found is not None
    assert torch.equal(found, expected)
    assert convolved <= total + 2 * total // 4 + 2


def test_what_was_not_synced_is_not_trusted_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Record(tmp_path / "1.map")
    record.path.write_bytes(b"rows")
    record.keep(4, done=False, count=1)
    assert (Record(record.path).rows, Record(record.path).facts) == (4, {"count": 1})
    monkeypatch.setattr("steadypix.gen.large.journal.boot", lambda: "another")
    assert (Record(record.path).rows, Record(record.path).facts) == (0, {})
    record.keep(8, done=True)
    monkeypatch.setattr("steadypix.gen.large.journal.boot", lambda: "a third")
    assert (Record(record.path).rows, Record(record.path).done) == (8, True)


# ---- cost --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", networks())
def test_the_cost_is_known_before(name: str, tmp_path: Path) -> None:
    """Strips to the last one, disk to the byte."""
    network, x = make(name), picture()
    most = strips = 0
    workspace = Workspace(strip_samples=STRIP, keep_samples=KEEP, journal=Journal(tmp_path))

    def step(made: int) -> None:
        nonlocal most, strips
        strips += made
        most = max(most, sum(file.stat().st_size for file in tmp_path.glob("*.map")))

    workspace.made = step
    y = output_map(network, Strips.of(x, workspace))
    apply = functools.partial(output_map, network)
    expected = count(apply, x.shape, x[0], strip_samples=STRIP, keep_samples=KEEP, journaled=True)
    assert expected.strips == strips + len(list(y.strips()))
    assert expected.disk_bytes == most
    assert (expected.memory_bytes > 0) == (name != "resnet")  # whose maps are all large
    assert memory_bytes(expected, x) > expected.memory_bytes + 4 * expected.strip_samples


def test_the_cost_of_more_is_more() -> None:
    network = make("blur")

    def cost(strip: int, height: int) -> int:
        like = torch.zeros(1)
        tally = count(
            functools.partial(output_map, network),
            (1, 3, height, 256),
            like,
            strip_samples=strip,
            keep_samples=0,
            journaled=True,
        )
        return memory_bytes(tally, like)

    costs = [cost(strip, 512) for strip in (10_000, 100_000, 1_000_000)]
    assert costs == sorted(set(costs))
    assert cost(10_000, 10_000_000) == cost(10_000, 512), "memory does not grow with the picture"


def test_the_largest_tile_within_a_budget() -> None:
    assert largest_that_fits([1, 2, 4], lambda px: 10 * px, 25) == (2, 20)
    assert largest_that_fits([1, 2, 4], lambda px: 10 * px, 5) == (1, 10)
    assert largest_that_fits([1, 2, 4], lambda px: 10 * px, 1000) == (4, 40)


def test_memory_of_this_machine() -> None:
    assert available_bytes() > 1 << 20
    assert 10 << 20 < resident_bytes() < 1 << 40


# ---- frozen for a while, and samples -------------------------------------------------------------------


def test_frozen_for_a_while() -> None:
    network, x = make("blur"), picture()
    with torch.no_grad():
        before = network(x)
        with with_frozen(network, blank_statistics(network)):
            assert not looking_norms(network)
            assert not torch.equal(network(x), before)
        assert torch.equal(network(x), before)
        with with_frozen(network, {}):
            assert torch.equal(network(x), before)


@pytest.mark.parametrize("size", [(1000, 700), (4096, 8192), (640, 30_000)])
@pytest.mark.parametrize("multiple", [1, 32, 256])
def test_samples_lie_on_the_grid_all_over_the_picture(size: tuple[int, int], multiple: int) -> None:
    window = window_for(multiple)
    places = np.array(sample_places(*size, window_px=window, multiple=multiple)).reshape(-1, 2)
    if min(size) < window or SHARE * size[0] * size[1] < 1.5 * window**2:
        assert len(places) == 0
        return
    assert (places % multiple == 0).all()
    assert (places >= 0).all()
    assert (places + window <= size).all()
    assert len(places) * window**2 <= 1.2 * SHARE * size[0] * size[1]
    if len(places) >= 16:
        quarters = (places + window / 2) // (np.array(size) / 2)
        assert len(np.unique(quarters, axis=0)) == 4


def test_a_mosaic_holds_its_windows() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 500, 3), dtype=np.uint8)
    places = [(0, 32), (64, 0), (64, 96), (512, 320), (256, 320), (0, 0)]
    made = mosaic(lambda top, bottom: pixels[top:bottom], places, window_px=64)
    assert made.shape == (128, 192, 3)
    parts = {made[y : y + 64, x : x + 64].tobytes() for y in (0, 64) for x in (0, 64, 128)}
    assert parts == {pixels[y : y + 64, x : x + 64].tobytes() for y, x in places}


def test_statistics_of_a_sample_are_nearly_those_of_the_whole() -> None:
    """Of a picture that is alike everywhere."""
    network = make("blur")
    x = torch.rand(1, 3, 1024, 1024, generator=torch.Generator().manual_seed(1))
    whole = x[0].permute(1, 2, 0).numpy()
    places = sample_places(1024, 1024, window_px=window_for(8), multiple=8)
    sample = mosaic(lambda top, bottom: whole[top:bottom], places, window_px=window_for(8))
    with torch.no_grad():
        exact = network(x)
        freeze(network, gather(network, [torch.from_numpy(sample).permute(2, 0, 1)[None]]))
        error = (network(x) - exact).square().mean()
    assert 10 * torch.log10(4 / error) > 45


# ---- what is kept is read as it was written ---------------------------------------------------------


def test_a_record_keeps_facts_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "0001.map"
    path.write_bytes(b"rows")
    Record(path).keep(3, done=True, mean=[0.1 + 0.2, float("nan")])
    again = Record(path)
    assert (again.rows, again.done, again.facts["mean"][0]) == (3, True, 0.1 + 0.2)


def test_a_record_that_is_not_read_as_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lossy(path: Path, text: str) -> None:
        write_text(path, text.replace('"rows": 3', '"rows": 4'))

    monkeypatch.setattr("steadypix.gen.large.journal.write_text", lossy)
    with pytest.raises(InputError, match=r"0001\.json: is not read as it was written"):
        Record(tmp_path / "0001.map").keep(3, done=False)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"rows": "3", "done": true}', "\x00"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "0001.json").write_text(text)
    with pytest.raises(InputError, match=r"0001\.json: is not what an interrupted run wrote down"):
        Record(tmp_path / "0001.map")

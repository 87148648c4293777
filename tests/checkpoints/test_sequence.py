"""`generate --sequence`: frames in natural order, one set of statistics, gone on with after a kill."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from steadypix import load_generator
from steadypix.checkpoints.generate import main as generate
from steadypix.checkpoints.generation.freeze import main as statistics_command
from steadypix.checkpoints.generation.sequence import STATE, STATISTICS
from steadypix.data.pictures.listing import natural_order
from steadypix.data.pictures.saving import save_image
from tests.cli import Capture, one_error_line
from tests.conftest import tiny_config, write_checkpoint
from tests.killed import Stopped, generate_killed, stop_after

pytestmark = pytest.mark.slow

COUNT = 11
HEIGHT, WIDTH = 32, 40
Tree = dict[str, bytes]


def content(folder: Path) -> Tree:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def pixels_of(number: int) -> np.ndarray:
    """Something bright comes in from the left, so the statistics of every frame are its own."""
    pixels = np.random.default_rng(0).integers(0, 128, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[:, :number] = 255
    return pixels


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for number in range(1, COUNT + 1):
        Image.fromarray(pixels_of(number)).save(folder / f"frame{number}.png")
    return folder


@pytest.fixture
def run(checkpoints: list[Path], frames: Path, tmp_path: Path) -> Callable[..., list[str]]:
    """Arguments of `generate --sequence` into a folder of this name."""

    def arguments(out: str, *more: str) -> list[str]:
        argv = [str(checkpoints[1]), str(frames), "--sequence", "--out", str(tmp_path / out)]
        return [*argv, "--device", "cpu", *more]

    return arguments


def reference(checkpoint: Path) -> list[np.ndarray]:
    """The same by hand: instance norm written out, with the mean and variance of the first frame."""
    network = load_generator(checkpoint)
    seen: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    def norm_of(name: str) -> Callable[[torch.nn.Module, tuple[torch.Tensor], torch.Tensor], torch.Tensor]:
        def hook(norm: torch.nn.Module, args: tuple[torch.Tensor], _: torch.Tensor) -> torch.Tensor:
            x = args[0].double()
            if name not in seen:
                seen[name] = x.mean((2, 3), keepdim=True), x.var((2, 3), keepdim=True, correction=0)
            mean, variance = seen[name]
            y = (x - mean) / (variance + norm.eps).sqrt()
            if norm.weight is not None:
                y = y * norm.weight[:, None, None] + norm.bias[:, None, None]
            return y.float()

        return hook

    for name, module in network.named_modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.register_forward_hook(norm_of(name))
    made = []
    with torch.inference_mode():
        for number in range(1, COUNT + 1):
            x = torch.from_numpy(pixels_of(number)).permute(2, 0, 1)[None] / 127.5 - 1
            made.append(((network(x)[0] + 1) * 127.5).permute(1, 2, 0).numpy())
    assert seen
    return made


# ---- what comes out ---------------------------------------------------------------------------------


def test_every_frame_goes_by_the_first(
    run: Callable[..., list[str]], checkpoints: list[Path], tmp_path: Path, capsys: Capture
) -> None:
    assert generate(run("made")) == 0
    assert f"wrote {COUNT} frames" in capsys.readouterr().err
    assert set(content(tmp_path / "made")) == {f"frame{n}.png" for n in range(1, COUNT + 1)}
    apart = []
    for number, expected in enumerate(reference(checkpoints[1]), 1):
        made = np.asarray(Image.open(tmp_path / "made" / f"frame{number}.png")).astype(float)
        apart.append(np.abs(made - expected).max())
    assert max(apart) < 0.51, "what is rounded to 8 bits"


def test_the_first_is_the_first_in_natural_order(
    run: Callable[..., list[str]], frames: Path, tmp_path: Path
) -> None:
    """By their letters frame10 and frame11 come before frame2; taken as the first, they change the others."""
    assert generate(run("made")) == 0
    (frames / "frame1.png").unlink()
    assert generate(run("second")) == 0
    argv = run("by_hand")
    three = [str(frames / f"frame{number}.png") for number in (2, 10, 11)]
    assert generate([argv[0], *three, *argv[3:], "--statistics", "first"]) == 0
    made, second, by_hand = (content(tmp_path / name) for name in ("made", "second", "by_hand"))
    assert second["frame10.png"] == by_hand["frame10.png"] != made["frame10.png"]


def test_natural_order_of_any_name() -> None:
    names = ["10.png", "²1.png", "2.png", "²", "frame10", "frame2", "", "a", "01", "1"]
    assert sorted(names, key=natural_order).index("2.png") < sorted(names, key=natural_order).index("10.png")
    assert sorted(["f10", "f9", "f1"], key=natural_order) == ["f1", "f9", "f10"]


def test_statistics_of_a_file(
    run: Callable[..., list[str]], checkpoints: list[Path], frames: Path, tmp_path: Path
) -> None:
    file = str(tmp_path / "s.safetensors")
    assert statistics_command([str(checkpoints[1]), str(frames / "frame1.png"), "--out", file]) == 0
    assert generate(run("first")) == 0
    assert generate(run("file", "--statistics", file)) == 0
    assert content(tmp_path / "first") == content(tmp_path / "file")


def test_a_generator_without_norms_that_look(frames: Path, tmp_path: Path) -> None:
    from steadypix.configs.schema import GeneratorConfig

    config = tiny_config(generator=GeneratorConfig(ngf=4, num_downs=3, norm="batch"))
    checkpoint = write_checkpoint(tmp_path / "batch.safetensors", config)
    argv = [str(checkpoint), str(frames), "--device", "cpu", "--out"]
    assert generate([*argv, str(tmp_path / "sequence"), "--sequence"]) == 0
    assert generate([*argv, str(tmp_path / "pictures")]) == 0
    assert content(tmp_path / "sequence") == content(tmp_path / "pictures")


def test_what_is_left_out_is_named(run: Callable[..., list[str]], frames: Path, capsys: Capture) -> None:
    (frames / "notes.txt").write_text("no picture")
    (frames / ".hidden.png").write_bytes(b"")
    assert generate(run("made")) == 0
    assert "left out, as they are no pictures: .hidden.png, notes.txt\n" in capsys.readouterr().err


# ---- going on ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [False, True])
def test_a_killed_sequence_goes_on(
    half: bool, run: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    assert generate(run("whole", "--bits", "16")) == 0
    generate_killed(run("killed", "--bits", "16"), after=4, suffix=".png", half=half)
    left = content(tmp_path / "killed")
    assert {name for name in left if not name.startswith(".")} == {
        *(f"frame{n}.png" for n in range(1, 5)),
        STATE,
        STATISTICS,
    }
    capsys.readouterr()
    assert generate(run("killed", "--bits", "16")) == 0
    assert f"going on after 4 of {COUNT} frames" in capsys.readouterr().err
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_stopped_anywhere_it_ends_the_same(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After every file that is put into place: statistics, state, each frame."""
    assert generate(run("whole")) == 0
    expected = content(tmp_path / "whole")
    for suffix, counts in ((".safetensors", [1]), (".json", [1]), (".png", range(1, COUNT + 1))):
        for count in counts:
            name = f"{suffix[1:]}{count}"
            with monkeypatch.context() as patch:
                stop_after(patch, count, suffix)
                with pytest.raises(Stopped):
                    generate(run(name))
            assert generate(run(name)) == 0
            assert content(tmp_path / name) == expected, name


def test_stopped_again_and_again(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate(run("whole")) == 0
    for _ in range(COUNT):
        with monkeypatch.context() as patch:
            stop_after(patch, 1, ".png")
            with pytest.raises(Stopped):
                generate(run("often"))
    assert generate(run("often")) == 0
    assert content(tmp_path / "often") == content(tmp_path / "whole")


def test_older_outputs_are_not_taken_for_its_own(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert generate(run("made", "--statistics", "first")) == 0
    expected = content(tmp_path / "made")
    for file in (tmp_path / "made").iterdir():
        save_image(file, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with monkeypatch.context() as patch:
        stop_after(patch, 3, ".png")
        with pytest.raises(Stopped):
            generate(run("made"))
    assert generate(run("made")) == 0
    assert content(tmp_path / "made") == expected


def test_outputs_of_others_are_not_replaced(
    run: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    assert generate(run("made")) == 0
    expected = content(tmp_path / "made")
    file = sorted((tmp_path / "made").iterdir())[-1]
    Image.fromarray(np.zeros((HEIGHT, WIDTH, 3), np.uint8)).save(file)
    assert generate(run("made")) == 2
    one_error_line(capsys, file.name, "--overwrite")
    assert generate(run("made", "--overwrite")) == 0
    assert content(tmp_path / "made") == expected


@pytest.fixture
def stopped(
    run: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """Arguments of a sequence of which three frames are done."""
    with monkeypatch.context() as patch:
        stop_after(patch, 3, ".png")
        with pytest.raises(Stopped):
            generate(run("made"))
    return run


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("generator", ["another generator"]),
        ("bits", ["other options", "bits 8, now 16"]),
        ("statistics", ["other options", "statistics first, now"]),
        ("more", ["other inputs", "frame12.png"]),
        ("fewer", ["other inputs", "frame7.png"]),
        ("edited", ["frame2.png", "changed"]),
        ("damaged", [STATE, "damaged"]),
    ],
)
def test_another_sequence_is_refused(
    change: str,
    words: list[str],
    stopped: Callable[..., list[str]],
    checkpoints: list[Path],
    frames: Path,
    tmp_path: Path,
    capsys: Capture,
) -> None:
    argv = stopped("made")
    if change == "generator":
        argv[0] = str(checkpoints[0])
    elif change == "bits":
        argv += ["--bits", "16"]
    elif change == "statistics":
        file = str(tmp_path / "s.safetensors")
        assert statistics_command([str(checkpoints[1]), str(frames), "--out", file]) == 0
        argv += ["--statistics", file]
    elif change == "more":
        Image.fromarray(pixels_of(12)).save(frames / "frame12.png")
    elif change == "fewer":
        (frames / "frame7.png").unlink()
    elif change == "edited":
        (frames / "frame2.png").write_bytes((frames / "frame3.png").read_bytes() + b" ")
    else:
        (tmp_path / "made" / STATE).write_text("{}")
    before = content(tmp_path / "made")
    assert generate(argv) == 2
    one_error_line(capsys, str(tmp_path / "made"), *words)
    assert content(tmp_path / "made") == before


def test_the_state_says_what_it_is_of(stopped: Callable[..., list[str]], tmp_path: Path) -> None:
    state = json.loads((tmp_path / "made" / STATE).read_text())
    assert [name for name, _ in state["inputs"]] == [f"frame{n}.png" for n in range(1, COUNT + 1)]
    assert state["size"] == [HEIGHT, WIDTH]
    assert state["options"]["statistics"] == "first"


# ---- what is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["size", "unreadable"])
def test_a_bad_frame_ends_it_and_mended_it_goes_on(
    kind: str, run: Callable[..., list[str]], frames: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert generate(run("whole")) == 0
    good = (frames / "frame5.png").read_bytes()
    if kind == "size":
        Image.fromarray(pixels_of(5)[:, 2:]).save(frames / "frame5.png")
        words = [f"{WIDTH - 2} x {HEIGHT} px", f"{WIDTH} x {HEIGHT} px", "frame1.png"]
    else:
        (frames / "frame5.png").write_bytes(good[:200])
        words = ["cannot be read"]
    assert generate(run("made")) == 2
    one_error_line(capsys, "frame5.png", *words)
    written = content(tmp_path / "made")
    whole = content(tmp_path / "whole")
    names = {f"frame{n}.png" for n in range(1, 5)}
    assert {name: written[name] for name in names} == {name: whole[name] for name in names}
    assert set(written) == names | {STATE, STATISTICS}
    (frames / "frame5.png").write_bytes(good)
    assert generate(run("made")) == 0
    assert content(tmp_path / "made") == whole


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--statistics", "picture"], ["--statistics picture", "first or a file"]),
        (["--codec", "libx264"], ["--codec", "films"]),
        (["--crf", "18"], ["--crf", "films"]),
    ],
)
def test_options_that_do_not_fit(
    more: list[str], words: list[str], run: Callable[..., list[str]], tmp_path: Path, capsys: Capture
) -> None:
    assert generate(run("made", *more)) == 2
    one_error_line(capsys, *words)
    assert not (tmp_path / "made").exists()


def test_inputs_that_do_not_fit(
    run: Callable[..., list[str]], frames: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = run("made")
    for inputs in ([str(frames), str(frames)], [str(frames / "frame1.png")]):
        assert generate([argv[0], *inputs, *argv[2:]]) == 2
        one_error_line(capsys, "--sequence", "one folder")
    assert generate([*argv[:4], str(frames), "--format", "tiff"]) == 2
    one_error_line(capsys, str(frames), "another folder")
    Image.fromarray(pixels_of(1)).save(frames / "frame1.bmp")
    assert generate(argv) == 2
    one_error_line(capsys, "frame1", "overwrite")
    (frames / "frame1.bmp").unlink()
    (frames / "frame1.png").write_bytes(b"")
    assert generate(argv) == 2
    one_error_line(capsys, "frame1.png", "cannot be read")
    assert not (tmp_path / "made").exists()


def test_a_full_disk(run: Callable[..., list[str]], tmp_path: Path, capsys: Capture) -> None:
    """The limit is the process's own; a frame of noise needs more than it."""
    resource = pytest.importorskip("resource")
    assert generate(run("whole", "--bits", "16", "--format", "tiff")) == 0
    capsys.readouterr()
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sizes = {name: len(data) for name, data in content(tmp_path / "whole").items()}
    limit = sizes["frame1.tif"] - 1
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        code = generate(run("made", "--bits", "16", "--format", "tiff"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert code == 2
    one_error_line(capsys, str(tmp_path / "made"), ".tif: File too large")
    assert generate(run("made", "--bits", "16", "--format", "tiff")) == 0
    assert content(tmp_path / "made") == content(tmp_path / "whole")

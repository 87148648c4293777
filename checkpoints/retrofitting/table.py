"""What a retrofit is measured by along the way, and the table of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from steadypix.checkpoints.retrofitting.pictures import Pictures
from steadypix.eval.metrics.forward import eval_mode, run_windows
from steadypix.eval.metrics.quality import l1, total_variation
from steadypix.eval.metrics.stability import shift_stability
from steadypix.eval.shifts.protocols import Crop

if TYPE_CHECKING:
    from torch import nn

    from steadypix.eval.metrics.lpips_metric import Lpips

SHIFTS_PX = (1, 3, 5, 7)  # even ones flatter a grid of stride 2
Row = dict[str, Any]


def measure(
    network: nn.Module,
    teacher: nn.Module,
    pictures: Pictures,
    *,
    limit: int,
    device: str,
    lpips: Lpips | None,
) -> Row:
    """Measure a network on the held-out pictures.

    Args:
        network: maps inputs to outputs in [-1, 1].
        teacher: the network as it was, on the same device.
        pictures: whose `test` is looked at.
        limit: number of pictures at most.
        device: where both are.
        lpips: the distance, where there are weights for it.

    Returns:
        Means over pictures: `stability_db` (protocol `crop`, odd shifts along x, an eighth of the window
        left out on each side), `tv` on [0, 1], `l1_before` and `lpips_before` to the outputs of before, and
        with targets `target_tv`, `l1` and `lpips` to them.
    """
    window = Crop(pictures.test.load_size, pictures.window_px)
    rows: list[dict[str, float]] = []
    canvases = list(pictures.test.canvases(limit))
    with eval_mode(network), eval_mode(teacher):
        for source, target in canvases:
            inputs = window.base(source[None].to(device))
            output, before = (next(run_windows(net, [inputs], batch_size=1)) for net in (network, teacher))
            row = {"tv": total_variation(output), "l1_before": l1(output, before)}
            if lpips:
                row["lpips_before"] = lpips(output, before)["lpips"]
            if pictures.paired:
                wanted = window.base(target[None].to(device))
                row |= {"target_tv": total_variation(wanted), "l1": l1(output, wanted)}
                if lpips:
                    row["lpips"] = lpips(output, wanted)["lpips"]
            rows.append(row)
    figures: Row = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    margin = pictures.window_px // 8
    stability = shift_stability(
        network,
        (source[None].to(device) for source, _ in canvases),
        window_px=pictures.window_px,
        shifts=[shift for shift in SHIFTS_PX if shift <= window.origin_px],
        margins_px=[margin],
    )
    return {"stability_db": stability.odd_mean_db(margin), **figures}


def as_table(rows: Sequence[Row]) -> str:
    """Return rows of `measure`, with `name` and `step`, as Markdown; TV beside that of the first row."""
    titles = {"stability_db": ("stability [dB]", 2), "tv": ("TV", 4)}
    columns = {
        "l1": ("L1 to targets", 4),
        "lpips": ("LPIPS to targets", 3),
        "l1_before": ("L1 to before", 4),
        "lpips_before": ("LPIPS to before", 3),
    }
    shown = {key: words for key, words in columns.items() if key in rows[0]}
    header = ["network", "steps", *(title for title, _ in titles.values()), "TV / before"]
    lines = [[*header, *(title for title, _ in shown.values())]]
    lines.append(["---"] * len(lines[0]))
    for row in rows:
        ratio = row["tv"] / rows[0]["tv"] if rows[0]["tv"] else float("nan")
        cells = [row["name"], str(row["step"])]
        cells += [f"{row[key]:.{digits}f}" for key, (_, digits) in titles.items()]
        lines.append(
            [*cells, f"{ratio:.2f}", *(f"{row[key]:.{digits}f}" for key, (_, digits) in shown.items())]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

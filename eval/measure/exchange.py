"""Pictures out, pictures in: the shifted inputs for a foreign program, and its outputs as a generator.

`eval_stability --export_inputs DIR` writes one PNG for every picture and shift, and `manifest.json`:

    DIR/<picture>_base.png                       the unshifted window
    DIR/<picture>_<protocol>_<dx>_<dy>.png       the window shifted dx px right and dy px down
    DIR/<picture>_<kind>_<severity>.png          the unshifted window under a perturbation
    DIR/manifest.json                            the sizes, and what every file shows

Once some program has made a picture of the same name and size for each of them, the folder with those
pictures is accepted as a CHECKPOINT. With a copy of manifest.json beside them no option has to be repeated.
Pictures of 8 bits are rounded: where outputs are not equal, even a perfect network scores about 56 dB.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steadypix.data.pictures.transforms import to_pixels
from steadypix.errors import InputError
from steadypix.eval.generators.outputs import FORMAT, MANIFEST, Outputs, Window
from steadypix.eval.measure.plan import Plan
from steadypix.eval.measure.stage import Stage, pictures
from steadypix.eval.shifts.offsets import plain
from steadypix.files import write_text

if TYPE_CHECKING:
    from steadypix.eval.generators.models import Model


def windows(stages: Sequence[Stage], plan: Plan, skipped: list[str] | None = None) -> Iterator[Window]:
    """Yield every input that an evaluation shows to a network, each once; `skipped` as for `pictures`.

    Raises:
        InputError: if a shift or margin does not fit, or a picture cannot be read.
    """
    made = [plan.make(stage.names, stage.pairs) for stage in stages]
    for index, name, halves in pictures(stages, range(plan.count(stages[0].pairs)), plan, skipped):
        seen = set()
        for stage, measures, (source, _) in zip(stages, made, halves, strict=True):
            inputs = stage.inputs(measures, source, index)
            for label, pixels in zip(stage.labels(measures, index), inputs, strict=True):
                if label.suffix not in seen:
                    seen.add(label.suffix)
                    yield Window(f"{name}_{label.suffix}.png", name, label.protocol, label.offset, pixels)


def _names(stages: Sequence[Stage], plan: Plan) -> list[str]:
    """Return the files of all inputs.

    Raises:
        InputError: if two pictures have one name, so that their inputs would be the same files.
    """
    pairs = stages[0].pairs
    count = plan.count(pairs)
    seen: set[str] = set()
    for name in map(pairs.name, range(count)):
        if name in seen:
            raise InputError(f"--export_inputs: two pictures are named {name}; rename one of them")
        seen.add(name)
    made = [plan.make(stage.names, stage.pairs) for stage in stages]
    return [
        f"{pairs.name(index)}_{label.suffix}.png"
        for index in range(count)
        for stage, measures in zip(stages, made, strict=True)
        for label in stage.labels(measures, index)
    ]


def export_inputs(stages: Sequence[Stage], plan: Plan, data: dict[str, Any], out: Path) -> int:
    """Write every input and the manifest to `out`; return the number of pictures written.

    Raises:
        InputError: if inputs are neither grayscale nor RGB, or a picture cannot be read.
    """
    from steadypix.data.pictures.saving import PNG_CHANNELS, refuse_foreign, save_image

    if data["input_channels"] not in PNG_CHANNELS:
        raise InputError(
            f"--export_inputs: writes grayscale or RGB; the inputs have {data['input_channels']} channels"
        )
    refuse_foreign(out / name for name in _names(stages, plan))
    files = []
    for window in windows(stages, plan, skipped=[]):
        save_image(out / window.file, to_pixels(window.pixels[0]))
        dx, dy = map(plain, window.offset)
        shown = {"file": window.file, "image": window.image, "protocol": window.protocol}
        files.append({**shown, "dx": dx, "dy": dy})
    manifest = {"format": FORMAT, "data": data, "files": files}
    words = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    write_text(out / MANIFEST, words, errors="replace")
    return len(files)


def bind_outputs(models: Sequence[Model], stages: Sequence[Stage], plan: Plan) -> None:
    """Let every folder of outputs among `models` find the outputs of this evaluation."""
    for model in models:
        if isinstance(model.module, Outputs):
            model.module.bind(windows(stages, plan))

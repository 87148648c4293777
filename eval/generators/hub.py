"""Generators in folders and repositories as users of Hugging Face know them.

A folder holds `model.safetensors` (one of our files: it loads with no other), `config.json` for people and
programs, and a model card. huggingface_hub is needed for repositories alone: the extra `steadypix[hub]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import yaml

from steadypix.errors import CheckpointError, InputError, one_line
from steadypix.eval.results.lead import lead_score
from steadypix.files import write_text
from steadypix.sizes import from_json
from steadypix.sizes import words as size_words

if TYPE_CHECKING:
    from torch import nn

CONFIG_FILE = "config.json"
CARD_FILE = "README.md"
MISSING = "needs huggingface_hub, which is not installed; expected: pip install 'steadypix[hub]'"
REPOSITORY_ID = re.compile(r"[\w.-]+/[\w.-]+")


def save_pretrained(
    generator: nn.Module,
    folder: str | Path,
    *,
    config: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    model: str | None = None,
) -> None:
    """Write a generator as a folder: `model.safetensors`, `config.json` and a model card, `README.md`.

    Args:
        generator: a `UNetGenerator` or `ResnetGenerator`; its `.provenance` is kept, where it has one.
        folder: where to; made if it is not there. A model card that is there already stays as it is.
        config: as of `save_generator`: `config["generator"]` holds the network's arguments. Needed for a
            network that was not loaded, which has no `.config`.
        results: an evaluation's `results.json`; its stability and TV go into the model card.
        model: name of the generator in `results`, where there are several.

    Raises:
        InputError: for a network of others, one whose configuration is not known, or results without it.
    """
    from steadypix.gen.weights.generators import ARCHITECTURES, PRETRAINED_FILE, save_generator

    kinds = {kind: name for name, kind in ARCHITECTURES.items()}
    if type(generator) not in kinds:
        raise InputError(f"{type(generator).__name__}: expected a UNetGenerator or a ResnetGenerator")
    config = config or getattr(generator, "config", None)
    if not isinstance(config, Mapping) or not isinstance(config.get("generator"), Mapping):
        raise InputError("this network's arguments are not known; expected config={'generator': {...}}")
    arguments = {"architecture": kinds[type(generator)], **config["generator"]}
    if arguments["architecture"] != kinds[type(generator)]:
        raise InputError(
            f"config: says {arguments['architecture']}, but the network is a {type(generator).__name__}"
        )
    config = {**config, "generator": arguments}
    if isinstance(config.get("data"), Mapping) and config["data"].get("root"):
        # Others have the pictures elsewhere, and need not know where they lie here.
        config["data"] = {**config["data"], "root": Path(config["data"]["root"]).name}
    folder = Path(folder)
    entry = _model_card(folder.name, config, _measured(results, model))  # fails before anything is written
    provenance = getattr(generator, "provenance", {})
    save_generator(folder / PRETRAINED_FILE, generator, config=config, provenance=provenance)
    write_text(folder / CONFIG_FILE, json.dumps({"library_name": "steadypix", **config}, indent=2) + "\n")
    if not (folder / CARD_FILE).exists():
        write_text(folder / CARD_FILE, entry)


def from_pretrained(
    name: str | Path,
    *,
    device: str = "cpu",
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> nn.Module:
    """Load a generator from a folder of `save_pretrained`, or from a repository on the Hugging Face Hub.

    Nothing that is downloaded can run code: the file is a safetensors file, read as any other.

    Args:
        name: a folder, or `owner/repository`.
        device: where to put it.
        revision: branch, tag or commit of a repository.
        cache_dir: where downloads are kept; None: huggingface_hub's own place.
        token: for private repositories; None: the one that huggingface_hub knows.
        local_files_only: take what was downloaded before, as with `HF_HUB_OFFLINE=1` in the environment.

    Returns:
        The network as from `load_generator`: in eval mode, with `.config` and `.provenance`.

    Raises:
        CheckpointError: if there is no such folder or repository, or its file cannot be used.
        InputError: if huggingface_hub is needed and not installed.
    """
    from steadypix.gen.weights.generators import PRETRAINED_FILE, load_generator

    path = Path(name)
    if path.exists():
        return load_generator(path, device)
    if not REPOSITORY_ID.fullmatch(str(name)):
        raise CheckpointError(f"{name}: is no folder, and no repository; expected owner/repository")
    hub = _hub(f"from_pretrained({str(name)!r})")
    try:
        file = hub.hf_hub_download(
            str(name),
            PRETRAINED_FILE,
            revision=revision,
            cache_dir=cache_dir,
            token=token,
            local_files_only=local_files_only,
        )
    except Exception as error:  # not there, no network, no permission: its errors share no base class
        raise CheckpointError(f"{name}: cannot be loaded from the hub ({one_line(error)[:300]})") from None
    return load_generator(file, device)


def push_to_hub(
    generator: nn.Module,
    repository: str,
    *,
    config: Mapping[str, Any] | None = None,
    results: str | Path | None = None,
    model: str | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload a steadypix generator",
) -> str:
    """Write a generator as `save_pretrained` does, into a repository on the Hugging Face Hub.

    Args:
        generator: as in `save_pretrained`.
        repository: `owner/repository`; made if it is not there.
        config: as in `save_pretrained`.
        results: as in `save_pretrained`.
        model: as in `save_pretrained`.
        private: of a repository that is made.
        token: None: the one that huggingface_hub knows.
        message: of the commit.

    Returns:
        The commit's address.

    Raises:
        InputError: as `save_pretrained`, if huggingface_hub is not installed, or the hub refuses.
    """
    import tempfile

    if not REPOSITORY_ID.fullmatch(repository):
        raise InputError(f"{repository}: expected owner/repository")
    hub = _hub("push_to_hub")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / repository.partition("/")[2]
        save_pretrained(generator, folder, config=config, results=results, model=model)
        api = hub.HfApi(token=token)
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
        except Exception as error:  # its errors share no base class
            raise InputError(f"{repository}: cannot be written ({one_line(error)[:300]})") from None
    return str(done)


def _hub(who: str) -> ModuleType:
    try:
        import huggingface_hub
    except ImportError:
        raise InputError(f"{who}: {MISSING}") from None
    return huggingface_hub


def _measured(results: str | Path | None, name: str | None) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return an evaluation and the one model of it that a card is about."""
    if results is None:
        return None
    from steadypix.eval.results.schema import read_results

    found = read_results(Path(results))
    models = {model["name"]: model for model in found["models"]}
    if name is None and len(models) == 1:
        return found, next(iter(models.values()))
    if name not in models:
        wanted = f"model= one of {', '.join(models)}"
        raise InputError(f"{results}: {f'holds no {name}' if name else 'holds several'}; expected {wanted}")
    return found, models[name]


def _model_card(
    name: str, config: Mapping[str, Any], measured: tuple[dict[str, Any], dict[str, Any]] | None
) -> str:
    """Return the model card: metadata as YAML, then how to load it and what it is."""
    generator = config["generator"]
    sampling = generator.get("sampling", "blur")
    metadata: dict[str, Any] = {
        "library_name": "steadypix",
        "pipeline_tag": "image-to-image",
        "tags": ["steadypix", "pix2pix", generator["architecture"], "anti-aliasing", "shift-equivariance"],
    }
    lines = []
    if measured:
        found, model = measured
        where, figure = lead_score(model)
        data, source = found["data"], Path(str(found["data"]["source"])).name
        figures = [("stability_db", f"Stability [dB], {where}", figure["mean"])]
        figures += [
            (key, words, value)
            for key, words in (("tv", "TV of the outputs"), ("tv_ratio", "TV, of the targets' own"))
            if (value := _mean(model["quality"].get(key))) is not None
        ]
        metadata["model-index"] = [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "image-to-image"},
                        "dataset": {
                            "name": source,
                            "type": source,
                            "split": str(data["split"]),
                        },
                        "metrics": [
                            {"type": key, "name": words, "value": round(float(value), 4)}
                            for key, words, value in figures
                        ],
                    }
                ],
            }
        ]
        window = size_words(from_json(data["window_px"]))
        lines = [
            "## Measured",
            "",
            f"By `eval_stability` on {data['n_images']} pictures of {window} px ({source}).",
            "A soft picture is stable for free: read the dB beside TV.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {words} | {value:.4g} |" for _, words, value in figures),
            "",
        ]
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    channels = f"{generator.get('in_channels', 3)} to {generator.get('out_channels', 3)} channels"
    return "\n".join(
        [
            "---",
            f"{front}---",
            "",
            f"# {name}",
            "",
            f"An image-to-image generator, {generator['architecture']}, sampling `{sampling}`, {channels},",
            "inputs and outputs in [-1, 1].",
            "",
            "```python",
            "import steadypix",
            "",
            f'generator = steadypix.from_pretrained("{name}")  # a folder, or owner/repository',
            "```",
            "",
            *lines,
        ]
    )


def _mean(figure: Any) -> float | None:
    value = figure.get("mean") if isinstance(figure, dict) else figure
    return float(value) if isinstance(value, int | float) else None

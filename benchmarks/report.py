"""Results as Markdown for people and JSON for programs, with the machine they were measured on."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from steadypix.eval.report.page import markdown_table

SCHEMA = "steadypix.benchmark.v1"
Cell = str | float | int | bool | None


@dataclass(frozen=True)
class Bar:
    """What a ratio should stay below."""

    name: str
    """what is compared with what"""
    ratio: float
    limit: float

    @property
    def met(self) -> bool:
        """Whether the measured ratio, as it is printed, is within the limit."""
        return round(self.ratio, 2) <= self.limit


@dataclass(frozen=True)
class Table:
    """One theme's measurements."""

    theme: str
    """a short name, the key in JSON"""
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    bars: Sequence[Bar] = ()
    notes: Sequence[str] = ()
    """how it was measured"""


def environment(device: str) -> dict[str, Any]:
    """Say what measured: device, threads, versions."""
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    listed = Path("/proc/cpuinfo")
    text = listed.read_text(encoding="utf-8") if listed.exists() else ""
    name = re.search(r"^model name\s*: (.*)", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def to_markdown(tables: Sequence[Table], measured_on: Mapping[str, Any]) -> str:
    """Write all tables, each with its bars below."""
    facts = ", ".join(f"{key} {value}" for key, value in measured_on.items())
    parts = [f"Measured on: {facts}."]
    for table in tables:
        parts.append(f"## {table.title}")
        parts.extend(table.notes)
        parts.append(markdown_table(table.columns, [list(map(_text, row)) for row in table.rows]))
        if table.bars:
            bars = [
                [bar.name, _text(bar.ratio), _text(bar.limit), "met" if bar.met else "**missed**"]
                for bar in table.bars
            ]
            parts.append(markdown_table(["bar", "measured", "at most", ""], bars))
    return "\n\n".join(parts) + "\n"


def to_json(tables: Sequence[Table], measured_on: Mapping[str, Any]) -> str:
    """Write the same as JSON: `schema`, `environment`, `tables`."""
    listed = [
        {**asdict(table), "bars": [{**asdict(bar), "met": bar.met} for bar in table.bars]} for table in tables
    ]
    return json.dumps({"schema": SCHEMA, "environment": dict(measured_on), "tables": listed}, indent=1)


def write(tables: Sequence[Table], out: Path, name: str, *, device: str = "cpu") -> str:
    """Write NAME.md and NAME.json into `out`; return the Markdown."""
    measured_on = environment(device)
    text = to_markdown(tables, measured_on)
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    (out / f"{name}.json").write_text(to_json(tables, measured_on) + "\n", encoding="utf-8")
    return text


def _text(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:.3g}" if abs(cell) < 0.1 else f"{cell:.2f}"
    return "" if cell is None else str(cell)

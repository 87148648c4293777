"""Import torchvision also where its compiled operators do not fit the installed torch.

The index's torchvision wheel beside a CPU build of torch fails on import with "operator
torchvision::nms does not exist". Its models, transforms and `make_grid` need no compiled operator, so
declaring the missing ones is enough; calling such an operator still raises clearly.
"""

from __future__ import annotations

import importlib
import re
import sys
from types import ModuleType
from typing import Any

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[Any] = []  # a library's declarations live as long as the object does


def import_torchvision(name: str = "torchvision") -> ModuleType:
    """Import `torchvision` or one of its modules, declaring operators that its wheel lacks.

    Raises:
        RuntimeError: as torchvision raises it, for anything but a missing operator known here.
    """
    for _ in range(len(_SCHEMAS) + 1):
        try:
            return importlib.import_module(name)
        except RuntimeError as error:
            missing = re.search(r"operator torchvision::(\w+) does not exist", str(error))
            if missing is None or missing[1] not in _SCHEMAS:
                raise
            for half_imported in [key for key in sys.modules if key.partition(".")[0] == "torchvision"]:
                del sys.modules[half_imported]
            _declare(_SCHEMAS[missing[1]])
    raise RuntimeError("torchvision still lacks an operator that was declared for it")


def _declare(schema: str) -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define(schema)
    _declared.append(library)

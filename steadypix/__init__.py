"""Anti-aliased image-to-image generators, and measurements of how outputs change when inputs move.

Everything public can be imported from here, see `__init__.pyi`: layers, the retrofit, generators, stability,
errors. Names are imported on first use: `import steadypix` alone does not import torch.
"""

from __future__ import annotations

from typing import Any

from steadypix.signals import quiet_start

quiet_start()

import lazy_loader  # noqa: E402 - a Ctrl-C may come here already

_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from steadypix.command import version

        return version()
    return _getattr(name)

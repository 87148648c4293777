"""The blur layers of other projects, where the benchmark environment has them installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from torch import nn

from steadypix.eval.torchvision_shim import import_torchvision

Build = Callable[[int, str], nn.Module]  # (channels, padding)


def blur_pools() -> dict[str, Build]:
    """Layers that blur with bin5 and keep every second sample, by project.

    Only timm can pad circularly; antialiased-cnns reflects and kornia pads with zeros, whatever is asked for.
    """
    found: dict[str, Build] = {}
    with contextlib.suppress(ImportError):
        import_torchvision()  # the next two import it, and it may need help
        import antialiased_cnns

        found["antialiased-cnns"] = lambda channels, _: antialiased_cnns.BlurPool(
            channels, pad_type="reflect", filt_size=5, stride=2
        )
    with contextlib.suppress(ImportError):
        from timm.layers import BlurPool2d

        found["timm"] = lambda channels, padding: BlurPool2d(
            channels, filt_size=5, stride=2, pad_mode=padding
        )
    with contextlib.suppress(ImportError):
        from kornia.filters import BlurPool2D

        found["kornia"] = lambda *_: BlurPool2D(5, stride=2)
    return found

"""Stability as a metric of torchmetrics, which the extra `torchmetrics` brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from steadypix.eval.accumulate.pairs import check_options, pair_db
from steadypix.eval.metrics.decibels import PEAK
from steadypix.eval.torchvision_shim import import_torchvision

if TYPE_CHECKING:
    from torchmetrics import Metric
else:
    try:
        import_torchvision()  # torchmetrics imports it, whether it fits or not
        from torchmetrics import Metric
    except ImportError:

        class Metric:
            """Stands in, so that the class can be named without the package."""

            def __init__(self, **_: Any) -> None:
                raise ImportError(
                    "steadypix.ShiftStability needs torchmetrics, which is not installed; expected: "
                    "pip install 'steadypix[torchmetrics]', or steadypix.PairStability, which needs nothing"
                )


class ShiftStability(Metric):
    """Mean over pairs of PSNR( G(shift(x)), shift(G(x)) ) in dB (Zhang 2019, section 4.3).

    Over the pairs that `steadypix.shift_stability` makes it gives that function's `mean_db`. Equal outputs
    count as 150 dB. Processes add up their sums.

    Args:
        data_range: width of the range that outputs lie in, 2 for [-1, 1].
        margin_px: border left out on each side.
        words: as for every metric of torchmetrics, such as `sync_on_compute`.

    Raises:
        ImportError: if torchmetrics is not installed.
        InputError: for a range that is none, or a margin below 0.
    """

    is_differentiable = True
    higher_is_better = True
    full_state_update = False
    plot_lower_bound = 0.0

    sum_db: Tensor
    count: Tensor

    def __init__(self, *, data_range: float = PEAK, margin_px: int = 0, **words: Any) -> None:
        super().__init__(**words)
        check_options(data_range=data_range, margin_px=margin_px)
        self.data_range = data_range
        self.margin_px = margin_px
        self.add_state("sum_db", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, moved_output: Tensor, shifted_output: Tensor) -> None:
        """Add pairs, (B, C, H, W) each: G(shift(x)) and shift(G(x)).

        Raises:
            InputError: as `pair_db` raises it; nothing is added then.
        """
        db = pair_db(moved_output, shifted_output, data_range=self.data_range, margin_px=self.margin_px)
        self.sum_db = self.sum_db + db.sum().to(self.sum_db)
        self.count = self.count + len(db)

    def compute(self) -> Tensor:
        """Return the mean over all pairs of all processes in dB; NaN if there are none."""
        return self.sum_db / self.count

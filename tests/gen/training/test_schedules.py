"""Learning rates: each policy against torch's scheduler of the same rule."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, ReduceLROnPlateau, StepLR

from steadypix.configs.schema import RunConfig, TrainConfig
from steadypix.gen.training.schedules import LR_POLICIES, Plateau, lr_factor


def optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def follow(policy: str, schedule: LRScheduler, *, epochs: int, decay: int = 0, step: int = 50) -> None:
    for epoch in range(epochs):
        factor = lr_factor(policy, epoch, epochs=epochs, decay_epochs=decay, step_epochs=step)
        assert factor == pytest.approx(schedule.get_last_lr()[0], abs=1e-12)
        schedule.optimizer.step()
        schedule.step()


@pytest.mark.parametrize(("epochs", "decay"), [(200, 100), (10, 0), (7, 3), (4, 4)])
def test_linear_is_the_published_schedule(epochs: int, decay: int) -> None:
    """LambdaLR with the rule 1 - max(0, epoch + 1 - n_epochs) / (n_epochs_decay + 1)."""
    rule = LambdaLR(optimizer(), lambda e: 1.0 - max(0, e + 1 - (epochs - decay)) / float(decay + 1))
    follow("linear", rule, epochs=epochs, decay=decay)


@pytest.mark.parametrize("epochs", [1, 5, 200])
def test_cosine_is_torchs(epochs: int) -> None:
    follow("cosine", CosineAnnealingLR(optimizer(), T_max=epochs), epochs=epochs)


@pytest.mark.parametrize("step", [1, 3, 50])
def test_step_is_torchs(step: int) -> None:
    follow("step", StepLR(optimizer(), step_size=step, gamma=0.1), epochs=12, step=step)


@given(scores=st.lists(st.floats(0.01, 1.0), max_size=40), patience=st.integers(0, 4))
def test_plateau_is_torchs(scores: list[float], patience: int) -> None:
    ours = Plateau(patience=patience)
    theirs = ReduceLROnPlateau(optimizer(), factor=0.2, threshold=0.01, patience=patience, eps=0.0)
    for score in scores:
        ours.update(score)
        theirs.step(score)
        assert ours.factor == pytest.approx(theirs.get_last_lr()[0])


def test_every_policy_of_the_configuration_is_known() -> None:
    for policy in LR_POLICIES:
        TrainConfig(lr_policy=policy)  # type: ignore[arg-type]
        lr_factor(policy, 0, epochs=2, decay_epochs=1, step_epochs=1)
    with pytest.raises(ValueError, match="unknown; expected one of linear"):
        lr_factor("exponential", 0, epochs=2, decay_epochs=1, step_epochs=1)


@pytest.mark.parametrize("wants", [{"lr_policy": "plateau"}, {"best_by": "l1"}])
def test_what_needs_validations_says_so(wants: dict) -> None:
    with pytest.raises(ValueError, match="needs validations"):
        RunConfig(train=TrainConfig(val_every=0, **wants))

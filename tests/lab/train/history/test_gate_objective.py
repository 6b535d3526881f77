from __future__ import annotations

import torch

from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe_lab.train.history.gate_objective import ChunkBatch, ScorerLogits, Scorers, scorer_errors, scorer_loss

CONFIG = HistoryConfig(1, 1, 2, 4, 1, (0,), 2, 8)  # six inputs


def test_a_gradient_goes_back_so_far_and_no_further() -> None:
    """What is said of a chunk depends on all before it, and learns from those of its stretch only."""
    torch.manual_seed(3)
    weights = HistoryWeights(CONFIG)
    torch.nn.init.normal_(weights.gate.outward.weight)
    inputs = torch.randn(2, 7, 6, requires_grad=True)
    Scorers(weights)(inputs, truncate=3).gate[:, 5].sum().backward()

    assert inputs.grad is not None
    assert inputs.grad.any(-1).tolist() == [[False] * 3 + [True] * 3 + [False]] * 2


def test_too_little_kept_is_as_wrong_as_too_much() -> None:
    """The target is what labels say in all; padding counts for nothing."""
    worth, there = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[1.0, 1.0, 0.0]])

    def share(logit: float) -> float:
        said = ScorerLogits(torch.tensor([[logit, logit, 50.0]]), torch.zeros(1, 3))
        rows = ChunkBatch(torch.zeros(1, 3, 6), worth, there)
        return float(scorer_loss(said, rows, 1.0) - scorer_loss(said, rows, 0.0))

    assert share(2.0) == share(-2.0) > share(0.0) == 0.0


def test_errors_tell_what_is_worth_much_from_the_rest() -> None:
    """Each scorer's own, without padding."""
    worth, there = torch.tensor([[1.0, 0.0, 1.0]]), torch.tensor([[1.0, 1.0, 0.0]])
    said = ScorerLogits(torch.tensor([[999.0, 0.0, -999.0]]), torch.tensor([[-999.0, -999.0, 0.0]]))
    off = scorer_errors(said, ChunkBatch(torch.zeros(1, 3, 6), worth, there))

    assert (off.worthy, off.idle, off.linear_worthy, off.linear_idle) == (0.0, 0.5, 1.0, 0.0)

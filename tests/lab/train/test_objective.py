from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe_lab.train.auxiliary import soft_cross_entropy
from stillframe_lab.train.cloning import CloningTrainer
from stillframe_lab.train.objective import Trainee
from stillframe_lab.train.recipe import Recipe


@pytest.fixture
def trainee(tmp_path: Path, recipe: Recipe) -> Trainee:
    """A fresh network with its heads."""
    return CloningTrainer(tmp_path, recipe, torch.device("cpu")).trainee


def test_training_bins_are_the_bins_that_decoding_reads(trainee: Trainee) -> None:
    """Label -> bin -> token id is the codec's own encoding, so what is learnt is what is decoded."""
    values = np.linspace(-1, 1, 1001)[1:-1]
    index = trainee._tokens.index(torch.from_numpy(values).float())
    ids = trainee._tokens._bins.text_vocab_size - 1 - index.numpy()
    edges = np.abs(trainee._tokens._bins.edges[:, None] - values).min(0) < 1e-6  # float32 may fall beside these

    assert (ids == trainee._tokens._bins.encode(values))[~edges].all()
    assert edges.sum() < 20
    assert trainee._tokens.index(torch.tensor([-1.0, 0.0, 1.0])).tolist() == [0, 127, 254]


def test_jitter_feeds_neighbours_back(trainee: Trainee) -> None:
    """Tokens fed back lie about the label's bin, within the action ids, and repeat with the generator's seed."""
    index = torch.full((4, 6, 7), 250)
    tokens = trainee._tokens.jittered(index, torch.Generator().manual_seed(1))
    bins = trainee._tokens._bins.text_vocab_size - 1 - tokens

    assert 4 < len(bins.unique()) < 40
    assert (bins.min() > 225, bins.max()) == (True, 254)
    assert torch.equal(tokens, trainee._tokens.jittered(index, torch.Generator().manual_seed(1)))


def test_the_action_loss_is_least_for_the_right_answer(trainee: Trainee, recipe: Recipe) -> None:
    """The soft target itself costs its entropy and nothing more; probability lost to other ids costs extra."""
    index = torch.full((2, 6, 7), 100)
    bins = torch.arange(255)
    target = torch.softmax(-((bins - 100.0) ** 2) / (2 * recipe.soft_sigma_bins**2), -1).expand(2, 6, 7, 255)
    entropy = -(target * target.clamp(min=1e-30).log()).sum(-1).mean()
    right = target.clamp(min=1e-30).log()
    loss = trainee._tokens.loss(right, index)
    leaking = trainee._tokens.loss(right + torch.tensor(0.5).log(), index)
    beside = trainee._tokens.loss(right.roll(5, -1), index)

    torch.testing.assert_close(loss, entropy, rtol=0, atol=1e-5)
    torch.testing.assert_close(leaking - loss, torch.tensor(2.0).log(), rtol=0, atol=1e-5)
    assert beside > loss + 0.5


@pytest.mark.parametrize("centre", [0.0, 7.25, 31.0])
def test_soft_cross_entropy_is_least_at_its_target(centre: float) -> None:
    """No logits cost less than the target's own, whichever way they are moved."""
    bins = torch.arange(32)
    best = -((bins - centre) ** 2) / (2 * 1.5**2)
    wanted = torch.tensor(centre)
    least = soft_cross_entropy(best, wanted, 1.5)
    generator = torch.Generator().manual_seed(2)
    others = [soft_cross_entropy(best + torch.randn(32, generator=generator), wanted, 1.5) for _ in range(20)]
    probabilities = torch.softmax(best, -1)

    torch.testing.assert_close(least, -(probabilities * torch.log_softmax(best, -1)).sum(), rtol=0, atol=1e-5)
    assert min(others) > least
    assert soft_cross_entropy(best + 3, wanted, 1.5) == pytest.approx(least.item(), abs=1e-5)

"""Fits a selector to samples: the drift that a plan's tokens add together is to be a bound that drift mostly keeps.

Knows samples; no policy and no picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.reuse.selector import PatchSelector, SelectorForm
from stillframe_lab.selector.samples import Samples

NEGLIGIBLE = 1e-3  # drift, below which differences do not count: an eighth of an action token's bin


@dataclass(frozen=True)
class FitRecipe:
    """How it is fitted."""

    kept: float = 0.9  # share of the samples whose drift is to be within what was expected
    epochs: int = 30
    batch: int = 128
    rate: float = 3e-3
    seed: int = 0


def fit(form: SelectorForm, samples: Samples, recipe: FitRecipe, advance: Callable[[], None]) -> PatchSelector:
    """A selector for a checkpoint of that form; `advance` is called after every epoch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        selector = PatchSelector(form)
        selector.fit_scale(samples.features)
        optimizer = torch.optim.Adam(selector.parameters(), recipe.rate)
        for epoch in range(recipe.epochs):
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate * (1 + math.cos(math.pi * epoch / recipe.epochs)) / 2
            for part in torch.split(torch.randperm(len(samples.drift)), recipe.batch):
                loss = quantile_loss(expected(selector, samples, part), samples.drift[part], recipe.kept)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            advance()
    return selector.eval().requires_grad_(requires_grad=False)


def expected(selector: PatchSelector, samples: Samples, part: Tensor) -> Tensor:
    """What the reused tokens of some samples add together: [part]."""
    together: Tensor = (selector(samples.features[part]) * samples.reused[part]).sum(dim=-1)
    return together


def quantile_loss(bound: Tensor, drift: Tensor, kept: float) -> Tensor:
    """Least where a share `kept` of the drifts is within its bound; by factors, not by differences."""
    beyond = (drift + NEGLIGIBLE).log() - (bound + NEGLIGIBLE).log()
    return torch.maximum(kept * beyond, (kept - 1) * beyond).mean()

"""Guided inpainting: steps from noise to chunks, pulled so that their first actions become those of an older chunk.

Knows numbers, weights and a function to differentiate; no family. Source: see held_chunk.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from stillframe.models.held_chunk import GuidanceRule, HeldChunk

Estimate = Callable[[Tensor], tuple[Tensor, Tensor]]  # points -> the clean chunks that they lead to, and what says so


@dataclass(frozen=True)
class Guidance:
    """What a batch's chunks are held to; a robot that holds nothing has weights of zero, and is not pulled at all."""

    targets: Tensor  # [robots, horizon, numbers] float32
    weights: Tensor  # [robots, horizon, 1] float32
    rule: GuidanceRule

    @classmethod
    def of(cls, held: Sequence[HeldChunk | None], noise: Tensor) -> Guidance | None:
        """Of robots whose chunks begin as `noise` [robots, horizon, numbers]; None where none holds anything."""
        rules = [one.rule for one in held if one is not None]
        if not rules:
            return None
        with torch.inference_mode(mode=False):
            targets, weights = torch.zeros(noise.shape), torch.zeros(*noise.shape[:2], 1)
            for robot, one in enumerate(held):
                if one is not None:
                    targets[robot, : len(one.due)] = torch.from_numpy(one.due).float()
                    weights[robot, : len(one.due), 0] = torch.from_numpy(one.weights).float()
            return cls(targets.to(noise.device), weights.to(noise.device), rules[0])

    def strength(self, signal: float) -> float:
        """How hard a step pulls whose points are `signal` data and the rest noise: min(most, (1 - t) / (t r^2)).

        r^2 = (1 - t)^2 / (t^2 + (1 - t)^2), t = `signal`: the spread of the data, given the points.
        """
        noise = 1 - signal
        if signal <= 0 or noise <= 0:
            return self.rule.most
        return min(self.rule.most, (signal**2 + noise**2) / (signal * noise))

    def pulled(self, estimate: Estimate, points: Tensor, size: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """What `estimate` gives, and the pull on a flow's points: J^T [weights (targets - clean)], J that of `clean`.

        `points` are the flow's times `size`.
        """
        if not self.rule.through_network:
            clean, made = estimate(points)
            return clean, made, self.weights * (self.targets - clean)
        with torch.enable_grad():
            start = points.detach().clone().requires_grad_()
            clean, made = estimate(start)
            missing = (self.weights * (self.targets - clean)).detach()
            (pull,) = torch.autograd.grad(clean, start, missing)
        return clean.detach(), made.detach(), pull * size


def guided_flow(velocity: Callable[[Tensor], Tensor], points: Tensor, time: float, guidance: Guidance) -> Tensor:
    """The velocity at `points`, guided. Time goes from 1, noise, to 0: the clean chunk is points - time * velocity."""

    def estimate(start: Tensor) -> tuple[Tensor, Tensor]:
        flowing = velocity(start)
        return start - time * flowing, flowing

    _, flowing, pull = guidance.pulled(estimate, points)
    return flowing - guidance.strength(1 - time) * pull


@contextmanager
def may_differentiate(guidance: Guidance | None) -> Iterator[None]:
    """Where there is guidance: leave inference mode, whose tensors no gradient goes through."""
    if guidance is None:
        yield
        return
    with torch.inference_mode(mode=False), torch.no_grad():
        yield

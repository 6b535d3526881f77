"""Guided inpainting: weights by hand, and fields whose guided steps are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from stillframe.models.cogact.diffusion import Denoising, denoise, kept_signal, timesteps
from stillframe.models.guidance import Guidance, guided_flow, may_differentiate
from stillframe.models.held_chunk import GuidanceRule, HeldChunk, SampledChunk

HORIZON, NUMBERS, SPREAD = 6, 2, 0.7
RULE = GuidanceRule()
OLD = np.random.default_rng(3).normal(size=(HORIZON, NUMBERS))


def held(executed: int, frozen: int, guided: int, rule: GuidanceRule = RULE) -> HeldChunk:
    """Of OLD."""
    return HeldChunk(SampledChunk(OLD, "jaco"), executed, frozen, guided, rule)


def guidance(rule: GuidanceRule = RULE) -> Guidance:
    """Of one robot: two steps held fast, two less and less."""
    made = Guidance.of([held(2, 2, 2, rule)], torch.zeros(1, HORIZON, NUMBERS))
    assert made is not None
    return made


def test_weights_are_the_papers() -> None:
    """1 before d; c (e^c - 1) / (e - 1) with c = (H - s - i) / (H - s - d + 1) before H - s."""
    horizon, executed, delay = 16, 6, 3
    expected = []
    for i in range(horizon - executed):
        c = (horizon - executed - i) / (horizon - executed - delay + 1)
        expected.append(1.0 if i < delay else c * (math.exp(c) - 1) / (math.e - 1))

    assert_allclose(held(0, delay, horizon - executed - delay).weights, expected, rtol=1e-12)
    assert len(held(0, 2, 0).weights) == 2
    assert held(0, 0, 3).weights[0] < 1


def test_targets_are_the_old_chunk_from_this_frames_step_on() -> None:
    """What lies behind the held steps has no weight; a robot that holds nothing has none at all."""
    made = Guidance.of([None, held(2, 1, 2)], torch.zeros(2, HORIZON, NUMBERS))
    assert made is not None

    assert_allclose(made.targets[1, :3].numpy(), OLD[2:5], rtol=1e-6)
    assert_allclose(made.weights[1, :, 0].numpy(), [*held(2, 1, 2).weights, 0, 0, 0], rtol=1e-6)
    assert not made.weights[0].any()
    assert Guidance.of([None, None], torch.zeros(2, HORIZON, NUMBERS)) is None


def test_strength_is_the_papers() -> None:
    """min(beta, (1 - t) / t / r^2) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2); beta at both ends."""
    own = guidance(GuidanceRule(most=5.0))

    assert [own.strength(t) for t in (0.0, 1.0, 0.01)] == [5.0, 5.0, 5.0]
    for t in (0.3, 0.5, 0.8):
        assert own.strength(t) == pytest.approx((1 - t) / t * (t**2 + (1 - t) ** 2) / (1 - t) ** 2)


@pytest.mark.parametrize("network", [True, False])
def test_a_guided_velocity_in_closed_form(network: bool) -> None:  # noqa: FBT001
    """Numbers spread by s about 0: clean = a x, so J = a, and the pull is a w (Y - a x), or w (Y - a x) as it is."""
    own = guidance(GuidanceRule(5.0, through_network=network))
    points, time = torch.randn(1, HORIZON, NUMBERS, generator=torch.Generator().manual_seed(1)), 0.4
    shrunk = (1 - time) * SPREAD**2 / ((1 - time) ** 2 * SPREAD**2 + time**2)

    def velocity(x: Tensor) -> Tensor:
        return (x - shrunk * x) / time

    with torch.inference_mode(), may_differentiate(own):
        got = guided_flow(velocity, points, time, own)

    pull = (shrunk if network else 1.0) * own.weights * (own.targets - shrunk * points)
    expected = points * (1 - shrunk) / time - own.strength(1 - time) * pull
    assert_allclose(got.numpy(), expected.numpy(), rtol=0, atol=1e-6)
    assert torch.equal(got[:, 4:], velocity(points)[:, 4:])  # unheld steps flow as they would


def _noise_of(power: Callable[[int], float]) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The best predictor of noise where clean numbers are spread by SPREAD about 0: linear."""

    def predict(actions: Tensor, times: Tensor, _: Tensor) -> Tensor:
        kept = power(int(times[0]))
        clean = actions * math.sqrt(kept) * SPREAD**2 / (kept * SPREAD**2 + 1 - kept)
        return (actions - math.sqrt(kept) * clean) / math.sqrt(1 - kept)

    return predict


def test_guided_ddim_is_eulers_way_along_its_flow() -> None:
    """In points x / (a + b) with t = a / (a + b), DDIM with guidance is Euler with the flow's, step by step."""
    kept, noise = kept_signal(), torch.randn(1, HORIZON, NUMBERS, generator=torch.Generator().manual_seed(2))
    own, nothing = guidance(), torch.zeros(1, 4)
    with torch.inference_mode(), may_differentiate(own):
        got = denoise(_noise_of(lambda at: float(kept[at])), noise, nothing, nothing, Denoising(10, 1.0), own)

    weights, targets = own.weights.double().numpy(), own.targets.double().numpy()
    times = timesteps(10)
    x = noise.double().numpy()
    for now, after in zip(times, [*times[1:], None], strict=True):
        a, b = math.sqrt(kept[now]), math.sqrt(1 - kept[now])
        next_a, next_b = (1.0, 0.0) if after is None else (math.sqrt(kept[after]), math.sqrt(1 - kept[after]))
        t, next_t = a / (a + b), next_a / (next_a + next_b)
        slope = a * SPREAD**2 / (a**2 * SPREAD**2 + b**2)  # of clean by x; by the flow's point (a + b) times that
        clean = slope * x
        velocity = clean - (x - a * clean) / b
        velocity += own.strength(t) * slope * (a + b) * weights * (targets - clean)
        x = (x / (a + b) + (next_t - t) * velocity) * (next_a + next_b)
    assert_allclose(got.numpy(), x, rtol=0, atol=1e-5)


def test_an_unheld_robot_is_not_pulled_by_the_one_beside_it() -> None:
    """Its numbers are those without guidance, to the bit of the same shape."""
    noise, nothing = torch.randn(2, HORIZON, NUMBERS, generator=torch.Generator().manual_seed(4)), torch.zeros(2, 4)
    own = Guidance.of([None, held(2, 2, 2)], noise)
    predict = _noise_of(lambda at: float(kept_signal()[at]))

    with torch.inference_mode(), may_differentiate(own):
        both = denoise(predict, noise, nothing, nothing[:1], Denoising(10, 1.0), own)
        free = denoise(predict, noise, nothing, nothing[:1], Denoising(10, 1.0))
    assert torch.equal(both[0], free[0])
    assert (both[1, :2] - own.targets[1, :2]).abs().mean() < (free[1, :2] - own.targets[1, :2]).abs().mean()  # type: ignore[union-attr]

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from stillframe.models.cogact.diffusion import TRAINED_STEPS, Denoising, denoise, kept_signal, step_counts, timesteps

ALLOWED = [*range(2, 11), 12, 13, 15, 17, 20, 25, 34, 50, 100]


def test_the_schedule_is_the_references() -> None:
    """Whole strides, from the noisiest down to 0; other counts are refused with the choices."""
    assert step_counts() == [1, *ALLOWED]
    assert timesteps(10) == [90, 80, 70, 60, 50, 40, 30, 20, 10, 0]
    assert timesteps(8) == [91, 78, 65, 52, 39, 26, 13, 0]
    with pytest.raises(ValueError, match="11 denoising steps; expected one of 1, 2, 3"):
        timesteps(11)


def test_signal_is_lost_step_by_step() -> None:
    """The share that is left falls from nearly all to nearly nothing."""
    kept = kept_signal()

    assert len(kept) == TRAINED_STEPS
    assert (np.diff(kept) < 0).all()
    assert kept[0] > 0.999
    assert 0 < kept[-1] < 1e-3


@given(st.sampled_from(ALLOWED), st.integers(0, 2**32))
def test_a_perfect_predictor_finds_the_chunk(steps: int, seed: int) -> None:
    """Where the noise in the actions is told exactly, the chunk that it hides comes out."""
    generator = torch.Generator().manual_seed(seed)
    hidden, noise = (torch.rand(2, 16, 7, generator=generator) * 2 - 1 for _ in range(2))
    kept = torch.from_numpy(kept_signal())

    def tell(actions: torch.Tensor, times: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        power = kept[times].float()[:, None, None]
        return (actions - hidden[: len(actions)] * power.sqrt()) / (1 - power).sqrt()

    drawn = denoise(tell, noise, torch.zeros(2, 4), torch.zeros(1, 4), Denoising(steps, guidance=1.0))

    assert_allclose(drawn.numpy(), hidden.numpy(), rtol=0, atol=1e-3)


def test_guidance_pushes_away_from_no_condition() -> None:
    """The noise is that without a condition, and from there so many times the way to that with one."""
    asked = []

    def tell(actions: torch.Tensor, times: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        asked.append((len(actions), sorted({int(time) for time in times})))
        return condition[:, :1, None].expand_as(actions)

    condition, nothing = torch.full((1, 4), 0.3), torch.full((1, 4), 0.1)
    guided = denoise(tell, torch.zeros(1, 16, 7), condition, nothing, Denoising(2, guidance=3.0))
    plain = denoise(tell, torch.zeros(1, 16, 7), torch.full((1, 4), 0.7), nothing, Denoising(2, guidance=1.0))

    assert asked == [(2, [50]), (2, [0]), (1, [50]), (1, [0])]
    assert_allclose(guided.numpy(), plain.numpy(), rtol=1e-5)  # 0.1 + 3 x 0.2 = 0.7

from __future__ import annotations

import numpy as np
import pytest

from stillframe_client.sim import SensorNoise

GREY = np.full((64, 64, 3), 128, np.uint8)


def test_a_perfect_camera_changes_nothing() -> None:
    """The default noise returns the picture as it is."""
    assert SensorNoise().spoil(GREY, np.random.default_rng(0)) is GREY


def test_sigma_is_in_grey_levels() -> None:
    """The spread that is asked for is the spread that is seen, around the true grey."""
    spoilt = SensorNoise(sigma=5).spoil(GREY, np.random.default_rng(0)).astype(float)

    assert spoilt.std() == pytest.approx(5, rel=0.05)
    assert spoilt.mean() == pytest.approx(128, abs=0.2)


def test_noise_saturates_and_does_not_wrap() -> None:
    """White stays near white: an overflow would turn it black."""
    white = np.full((64, 64, 3), 255, np.uint8)

    assert SensorNoise(sigma=10).spoil(white, np.random.default_rng(0)).min() > 180


def test_the_same_seed_spoils_the_same_way() -> None:
    """Noise comes from the generator that is passed in and from nowhere else."""
    first, again, other = (SensorNoise(sigma=2).spoil(GREY, np.random.default_rng(seed)) for seed in (3, 3, 4))

    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_jpeg_loses_a_little_and_less_at_higher_quality() -> None:
    """Compression changes a detailed picture, the more the lower the quality, and keeps shape and type."""
    detailed = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    rng = np.random.default_rng(0)
    error = {
        quality: np.abs(SensorNoise(jpeg_quality=quality).spoil(detailed, rng).astype(float) - detailed).mean()
        for quality in (30, 90)
    }

    assert 0 < error[90] < error[30]


def test_the_input_is_left_alone() -> None:
    """Spoiling returns a new picture."""
    before = GREY.copy()
    SensorNoise(sigma=5, jpeg_quality=50).spoil(GREY, np.random.default_rng(0))

    assert np.array_equal(GREY, before)


@pytest.mark.parametrize(
    "wrong", [{"sigma": -1.0}, {"sigma": float("nan")}, {"jpeg_quality": 0}, {"jpeg_quality": 101}]
)
def test_impossible_noise_is_refused(wrong: dict[str, float]) -> None:
    """A setting outside its range is named with the range."""
    with pytest.raises(ValueError, match="expected"):
        SensorNoise(**wrong)  # type: ignore[arg-type] # wrong on purpose

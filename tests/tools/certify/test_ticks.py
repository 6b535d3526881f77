"""What arms are shown: a scene that moves, stands still and begins anew, the same for the same seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe.domain import StateInfo
from stillframe.testing import policy_info
from stillframe.tools.certify.ticks import EPISODE_TICKS, REPEATED, Tick, digest, scene_ticks
from stillframe.tools.replay.player import PlayerSettings

RANGE = {"low": [-1.0, 0.0], "high": [1.0, 4.0]}
INFO = replace(
    policy_info(),
    cameras=("front", "wrist"),
    image_size=(32, 48),
    state=StateInfo(("x", "y"), ("m", "m"), dict.fromkeys(policy_info().norm_stats, RANGE)),
)


def scene(ticks: int = 30, seed: int = 0) -> list[Tick]:
    """Of a policy with two cameras and a state."""
    return scene_ticks(INFO, PlayerSettings(), ticks, seed)


def alike(one: Tick, other: Tick, camera: str = "front") -> bool:
    """Whether a camera sees the same."""
    return bool((one.observation.images[camera] == other.observation.images[camera]).all())


def test_it_moves_stands_still_and_begins_anew() -> None:
    """Every fourth picture is the one before's; after an episode the next one's table is another."""
    ticks = scene()
    seqs = [tick.place.seq for tick in ticks]
    still = [at for at in range(1, len(ticks)) if alike(ticks[at - 1], ticks[at])]

    assert still == [at for at in range(1, len(ticks)) if seqs[at] % REPEATED == REPEATED - 1]
    assert [tick.place.epoch for tick in ticks] == [at // EPISODE_TICKS for at in range(len(ticks))]
    assert {tick.place.id for tick in ticks} == {ticks[0].place.id}
    apart = np.abs(ticks[0].observation.images["front"].astype(int) - ticks[1].observation.images["front"])
    assert np.median(apart) <= 2 < apart.max()  # noise, and the patch
    changed = np.abs(
        ticks[0].observation.images["front"].astype(int) - ticks[EPISODE_TICKS].observation.images["front"]
    )
    assert np.median(changed) > 2
    assert all(np.diff([tick.at_s for tick in ticks]) > 0)


def test_every_camera_sees_something_else() -> None:
    """Of the policy's size, as unsigned bytes."""
    (tick,) = scene(1)
    front, wrist = (tick.observation.images[camera] for camera in INFO.cameras)

    assert front.shape == wrist.shape == (*INFO.image_size, 3)
    assert front.dtype == np.uint8
    assert (front != wrist).any()


def test_the_state_stays_within_its_statistics() -> None:
    """And moves."""
    states = np.array([tick.observation.state for tick in scene()])

    assert (states >= RANGE["low"]).all()
    assert (states <= RANGE["high"]).all()
    assert states.std(axis=0).min() > 0


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_the_digest_is_of_all_that_is_shown(seed: int, ticks: int) -> None:
    """The same for the same seed; another for another seed, one tick more, a changed pixel, word, number or place."""
    shown = scene(ticks, seed)
    first, rest = shown[0], shown[1:]
    seen, picture = first.observation, first.observation.images["wrist"].copy()
    picture[0, 0, 0] ^= 1
    others = [
        replace(first, observation=replace(seen, images={**seen.images, "wrist": picture})),
        replace(first, observation=replace(seen, instruction="pick up the blue cube")),
        replace(first, observation=replace(seen, center_crop=0.9)),
        replace(first, observation=replace(seen, state=np.nextafter(seen.state, 9))),  # type: ignore[arg-type]
        replace(first, place=replace(first.place, seq=7)),
        replace(first, at_s=first.at_s + 1),
    ]
    digests = [digest(shown), digest(scene(ticks + 1, seed)), digest(scene(ticks, seed + 1))]
    digests += [digest([other, *rest]) for other in others]

    assert digest(scene(ticks, seed)) == digests[0]
    assert len({*digests}) == len(digests)


def test_a_deployments_statistics_and_crop_are_asked_for() -> None:
    """As its frames would have them."""
    key = next(iter(INFO.norm_stats))
    (tick,) = scene_ticks(INFO, PlayerSettings(unnorm_key=key, center_crop=0.8), 1, 0)

    assert (tick.observation.unnorm_key, tick.observation.center_crop) == (key, 0.8)
    assert tick.observation.instruction == pytest.approx("pick up the red cube")

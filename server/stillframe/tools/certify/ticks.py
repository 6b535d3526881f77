"""Ticks: the frames that every arm is shown, in the same order: those of a recording, or of a scene drawn from a seed.

Knows recordings, pictures and a policy's contract; no model. A scene shows each camera another table of soft colours,
on which a red patch goes round on a circle, 1/24 of a turn a tick, ten ticks a second, under noise of one grey level.
Every fourth tick repeats the pictures of the one before. A state moves as a sine about the middle of its statistics.
Every 24 ticks an episode ends and the session begins its next, with other tables.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stillframe.domain import Image, Observation, PolicyInfo, SessionRef
from stillframe.errors import ConfigError
from stillframe.recording.reader import RecordedEpisode, check_pictures, whole_episodes
from stillframe.tools.pictures import background, with_patch
from stillframe.tools.replay.player import PlayerSettings, as_shown

SESSION = "certified"
INSTRUCTION = "pick up the red cube"
EPISODE_TICKS, REPEATED, PERIOD_S = 24, 4, 0.1
RESET_S = 5.0  # between the last tick of an episode and the first of the next
NOISE = 1  # grey levels


@dataclass(frozen=True)
class Tick:
    """One frame as it is shown to every arm."""

    observation: Observation
    place: SessionRef
    at_s: float  # by the arms' clock: gaps in time are what the reuse modes see of it


def recorded_ticks(
    episodes: Sequence[RecordedEpisode],
    info: PolicyInfo,
    settings: PlayerSettings,
    most: int,
    warn: Callable[[str], None],
) -> list[Tick]:
    """The first `most` frames, each session's in its order, at the times recorded; without chunks held to the last.

    `warn` is called with each that cannot be read. Raises StillframeError for pictures that were not kept, or no frame.
    """
    check_pictures(episodes)
    ticks = [*islice(_played(episodes, info, settings, warn), most)]
    if not ticks:
        raise ConfigError("not one recorded frame could be read; see the warnings above")
    return ticks


def _played(
    episodes: Sequence[RecordedEpisode], info: PolicyInfo, settings: PlayerSettings, warn: Callable[[str], None]
) -> Iterator[Tick]:
    for episode in whole_episodes(episodes):
        for frame in episode.frames(warn):
            frame.check_pictures()
            cache = frame.step.report.cache
            place = SessionRef(episode.card.session, cache.epoch, cache.seq, serial=episode.serial)
            yield Tick(as_shown(frame.observation, info, settings), place, frame.submitted_s)


def scene_ticks(info: PolicyInfo, settings: PlayerSettings, ticks: int, seed: int) -> list[Tick]:
    """The scene of that seed, as the cameras and the state of such a policy would see it."""
    random, made = np.random.default_rng(seed), list[Tick]()
    for tick in range(ticks):
        epoch, seq = divmod(tick, EPISODE_TICKS)
        still = seq % REPEATED == REPEATED - 1
        images = made[-1].observation.images if still else _pictures(info, seed, epoch, seq, random)
        key = settings.unnorm_key or info.default_unnorm_key or next(iter(info.norm_stats))
        seen = Observation(images, INSTRUCTION, key, settings.center_crop, _state(info, key, tick))
        made.append(Tick(seen, SessionRef(SESSION, epoch, seq), tick * PERIOD_S + epoch * RESET_S))
    return made


def _pictures(info: PolicyInfo, seed: int, epoch: int, seq: int, random: np.random.Generator) -> dict[str, Image]:
    drawn = {}
    for number, camera in enumerate(info.cameras):
        table = background(hash_of(seed, epoch, number), *info.image_size)
        shown = with_patch(table, 2 * math.pi * (seq / EPISODE_TICKS + number / 8)).astype(np.int16)
        noisy = shown + random.integers(-NOISE, NOISE + 1, shown.shape, dtype=np.int16)
        drawn[camera] = noisy.clip(0, 255).astype(np.uint8)
    return drawn


def hash_of(*numbers: int) -> int:
    """One seed of several."""
    return int.from_bytes(hashlib.sha256(json.dumps(numbers).encode()).digest()[:8], "big")


def _state(info: PolicyInfo, key: str, tick: int) -> NDArray[np.float64] | None:
    """[numbers] within their statistics; None where the policy reads none."""
    if info.state is None:
        return None
    stats = info.state.norm_stats[key]
    low, high = (np.asarray(stats[end], np.float64) for end in ("low", "high"))
    phase = 2 * math.pi * tick / EPISODE_TICKS + np.arange(len(low))
    state: NDArray[np.float64] = (low + high) / 2 + (high - low) / 4 * np.sin(phase)
    return state


def digest(ticks: Sequence[Tick]) -> str:
    """SHA-256 over all that arms are shown: of each tick a line of JSON, then its pictures' bytes, then its state's."""
    hashed = hashlib.sha256()
    for tick in ticks:
        hashed.update(json.dumps(_said(tick), sort_keys=True, ensure_ascii=False).encode() + b"\n")
        for picture in tick.observation.images.values():
            hashed.update(np.ascontiguousarray(picture).tobytes())
        if tick.observation.state is not None:
            hashed.update(tick.observation.state.astype("<f8").tobytes())
    return hashed.hexdigest()


def _said(tick: Tick) -> dict[str, Any]:
    seen, place = tick.observation, tick.place
    return {
        "session": [place.id, place.serial, place.epoch, place.seq],
        "at_s": tick.at_s,
        "instruction": seen.instruction,
        "unnorm_key": seen.unnorm_key,
        "center_crop": seen.center_crop,
        "pictures": [[camera, *picture.shape] for camera, picture in seen.images.items()],
    }

"""`stillframe replay`: play a recording through another checkpoint or reuse mode, and compare what is answered.

Knows the deployment and the order of work; the measure is in drift.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from stillframe.daemon.config import DaemonConfig
from stillframe.daemon.serve import open_history, open_model
from stillframe.domain import PolicyInfo, ReuseMode
from stillframe.engine.drift import chunk_distances
from stillframe.errors import StillframeError
from stillframe.recording.reader import RecordedEpisode, check_pictures
from stillframe.tools.replay.drift import FrameDrift, ReplayReport
from stillframe.tools.replay.player import PlayedFrame, Player, PlayerSettings


@dataclass(frozen=True)
class ReplayOptions:
    """What is asked of a replay beside its deployment."""

    mode: ReuseMode | None = None  # None: as the deployment has it
    pauses: bool = True
    frames: int | None = None  # None: all


def replay(
    deployment: DaemonConfig,
    episodes: Sequence[RecordedEpisode],
    options: ReplayOptions,
    *,
    warn: Callable[[str], None],
    advance: Callable[[], None],
) -> ReplayReport:
    """Play at most so many frames of `episodes` through a deployment whose checkpoint is a folder.

    Raises StillframeError for recordings that it cannot answer, or none at all.
    """
    check_pictures(episodes)
    model = open_model(deployment)
    reuse = replace(deployment.reuse, mode=options.mode or deployment.reuse.mode)
    cameras, crop = deployment.cameras or {}, deployment.center_crop
    settings = PlayerSettings(options.pauses, deployment.unnorm_key, cameras, crop)
    history = open_history(deployment, model)
    player = Player(model, reuse, settings, decoding=deployment.decoding, history=history)
    frames = []
    for played in islice(player.play(episodes, warn), options.frames):
        frames.append(_compared(played, player.info))
        advance()
    if not frames:
        raise StillframeError("not one recorded frame could be read; see the warnings above")
    return ReplayReport(player.info.name, reuse.mode, player.info.action_names, frames)


def _compared(played: PlayedFrame, info: PolicyInfo) -> FrameDrift:
    was, now = played.recorded.step, played.answer
    own = None if played.refresh is None else played.refresh.drift
    distances = chunk_distances(was.chunk, now.chunk, info)
    return FrameDrift(played.episode.card.session, played.episode.name, was, now, distances, own)

"""Shows recorded frames to a checkpoint as their robots did: session by session, at the times recorded, with resets.

Knows the engine's step and its idle refresh; not how answers are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from stillframe.domain import Observation, PolicyInfo, SessionRef, SlackReport, Step
from stillframe.engine.history import HistoryManager
from stillframe.engine.local import LocalPolicy
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.errors import RequestError, StillframeError
from stillframe.models.base import PolicyModel
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import RecordedEpisode, WholeEpisode, whole_episodes
from stillframe.reuse.settings import ReuseSettings

Warn = Callable[[str], None]
STATELESS = "; recordings hold the state where the policy that was served reads one"


@dataclass(frozen=True)
class PlayedFrame:
    """A recorded frame and what the checkpoint answered to it."""

    episode: WholeEpisode
    recorded: RecordedFrame
    answer: Step
    refresh: SlackReport | None  # of the pause after it; None: there was nothing to measure, or no pause


@dataclass(frozen=True)
class PlayerSettings:
    """How frames are shown."""

    pauses: bool = True  # whether the device is idle after each answer, long enough for a refresh
    unnorm_key: str | None = None  # statistics for frames that name none, or one that the checkpoint does not have
    cameras: Mapping[str, str] = field(
        default_factory=dict
    )  # the checkpoint's camera: the recorded one, if it is there
    center_crop: float | None = None  # share of each picture's area that is looked at; None: as was recorded


class Player:
    """One checkpoint and the clock that it goes by. One thread at a time."""

    def __init__(
        self,
        model: PolicyModel,
        reuse: ReuseSettings,
        settings: PlayerSettings,
        *,
        decoding: DecodingSettings = DEFAULT_DECODING,
        history: HistoryManager | None = None,
    ):
        """Raises ConfigError for settings that do not fit the checkpoint."""
        self._now_s = 0.0
        self._policy = LocalPolicy(model, reuse, lambda: self._now_s, decoding, history)
        self._settings = settings
        self.info: PolicyInfo = self._policy.info

    def play(self, episodes: Sequence[RecordedEpisode], warn: Warn) -> Iterator[PlayedFrame]:
        """Play every frame, each session's in its order. Raises StillframeError for one that cannot be answered.

        `warn` is called with each frame that cannot be read, and why.
        """
        playing: str | None = None  # whose state the policy holds
        for episode in whole_episodes(episodes):
            if playing not in {None, episode.card.session}:
                self._policy.forget(str(playing))
            playing = episode.card.session
            for frame in episode.frames(warn):
                answer = self._answer(frame, episode)
                refresh = self._policy.refresh() if self._settings.pauses else None
                yield PlayedFrame(episode, frame, answer, refresh)

    def _answer(self, frame: RecordedFrame, episode: WholeEpisode) -> Step:
        frame.check_pictures()
        self._now_s = frame.submitted_s
        cache, session = frame.step.report.cache, episode.card.session
        place = SessionRef(session, cache.epoch, cache.seq, serial=episode.serial)
        try:
            return self._policy.answer(as_shown(frame.observation, self.info, self._settings), place)
        except RequestError as error:
            hint = STATELESS if error.code == "missing-state" else ""
            raise StillframeError(
                f"{self.info.name} cannot answer what was recorded, frame {frame.name} of session {session}: "
                f"{error}{hint}"
            ) from error


def as_shown(seen: Observation, info: PolicyInfo, settings: PlayerSettings) -> Observation:
    """What was recorded, as the checkpoint of `info` is shown it: its own names of cameras, statistics that it has."""
    key = seen.unnorm_key if seen.unnorm_key in info.norm_stats else settings.unnorm_key
    crop, renamed = settings.center_crop or seen.center_crop, settings.cameras
    known = {camera: seen.images[recorded] for camera, recorded in renamed.items() if recorded in seen.images}
    return replace(seen, images=known or seen.images, unnorm_key=key, center_crop=crop)

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stillframe.errors import ConfigError
from stillframe.recording.frame import RecordedFrame, encode
from stillframe.recording.reader import RecordedEpisode, read_episodes, whole_episodes
from stillframe.recording.store import EpisodeCard, EpisodeStore

Shot = Callable[..., RecordedFrame]


def begun(root: Path, session: str, at_s: float, *frames: RecordedFrame) -> Path:
    """An episode's folder with these frames."""
    store = EpisodeStore(root, 2**30)
    folder = store.begin(EpisodeCard("stillframe-episode/1", session, 0, "scripted"), at_s)
    for frame in frames:
        store.put(folder, encode(frame))
    return folder


def test_an_episode_without_a_frame_is_none(tmp_path: Path, shot: Shot) -> None:
    """Its first frame was never written whole: it is not listed; where there is no other, there is nothing to read."""
    empty = begun(tmp_path, "empty", 1e9)
    (empty / "000000.0.png").write_bytes(b"half")
    for place in (tmp_path, empty):
        with pytest.raises(ConfigError, match="holds no episode"):
            read_episodes(place, pytest.fail)
    begun(tmp_path, "arm", 2e9, shot(0))

    assert [episode.card.session for episode in read_episodes(tmp_path, pytest.fail)] == ["arm"]


def test_frames_are_in_their_order(tmp_path: Path, shot: Shot) -> None:
    """By number, not by letter: the millionth comes after all that have six digits."""
    seqs = [1_000_000, 3, 999_999, 20]
    begun(tmp_path, "arm", 1e9, *map(shot, seqs))
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert [frame.step.report.cache.seq for frame in episode.frames(pytest.fail)] == sorted(seqs)


def test_episodes_are_in_their_order(tmp_path: Path, shot: Shot) -> None:
    """The oldest first, whatever their sessions are called."""
    for session, at_s in [("b", 3e8), ("a", 2e8), ("c", 1e8)]:
        begun(tmp_path, session, at_s, shot(0))

    assert [episode.card.session for episode in read_episodes(tmp_path, pytest.fail)] == ["c", "a", "b"]


def part(session: str, epoch: int, *seqs: int) -> RecordedEpisode:
    """A folder of frames."""
    card = EpisodeCard("stillframe-episode/1", session, epoch, "scripted")
    folder = Path(f"{session}-{epoch}-{seqs[0]}")
    return RecordedEpisode(card, folder, tuple(folder / f"{seq:06d}.json" for seq in seqs))


def test_a_long_episode_is_joined() -> None:
    """By its session, its epoch and its frames' numbers; sessions stay together."""
    whole = whole_episodes([part("a", 0, 0, 2), part("b", 0, 0, 1), part("a", 0, 3, 9), part("a", 1, 0)])

    assert [(one.name, [each.seqs for each in one.parts]) for one in whole] == [
        ("a-0-0", [(0, 2), (3, 9)]),
        ("a-1-0", [(0, 0)]),
        ("b-0-0", [(0, 1)]),
    ]
    assert {one.serial for one in whole} == {0}


def test_a_session_that_began_anew_has_another_serial() -> None:
    """Not one that was reset; one whose epoch or frames' numbers do not rise."""
    whole = whole_episodes([part("a", 0, 0, 2), part("a", 1, 0), part("a", 0, 0), part("a", 0, 0, 5), part("a", 2, 5)])

    assert [one.serial for one in whole] == [0, 0, 1, 2, 2]

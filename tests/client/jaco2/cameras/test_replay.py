from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from stillframe_client.jaco2.cameras import replay
from stillframe_client.jaco2.cameras.base import CameraUnusable
from stillframe_client.jaco2.cameras.replay import ReplaySource
from stillframe_client.jaco2.settings import BridgeSettings, CameraSettings


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A folder of three pictures, of values 1, 2, 3."""
    for value in (1, 2, 3):
        PIL.Image.fromarray(np.full((6, 8, 3), value, np.uint8)).save(tmp_path / f"{value}.png")
    return tmp_path


def opened(path: Path, clock: Any, *, loop: bool = True) -> ReplaySource:
    """Played at 10 pictures a second of a virtual time."""
    source = ReplaySource(path, 0.1, loop=loop, clock=clock, wait=clock.wait)
    source.open()
    return source


def test_pictures_come_at_their_rate_and_begin_again(three: Path, clock: Any) -> None:
    """The first at once, each next one a period later, and after the last the first, a period later too."""
    source = opened(three, clock)
    came = [(int(source.read()[0, 0, 0]), round(clock.now_s - 100, 6)) for _ in range(5)]

    assert came == [(1, 0.0), (2, 0.1), (3, 0.2), (1, 0.3), (2, 0.4)]


def test_it_ends_where_it_is_to_be_played_once(three: Path, clock: Any) -> None:
    """The last picture is there for a period, as every other; then the recording is over for good."""
    source = opened(three, clock, loop=False)
    for _ in range(3):
        source.read()
    with pytest.raises(CameraUnusable, match="is at its end"):
        source.read()

    assert clock.now_s == pytest.approx(100.3)


def test_after_a_delay_there_is_no_burst(three: Path, clock: Any) -> None:
    """A reader that comes late gets one picture at once, and the next a whole period after it."""
    source = opened(three, clock)
    source.read()
    clock.now_s += 5
    source.read()
    late_s = clock.now_s
    source.read()

    assert late_s == 105
    assert clock.now_s == pytest.approx(105.1)


def test_opened_again_it_begins_again(three: Path, clock: Any) -> None:
    """With the first picture, at once; closed twice is closed."""
    source = opened(three, clock)
    source.read()
    source.close()
    source.close()
    source.open()

    assert source.read()[0, 0, 0] == 1


def test_a_source_without_a_picture_does_not_go_round_for_ever(
    three: Path, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A video of no frames is refused when it is read."""
    monkeypatch.setattr(replay, "opener", lambda *_: lambda: iter(()))
    with pytest.raises(CameraUnusable, match="holds no picture"):
        opened(three, clock).read()


def test_what_is_missing_is_said_when_it_is_opened(tmp_path: Path, clock: Any) -> None:
    """A folder that is not there."""
    with pytest.raises(CameraUnusable, match="is not there"):
        opened(tmp_path / "missing", clock)


@pytest.mark.parametrize(("prefix", "ends"), [("", False), ("once:", True)], ids=["loop", "once"])
def test_the_source_says_whether_it_ends(three: Path, prefix: str, *, ends: bool) -> None:
    """once:PATH is played once, PATH again and again; at the rate of the settings."""
    source = replay.make(CameraSettings(kind="replay", source=f"{prefix}{three}", fps=240.0), BridgeSettings())
    source.open()
    values = [int(source.read()[0, 0, 0]) for _ in range(3)]

    assert values == [1, 2, 3]
    if ends:
        with pytest.raises(CameraUnusable, match="is at its end"):
            source.read()
    else:
        assert source.read()[0, 0, 0] == 1

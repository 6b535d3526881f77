"""Films, decoded by PyAV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stillframe.errors import StillframeError
from stillframe.recording.frame import RecordedFrame

av = pytest.importorskip("av", reason="needs the extra export-video")

from stillframe.tools.export.film import Film  # noqa: E402


def decoded(file: Path) -> list[tuple[float, np.ndarray]]:
    """Time and picture of every frame."""
    with av.open(str(file)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


def test_a_film_has_every_frame_at_its_rate(exported: Callable[..., list[Path]]) -> None:
    """As many as were recorded, at the rate that they were; pictures as they were, up to what H.264 loses."""
    films = [decoded(file) for file in exported("video")]
    times = [time for time, _ in films[0]]

    assert [len(film) for film in films] == [3, 2]
    assert times == pytest.approx([0, 0.2, 0.4])
    levels = [float(picture[40:60, 100:200].mean()) for _, picture in films[0]]
    assert levels == pytest.approx([60, 100, 140], abs=4)


def test_a_rate_can_be_chosen(exported: Callable[..., list[Path]]) -> None:
    """Slower, to look closer."""
    film = decoded(exported("video", fps=2)[0])

    assert [time for time, _ in film] == pytest.approx([0, 0.5, 1.0])


def test_beside_a_picture_is_what_was_computed(exported: Callable[..., list[Path]]) -> None:
    """Reused patches are paled; below come two lines of words."""
    _, picture = decoded(exported("video")[0])[1]
    words = picture[(32 + 31) * 5 : -2]
    left, right = picture[5:30, 30:50], picture[5:30, 240 + 30 : 240 + 50]
    assert picture.shape[1] == 2 * 48 * 5
    assert left.mean() < right.mean()
    assert words.mean() > 200
    assert words.min() < 100


def test_a_picture_of_another_size_is_refused(tmp_path: Path) -> None:
    """A film has one; what to do is said."""
    with Film(tmp_path / "a.mp4", 5) as film:
        film.add(np.zeros((33, 32, 3), np.uint8))
        film.add(np.zeros((34, 32, 3), np.uint8))
        with pytest.raises(StillframeError, match=r"a\.mp4: a picture is 64 by 34 pixels, those before it 32 by 34"):
            film.add(np.zeros((34, 64, 3), np.uint8))
    assert len(decoded(tmp_path / "a.mp4")) == 2


def test_old_recordings_have_films_too(exported: Callable[..., list[Path]], frames: list[RecordedFrame]) -> None:
    """Where it is not known what was computed, pictures stand alone."""

    def older(frame: RecordedFrame) -> RecordedFrame:
        report = frame.step.report
        bare = replace(report, cache=replace(report.cache, patches=None, last_drift=None))
        return replace(frame, step=replace(frame.step, report=bare))

    (film, _) = exported("video", [older(frame) for frame in frames])
    _, picture = decoded(film)[1]

    assert picture[5:30, 100:470].std() < 3  # the bar is at the left, and nothing beside the picture

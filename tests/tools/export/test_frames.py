"""What all formats share: which pixels were reused, drift from the next frame, the rate, and where an export may go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe.domain import ReusedPatches
from stillframe.errors import ConfigError, StillframeError
from stillframe.recording.frame import RecordedFrame
from stillframe.recording.reader import read_episodes, whole_episodes
from stillframe.tools.export.command import export
from stillframe.tools.export.frames import exported as exported_frames
from stillframe.tools.export.frames import names_of, rate_hz, reused_pixels

Exported = Callable[..., list[Path]]
TWO = (2, 2)


def test_reused_patches_are_stretched_over_the_picture() -> None:
    """Row by row, whatever its size."""
    pixels = reused_pixels(ReusedPatches(TWO, (1, 2)), (4, 6), 1.0)

    assert pixels.astype(int).tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[1, 1, 1, 0, 0, 0]] * 2


def test_what_is_not_looked_at_was_not_reused() -> None:
    """Of a crop of a quarter of the area, the grid covers the middle half of each side."""
    pixels = reused_pixels(ReusedPatches(TWO, (0, 1, 2, 3)), (8, 8), 0.25)

    assert pixels.sum() == 16
    assert pixels[2:6, 2:6].all()


def test_a_padded_picture_is_the_middle_of_the_grid() -> None:
    """Of a wide picture, the upper and lower quarter of a grid of four rows are bars."""
    pixels = reused_pixels(ReusedPatches((4, 4), (4, 5, 14, 15), padded=True), (4, 8), 1.0)

    assert pixels.astype(int).tolist() == [[1, 1, 1, 1, 0, 0, 0, 0]] * 2 + [[0] * 8] * 2


def test_drift_is_told_by_the_next_frame(
    frames: list[RecordedFrame], stored: Callable[..., Path], tmp_path: Path
) -> None:
    """The last of an episode has none."""
    whole = whole_episodes(read_episodes(stored(tmp_path, frames), pytest.fail))

    assert [[frame.drift for frame in exported_frames(one, pytest.fail)] for one in whole] == [
        [0.5, 0.25, None],
        [0.5, None],
    ]


def test_the_rate_is_that_of_an_episodes_frames(
    frames: list[RecordedFrame], stored: Callable[..., Path], tmp_path: Path
) -> None:
    """Pauses between episodes do not count; of single frames there is none."""
    whole = whole_episodes(read_episodes(stored(tmp_path / "a", frames), pytest.fail))
    single = whole_episodes(read_episodes(stored(tmp_path / "b", [frames[0], frames[3]]), pytest.fail))

    assert rate_hz(whole) == 5
    assert rate_hz(single) == 10


def test_names_are_those_recorded_where_they_fit() -> None:
    """Else numbers have their place for a name."""
    assert names_of(("x", "y"), 2, "state") == ["x", "y"]
    assert names_of((), 2, "state") == ["state_0", "state_1"]
    assert names_of(("x", "y"), 3, "action") == ["action_0", "action_1", "action_2"]


@pytest.mark.parametrize("kept", ["hash", "none"])
def test_without_pictures_nothing_is_exported(
    frames: list[RecordedFrame], stored: Callable[..., Path], tmp_path: Path, kept: Any
) -> None:
    """And it says what to record."""
    episodes = read_episodes(stored(tmp_path / "in", frames, images=kept), pytest.fail)
    with pytest.raises(StillframeError, match=rf"has no picture of front, wrist: .*'{kept}'.*--record-images png"):
        export(episodes, "mcap", tmp_path / "out", warn=pytest.fail, advance=lambda: None)
    assert not (tmp_path / "out").exists()


def test_an_export_goes_into_an_empty_folder(exported: Exported, tmp_path: Path) -> None:
    """What is there is never mixed with it, nor overwritten."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("keep")
    with pytest.raises(ConfigError, match=r"out holds mine\.txt; an export goes into a new or empty folder"):
        exported("video")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("to", "extra", "package"),
    [
        ("rrd", "export-rerun", "rerun"),
        ("mcap", "export-mcap", "mcap"),
        ("video", "export-video", "av"),
        ("lerobot", "export-lerobot", "pyarrow and av"),
    ],
)
def test_a_missing_package_is_named_with_what_to_install(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: Any, extra: str, package: str
) -> None:
    """Before anything is made."""
    monkeypatch.setattr("stillframe.tools.extras.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"needs {package}, not installed here; run: pip install '.*\[{extra}"):
        exported(to)
    assert not (tmp_path / "out").exists()


def test_the_overlay_pales_what_was_reused(
    frames: list[RecordedFrame], stored: Callable[..., Path], tmp_path: Path
) -> None:
    """Of a keyframe nothing; of a camera whose patches are not known there is none."""
    whole = whole_episodes(read_episodes(stored(tmp_path, frames), pytest.fail))
    key, delta, _ = exported_frames(whole[0], pytest.fail)
    overlay, reused = delta.overlay("front"), delta.reused("front")

    assert np.array_equal(key.overlay("front"), key.pictures["front"])
    assert reused.sum() == 3 * 8 * 12
    assert np.array_equal(overlay[~reused], delta.pictures["front"][~reused])
    assert (overlay[reused] > delta.pictures["front"][reused]).all()
    assert delta.overlay("side") is None

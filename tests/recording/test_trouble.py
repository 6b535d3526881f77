from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe.metrics import Metrics
from stillframe.recording.reader import read_episodes
from stillframe.recording.recorder import Recorder
from stillframe.recording.store import ABANDONED_S, EpisodeCard, EpisodeStore
from stillframe.recording.trouble import FIRST_REST_S, FREE_TRIES, LONGEST_REST_S, Trouble

Shot = Callable[..., Any]
Written = Callable[..., None]
LOG = logging.getLogger("trouble-test")
FULL = OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def loud(caplog: pytest.LogCaptureFixture) -> None:
    """All that is logged is seen."""
    caplog.set_level(logging.INFO)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A disk on which half of a file finds room, while the list is not empty."""
    full: list[bool] = []
    write = Path.write_bytes

    def written(file: Path, content: bytes) -> int:
        if not full:
            return write(file, content)
        write(file, content[: len(content) // 2])
        raise FULL

    monkeypatch.setattr(Path, "write_bytes", written)
    return full


def names(root: Path) -> list[str]:
    """All files of all episodes, cards aside."""
    return sorted(file.name for file in root.glob("*/*") if file.name != "episode.json")


def test_a_full_disk_leaves_nothing_half_and_heals(
    tmp_path: Path, shot: Shot, written: Written, caplog: pytest.LogCaptureFixture, full_disk: list[bool]
) -> None:
    """What is lost is counted, what is kept is whole; it is said once when it begins and once when it ends."""
    recorder = Recorder(tmp_path, max_bytes=2**20, log=LOG)
    for seq in range(7):
        full_disk[:] = [True] if 2 <= seq < 5 else []
        recorder.keep("arm", "scripted", shot(seq))
        written(recorder, seq + 1)
        if seq == 4:
            failing = recorder.report
    report = recorder.report
    recorder.close()
    (episode,) = read_episodes(tmp_path, pytest.fail)

    assert (failing.state, failing.kept, failing.lost) == ("failing", 2, 3)
    assert "No space left" in failing.trouble
    assert (report.state, report.kept, report.lost, report.trouble) == ("recording", 4, 3, None)
    assert names(tmp_path) == sorted(f"{seq:06d}.{end}" for seq in (0, 1, 5, 6) for end in ("0.png", "json"))
    assert [one.name for one in episode.frames(pytest.fail)] == ["000000", "000001", "000005", "000006"]
    assert [record.getMessage() for record in caplog.records if record.name == LOG.name][:2] == [
        "a frame could not be recorded: OSError: [Errno 28] No space left on device (1 so far)",
        "frames are recorded again; 3 were lost meanwhile",
    ]


def test_an_episode_for_whose_card_there_is_no_room_leaves_no_folder(
    tmp_path: Path, shot: Shot, written: Written, full_disk: list[bool]
) -> None:
    """The first frame finds the disk full."""
    recorder = Recorder(tmp_path, max_bytes=2**20, log=LOG)
    full_disk[:] = [True]
    recorder.keep("arm", "scripted", shot(0))
    written(recorder, 1)

    assert [*tmp_path.iterdir()] == []
    assert recorder.report.used_bytes == 0
    recorder.close()


@pytest.mark.parametrize("what", ["episode", "root"])
def test_a_folder_that_was_taken_is_made_anew(tmp_path: Path, shot: Shot, written: Written, what: str) -> None:
    """An episode that runs goes on in a new one, be it in a new root: no frame is lost."""
    root = tmp_path / "rec"
    recorder = Recorder(root, max_bytes=2**20, log=LOG)
    for seq in range(4):
        recorder.keep("arm", "scripted", shot(seq, at_s=1e9 + seq))
        written(recorder, seq + 1)
        if seq == 1:
            shutil.rmtree(root if what == "root" else next(root.iterdir()))
    recorder.close()
    (episode,) = read_episodes(root, pytest.fail)

    assert (recorder.kept, recorder.dropped) == (4, 0)
    assert [one.name for one in episode.frames(pytest.fail)] == ["000002", "000003"]


def test_a_folder_that_is_no_more_takes_nothing(tmp_path: Path) -> None:
    """It was there when it was counted."""
    store = EpisodeStore(tmp_path, 2**20)
    folder = store.begin(EpisodeCard("stillframe-episode/1", "arm", 0, "scripted"), 1e9)
    before = store.takes(folder, {"a": b"x"})
    shutil.rmtree(folder)

    assert (before, store.takes(folder, {"a": b"x"})) == (True, False)


def test_what_a_killed_daemon_had_half_written_goes_at_the_next_start(tmp_path: Path) -> None:
    """What is as young as another daemon's next file stays."""
    folder = tmp_path / "20200101T000000.000000Z-0123456789ab-0000"
    folder.mkdir()
    for name in ("old.png.part", "new.png.part", "000000.json"):
        (folder / name).write_bytes(b"x")
    long_ago_s = time.time() - 2 * ABANDONED_S
    os.utime(folder / "old.png.part", (long_ago_s, long_ago_s))
    EpisodeStore(tmp_path, 2**20)

    assert sorted(file.name for file in folder.iterdir()) == ["000000.json", "new.png.part"]


def test_a_disk_that_fails_again_and_again_is_left_alone_for_a_while() -> None:
    """Longer each time, within a bound; the first that is kept ends it."""
    now, rests_s = [0.0], []
    trouble = Trouble(LOG, lambda: now[0])
    for _ in range(FREE_TRIES - 1):
        trouble.lose("full", failed=True)
    free = trouble.rests
    for _ in range(8):
        trouble.lose("full", failed=True)
        began_s = now[0]
        while trouble.rests:
            trouble.lose()
            now[0] += FIRST_REST_S / 4
        rests_s.append(now[0] - began_s)
    lost, reason = trouble.lost, trouble.reason
    trouble.over(all_written=True)

    assert not free
    assert rests_s == [min(LONGEST_REST_S, FIRST_REST_S * 2**time) for time in range(8)]
    assert lost == FREE_TRIES - 1 + 8 + sum(4 * rest_s / FIRST_REST_S for rest_s in rests_s)
    assert (reason, trouble.reason, trouble.rests) == ("full", None, False)


def test_a_disk_that_is_too_slow_is_well_again_once_nothing_waits() -> None:
    """Not with each frame that it takes."""
    trouble = Trouble(LOG, lambda: 0.0)
    trouble.lose("slow")
    trouble.over(all_written=False)
    before = trouble.reason
    trouble.over(all_written=True)

    assert (before, trouble.reason) == ("slow", None)


def test_frames_of_no_session_are_counted_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever records stateless clients learns that nothing of them is kept."""
    recorder = Recorder(tmp_path, max_bytes=2**20, log=LOG)
    for _ in range(3):
        recorder.pass_by()
    recorder.close()

    assert recorder.report.sessionless == 3
    assert [record.levelname for record in caplog.records if record.name == LOG.name] == ["WARNING", "INFO"]
    assert "only sessions have episodes" in caplog.records[0].getMessage()


def test_what_became_of_frames_is_in_the_metrics(tmp_path: Path, shot: Shot, full_disk: list[bool]) -> None:
    """Kept, lost, of no session; whether it fails now; bytes."""
    from prometheus_client import CollectorRegistry

    recorder, registry = Recorder(tmp_path, max_bytes=2**20, log=LOG), CollectorRegistry()
    Metrics(registry).recording(lambda: recorder.report)
    recorder.keep("arm", "scripted", shot(0))
    recorder.pass_by()
    while recorder.kept < 1:
        time.sleep(0.001)
    full_disk[:] = [True]
    recorder.keep("arm", "scripted", shot(1))
    recorder.close()
    results = {
        result: registry.get_sample_value("stillframe_recording_frames_total", {"result": result})
        for result in ("kept", "lost", "sessionless")
    }

    assert results == {"kept": 1, "lost": 1, "sessionless": 1}
    assert registry.get_sample_value("stillframe_recording_failing") == 1
    assert registry.get_sample_value("stillframe_recording_bytes") == EpisodeStore(tmp_path, 2**20).used_bytes
    assert registry.get_sample_value("stillframe_recording_budget_bytes") == 2**20

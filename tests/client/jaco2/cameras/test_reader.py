from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.cameras import reader
from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable, StaleFrame
from stillframe_client.jaco2.cameras.reader import LONGEST_RETRY_S, RETRY_S


def test_the_newest_picture_is_given_with_its_number_and_arrival(new_rig: Any, noise: Any) -> None:
    """Frames are numbered from 1 as they come; of several the newest is given, with the time it arrived at."""
    rig = new_rig().started(noise(1))
    first = rig.camera.latest()
    rig.clock.now_s = 100.1
    rig.source.feed(noise(2), noise(3))
    newest = rig.camera.latest()

    assert (first.seq, first.time_s) == (1, 100.0)
    assert (newest.seq, newest.time_s) == (3, 100.1)
    assert np.array_equal(first.picture, noise(1))
    assert np.array_equal(newest.picture, noise(3))


def test_a_frame_is_prepared_once_and_belongs_to_all(new_rig: Any, noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again, the same frame comes back without being resized again, and none of those who have it can write."""
    prepared: list[int] = []
    real = reader.prepare
    monkeypatch.setattr(reader, "prepare", lambda *args, **asked: prepared.append(1) or real(*args, **asked))
    rig = new_rig(resize=4).started(noise(1))
    frame = rig.camera.latest()

    assert rig.camera.latest() is frame
    assert len(prepared) == 1
    assert frame.picture.shape == (4, 4, 3)
    assert not frame.picture.flags.writeable
    rig.source.feed(noise(2))
    assert rig.camera.latest() is not frame
    assert len(prepared) == 2


def test_a_frame_that_needs_no_preparing_cannot_be_written_either(new_rig: Any, noise: Any) -> None:
    """It is the camera's own array, without a copy, and still read-only; the one that read it may write it."""
    picture = noise(1)
    frame = new_rig(resize=0).started(picture).camera.latest()

    assert np.shares_memory(frame.picture, picture)
    assert not frame.picture.flags.writeable
    assert picture.flags.writeable


def test_turn_crop_and_size_are_the_settings(new_rig: Any, noise: Any) -> None:
    """The picture is turned clockwise, cropped by its shares and left at that size where no resize is asked for."""
    rig = new_rig(rotate=90, crop=(0.0, 0.5, 0.5, 1.0)).started(noise(1))
    turned = np.rot90(noise(1), -1)  # [8, 6, 3]

    assert np.array_equal(rig.camera.latest().picture, turned[4:, :3])


def test_a_picture_that_is_too_old_is_not_given(new_rig: Any, noise: Any) -> None:
    """At age_s it is still given, past it StaleFrame says its age; the next picture ends that."""
    rig = new_rig(age_s=0.25).started(noise(1))
    rig.clock.now_s = 100.25
    rig.camera.latest()
    rig.clock.now_s = 100.5
    with pytest.raises(StaleFrame, match=r"cameras\.front: the newest picture is 0\.50 s old; .* the last 0\.25 s"):
        rig.camera.latest()
    rig.source.feed(noise(2))

    assert rig.camera.latest().seq == 2


def test_the_same_bytes_again_and_again_are_frozen(new_rig: Any, noise: Any) -> None:
    """Arriving on time does not help where nothing changes for frozen_s; one changed value does."""
    rig = new_rig().started(noise(1))
    for now_s in (100.25, 100.5, 100.75):
        rig.clock.now_s = now_s
        rig.source.feed(noise(1).copy())
        rig.camera.latest()
    rig.clock.now_s = 101.0
    rig.source.feed(noise(1))
    with pytest.raises(StaleFrame, match=r"cameras\.front: the camera is frozen: .* for 1\.0 s"):
        rig.camera.latest()
    changed = noise(1)
    changed[-1, -1, -1] ^= 1
    rig.source.feed(changed)

    assert rig.camera.latest().seq == 6


def test_a_recording_may_stand_still(new_rig: Any, noise: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With frozen_s = 0 the same bytes are as good as any, for as long as they come, and are not even looked at."""
    looks: list[bool] = []
    real = reader.arrived
    monkeypatch.setattr(reader, "arrived", lambda *args, look: looks.append(look) or real(*args, look=look))
    rig = new_rig(frozen_s=0.0).started(noise(1))
    for now_s in np.arange(100.25, 130, 0.25):
        rig.clock.now_s = float(now_s)
        rig.source.feed(noise(1))

    assert rig.camera.latest().seq == 120
    assert set(looks) == {False}


def test_a_camera_that_goes_away_is_said_at_once_and_opened_again(new_rig: Any, noise: Any) -> None:
    """The last picture is not given once its device is gone, young as it is; after reopening numbers go on."""
    rig = new_rig().started(noise(1))
    rig.source.failures.extend([CameraError("unplugged")] * 3)
    gone = threading.Event()
    opened = threading.Event()
    rig.camera._pause = lambda pause_s: (rig.clock.waits_s.append(pause_s), gone.set(), opened.wait(20))
    rig.source.put(CameraError("unplugged"))
    assert gone.wait(20)
    with pytest.raises(CameraError, match=r"^cameras\.front: unplugged$") as raised:
        rig.camera.latest()
    opened.set()
    rig.source.feed(noise(2))

    assert type(raised.value) is CameraError
    assert rig.camera.latest().seq == 2
    assert rig.source.calls == ["open", "close"] * 4 + ["open"]
    assert rig.clock.waits_s == [RETRY_S, RETRY_S * 2, RETRY_S * 4, RETRY_S * 8]


def test_it_is_opened_again_ever_more_seldom_up_to_a_bound(new_rig: Any, noise: Any) -> None:
    """Pauses double up to LONGEST_RETRY_S, and begin anew once a picture came."""
    rig = new_rig(age_s=2.0).started(noise(1))
    rig.source.failures.extend([CameraError("busy")] * 7)
    rig.source.feed(CameraError("gone"), noise(2), CameraError("gone"), noise(3))

    assert rig.clock.waits_s == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 0.1])
    assert max(rig.clock.waits_s) == LONGEST_RETRY_S


@pytest.mark.parametrize(
    "error", [RuntimeError("driver"), MemoryError(), KeyError("x")], ids=["runtime", "memory", "key"]
)
def test_whatever_a_driver_raises_the_thread_lives_on(new_rig: Any, noise: Any, error: Exception) -> None:
    """An error of any type counts as a camera that went away: it is told, and the camera is opened again."""
    rig = new_rig().started(noise(1))
    held, told = threading.Event(), []

    def pause(_: float) -> None:
        try:
            rig.camera.latest()
        except CameraError as fault:
            told.append(str(fault))
        held.set()

    rig.camera._pause = pause
    rig.source.feed(error, noise(2))

    assert held.is_set()
    assert told == [f"cameras.front: its driver failed: {error!r}"]
    assert rig.camera.latest().seq == 2


def test_a_source_that_cannot_even_be_closed_is_opened_again(
    new_rig: Any, noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error on closing does not end the thread either."""
    rig = new_rig().started(noise(1))
    fails = iter([True])

    def close() -> None:
        if next(fails, False):
            raise OSError("half gone")

    monkeypatch.setattr(rig.source, "close", close)
    rig.source.feed(CameraError("gone"), noise(2))

    assert rig.camera.latest().seq == 2


def test_a_picture_of_another_size_is_refused_by_name(new_rig: Any, noise: Any) -> None:
    """Starting raises at once with what came and what was expected, and lets go of the device."""
    rig = new_rig((8, 6))
    rig.source.put(noise(1, 6, 9))
    with pytest.raises(CameraUnusable, match=r"cameras\.front: a picture of 9 x 6 came .* expected 8 x 6, as its sett"):
        rig.camera.start(60)

    assert rig.source.calls == ["open", "close"]


def test_a_size_that_changes_later_stops_the_camera_for_good(new_rig: Any, noise: Any) -> None:
    """The picture before it is not given any more, and the device is not opened again."""
    rig = new_rig().started(noise(1))
    rig.source.put(noise(2, 8, 6))
    rig.source.until("close", 1)
    rig.camera._thread.join(60)
    with pytest.raises(CameraUnusable, match="6 x 8 came"):
        rig.camera.latest()

    assert rig.source.calls == ["open", "close"]


def test_the_first_picture_says_the_size_where_none_is_set(new_rig: Any, noise: Any) -> None:
    """A source with a size of its own keeps to it: any at first, and then no other."""
    rig = new_rig(None).started(noise(1, 30, 50))
    assert rig.camera.latest().picture.shape == (30, 50, 3)
    rig.source.put(noise(1, 31, 50))
    rig.source.until("close", 1)
    with pytest.raises(CameraUnusable, match=r"50 x 31 came .* expected 50 x 30 as the first one was"):
        rig.camera.latest()


@pytest.mark.parametrize(
    "give_up", [CameraUnusable("pip install it"), CameraUnusable("at its end")], ids=["missing", "ended"]
)
def test_what_cannot_help_is_not_tried_again(new_rig: Any, give_up: Exception) -> None:
    """Starting does not wait for its time to be up where the source says that trying again is of no use."""
    rig = new_rig()
    rig.source.failures.append(give_up)
    with pytest.raises(CameraUnusable, match=f"front: {give_up}"):
        rig.camera.start(60)

    assert rig.source.calls == ["open", "close"]
    assert rig.clock.waits_s == []


def test_a_camera_that_is_slow_to_come_is_waited_for(new_rig: Any, noise: Any) -> None:
    """A device that cannot be opened at first may come within start's time."""
    rig = new_rig()
    rig.source.failures.extend([CameraError("not yet")] * 3)
    rig.started(noise(1))

    assert rig.camera.latest().seq == 1


def test_start_gives_the_last_reason_when_time_is_up(new_rig: Any) -> None:
    """A device that never opens: its own reason, and nothing is left running."""
    rig = new_rig()
    rig.source.failures.extend([CameraError("held by another program")] * 100_000)
    rig.camera._pause = lambda _: time.sleep(0.01)
    with pytest.raises(CameraError, match="front: held by another program"):
        rig.camera.start(0.2)
    rig.camera._thread.join(60)

    assert not rig.camera._thread.is_alive()


def test_start_says_that_no_picture_came(new_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that opens and stays silent: no picture within the time."""
    monkeypatch.setattr(reader, "CLOSE_S", 0.05)  # for it is blocked
    rig = new_rig()
    with pytest.raises(CameraError, match=r"front: no picture came within 0\.1 s"):
        rig.camera.start(0.1)


def test_before_the_start_and_after_the_end_there_is_no_frame(new_rig: Any, noise: Any) -> None:
    """A look at it says why, and a closed camera is not started again."""
    rig = new_rig()
    with pytest.raises(CameraError, match="no picture came yet"):
        rig.camera.latest()
    rig.started(noise(1))
    rig.source.put(noise(2))
    rig.camera.close()
    with pytest.raises(CameraError, match="it is closed"):
        rig.camera.latest()
    with pytest.raises(CameraError, match="it is closed"):
        rig.camera.start(1)


def test_closing_does_not_wait_for_a_device_that_is_stuck(
    new_rig: Any, noise: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing returns within its bound; the thread keeps no process alive, and closes the device when it comes back."""
    monkeypatch.setattr(reader, "CLOSE_S", 0.2)
    rig = new_rig().started(noise(1))
    before = time.monotonic()
    rig.camera.close()
    took_s = time.monotonic() - before

    assert took_s < 10
    assert rig.source.calls == ["open"]
    assert rig.camera._thread.is_alive()
    assert rig.camera._thread.daemon
    rig.source.put(noise(2))
    rig.camera._thread.join(60)
    assert rig.source.calls == ["open", "close"]


def test_closing_ends_the_pause_before_it_is_opened_again(new_rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera that is gone is closed at once, however long its pause would last."""
    rig = new_rig()
    rig.camera._pause = rig.camera._closing.wait
    monkeypatch.setattr(reader, "RETRY_S", 60.0)
    rig.source.failures.append(CameraError("gone"))
    with pytest.raises(CameraError, match="gone"):
        rig.camera.start(0.05)

    assert not rig.camera._thread.is_alive()


def test_one_thread_alone_touches_the_source(new_rig: Any, noise: Any) -> None:
    """It is opened, read and closed by the camera's own thread, as OpenCV and OpenGL want it."""
    rig = new_rig().started(noise(1))
    rig.source.put(noise(2))
    rig.camera.close()

    assert rig.source.threads == {"camera front"}


def test_no_thread_ever_sees_half_a_frame(new_rig: Any) -> None:
    """While pictures of one colour each come as fast as they can, all frames seen by four threads are of one colour.

    And no thread sees a frame of an older number after a newer one.
    """
    rig = new_rig((64, 64), frozen_s=0.0).started(np.zeros((64, 64, 3), np.uint8))
    faults: list[str] = []
    seen: list[int] = []
    over = threading.Event()

    def look() -> None:
        last = 0
        while not over.is_set():
            frame = rig.camera.latest()
            if frame.picture.min() != frame.picture.max() or (frame.seq - 1) % 256 != frame.picture[0, 0, 0]:
                faults.append(f"frame {frame.seq} is mixed")
            if frame.seq < last:
                faults.append(f"frame {frame.seq} came after {last}")
            last = frame.seq
        seen.append(last)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for colour in range(1, 400):
        rig.source.feed(np.full((64, 64, 3), colour % 256, np.uint8))
    over.set()
    for thread in threads:
        thread.join(60)

    assert faults == []
    assert len(seen) == 4

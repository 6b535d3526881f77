"""What the feed says of a frame."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import PIL.Image

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    CameraView,
    DraftReport,
    FrameViews,
    HistoryReport,
    KeyframeReason,
    SlackReport,
    Step,
    StepReport,
)
from stillframe.web.http.reply_metadata import reuse_report
from stillframe.web.live.documents import entry_document, picture_document
from stillframe.web.live.history import Entry, PicturedFrame

CACHE = CacheReport("adaptive", KeyframeReason.RESET, 0.25, 10, 20, 4096, 3, epoch=2, seq=9)
ACTIONS = np.arange(14, dtype=np.float64).reshape(2, 7)


def answered(**report: Any) -> Step:
    """A frame's answer: a chunk of two actions."""
    stages = {"queue": 1.0, "prefill": 8.125}
    return Step(
        ActionChunk(ACTIONS, "robot"), StepReport(stages, 3, CACHE, DraftReport("exact", "previous", 5), **report)
    )


def test_a_frames_figures_are_said_as_replies_say_them() -> None:
    """`cache` is the API's own member; times, passes, draft and the action due now beside it."""
    said = entry_document(Entry(7, 1000.1234, 2, 9, answered(batch=2)))

    assert said["cache"] == reuse_report(CACHE, None)["cache"]
    assert (said["number"], said["at_s"], said["epoch"], said["seq"]) == (7, 1000.123, 2, 9)
    assert (said["timing_ms"], said["total_ms"]) == ({"queue": 1.0, "prefill": 8.125}, 9.125)
    assert (said["passes"], said["batch"], said["history"]) == (3, 2, None)
    assert said["draft"] == {"mode": "exact", "way": "previous", "accepted": 5}
    assert said["action"] == ACTIONS[0].tolist()


def test_older_frames_are_told_in_chunks_and_bytes() -> None:
    """Held, kept and dropped."""
    said = entry_document(Entry(1, 0.0, 0, 0, answered(history=HistoryReport(4, 8, 3, 2, 1024))))

    assert {name: said["history"][name] for name in ("held", "kept", "dropped", "nbytes")} == {
        "held": 4,
        "kept": 3,
        "dropped": 2,
        "nbytes": 1024,
    }


def test_a_refresh_says_the_drift_of_its_frame() -> None:
    """And which frame that is."""
    said = entry_document(Entry(8, 1.0, 2, 9, SlackReport(20.5, drift=0.0157)))

    assert said == {"number": 8, "at_s": 1.0, "epoch": 2, "seq": 9, "drift": 0.0157, "refresh_ms": 20.5}


def test_a_picture_is_a_jpeg_with_a_digit_for_each_patch() -> None:
    """In raster order; the size is the picture's own, the whole chunk is there, and all of it is JSON."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, 24:] = (200, 40, 40)
    fates = np.array([[0, 1, 2], [3, 0, 1]], np.uint8)
    frame = PicturedFrame(7, 2, 9, answered(), FrameViews("lift it", {"front": CameraView(picture, fates)}))
    said = json.loads(json.dumps(picture_document(frame)))
    (camera,) = said["cameras"]
    with PIL.Image.open(io.BytesIO(base64.b64decode(camera["jpeg"]))) as decoded:
        pixels, kind = np.asarray(decoded), decoded.format

    assert (camera["name"], camera["width"], camera["height"], camera["rows"], camera["columns"]) == (
        *("front", 48, 32),
        *(2, 3),
    )
    assert camera["patches"] == "012301"
    assert (kind, pixels.shape) == ("JPEG", (32, 48, 3))
    assert pixels[16, 4].max() < 30
    assert pixels[16, 44, 0] > 170
    assert (said["instruction"], said["actions"], said["number"]) == ("lift it", ACTIONS.tolist(), 7)

"""Writes what the bridge saw and was answered: frames.jsonl, and pictures where they are kept.

Knows no policy and no arm. The arm's side of the story is the streamer's tick log; times are of the same clock.
"""

from __future__ import annotations

import json
from typing import IO, TYPE_CHECKING, Any, Mapping, Optional, Sequence

from PIL import Image

from stillframe_client.jaco2.cameras.first_frame import save_first_frame

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.cameras.base import Frame
    from stillframe_client.replies import ActionReply

FRAMES = "frames.jsonl"
QUALITY = 90


class FrameLog:
    """One run's log."""

    def __init__(self, folder: Path, pictures: str):
        """`pictures`: none, first or all."""
        self._folder, self._pictures = folder, pictures
        self._out: IO[str] = (folder / FRAMES).open("w", encoding="utf-8")
        self._kept = 0

    def first(self, frames: Mapping[str, Frame]) -> None:
        """Keep the first picture of each camera, exactly as it is sent, for the operator to look at."""
        if self._pictures != "none":
            for name, frame in frames.items():
                save_first_frame(frame, self._folder / f"first-{name}.png")

    def sent(self, frames: Mapping[str, Frame], observed_s: float, state: Optional[Sequence[float]] = None) -> None:
        """Note the state of a frame that is sent, if it has one; keep its pictures, where all are kept."""
        if state is not None:
            self._write({"observed": observed_s, "state": [*state]})
        if self._pictures == "all":
            self._kept += 1
            for name, frame in frames.items():
                file = self._folder / "pictures" / name / f"{self._kept:06d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(frame.picture).save(file, "JPEG", quality=QUALITY)

    def answered(self, observed_s: float, now_s: float, reply: ActionReply, *, played: bool) -> None:
        """Note an answer."""
        cache, place = reply.cache, reply.session
        self._write(
            {
                "t": now_s,
                "observed": observed_s,
                "ms": round(1e3 * (now_s - observed_s), 3),
                "seq": None if place is None else place.seq,
                "actions": reply.actions.tolist(),
                "timing_ms": dict(reply.timing_ms),
                "frame": None if cache is None else cache.frame,
                "reuse": None if cache is None else cache.reuse_ratio,
                "played": played,
            }
        )

    def event(self, now_s: float, what: str, detail: str = "") -> None:
        """Note what happened beside answers."""
        self._write({"t": now_s, "event": what, "detail": detail})

    def close(self) -> None:
        """End it."""
        self._out.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        self._out.write(json.dumps(line, separators=(",", ":")) + "\n")
        self._out.flush()

"""Encodes the newest pictures on a thread of its own, once for all that watch.

Knows documents; no watcher.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

from stillframe.web.live.documents import picture_document
from stillframe.web.live.history import PicturedFrame

KEPT = 8  # encoded frames: of as many sessions that are watched at once


class PictureEncoder:
    """One thread; a frame that several watchers ask for is encoded once."""

    def __init__(self) -> None:
        self.encoded = 0  # frames so far
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live")
        self._kept: dict[int, tuple[PicturedFrame, str]] = {}  # by id; the frame is kept so that the id stays its own

    async def json(self, frame: PicturedFrame) -> str:
        """The frame's document as JSON."""
        return await asyncio.wrap_future(self._thread.submit(self._encode, frame))

    def release(self) -> None:
        """Drop what is encoded."""
        self._thread.submit(self._kept.clear)

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _encode(self, frame: PicturedFrame) -> str:
        known = self._kept.get(id(frame))
        if known is None:
            self.encoded += 1
            known = self._kept[id(frame)] = (frame, json.dumps(picture_document(frame)))
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]
        return known[1]

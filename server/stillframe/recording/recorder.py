"""Writes frames to disk on a thread of its own, so that no answer waits for a disk.

Knows a bounded queue and which episode a frame continues; a frame that finds the queue full is dropped and counted.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger
from pathlib import Path

from stillframe.domain import RecordingReport
from stillframe.recording.frame import RecordedFrame, encode
from stillframe.recording.pictures import PictureFormat
from stillframe.recording.store import EpisodeCard, EpisodeStore
from stillframe.recording.trouble import Trouble

PENDING_FRAMES = 64  # that may wait for the disk
CLOSE_S = 10.0  # for the queue to be written at shutdown
OPEN_EPISODES = 1024  # beyond these the least recently used continues in a new folder


@dataclass(frozen=True)
class Opened:
    """An episode that may be continued."""

    folder: Path
    serial: int  # of its session: a new session of the same id is a new episode
    last_frame: int  # its seq; the next one's is higher, by however much


class Recorder:
    """Takes frames from any thread until closed; counts those written and dropped."""

    def __init__(
        self,
        root: Path,
        *,
        max_bytes: int,
        log: Logger,
        images: PictureFormat = "png",
        pending_frames: int = PENDING_FRAMES,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Raise OSError where `root` cannot be a folder."""
        self.kept = 0
        self._store = EpisodeStore(root, max_bytes)
        self._log = log
        self._images = images
        self._open: OrderedDict[tuple[str, int], Opened] = OrderedDict()
        self._frames: queue.Queue[tuple[EpisodeCard, int, RecordedFrame] | None] = queue.Queue(pending_frames)
        self._trouble = Trouble(log, clock)
        self._sessionless = 0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that were dropped."""
        return self._trouble.lost

    @property
    def report(self) -> RecordingReport:
        """Counts so far. Any thread."""
        reason = self._trouble.reason
        return RecordingReport(
            "recording" if reason is None else "failing",
            self.kept,
            self.dropped,
            self._sessionless,
            self._store.used_bytes,
            self._store.max_bytes,
            reason,
        )

    def keep(
        self,
        session: str,
        model: str,
        frame: RecordedFrame,
        serial: int = 0,
        *,
        action_names: tuple[str, ...] = (),
        state_names: tuple[str, ...] = (),
    ) -> None:
        """Queue a frame, or count it as dropped. `serial` is its SessionRef's. Never waits, never raises."""
        epoch = frame.step.report.cache.epoch
        card = EpisodeCard("stillframe-episode/1", session, epoch, model, action_names, state_names)
        try:
            self._frames.put_nowait((card, serial, frame))
        except queue.Full:
            self._trouble.lose("the disk is too slow: frames are not recorded")

    def pass_by(self) -> None:
        """Count a frame without a session, which is not recorded; logged once."""
        self._sessionless += 1
        if self._sessionless == 1:
            self._log.warning("frames of clients without a session are not recorded: only sessions have episodes")

    def close(self) -> None:
        """Write the queue for at most CLOSE_S, then end the thread. Later frames are lost."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(queue.Full):
            self._frames.put(None, timeout=CLOSE_S)
        self._thread.join(CLOSE_S)
        self._log.info("recorded %d frames in %s, dropped %d", self.kept, self._store.root, self.dropped)

    def _run(self) -> None:
        while (item := self._frames.get()) is not None:
            if self._trouble.rests:
                self._trouble.lose()
                continue
            try:
                self._write(*item)
            except Exception as error:  # noqa: BLE001 (recording must never fail a robot)
                self._trouble.lose(
                    f"a frame could not be recorded: {type(error).__name__}: {error}", failed=isinstance(error, OSError)
                )
            else:
                self.kept += 1
                self._trouble.over(all_written=self._frames.empty())

    def _write(self, card: EpisodeCard, serial: int, frame: RecordedFrame) -> None:
        content = encode(frame, self._images)
        if not self._store.fits(content):
            raise ValueError("it is larger than a quarter of record_max_mib")
        self._store.make_room(content)
        self._store.put(self._folder(card, serial, frame, content), content)

    def _folder(self, card: EpisodeCard, serial: int, frame: RecordedFrame, content: dict[str, bytes]) -> Path:
        """The episode's folder; a new one where it has none, is at its limit, or the session is another."""
        key, number = (card.session, card.epoch), frame.step.report.cache.seq
        opened = self._open.get(key)
        same = opened is not None and opened.serial == serial and number > opened.last_frame
        goes_on = opened is not None and same and self._store.takes(opened.folder, content)
        folder = opened.folder if opened and goes_on else self._store.begin(card, frame.submitted_s)
        self._open[key] = Opened(folder, serial, number)
        self._open.move_to_end(key)
        while len(self._open) > OPEN_EPISODES:
            self._open.popitem(last=False)
        return folder

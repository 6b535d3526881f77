"""Reads a camera in a thread of its own and keeps the newest picture; opens it again where it went away.

Knows no kind of camera. The picture is prepared by the thread that asks for it, once a frame, so what the policy does
not see costs nothing but its reading.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Optional

from stillframe_client.jaco2.cameras.base import CameraError, CameraUnusable, Frame, named
from stillframe_client.jaco2.cameras.freshness import Arrival, arrived, check_fresh
from stillframe_client.jaco2.cameras.prepare import prepare

if TYPE_CHECKING:
    from stillframe_client.jaco2.cameras.accept import Expected
    from stillframe_client.jaco2.cameras.base import Picture, Source
    from stillframe_client.jaco2.settings import CameraSettings

CLOSE_S = 3.0  # how long closing waits for a device that does not answer
RETRY_S, LONGEST_RETRY_S = 0.1, 2.0  # before it is opened again; twice as long each time


class BackgroundCamera:
    """A camera (base.py). `pause` waits before it is opened again; it may return early."""

    def __init__(
        self,
        name: str,
        source: Source,
        settings: CameraSettings,
        expected: Expected,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Optional[Callable[[float], Any]] = None,
    ):
        self._name, self._source, self._settings, self._expected = name, source, settings, expected
        self._closing = threading.Event()
        self._clock, self._pause = clock, pause or self._closing.wait
        self._changed = threading.Condition()  # guards the next three
        self._newest: Optional[Arrival] = None
        self._fault: Optional[CameraError] = None
        self._seq = 0
        self._preparing = threading.Lock()  # guards the next one
        self._prepared: Optional[Frame] = None
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def start(self, timeout_s: float) -> None:
        """Return once there is a first frame of the right size.

        Raises CameraError: at once where trying again is of no use, otherwise with the last reason when time is up.
        """
        if self._thread.ident is None and not self._closing.is_set():
            self._thread.start()
        with self._changed:
            self._changed.wait_for(self._decided, timeout_s)
            fault = self._fault or (None if self._newest else CameraError(f"no picture came within {timeout_s:g} s"))
        if fault or self._closing.is_set():
            self.close()
            raise named(self._name, fault or CameraError("it is closed"))

    def latest(self) -> Frame:
        """The newest frame, prepared. Raises StaleFrame where it is too old or frozen, CameraError where there is none.

        It never waits for the device; at most for another thread that prepares the same frame.
        """
        with self._changed:
            newest, fault = self._newest, self._fault
        if self._closing.is_set() or fault or newest is None:
            why = "it is closed" if self._closing.is_set() else "no picture came yet"
            raise named(self._name, fault or CameraError(why))
        try:
            check_fresh(newest, self._clock(), self._settings)
        except CameraError as error:
            raise named(self._name, error) from None
        return self._prepare(newest.frame)

    def close(self) -> None:
        """Stop reading, and wait for the thread, for CLOSE_S at most.

        A thread that is stuck in its device closes the source when it comes back, and keeps no process alive.
        """
        self._closing.set()
        with self._changed:
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def _decided(self) -> bool:
        there = self._newest is not None and self._fault is None
        return there or isinstance(self._fault, CameraUnusable) or self._closing.is_set()

    def _prepare(self, raw: Frame) -> Frame:
        with self._preparing:
            if self._prepared is None or self._prepared.seq != raw.seq:
                asked = self._settings
                picture = prepare(raw.picture, rotate=asked.rotate, crop=asked.crop, resize=asked.resize)
                self._prepared = Frame(_read_only(picture), raw.seq, raw.time_s)
            return self._prepared

    def _run(self) -> None:
        retry_s = RETRY_S
        while not self._closing.is_set():
            seen = self._seq
            fault = self._read_on()
            if isinstance(fault, CameraUnusable) or self._closing.is_set():
                return
            retry_s = RETRY_S if self._seq > seen else retry_s
            self._pause(retry_s)
            retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    def _read_on(self) -> Optional[CameraError]:
        """Open, read until something is wrong, close."""
        fault: Optional[CameraError] = None
        try:
            self._source.open()
            while not self._closing.is_set():
                self._keep(self._source.read())
        except Exception as error:  # noqa: BLE001 -- drivers raise what they like, and a thread that ends is silent
            fault = error if isinstance(error, CameraError) else CameraError(f"its driver failed: {error!r}")
            self._tell(fault)
        self._let_go()
        return fault

    def _keep(self, picture: Picture) -> None:
        now_s = self._clock()
        self._expected.check(picture)
        look = self._settings.frozen_s > 0
        newest = arrived(self._newest, _read_only(picture), self._seq + 1, now_s, look=look)
        with self._changed:
            self._newest, self._seq, self._fault = newest, newest.frame.seq, None
            self._changed.notify_all()

    def _tell(self, fault: CameraError) -> None:
        with self._changed:
            self._fault = fault
            self._changed.notify_all()

    def _let_go(self) -> None:
        try:
            self._source.close()
        except Exception as error:  # noqa: BLE001 -- as above
            self._tell(self._fault or CameraError(f"its driver failed: {error!r}"))


def _read_only(picture: Picture) -> Picture:
    """The same picture for all threads: one that writes into it is told."""
    view = picture.view()
    view.flags.writeable = False
    return view

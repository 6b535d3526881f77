"""Runs a StreamProtocol: connects, sends and receives, detects silence, reconnects.

Knows no message. For one event loop; every wait has a bound.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Awaitable, Callable, Optional

from stillframe_client.errors import NotReady, Overloaded, PolicyError, TimedOut, Unreachable
from stillframe_client.streaming.handshake import Reconnect
from stillframe_client.streaming.incoming import Close
from stillframe_client.streaming.protocol import StreamProtocol
from stillframe_client.streaming.requests import StreamRequest
from stillframe_client.streaming.websocket import Dropped, Socket, unreadable

QUIET_SHARE = 3  # of a call's time: after a third in silence a ping, after two thirds a new connection
MIN_QUIET_S = 1.0
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0
LONGEST_CLOSE_S = 2.0
_MAY_PASS = (Unreachable, NotReady, Overloaded)  # errors that another try may resolve


class Heartbeat:
    """Tells a busy daemon from a dead connection, by pings."""

    def __init__(self, quiet_s: float):
        """Ping after `quiet_s` of silence while an answer is owed; give up after twice that."""
        self.quiet_s = quiet_s
        self._since_s: Optional[float] = None
        self._pinged = False

    def on_message(self) -> None:
        """A message came."""
        self._since_s, self._pinged = None, False

    def ping_due(self, now_s: float, *, waiting: bool) -> bool:
        """Whether to ping now. Raises Dropped where a ping was not answered."""
        if not waiting:
            self.on_message()
            return False
        self._since_s = now_s if self._since_s is None else self._since_s
        silent_s = now_s - self._since_s
        if self._pinged and silent_s > 2 * self.quiet_s:
            raise Dropped(Close(reason=f"nothing came for {silent_s:.1f} s"))
        due = not self._pinged and silent_s > self.quiet_s
        self._pinged = self._pinged or due
        return due


class Connector:
    """Runs one protocol over one connection after the other."""

    def __init__(
        self,
        protocol: StreamProtocol,
        dial: Callable[[], Awaitable[Socket]],
        *,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
        rng: Optional[random.Random] = None,
    ):
        self._protocol = protocol
        self._dial = dial
        self._clock = clock
        self._rng = rng or random.Random()  # noqa: S311 (spreads robots in time, hides nothing)
        self._quiet_s = max(MIN_QUIET_S, timeout_s / QUIET_SHARE)
        self._reason: Optional[PolicyError] = None  # why there is no connection
        self._tries = 0  # since the last answer
        self._has_connected = False  # a daemon has answered before: it may come back
        self._patient = 0  # callers that wait for a daemon to start
        self._changed: Optional[asyncio.Event] = (
            None  # made on the loop: before Python 3.10 an event belongs to the loop that made it
        )
        self._stop: Optional[asyncio.Event] = None
        self._task: Optional[asyncio.Task[None]] = None
        self._connecting = False  # connecting: there is no connection to close
        self._closing = False

    async def answer(self, request: StreamRequest, timeout_s: float, *, patient: bool = False) -> Any:
        """Wait for a request. Raises its error, or TimedOut. `patient`: also for a daemon that is not listening yet."""
        self._patient += patient
        try:
            settled = asyncio.ensure_future(self._settled(request))
            self._wake()
            return await asyncio.wait_for(settled, timeout_s)
        except asyncio.TimeoutError:
            raise TimedOut(self._timeout_text(timeout_s)) from self._reason
        finally:
            self._patient -= patient
            self._protocol.cancel(request)
            self._wake()

    async def close(self) -> None:
        """Close the connection: finish the close handshake, and wait for nothing else."""
        self._closing = True
        task, self._task = self._task, None
        if task is None or self._stop is None:
            return
        if self._connecting:
            task.cancel()
        self._stop.set()
        await asyncio.wait({task}, timeout=LONGEST_CLOSE_S)
        task.cancel()  # of no effect on what is done

    async def _settled(self, request: StreamRequest) -> Any:
        """Wait until it is settled; return its answer or raise its error."""
        if not request.settled:
            settled = asyncio.Event()
            request.on_settled = lambda _: settled.set()
            await settled.wait()
        if request.error is not None:
            raise request.error
        return request.answer

    def _wake(self) -> None:
        """Wake the tasks: there may be something to do."""
        self._changed, self._stop = self._changed or asyncio.Event(), self._stop or asyncio.Event()
        self._changed.set()
        if not self._closing and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._run())

    def _timeout_text(self, timeout_s: float) -> str:
        why = "" if self._reason is None or self._protocol.is_open else f" Its last word: {self._reason}"
        return f"No answer within {timeout_s} s. {self._protocol.status_text}{why}"

    async def _run(self) -> None:
        """Connect whenever a request waits."""
        while not self._closing:
            self._connecting = True
            await self._wait_for_work()
            await self._pause()
            self._tries += 1
            try:
                socket = await self._dial()
            except PolicyError as reason:
                self._on_unreachable(reason)
            else:
                self._connecting = False
                await self._use(socket)

    async def _wait_for_work(self) -> None:
        assert self._changed is not None  # noqa: S101 (made before the task is started)
        while not self._protocol.has_waiters:
            self._tries = 0  # the next caller has not waited yet
            self._changed.clear()
            await self._changed.wait()

    async def _pause(self) -> None:
        """Back off, with jitter so that robots do not reconnect all at once."""
        if self._tries:
            longest_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._tries - 1, 10))
            await asyncio.sleep(longest_s * self._rng.uniform(0.5, 1.0))

    def _on_unreachable(self, reason: PolicyError) -> None:
        """Fail at once where nothing listens, unless a daemon has answered before or is awaited."""
        self._reason = reason
        absent = isinstance(reason, Unreachable) and not (self._has_connected or self._patient)
        if absent or not isinstance(reason, _MAY_PASS):
            self._protocol.fail(reason)

    async def _use(self, socket: Socket) -> None:
        """Use one connection until it ends."""
        self._protocol.connection_made()
        close: Optional[Close] = None
        try:
            await self._run_connection(socket)
            self._reason = Unreachable("The daemon is stopping, and has asked its clients to leave.")
        except Reconnect as redial:
            self._reason = redial.reason
        except Dropped as dropped:
            close, self._reason = dropped.close, dropped.close.unreachable()
        except PolicyError as fault:
            self._reason = fault
            self._protocol.fail(fault)
        except Exception as error:  # noqa: BLE001 -- input that Python or the library rejects: failed, not retried
            self._reason = unreadable(error)
            self._protocol.fail(self._reason)
        finally:
            self._protocol.connection_lost(close)
            await socket.close()

    async def _run_connection(self, socket: Socket) -> None:
        """Read, write and watch for silence until one of them ends or `close` is called; raise what ended it."""
        assert self._stop is not None  # noqa: S101 (made before the task is started)
        heartbeat = Heartbeat(self._quiet_s)
        parts = (self._read(socket, heartbeat), self._write(socket), self._watch_silence(heartbeat), self._stop.wait())
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:  # the reader first: its error is the most precise
                if task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self, socket: Socket, heartbeat: Heartbeat) -> None:
        while True:
            data = await socket.receive()
            heartbeat.on_message()
            self._has_connected = True
            answer_count = self._protocol.answer_count
            self._protocol.receive_data(data)
            if self._protocol.answer_count > answer_count:
                self._tries = 0
            self._wake()

    async def _write(self, socket: Socket) -> None:
        assert self._changed is not None  # noqa: S101 (made before the task is started)
        while not self._protocol.may_close:
            self._changed.clear()
            for data in self._protocol.data_to_send():
                await socket.send(data)
            await self._changed.wait()

    async def _watch_silence(self, heartbeat: Heartbeat) -> None:
        while True:
            await asyncio.sleep(heartbeat.quiet_s / 4)
            if heartbeat.ping_due(self._clock(), waiting=self._protocol.has_waiters):
                self._protocol.ping()
                self._wake()

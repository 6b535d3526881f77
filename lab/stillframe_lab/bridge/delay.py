"""A TCP proxy that delivers every byte later: a network of so many milliseconds, for tests on one machine.

Knows no protocol. It runs in a thread of its own, so that a program that connects through it is not slowed by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

PIECE = 65_536
READY_S = 10.0


@contextlib.contextmanager
def delayed(url: str, round_trip_ms: float) -> Iterator[str]:
    """Yield a URL that leads to `url`, each way by half of the round trip later; 0: the URL itself."""
    if not round_trip_ms:
        yield url
        return
    target = urlsplit(url)
    proxy = _Proxy(str(target.hostname), int(target.port or 80), round_trip_ms / 2e3)
    proxy.start()
    try:
        yield f"{target.scheme}://127.0.0.1:{proxy.port}"
    finally:
        proxy.stop()


class _Proxy(threading.Thread):
    """One listening port of the loopback."""

    def __init__(self, host: str, port: int, one_way_s: float):
        super().__init__(name="delay proxy", daemon=True)
        self._host, self._port, self._one_way_s = host, port, one_way_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()

    def run(self) -> None:
        """Serve until it is stopped."""
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    def stop(self) -> None:
        """End it, connections included."""
        self._loop.call_soon_threadsafe(self._over.set)
        self.join(READY_S)

    async def _serve(self) -> None:
        peers: set[asyncio.Task[None]] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None  # noqa: S101 -- asyncio runs it as one
            peers.add(task)
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await self._connect(reader, writer)
            writer.close()
            peers.discard(task)

        server = await asyncio.start_server(serve, sock=self._listener)
        await self._over.wait()
        server.close()
        for task in list(peers):
            task.cancel()
        await asyncio.gather(*peers, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        for end in (writer, far_writer):
            end.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.gather(self._carry(reader, far_writer), self._carry(far_reader, writer))
        finally:
            far_writer.close()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read at once, write later, in order; the end of one side is carried too."""
        loop, pieces = asyncio.get_running_loop(), asyncio.Queue[tuple[float, bytes]]()

        async def deliver() -> None:
            while True:
                due_s, piece = await pieces.get()
                await asyncio.sleep(max(due_s - loop.time(), 0.0))
                if not piece:
                    writer.write_eof()
                    return
                writer.write(piece)
                await writer.drain()

        delivering = asyncio.ensure_future(deliver())
        try:
            while not delivering.done():
                piece = await reader.read(PIECE)
                pieces.put_nowait((loop.time() + self._one_way_s, piece))
                if not piece:
                    break
            await delivering
        finally:
            delivering.cancel()

"""A TCP proxy on a loopback port whose connections can be delayed, silenced, cut or spoilt while they last.

Knows no protocol. `path`: also listens on a Unix socket, which other network namespaces reach.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

CHUNK = 65536
LOOK_S = 0.005
SPOILT = b"\xc1" * 16  # a byte that no MessagePack document has
HEAD = 8  # bytes of a chunk that stay, so that its frame remains one


class Proxy:
    """Passes all on to a port of this machine, until it is told otherwise."""

    def __init__(self, port: int, path: Path | None = None):
        self.to_port, self.path = port, path
        self.silent = False  # takes everything and passes nothing on, until it is false again
        self.closed = False  # refuses connections
        self.spoil = False  # answers arrive changed
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._call(self._listen())

    def close(self) -> None:
        """End."""
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Break all connections, and refuse new ones."""
        self.closed = True
        self._call(self._abort())

    def _call(self, coroutine: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    async def _listen(self) -> None:
        self._servers.append(await asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._servers[0].sockets[0].getsockname()[1]
        if self.path is not None:
            self._servers.append(await asyncio.start_unix_server(self._serve, self.path))

    async def _abort(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        await self._abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.closed:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.to_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, to_writer}
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(self._pass(reader, to_writer), self._pass(to_reader, writer, answers=True))
        finally:
            for each in (writer, to_writer):
                each.transport.abort()
                self._writers.discard(each)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                while self.silent:
                    await asyncio.sleep(LOOK_S)
                if self.spoil and answers and len(data) > HEAD + len(SPOILT):
                    data = data[:HEAD] + SPOILT + data[HEAD + len(SPOILT) :]
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

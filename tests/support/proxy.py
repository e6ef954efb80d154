"""A network that can be made bad: a TCP proxy in front of one server."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

_CHUNK = 65536


class Proxy:
    """Forwards every connection to a port of the loopback interface; a context manager.

    Its attributes may be changed at any time and count for open connections too. A subclass can
    tell connections apart: ``identify`` names where one comes from, and ``may_pass`` waits until
    what comes from there may go on.

    Args:
        target: the port of the server.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        # Seconds that each piece of an answer is held back.
        self.delay_s = 0.0
        # The share of answers that are cut half-way, and their connection with them.
        self.cut_share = 0.0
        # Whether answers are swallowed, while connections stay open.
        self.black_hole = False
        self.port = 0
        self.cuts = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def uri(self) -> str:
        """What a MongoDB client connects to, in order to reach the server this way alone."""
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exception: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def identify(self, source_port: int, first: bytes) -> str:
        """Name the source of a connection.

        Args:
            source_port: the port on its own side.
            first: what it has sent first.
        """
        return ""

    async def may_pass(self, source: str) -> None:
        """Return as soon as bytes of a connection from ``source`` may pass, either way."""

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _end(self) -> None:
        self._server.close()
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await self._loop.shutdown_default_executor()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            first = await reader.read(_CHUNK)
            source = await self.identify(writer.get_extra_info("peername")[1], first)
            await self.may_pass(source)
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        far_writer.write(first)
        pumps = [
            asyncio.create_task(self._forward(reader, far_writer, source)),
            asyncio.create_task(self._answer(far_reader, writer, source)),
        ]
        # Whoever hangs up first, the other side learns of it; both do when the proxy ends.
        with suppress(asyncio.CancelledError):
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        writer.transport.abort()
        far_writer.transport.abort()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            await self.may_pass(source)
            writer.write(chunk)
            await writer.drain()

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, source: str
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            await self.may_pass(source)
            await asyncio.sleep(self.delay_s)
            if self.black_hole:
                continue
            if random.random() < self.cut_share:
                self.cuts += 1
                writer.write(chunk[: len(chunk) // 2])
                await writer.drain()
                return
            writer.write(chunk)
            await writer.drain()

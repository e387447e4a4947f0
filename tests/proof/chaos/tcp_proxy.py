"""A TCP proxy between two peers: it resets connections, stalls them, or breaks them after some bytes.

It runs in a thread of the fault runner. The senders connect to the edge through one proxy, the edge to the
PACS through another. Bytes pass unchanged.
"""

import asyncio
import socket
import struct
import threading
from contextlib import suppress

from gateway.lab.layout import LOOPBACK

_PIECE_BYTES = 65_536
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: the end of a connection is a reset, as when a machine vanishes."""


class TcpProxy:
    """Listens on `port` and relays to `target`, both on 127.0.0.1, from `open` to `close`."""

    def __init__(self, port: int, target: int) -> None:
        self._port = port
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy {port}")
        self._server: asyncio.Server | None = None
        # touched on the loop's thread only
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._carries = asyncio.Event()
        self._refuses = False
        self._budget: int | None = None

    # ---- for the threads of fault_runner -----------------------------------------------------------------

    def open(self) -> None:
        """Listen and forward."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._open(), self._loop).result()

    def close(self) -> None:
        """Close it and its connections; do nothing if it was never open."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> int:
        """Reset every connection now; return how many there were."""
        return asyncio.run_coroutine_threadsafe(self._cut_now(), self._loop).result()

    def stall(self) -> None:
        """Hold all bytes until `mend`; both ends stay connected."""
        self._loop.call_soon_threadsafe(self._carries.clear)

    def refuse(self) -> None:
        """Reset old and new connections until `mend`."""
        self._loop.call_soon_threadsafe(self._refuse)

    def break_after(self, count: int) -> None:
        """Reset each connection after `count` more bytes, until `mend`."""
        self._loop.call_soon_threadsafe(setattr, self, "_budget", count)

    def mend(self) -> None:
        """Forward normally again."""
        self._loop.call_soon_threadsafe(self._mend)

    # ---- on the loop ---------------------------------------------------------------------------------

    async def _open(self) -> None:
        self._carries.set()
        self._server = await asyncio.start_server(self._serve, LOOPBACK, self._port, backlog=128)

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        self._mend()
        self._cut()
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _cut_now(self) -> int:
        count = len(self._writers) // 2
        self._cut()
        return count

    def _cut(self) -> None:
        for writer in self._writers:
            _reset(writer)

    def _refuse(self) -> None:
        self._refuses = True
        self._cut()

    def _mend(self) -> None:
        self._refuses = False
        self._budget = None
        self._carries.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            if self._refuses:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:
            _reset(writer)
            return
        ends = {writer, back}
        self._writers |= ends
        try:
            await asyncio.gather(
                self._carry(reader, back, writer, back), self._carry(there, writer, writer, back)
            )
        finally:
            self._writers -= ends
            for end in ends:
                end.close()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *both: asyncio.StreamWriter
    ) -> None:
        """Relay one direction to its end; a reset on one side, or a proxy that breaks, resets both sides."""
        carried, budget = 0, self._budget
        try:
            while piece := await source.read(_PIECE_BYTES):
                await self._carries.wait()
                if self._budget != budget:
                    carried, budget = 0, self._budget
                carried += len(piece)
                if budget is not None and carried > budget:
                    raise ConnectionResetError
                sink.write(piece)
                await sink.drain()
            sink.write_eof()  # the other direction may still have bytes
        except OSError:
            for writer in both:
                _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with suppress(OSError):  # it has ended by itself meanwhile
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()

"""What the composition root makes by itself."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from vmferry.app import _listen
from vmferry.config import Config


def test_no_answer_waits_for_the_acknowledgement_of_its_first_packet(tmp_path: Path) -> None:
    """asyncio turns Nagle's algorithm off, but only on sockets that it knows to be TCP's."""

    async def accept(listener: socket.socket) -> int:
        delays = asyncio.get_running_loop().create_future()

        async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            accepted = writer.get_extra_info("socket")
            delays.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(serve, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname()[:2])
            try:
                return int(await delays)
            finally:
                writer.close()

    assert asyncio.run(accept(_listen(Config(tmp_path, port=0)))) != 0

"""A client of QEMU's monitor protocol (QMP), as far as a boot check needs it: the screen, and how often it restarted.

Source: QEMU, *QEMU Machine Protocol Specification*. One thread.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from vmferry.errors import ComputeError, quote
from vmferry.guest.boot_check.screen import Screen
from vmferry.units import MIB

_SECONDS = 30.0


class Monitor:
    """A connection to a running QEMU. Raises ``ComputeError`` when that has gone, or says no."""

    def __init__(self, path: Path) -> None:
        self.restarts = 0
        """Times that the guest has restarted its machine."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_SECONDS)
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise ComputeError(f"QEMU's monitor does not answer: {quote(error)}.") from error
        self._buffer = b""
        self._message()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """The answer to ``command``."""
        order = {"execute": command, "arguments": arguments}
        try:
            self._socket.sendall(json.dumps(order).encode() + b"\n")
        except OSError as error:
            raise ComputeError(f"QEMU has gone: {quote(error)}.") from error
        while True:
            message = self._message()
            if "error" in message:
                raise ComputeError(f"QEMU refused {command}: {quote(message['error'].get('desc'))}.")
            if "return" in message:
                return message["return"]

    def screen(self, scratch: Path) -> Screen:
        """What is on the screen now; written to ``scratch`` on the way."""
        self.execute("screendump", filename=str(scratch))
        try:
            return Screen.from_ppm(scratch.read_bytes())
        except (OSError, ValueError) as error:
            raise ComputeError(f"QEMU's picture of the screen cannot be read: {quote(error)}.") from error

    def close(self) -> None:
        """May be called twice."""
        self._socket.close()

    def _message(self) -> dict[str, Any]:
        """The next message that is no event; events are counted."""
        while True:
            while b"\n" not in self._buffer:
                try:
                    piece = self._socket.recv(64 * 1024)
                except OSError as error:
                    raise ComputeError(f"QEMU has gone: {quote(error)}.") from error
                if not piece or len(self._buffer) > MIB:
                    raise ComputeError("QEMU has gone.")
                self._buffer += piece
            line, _, self._buffer = self._buffer.partition(b"\n")
            message: dict[str, Any] = json.loads(line)
            if "event" not in message:
                return message
            if message["event"] == "RESET" and message.get("data", {}).get("guest"):
                self.restarts += 1

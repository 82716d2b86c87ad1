"""Loopback ports of the child processes: chosen once, kept in the data directory.

SeaweedFS knows its parts by their ports, and Temporal's workers find their server by its, so a port must be the same at
every start.
"""

from __future__ import annotations

import contextlib
import errno
import json
import random
import socket
from collections.abc import Iterable
from pathlib import Path

from vmferry.blob import foreign_error
from vmferry.errors import ConfigError, quote
from vmferry.private_file import replace_private_file

PORTS_FILE = "ports.json"
LOOPBACK = "127.0.0.1"
_LOWEST = 10_240
_LISTEN_STATE = "0A"  # proc(5), /proc/net/tcp


def load_ports(data_dir: Path, names: Iterable[str]) -> dict[str, int]:
    """A port on 127.0.0.1 for each of ``names``, all different; those in ``data_dir/ports.json`` are kept.

    Raises ``ConfigError`` for a file that holds something else.
    """
    path = data_dir / PORTS_FILE
    kept = _read(path)
    missing = [name for name in names if name not in kept]
    if missing:
        kept |= dict(zip(missing, _choose(len(missing), set(kept.values())), strict=True))
        _write(path, kept)
    return {name: kept[name] for name in names}


def check_free(ports: dict[str, int], data_dir: Path) -> None:
    """Raise ``ConfigError``, naming the port and who has it, unless all of ``ports`` can be listened on.

    To be called after leftovers of an earlier run were ended.
    """
    for name, port in ports.items():
        if not _is_free(port):
            raise ConfigError(
                f"Port {port} on {LOOPBACK}, which {quote(data_dir / PORTS_FILE)} keeps for {quote(name)}, is taken by "
                f"{_holder(port)}. End that program, or remove the file's entry to have another port chosen."
            )


def _read(path: Path) -> dict[str, int]:
    if not path.exists():
        return {}
    try:
        kept = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{quote(path)} cannot be read: {quote(error)}. Remove it to choose new ports.") from error
    if not isinstance(kept, dict) or not all(isinstance(port, int) and 0 < port < 65536 for port in kept.values()):
        raise ConfigError(f"{quote(path)} does not hold ports. Remove it to choose new ones.")
    if len(set(kept.values())) < len(kept):
        raise ConfigError(f"{quote(path)} gives one port to two servers. Remove it to choose new ones.")
    return kept


def _write(path: Path, ports: dict[str, int]) -> None:
    try:
        replace_private_file(path, json.dumps(ports, indent=1).encode() + b"\n")
    except OSError as error:
        raise foreign_error(error, str(path)) from error


def _choose(count: int, used: set[int]) -> list[int]:
    """Free ports below the range that outgoing connections take theirs from: one of those could sit on ours later."""
    candidates = [port for port in range(_LOWEST, max(_ephemeral_start(), _LOWEST + 2000)) if port not in used]
    random.shuffle(candidates)
    with contextlib.ExitStack() as held:
        chosen: list[int] = []
        for port in candidates:
            listener = held.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                listener.bind((LOOPBACK, port))
                chosen.append(port)
            if len(chosen) == count:
                return chosen
    raise ConfigError(f"{count} free ports on {LOOPBACK} are needed, but there are only {len(chosen)}.")


def _ephemeral_start() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 32_768


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise foreign_error(error, f"{LOOPBACK}:{port}") from error
    return True


def _holder(port: int) -> str:
    """``process 123 (weed)`` where that can be known; other users' processes do not show what they hold."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            for descriptor in (entry / "fd").iterdir():
                with contextlib.suppress(OSError):
                    if str(descriptor.readlink()) in wanted:
                        return f"process {entry.name} ({quote((entry / 'comm').read_text().strip())})"
    return "another program"


def _listening_inodes(port: int) -> list[str]:
    inodes = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                columns = line.split()
                if int(columns[1].rpartition(":")[2], 16) == port and columns[3] == _LISTEN_STATE:
                    inodes.append(columns[9])
    return inodes

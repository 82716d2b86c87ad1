from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from vmferry.embedded.ports import check_free, load_ports
from vmferry.errors import ConfigError

NAMES = [f"server.{index}" for index in range(20)]


def test_ports_differ_and_are_kept(tmp_path: Path) -> None:
    first = load_ports(tmp_path, NAMES)
    assert len(set(first.values())) == len(NAMES)
    assert load_ports(tmp_path, NAMES) == first
    check_free(first, tmp_path)


def test_a_new_server_gets_a_port_beside_those_kept(tmp_path: Path) -> None:
    first = load_ports(tmp_path, NAMES[:3])
    more = load_ports(tmp_path, NAMES)
    assert {name: more[name] for name in first} == first
    assert len(set(more.values())) == len(NAMES)


def test_ports_are_not_those_that_outgoing_connections_take(tmp_path: Path) -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in load_ports(tmp_path, NAMES).values() if low <= port <= high]


def test_a_taken_port_is_named_with_its_owner_and_its_holder(tmp_path: Path) -> None:
    ports = load_ports(tmp_path, NAMES)
    with socket.create_server(("127.0.0.1", ports["server.7"])), pytest.raises(ConfigError) as caught:
        check_free(ports, tmp_path)
    message = str(caught.value)
    for fact in (str(ports["server.7"]), "server.7", f"process {os.getpid()} (", str(tmp_path / "ports.json")):
        assert fact in message
    assert "\n" not in message


def test_a_port_is_free_right_after_a_connection(tmp_path: Path) -> None:
    ports = load_ports(tmp_path, ["server"])
    with socket.create_server(("127.0.0.1", ports["server"])) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
        accepted.close()  # the server's side first: its port goes into TIME_WAIT
        client.close()
    check_free(ports, tmp_path)


@pytest.mark.parametrize("content", ["", "[]", '{"a": "b"}', '{"a": 0}', '{"a": 70000}', '{"a": 20000, "b": 20000}'])
def test_a_broken_ports_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "ports.json").write_text(content)
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "ports.json"))):
        load_ports(tmp_path, ["a"])

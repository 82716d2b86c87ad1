"""The Temporal server of an installation that names no other: one process, its state in one SQLite file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from google.protobuf.duration_pb2 import Duration
from temporalio.api.namespace.v1 import NamespaceConfig
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, UpdateNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

from vmferry.blob import foreign_error
from vmferry.embedded.child import Command, find_binary
from vmferry.embedded.ports import LOOPBACK
from vmferry.embedded.supervisor import Service

NAME = "temporal"
NAMESPACE = "vmferry"
PORT_NAMES = (NAME, f"{NAME}.http", f"{NAME}.metrics")
"""What ``load_ports`` shall choose for it."""
RETENTION = timedelta(hours=72)
"""How long the history of an ended workflow is kept. The catalog keeps tasks; this is for looking into faults."""


_SETTINGS = (
    "matching.enableFairness=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)
"""Accounts have their turns one after the other: in each partition of a queue, and so a queue has one."""


class TemporalServer:
    """A Temporal server in ``data_dir/temporal``, for one machine: it does 10 to 14 steps a second in all.

    Whoever reaches ``address``, which is loopback, may do everything: run it where the machine's users are trusted.
    """

    def __init__(self, data_dir: Path, ports: Mapping[str, int]) -> None:
        """``ports`` has one for each of ``PORT_NAMES``. Nothing is started: that is the supervisor's work."""
        self._folder = data_dir / NAME
        self._log = data_dir / "log" / f"{NAME}.log"
        self._ports = {name: ports[name] for name in PORT_NAMES}

    @property
    def address(self) -> str:
        """``host:port`` for ``Client.connect``; use it with ``NAMESPACE``."""
        return f"{LOOPBACK}:{self._ports[NAME]}"

    def service(self, order: int = 0) -> Service:
        """What to give to a ``Supervisor``. Raises ``ConfigError`` when the server is not installed."""
        argv = (
            find_binary("temporal"),
            "server",
            "start-dev",
            "--headless",
            f"--ip={LOOPBACK}",
            f"--port={self._ports[NAME]}",
            f"--http-port={self._ports[f'{NAME}.http']}",
            f"--metrics-port={self._ports[f'{NAME}.metrics']}",
            f"--db-filename={self._folder / 'temporal.sqlite'}",
            f"--namespace={NAMESPACE}",
            *(f"--dynamic-config-value={setting}" for setting in _SETTINGS),
            "--log-level=error",
            "--color=never",
        )
        environment = {"PATH": os.defpath, "HOME": str(self._folder)}  # no settings of the user's own Temporal
        command = Command(NAME, argv, self._folder, self._log, environment)
        self._make_folder()
        return Service(command, self.is_ready, before_start=self._make_folder, order=order)

    def is_ready(self) -> bool:
        """Whether it answers and has the namespace, with our retention. For a thread without an event loop."""
        try:
            return asyncio.run(asyncio.wait_for(self._prepare(), timeout=3))
        except (RuntimeError, RPCError, TimeoutError):  # the SDK raises RuntimeError when it cannot connect
            return False

    async def _prepare(self) -> bool:
        client = await Client.connect(self.address, namespace=NAMESPACE)
        service = client.workflow_service
        found = await service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
        if found.config.workflow_execution_retention_ttl.ToTimedelta() != RETENTION:
            duration = Duration()
            duration.FromTimedelta(RETENTION)
            config = NamespaceConfig(workflow_execution_retention_ttl=duration)
            await service.update_namespace(UpdateNamespaceRequest(namespace=NAMESPACE, config=config))
        return True

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise foreign_error(error, str(self._folder)) from error

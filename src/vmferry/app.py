"""The composition root: from a configuration to a running server.

``serve`` is the life of a server: lock, catalog, children (SeaweedFS, Temporal, workers), dispatcher, gateway; then it
waits for SIGTERM or Ctrl-C and ends all that in reverse.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from vmferry.aws.signature import Credential
from vmferry.catalog import Catalog, open_catalog
from vmferry.catalog.accounts import AccessKey
from vmferry.config import Config
from vmferry.data_directory import first_account
from vmferry.ebs.expiry import expire_uploads
from vmferry.ebs.gateway import EbsFrontEnd
from vmferry.ebs.services import Services as EbsServices
from vmferry.ebs.tokens import load_token_key
from vmferry.ec2.gateway import Ec2FrontEnd
from vmferry.ec2.services import Services as Ec2Services
from vmferry.ec2.sts import StsFrontEnd
from vmferry.embedded import seaweedfs, temporal
from vmferry.embedded.child import Command
from vmferry.embedded.lock import DataDirectoryLock
from vmferry.embedded.ports import check_free, load_ports
from vmferry.embedded.supervisor import Service, Supervisor, end_leftovers
from vmferry.errors import ConfigError, quote
from vmferry.gateway import FrontEnd, create_gateway
from vmferry.iam.gateway import IamFrontEnd
from vmferry.private_file import replace_private_file
from vmferry.runtime.dispatcher import Dispatcher
from vmferry.runtime.leftovers import remove_forgotten, remove_unfinished
from vmferry.runtime.metrics import CONTENT_TYPE, Metrics
from vmferry.runtime.sweeper import Sweeper
from vmferry.tasks import Services
from vmferry.tasks.import_image.preview import Previewer
from vmferry.work import UMASK, configure_logs, open_services, own_s3_options

_REQUEST_RETRY_SECONDS = 3.0
"""How long a request waits for the object store; a task then waits as long as it takes."""

_SWEEP_SECONDS = 5.0
"""How often uploads of snapshots are looked at that nobody goes on with."""

_DAY_SECONDS = 86_400.0
"""How often disk images are looked for that nobody knows."""

_TELL_SECONDS = 1.0
"""How often accounts are looked at that the object store does not know yet."""

_SHUTDOWN_SECONDS = 2
"""How long requests in flight may take once the server is told to end."""


def serve(config: Config, on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Be a server until SIGTERM or Ctrl-C. ``on_ready`` is told how to reach it, once it can be reached.

    Raises ``ConfigError`` when another server has the data directory, a port is taken, or a child does not start.
    """
    os.umask(UMASK)
    configure_logs()
    if config.s3_endpoint is not None:
        own_s3_options(config, config.default_region, config.s3_endpoint, _REQUEST_RETRY_SECONDS)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # while it starts; later the event loop takes it
    with ExitStack() as life:
        life.enter_context(DataDirectoryLock(config.data_dir))
        listener = life.enter_context(_listen(config))
        catalog = open_catalog(config.catalog_url)
        life.callback(catalog.close)
        catalog.migrate()
        key = first_account(config, catalog)
        children = _Children(config, catalog, key.account_id)
        life.callback(children.supervisor.stop)
        children.start()
        services = open_services(config, children.s3_endpoint, _REQUEST_RETRY_SECONDS)
        remove_unfinished(services)
        dispatcher = Dispatcher(services, children.temporal_address)
        life.callback(dispatcher.stop)
        dispatcher.start()
        ebs = EbsServices(
            catalog=services.catalog,
            images=services.images,
            token_key=load_token_key(config.token_key_path),
            wake=dispatcher.wake,
            quotas=config.limits,
        )
        for job, seconds, at_once in (
            (lambda: expire_uploads(ebs), _SWEEP_SECONDS, False),
            (children.tell_accounts, _TELL_SECONDS, False),
            (lambda: remove_forgotten(services), _DAY_SECONDS, True),
        ):
            sweeper = Sweeper(job, seconds, at_once=at_once)
            life.callback(sweeper.stop)
            sweeper.start()
        facts = _facts(config, listener, key, children.s3_endpoint)
        life.callback(lambda: config.endpoint_path.unlink(missing_ok=True))
        application = _application(config, services, ebs, children, dispatcher)
        asyncio.run(_run_http(application, listener, lambda: _announce(config, facts, on_ready)))


class _Children:
    """The child processes of a server."""

    def __init__(self, config: Config, catalog: Catalog, operator: str) -> None:
        """``operator`` is the account whose keys open every bucket."""
        self._config = config
        self._identities = partial(_identities, catalog, operator)
        self._told = self._identities()
        self._objects: seaweedfs.SeaweedFS | None = None
        self._ports = load_ports(config.data_dir, (*seaweedfs.PORT_NAMES, *temporal.PORT_NAMES))
        workflows = temporal.TemporalServer(config.data_dir, self._ports)
        self.temporal_address = workflows.address
        services = [workflows.service()]
        if config.s3_endpoint is None:
            self._objects = seaweedfs.SeaweedFS(config.data_dir, self._told, self._ports)
            services.append(self._objects.service())
        self.s3_endpoint = self._objects.endpoint if self._objects is not None else str(config.s3_endpoint)
        services += [self._worker(number) for number in range(1, config.workers + 1)]
        self.supervisor = Supervisor(services, config.data_dir / "run")

    def start(self) -> None:
        """End what an earlier server left behind, then start all, and wait until they are ready."""
        end_leftovers(self._config.data_dir / "run")
        check_free(self._ports, self._config.data_dir)
        self.supervisor.start()

    def tell_accounts(self) -> None:
        """Let the embedded object store know of accounts and keys that came or went. Called by one thread at a time."""
        wanted = self._identities()
        if self._objects is not None and wanted != self._told:
            self._objects.set_identities(wanted, self.supervisor)
            self._told = wanted

    def _worker(self, number: int) -> Service:
        name = f"worker-{number}"
        argv = (
            sys.executable,
            "-m",
            "vmferry",
            "worker",
            f"--data-dir={self._config.data_dir}",
            f"--temporal={self.temporal_address}",
            f"--s3-endpoint={self.s3_endpoint}",
        )
        log = self._config.log_dir / f"{name}.log"
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}  # arenas per thread would hold on to every big buffer
        command = Command(name, argv, self._config.data_dir, log, environment)
        return Service(command, is_ready=lambda: True, order=1, stop_seconds=6)


def _identities(catalog: Catalog, operator: str) -> list[seaweedfs.Identity]:
    """Who may use the embedded object store: ``operator`` every bucket, other accounts those that begin with their
    name."""
    keys = catalog.accounts.keys()  # before the accounts: each then has one
    names = {account.id: account.name or account.id for account in catalog.accounts.all()}
    return [
        seaweedfs.Identity(key.account_id, key.access_key_id, key.secret_access_key)
        if key.account_id == operator
        else seaweedfs.Identity(
            key.account_id,
            key.access_key_id,
            key.secret_access_key,
            (f"Admin:{names[key.account_id]}", f"Admin:{names[key.account_id]}-*"),
        )
        for key in keys
    ]


def _listen(config: Config) -> socket.socket:
    # The protocol is named, for else asyncio does not recognise TCP and leaves Nagle's algorithm on: an answer's second
    # packet would then wait 40 ms for the client to acknowledge its first.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((config.host, config.port))
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"Port {config.port} on {quote(config.host)} cannot be listened on: {error.strerror}. "
            "Choose another with --port, or 0 for any."
        ) from error
    return listener


def _facts(config: Config, listener: socket.socket, key: AccessKey, s3_endpoint: str) -> dict[str, Any]:
    host, port = listener.getsockname()[:2]
    return {
        "ready": True,
        "endpoint": f"http://{host}:{port}",
        "s3_endpoint": s3_endpoint,
        "access_key_id": key.access_key_id,
        "secret_access_key": key.secret_access_key,
        "region": config.default_region,
        "account_id": key.account_id,
        "data_dir": str(config.data_dir),
        "pid": os.getpid(),
    }


def _announce(config: Config, facts: dict[str, Any], on_ready: Callable[[dict[str, Any]], None]) -> None:
    """Say how to reach the server: in the data directory, for ``vmferry env``, and to whoever started it."""
    kept = {name: value for name, value in facts.items() if name != "ready"}
    replace_private_file(config.endpoint_path, json.dumps(kept).encode())
    on_ready(facts)


def _application(
    config: Config, services: Services, ebs: EbsServices, children: _Children, dispatcher: Dispatcher
) -> Starlette:
    def lookup(access_key_id: str, /) -> Credential | None:
        key = services.catalog.accounts.find(access_key_id)
        return None if key is None else Credential(key.secret_access_key, key.account_id)

    def health(_: Request) -> JSONResponse:
        statuses = children.supervisor.status()
        shown = {status.name: {"state": status.state.value, "restarts": status.restarts} for status in statuses}
        healthy = all(entry["state"] == "ready" for entry in shown.values())
        return JSONResponse({"healthy": healthy, "services": shown}, 200 if healthy else 503)

    ec2 = Ec2FrontEnd(
        Ec2Services(
            regions=config.regions,
            catalog=services.catalog,
            objects=services.objects,
            s3_endpoint=children.s3_endpoint,
            images=services.images,
            quotas=config.limits,
            wake=dispatcher.wake,
            preview=Previewer(services).preview,
        )
    )
    front_ends: list[FrontEnd] = [ec2, EbsFrontEnd(ebs), StsFrontEnd(), IamFrontEnd(services.catalog)]
    gateway = create_gateway(front_ends, lookup, config.regions)
    metrics = Metrics(services.catalog.import_tasks, services.catalog.export_tasks)

    def tell_metrics(_: Request) -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    return Starlette(routes=[Route("/healthz", health), Route("/metrics", tell_metrics), Mount("/", app=gateway)])


async def _run_http(application: Starlette, listener: socket.socket, announce: Callable[[], None]) -> None:
    """Answer requests on ``listener`` until SIGTERM or SIGINT."""
    settings = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
    )
    server = _Server(settings, announce)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.end)
    await server.serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn's server, ended by our own signal handlers, and telling when it can be reached."""

    def __init__(self, settings: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(settings)
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._announce()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def end(self) -> None:
        """End after the requests in flight; at once when asked again."""
        self.force_exit = self.should_exit
        self.should_exit = True

"""An S3 service that behaves badly: it answers 503 to a third of the reads, and cuts some of the others short."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class FaultyS3:
    """What it does, and what it has done."""

    endpoint: str = ""
    refused: int = 0
    cut: int = 0
    served: int = 0
    bytes_served: int = 0
    luck: random.Random = field(default_factory=lambda: random.Random(5))
    lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, method: str) -> str:
        with self.lock:
            fate = self.luck.random()
            if fate < 1 / 3:
                self.refused += 1
                return "refuse"
            if fate < 0.43 and method == "GET":
                self.cut += 1
                return "cut"
            self.served += 1
            return "serve"


@contextmanager
def faulty_s3(real: str, *, faults: bool = True) -> Iterator[FaultyS3]:
    """Stands before the S3 service at ``real``. Requests keep their Host header, so their signatures stay right.

    Without ``faults`` it only counts.
    """
    facts, host = FaultyS3(), urlsplit(real).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        def do_HEAD(self) -> None:
            self._answer()

        def _answer(self) -> None:
            fate = facts.choose(self.command) if faults else "serve"
            if fate == "refuse":
                self.send_response(503)
                self.send_header("Content-Length", str(len(_SLOW_DOWN)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(_SLOW_DOWN)
                return
            connection = http.client.HTTPConnection(host, timeout=60)
            connection.request(self.command, self.path, headers=dict(self.headers.items()))
            answer = connection.getresponse()
            body = answer.read()
            with facts.lock:
                facts.bytes_served += len(body)
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "date", "server"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if fate == "cut" else body)
            self.close_connection = fate == "cut"
            connection.close()

        def log_request(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        facts.endpoint = f"http://127.0.0.1:{proxy.server_address[1]}"
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        try:
            yield facts
        finally:
            proxy.shutdown()
            thread.join()

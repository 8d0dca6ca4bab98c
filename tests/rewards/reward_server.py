"""A real HTTP server on loopback that answers in the wire format, or as wrongly as it is told."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ddrl.rewards.wire.message import Reply, Request, decode_request, encode_reply


def brightness(request: Request) -> list[float | None]:
    """The mean of each sample's pixels."""
    return [float(media.mean()) for media in request.media]


def good(request: Request) -> dict[str, Any]:
    """The reply of a server that works."""
    reply: dict[str, Any] = json.loads(encode_reply(request, Reply(tuple(brightness(request)), {})))
    return reply


@dataclass
class Answer:
    """What a server sends.

    Attributes:
        body: bytes, or what becomes JSON.
        status: of HTTP.
        length: the content length that it claims; None = the right one.
        location: of a redirection.
        headers: further ones.
    """

    body: bytes | dict[str, Any]
    status: int = 200
    length: int | None = None
    location: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """A server that runs.

    Attributes:
        url: of the reward.
        requests: what came, in order.
        tokens: the authorization header of each.
    """

    url: str
    requests: list[Request] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def serving(plan: Callable[[Request], Answer]) -> Iterator[Server]:
    """Serve rewards as planned while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = decode_request(self.rfile.read(int(self.headers["content-length"])))
            server.requests.append(request)
            server.tokens.append(self.headers["authorization"])
            answer = plan(request)
            body = answer.body if isinstance(answer.body, bytes) else _json(answer.body)
            self.send_response(answer.status)
            if answer.location:
                self.send_header("location", answer.location)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            claimed = len(body) if answer.length is None else answer.length
            self.send_header("content-length", str(claimed))
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = answer.length is not None

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that left, which is what some tests are about

    with Quiet(("127.0.0.1", 0), Handler) as http:
        server = Server(f"http://127.0.0.1:{http.server_address[1]}/bright")
        thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            http.shutdown()
            thread.join(5)


def _json(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode()

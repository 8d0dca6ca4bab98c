"""A small OpenAI-compatible server on loopback, with faults: what the judge's tests talk to."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ddrl.rewards.base import make_reward

TOKEN = "secret-token"


def pictures_of(body: dict[str, Any]) -> list[np.ndarray[Any, Any]]:
    """The pictures in a request, as arrays (H, W, 3) of bytes."""
    found = []
    for part in body["messages"][0]["content"]:
        if part["type"] == "image_url":
            kind, _, data = part["image_url"]["url"].partition(",")
            assert kind == "data:image/png;base64"
            found.append(np.array(Image.open(io.BytesIO(base64.b64decode(data)))))
    return found


def text_of(body: dict[str, Any]) -> str:
    """The text of a request."""
    content = body["messages"][0]["content"]
    return " ".join(part["text"] for part in content if part["type"] == "text")


def redness(body: dict[str, Any]) -> float:
    """What this judge goes by: the share of red in the pictures, and whether red was asked for."""
    share = float(np.mean([picture[..., 0].mean() / 255 for picture in pictures_of(body)]))
    return share if "red" in text_of(body) else 1 - share


def yes_no(body: dict[str, Any]) -> dict[str, Any]:
    """An answer whose probability of yes is a tenth from anything else, split over spellings."""
    assert body["logprobs"] is True
    assert body["top_logprobs"] == 20
    p = min(max(redness(body), 1e-4), 1 - 1e-4)
    shares = {"Yes": 0.5 * p, " yes": 0.3 * p, "YES": 0.1 * p, "No": 0.6 * (1 - p)}
    shares |= {"▁no": 0.3 * (1 - p), "Maybe": 0.05, "Yesterday": 0.05}
    top = [{"token": t, "logprob": math.log(q), "bytes": None} for t, q in shares.items()]
    first = {"token": "Yes", "logprob": top[0]["logprob"], "top_logprobs": top}
    return {"message": {"role": "assistant", "content": "Yes"}, "logprobs": {"content": [first]}}


def rubric(body: dict[str, Any]) -> dict[str, Any]:
    """An answer that follows the schema, in tenths of its range."""
    schema = body["response_format"]["json_schema"]["schema"]
    assert set(schema["required"]) == {"reason", "score"}
    said = {"reason": "It is as red as that.", "score": round(10 * redness(body), 3)}
    message = {"role": "assistant", "content": json.dumps(said)}
    return {"message": message, "finish_reason": "stop"}


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """Whatever the request asks for."""
    return rubric(body) if "response_format" in body else yes_no(body)


Fault = Callable[["Handler", dict[str, Any]], bool]
"""Answers a request in its own way, and says whether it did."""


class ChatServer(ThreadingHTTPServer):
    """Its requests, how many are under way at most, and what is wrong with it."""

    daemon_threads = True

    def __init__(self, fault: Fault, models: tuple[str, ...] | bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.models = fault, models
        self.requests: list[dict[str, Any]] = []
        self.released = threading.Event()  # ends what hangs
        self.lock = threading.Lock()
        self.under_way = self.most_under_way = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of the server."""


class Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_GET(self) -> None:
        if isinstance(self.server.models, bytes):  # whatever it is
            self.reply(200, self.server.models)
            return
        data = [{"id": name, "object": "model"} for name in self.server.models]
        self.reply(200, {"object": "list", "data": data})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server = self.server
        with server.lock:
            said = {"token": self.headers.get("Authorization"), "path": self.path}
            server.requests.append({**body, **said})
            server.under_way += 1
            server.most_under_way = max(server.most_under_way, server.under_way)
        try:
            if not server.fault(self, body):
                self.reply(200, {"object": "chat.completion", "choices": [answer(body)]})
        finally:
            with server.lock:
                server.under_way -= 1

    def reply(
        self, status: int, body: object, *, cut: int = 0, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer with JSON or bytes, of which the last ``cut`` never come."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: len(data) - cut])


def no_fault(handler: Handler, body: dict[str, Any]) -> bool:
    return False


@contextmanager
def chat_server(
    fault: Fault = no_fault, models: tuple[str, ...] | bytes = ("tiny",)
) -> Iterator[ChatServer]:
    """Run the server while the block runs."""
    server = ChatServer(fault, models)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


def walls(*levels: float) -> Tensor:
    """Pictures of (level, .25, .5), each with one white row so that order can be told."""
    media = torch.full((len(levels), 3, 12, 16), 0.25)
    media[:, 0] = torch.tensor(levels)[:, None, None]
    media[:, 2] = 0.5
    return media


def judge(url: str, **options: Any) -> Any:
    return make_reward("vlm_judge", {"url": url, "pause": 0.0, "timeout": 5.0, **options})


def level(value: float) -> float:
    """After the way through a PNG."""
    return round(255 * value) / 255

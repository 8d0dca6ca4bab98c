"""One exchange with a server of rewards over HTTP: bounded in time and size, failures in words."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ddrl.rewards.server_words import quoted, read_json
from ddrl.rewards.wire import CONTENT_TYPE, FORMAT, Reply, WireError, decode_reply

if TYPE_CHECKING:
    import httpx

__all__ = ["ExchangeError", "Sent", "exchange", "make_client"]

_MAX_ERROR = 1000  # characters of an error of our own format, and of its hint
_HINTS = {
    401: "the option token_env names the environment variable that holds the server's token",
    404: "the path of the URL is the name that the server's table shows",
    413: "send fewer samples in a request (option samples_per_request), or raise the server's "
    "max_body_mb",
    415: "does a server of this wire format answer there?",
}
_PASSING = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Sent:
    """A request that is ready to be sent.

    Attributes:
        body: of the wire format.
        request: its id.
        samples: the ids of its samples.
    """

    body: bytes
    request: str
    samples: tuple[str, ...]

    @property
    def max_reply(self) -> int:
        """Bytes that a reply may have."""
        return 65_536 + 1024 * len(self.samples)


class ExchangeError(Exception):
    """An exchange without values.

    Args:
        cause: a clause without a full stop.
        hint: what the user can do about it.
        passing: whether the same request may succeed a moment later.
    """

    def __init__(self, cause: str, *, hint: str = "", passing: bool = False) -> None:
        super().__init__(cause)
        self.cause, self.hint, self.passing = cause, hint, passing


def make_client(token: str, connections: int) -> httpx.AsyncClient:
    """A client that follows no redirects, asks loopback directly, and takes plain replies."""
    import httpx

    headers = {
        "content-type": CONTENT_TYPE,
        "accept": "application/json",
        "accept-encoding": "identity",  # a small reply can't unpack to a large one
        **({"authorization": f"Bearer {token}"} if token else {}),
    }
    direct: Mapping[str, None] = {"all://127.0.0.1": None, "all://localhost": None}
    return httpx.AsyncClient(
        headers=headers,
        mounts=direct,
        verify=_certificates(),
        limits=httpx.Limits(max_connections=connections),
        timeout=None,  # one limit for all of an exchange is set around it
    )


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust; loading them takes longer than most requests, so once for all clients."""
    import httpx

    return httpx.create_ssl_context()


async def exchange(client: httpx.AsyncClient, url: str, sent: Sent, *, timeout: float) -> Reply:
    """Send a request and read the reply.

    Args:
        client: of :func:`make_client`.
        url: to whom.
        sent: the request.
        timeout: seconds that all of it may take.

    Raises:
        ExchangeError: there are no values; says why.
    """
    import httpx

    try:
        async with asyncio.timeout(timeout):
            status, body = await _post(client, url, sent)
    except TimeoutError:
        raise ExchangeError(
            f"no answer in {timeout:g} s", hint="see the option timeout of the remote reward"
        ) from None
    except httpx.ConnectError as error:
        raise ExchangeError(_why_not_connected(error), passing=True) from error
    except httpx.RemoteProtocolError as error:
        raise ExchangeError(f"the reply is cut off ({quoted(error)})", passing=True) from error
    except (httpx.HTTPError, OSError) as error:
        text = quoted(error)
        cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ExchangeError(f"the connection broke ({cause})", passing=True) from error
    if status != 200:
        raise _refusal(status, body)
    try:
        return decode_reply(body, request=sent.request, samples=sent.samples)
    except WireError as error:
        raise ExchangeError(error.message, hint=error.hint) from error


async def _post(client: httpx.AsyncClient, url: str, sent: Sent) -> tuple[int, bytes]:
    body = bytearray()
    async with client.stream("POST", url, content=sent.body) as response:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > sent.max_reply:
                size = f"{sent.max_reply} bytes for {len(sent.samples)} samples"
                raise ExchangeError(f"the reply is larger than the limit of {size}")
        return response.status_code, bytes(body)


def _refusal(status: int, body: bytes) -> ExchangeError:
    """What a status other than 200 means."""
    said, hint, answered = _own_words(body)
    if answered:  # by the service of rewards itself: the reward failed, or does not want this
        cause = f"{said} (status {status})"
        return ExchangeError(cause, hint=hint or _HINTS.get(status, ""), passing=status == 503)
    text = f" ({said})" if said else ""
    known = {
        401: "it does not accept the token",
        403: "it does not let this client in",
        404: "there is no reward under this address",
        413: "the request is too large for it",
        415: "it does not take requests of this format",
    }.get(status, "it moved" if 300 <= status < 400 else "it failed")
    return ExchangeError(
        f"{known}, status {status}{text}", hint=_HINTS.get(status, ""), passing=status in _PASSING
    )


def _own_words(body: bytes) -> tuple[str, str, bool]:
    """What the server says, a hint, and whether it speaks the wire format."""
    try:
        found = read_json(body)
    except ValueError:
        return quoted(body[:_MAX_ERROR].decode("utf-8", "replace")), "", False
    if isinstance(found, dict) and found.get("format") == FORMAT and found.get("error"):
        error, hint = (quoted(found.get(key, ""), limit=_MAX_ERROR) for key in ("error", "hint"))
        return error, hint, True
    return quoted(found), "", False


def _why_not_connected(error: BaseException) -> str:
    """The system's reason, which is behind one or more wrappings."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(seen, socket.gaierror):
            return "there is no such host"
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[0]
            continue
        seen = seen.__cause__ or seen.__context__
    return f"it can't be reached ({quoted(error)})"

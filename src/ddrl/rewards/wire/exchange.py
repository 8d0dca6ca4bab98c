"""One exchange with a server of rewards: a request in the wire format, and the reply to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ddrl.rewards.http.client import Answered, ExchangeError, send
from ddrl.rewards.http.retry import is_passing, told_wait
from ddrl.rewards.http.server_words import quoted, read_json
from ddrl.rewards.wire.format import FORMAT, WireError
from ddrl.rewards.wire.message import MAX_ERROR, Reply, decode_reply

if TYPE_CHECKING:
    import httpx

_HINTS = {
    401: "the option token_env names the environment variable that holds the server's token",
    404: "the path of the URL is the name that the server's table shows",
    413: "send fewer samples in a request (option samples_per_request), or raise the server's "
    "max_body_mb",
    415: "does a server of this wire format answer there?",
}


@dataclass(frozen=True)
class Sent:
    """A request that is ready to be sent.

    Attributes:
        body: its bytes in the wire format.
        request: its id.
        samples: the ids of its samples.
    """

    body: bytes
    request: str
    samples: tuple[str, ...]

    @property
    def max_reply(self) -> int:
        """How many bytes a reply may have."""
        return 65_536 + 1024 * len(self.samples)


async def exchange(client: httpx.AsyncClient, url: str, sent: Sent, *, timeout: float) -> Reply:
    """Send a request and read the reply.

    Args:
        client: one of :func:`~ddrl.rewards.http.client.make_client`.
        url: the server's address.
        sent: the request.
        timeout: seconds that the whole exchange may take.

    Raises:
        ExchangeError: there are no values; says why.
    """
    answered = await send(
        client, "POST", url, timeout=timeout, max_reply=sent.max_reply, content=sent.body
    )
    if answered.status != 200:
        raise _refusal(answered)
    try:
        return decode_reply(answered.body, request=sent.request, samples=sent.samples)
    except WireError as error:
        raise ExchangeError(error.message, hint=error.hint) from error


def _refusal(answered: Answered) -> ExchangeError:
    """Say what a status other than 200 means."""
    status, wait = answered.status, told_wait(answered.headers)
    said, hint, is_own = _own_words(answered.body)
    if is_own:  # by the service of rewards itself: the reward failed, or does not want this
        cause = f"{said} (status {status})"
        hint = hint or _HINTS.get(status, "")
        return ExchangeError(cause, hint=hint, passing=status in (429, 503), wait=wait)
    text = f" ({said})" if said else ""
    known = {
        401: "it does not accept the token",
        403: "it does not let this client in",
        404: "there is no reward under this address",
        413: "the request is too large for it",
        415: "it does not take requests of this format",
        429: "it has too much to do",
    }.get(status, "it moved" if 300 <= status < 400 else "it failed")
    return ExchangeError(
        f"{known}, status {status}{text}",
        hint=_HINTS.get(status, ""),
        passing=is_passing(status),
        wait=wait,
    )


def _own_words(body: bytes) -> tuple[str, str, bool]:
    """Return what the server says, a hint, and whether it speaks the wire format."""
    try:
        found = read_json(body)
    except ValueError:
        return quoted(body[:MAX_ERROR].decode("utf-8", "replace")), "", False
    if isinstance(found, dict) and found.get("format") == FORMAT and found.get("error"):
        error, hint = (quoted(found.get(key, ""), limit=MAX_ERROR) for key in ("error", "hint"))
        return error, hint, True
    return quoted(found), "", False

"""One HTTP exchange with any server: bounded in time and size, failures in words.

All rewards that ask a server go through here, so that proxies, certificates, bounds and words are
the same for judges and for ``remote``.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ddrl.errors import RewardError
from ddrl.rewards.http.proxy import find_proxy
from ddrl.rewards.http.server_words import quoted

if TYPE_CHECKING:
    import httpx

_TRUST = "name the file of the authority that signed it in the option ca_file, or in SSL_CERT_FILE"
_INFLATE = 47  # zlib's window, with gzip's and zlib's own headers both recognised


@dataclass(frozen=True)
class Answered:
    """The answer of a server.

    Attributes:
        status: status of HTTP.
        headers: headers by name, in any case.
        body: as it came, uncompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class ExchangeError(Exception):
    """An exchange without a result.

    Args:
        cause: a clause without a full stop.
        hint: what the user can do about it.
        passing: whether the same request may succeed a moment later.
        wait: seconds that the server asks to wait before that; None: it asks for nothing.
        down: whether the server was not reached at all.
        refused: whether every other request would meet the same.
    """

    def __init__(
        self,
        cause: str,
        *,
        hint: str = "",
        passing: bool = False,
        wait: float | None = None,
        down: bool = False,
        refused: bool = False,
    ) -> None:
        super().__init__(cause)
        self.cause, self.hint, self.passing = cause, hint, passing
        self.wait, self.down, self.refused = wait, down, refused


def make_client(
    urls: Sequence[str], *, headers: Mapping[str, str], connections: int, ca_file: str = ""
) -> httpx.AsyncClient:
    """Make a client that follows no redirects, takes plain replies, and asks loopback directly.

    Args:
        urls: addresses that will be asked, each through the proxy that the environment has for it.
        headers: headers of every request.
        connections: how many connections there are at the same time.
        ca_file: certificates to trust instead of the usual ones; empty: see :func:`_certificates`.

    Raises:
        RewardError: a proxy or the file can't be used.
    """
    import httpx

    proxies = {url: find_proxy(url) for url in urls}
    addresses = [*urls, *(proxy.url for proxy in proxies.values() if proxy)]
    if any(one.lower().startswith("https:") for one in addresses) or ca_file:
        context = _certificates(ca_file)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which trusts nobody
    limits = httpx.Limits(max_connections=connections)
    routes: dict[str, httpx.AsyncHTTPTransport] = {}
    for url, proxy in proxies.items():
        if proxy is None:
            continue
        parts = urlsplit(url)
        routes[f"{parts.scheme.lower()}://{parts.netloc}"] = httpx.AsyncHTTPTransport(
            verify=context,
            limits=limits,
            proxy=httpx.Proxy(
                proxy.url, ssl_context=context if proxy.url.startswith("https") else None
            ),
            trust_env=False,
        )
    return httpx.AsyncClient(
        # Without encoding, a small reply can't unpack to a large one.
        headers={"accept": "application/json", "accept-encoding": "identity", **headers},
        mounts=routes,
        verify=context,
        limits=limits,
        timeout=None,  # one limit for all of an exchange is set around it
        trust_env=False,  # what the environment says has been read, but for passwords in .netrc
    )


@lru_cache(maxsize=8)
def _certificates(ca_file: str) -> ssl.SSLContext:
    """Whom to trust: a file, or SSL_CERT_FILE, SSL_CERT_DIR, or the bundle that httpx brings.

    Loading them takes longer than most requests, so it is done once for all clients.

    Raises:
        RewardError: they can't be read.
    """
    import httpx

    try:
        if ca_file:
            return ssl.create_default_context(cafile=ca_file)
        return httpx.create_ssl_context()
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        name = "option ca_file" if ca_file else "environment variable SSL_CERT_FILE"
        reason = getattr(error, "strerror", None) or error
        raise RewardError(
            f"The certificates that the {name} names can't be read: {quoted(reason)}.",
            hint="it is the path of a file of certificates in PEM format",
        ) from error


async def send(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    timeout: float,
    max_reply: int,
    content: bytes | None = None,
) -> Answered:
    """Send a request and read the whole answer, whatever its status is.

    Args:
        client: one of :func:`make_client`.
        method: method of HTTP.
        url: the server's address.
        timeout: seconds that the whole exchange may take.
        max_reply: bytes that the answer may have.
        content: body of the request.

    Raises:
        ExchangeError: there is no whole answer; says why.
    """
    import httpx

    try:
        async with asyncio.timeout(timeout):
            return await _read(client, method, url, content, max_reply)
    except TimeoutError:
        raise ExchangeError(
            f"no whole answer came within {timeout:.3g} s", hint="see the option timeout"
        ) from None
    except httpx.InvalidURL as error:
        raise ExchangeError(f"it is no url ({quoted(error)})", refused=True) from error
    except httpx.ConnectError as error:
        raise _not_connected(error, url) from error
    except httpx.ProxyError as error:
        cause = f"the proxy does not let it through ({quoted(error)})"
        raise ExchangeError(cause + _through(url), passing=True, down=True) from error
    except httpx.RemoteProtocolError as error:
        raise ExchangeError(f"the reply is cut off ({quoted(error)})", passing=True) from error
    except (httpx.HTTPError, OSError) as error:
        text = quoted(error)
        cause = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ExchangeError(f"the connection broke ({cause})", passing=True) from error


async def _read(
    client: httpx.AsyncClient, method: str, url: str, content: bytes | None, max_reply: int
) -> Answered:
    body = bytearray()
    async with client.stream(method, url, content=content) as response:
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > max_reply:
                raise _too_large(max_reply)
        headers = response.headers
        plain = _uncompressed(bytes(body), headers.get("content-encoding", ""), max_reply)
        return Answered(response.status_code, headers, plain)


def _uncompressed(body: bytes, encoding: str, max_reply: int) -> bytes:
    """Unpack what a server has compressed although it was asked not to, within the same bound."""
    encoding = encoding.strip().casefold()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ExchangeError(
            f"the reply is compressed ({quoted(encoding)}), which was not asked for"
        )
    try:
        plain = zlib.decompressobj(_INFLATE).decompress(body, max_reply + 1)
    except zlib.error as error:
        raise ExchangeError("the reply is compressed and damaged") from error
    if len(plain) > max_reply:
        raise _too_large(max_reply)
    return plain


def _too_large(max_reply: int) -> ExchangeError:
    return ExchangeError(f"the reply is larger than the limit of {max_reply} bytes")


def _not_connected(error: BaseException, url: str) -> ExchangeError:
    """Find the system's reason, which is behind one or more wrappings."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ssl.SSLCertVerificationError):
            cause = f"its certificate is not trusted ({quoted(seen.verify_message)})"
            return ExchangeError(cause + _through(url), hint=_TRUST, refused=True)
        if isinstance(seen, ssl.SSLError):
            plain = seen.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE")
            hint = "does the server speak http:// there, without TLS?" if plain else ""
            reason = quoted(seen.reason or seen).replace("_", " ").lower()
            cause = f"no TLS connection came about ({reason})"
            return ExchangeError(cause + _through(url), hint=hint, refused=True)
        if isinstance(seen, ConnectionRefusedError):
            cause = "the connection was refused"
            return ExchangeError(cause + _through(url), passing=True, down=True)
        if isinstance(seen, socket.gaierror):
            cause = "there is no such host"
            return ExchangeError(cause + _through(url), passing=True, down=True)
        if isinstance(seen, BaseExceptionGroup):
            seen = seen.exceptions[0]
            continue
        seen = seen.__cause__ or seen.__context__
    cause = f"it can't be reached ({quoted(error)})"
    return ExchangeError(cause + _through(url), passing=True, down=True)


def _through(url: str) -> str:
    """Name the proxy that it was asked through, for users who don't know that there is one."""
    proxy = find_proxy(url)
    return "" if proxy is None else f", through the proxy of {proxy.variable}"

"""Which proxy a server is asked through, by the environment; loopback is asked directly."""

from __future__ import annotations

import importlib.util
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ddrl.errors import RewardError

_KINDS = ("http", "https", "socks5", "socks5h")


@dataclass(frozen=True)
class Proxy:
    """A proxy.

    Attributes:
        url: its address, which may hold a password.
        variable: the environment variable that names it.
    """

    url: str
    variable: str


def find_proxy(url: str) -> Proxy | None:
    """Return the proxy for an address: of its scheme, or of all; None where it is asked directly.

    ``no_proxy`` takes names of hosts and domains, ``*``, and networks such as ``10.0.0.0/8``.

    Raises:
        RewardError: it is of a kind that can't be used; its address is not repeated.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    known = getproxies()
    scheme = next((s for s in (parts.scheme.lower(), "all") if known.get(s)), "")
    if not scheme or _is_direct(host, parts.port, known.get("no", "")):
        return None
    found, variable = known[scheme].strip(), f"{scheme}_proxy"
    if "://" not in found:
        found = f"http://{found}"
    try:
        proxy = urlsplit(found)
        kind, named = proxy.scheme.lower(), proxy.hostname
        _ = proxy.port  # a port that is no number shows here
    except ValueError:
        kind, named = "", None
    if kind not in _KINDS or not named:
        raise RewardError(
            f"The proxy of the environment variable {variable} can't be used for {host}: it has to "
            f"be an address that begins with {', '.join(f'{one}://' for one in _KINDS)}.",
            hint=f"correct {variable}, or list {host} in no_proxy",
        )
    if kind.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise RewardError(
            f"The proxy of the environment variable {variable} is a SOCKS proxy, which needs the "
            "package socksio.",
            hint=f"pip install 'ddrl[remote]', or list {host} in no_proxy",
        )
    return Proxy(found, variable)


def _is_direct(host: str, port: int | None, exceptions: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return bool(proxy_bypass(host if port is None else f"{host}:{port}"))
    if address.is_loopback or address.is_unspecified or proxy_bypass(host):
        return True
    return any(_holds(network.strip(), address) for network in exceptions.split(","))


def _holds(network: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    try:
        return address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False

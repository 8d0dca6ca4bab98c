"""What servers are told and say: addresses without passwords, JSON of any shape, short text."""

from __future__ import annotations

import json
import os
import re
from typing import Any
from urllib.parse import urlsplit

from ddrl.errors import RewardError, printable

MAX_TEXT = 200
"""Characters of what a server says that are repeated."""


def check_url(url: str, *, beside: str = "") -> None:
    """See whether an address can be asked, and could be shown to anybody.

    Args:
        url: the address.
        beside: the text that it is a part of, if it is one.

    Raises:
        ValueError: it can't; says so without repeating what may be a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # a port that is no number shows here
    except ValueError:
        parts, host = urlsplit(""), None
    is_address = parts.scheme in ("http", "https") and bool(host)
    # Looked at first: what is no address is repeated, and may be one without its http://.
    if "@" in (parts.netloc if is_address else f"{url}{beside}".replace("%40", "@")):
        raise ValueError("a url holds no password; use token_env")
    if not is_address:
        raise ValueError(
            f"url {printable(url, limit=MAX_TEXT)!r} is no http:// or https:// address: it must "
            "begin with http:// or https:// and name a host"
        )
    if parts.query or parts.fragment:
        raise ValueError(
            "a url ends with its path, because a key behind it would be kept; use token_env"
        )


def read_token(variable: str) -> str:
    """Read the token in an environment variable; empty where no variable is named.

    Raises:
        RewardError: it is not set, or holds what no header can carry; it is not repeated.
    """
    if not variable:
        return ""
    token = os.environ.get(variable, "").strip()
    if not token:
        raise RewardError(
            f"The environment variable {variable} is not set, which holds the server's token.",
            hint=f"export {variable}=..., or leave the option token_env out if it needs none",
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise RewardError(
            f"The environment variable {variable} holds no token: it has spaces, line ends or "
            "letters that are not ASCII.",
            hint=f"export {variable}=... again, with the token alone",
        )
    return token


def read_json(text: str | bytes) -> Any:  # noqa: ANN401 - whatever it is
    """Read JSON.

    Raises:
        ValueError: it is something else, or lists within lists without end.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def quoted(said: object, *, limit: int = MAX_TEXT) -> str:
    """Repeat what a server said on one line, as much as a message may repeat."""
    try:
        text = said if isinstance(said, str) else str(said)
    except (RecursionError, ValueError):  # nested too deep; a number of too many digits
        text = type(said).__name__
    return printable(" ".join(text[: 8 * limit].split()), limit=limit)

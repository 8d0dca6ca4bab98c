"""The token of a service of rewards: only its hash is stored in the cluster."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request as HttpRequest


def digest(token: str) -> str:
    """What of a token is stored: its hash; of no token, nothing."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def admits(token: str, request: HttpRequest) -> bool:
    """Whether a request has the token of this digest; takes the same time for any other."""
    if not token:
        return True
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(digest(sent.strip()), token)

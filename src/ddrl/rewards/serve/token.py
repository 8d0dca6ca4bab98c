"""The token of a service of rewards: only its hash is stored in the cluster."""

from __future__ import annotations

import hashlib
import hmac

from starlette.requests import Request as HttpRequest


def digest(token: str) -> str:
    """Return the hash that is stored for a token; empty where there is no token."""
    return hashlib.sha256(token.encode()).hexdigest() if token else ""


def admits(token: str, request: HttpRequest) -> bool:
    """Return whether a request has the token of this digest, in the same time for any other."""
    if not token:
        return True
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(digest(sent.strip()), token)

"""Loads Ray, with settings that it reads when it is imported."""

from __future__ import annotations

import os
import secrets

from ddrl.errors import RewardError

__all__ = ["first_line", "import_ray", "set_up_own"]


def set_up_own() -> None:
    """Settings of a Ray of its own, which Ray reads when it is imported."""
    # It runs what it is sent: it lets in only who has its token.
    names = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    if not os.environ.keys() & names.keys():
        os.environ.update(names)
    # By default its workers give way to everything else on the machine, a trainer beside it too.
    os.environ.setdefault("RAY_worker_niceness", "0")


def import_ray() -> None:
    """Load Ray, without its report to its makers.

    Raises:
        RewardError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray.serve  # noqa: F401
    except ImportError as error:
        raise RewardError(
            "Serving rewards needs Ray Serve.", hint="pip install 'ddrl[serve]'"
        ) from error


def first_line(error: BaseException) -> str:
    """The first line of what an error says, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

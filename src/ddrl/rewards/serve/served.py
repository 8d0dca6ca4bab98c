"""What is served, and how it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["starting", "running", "unhealthy", "failed"]

APP = "reward-"
"""Before a path, the name of its application."""


@dataclass(frozen=True)
class ServedReward:
    """A reward and how it is served.

    Attributes:
        path: the last part of its URL.
        name: of the reward.
        options: of the reward.
        requirements: of pip, in addition to what is installed here.
        replicas: how many.
        max_replicas: up to how many when requests wait; at most ``replicas`` = a fixed number.
        target_requests: requests under way per replica that are aimed at.
        batch_size: samples that the reward is given at once.
        batch_wait: seconds that the first sample of a batch waits for others.
        requests: that a replica takes at a time.
        cpus: that a replica reserves.
        gpus: that a replica reserves.
    """

    path: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    requirements: tuple[str, ...] = ()
    replicas: int = 1
    max_replicas: int = 0
    target_requests: float = 8.0
    batch_size: int = 16
    batch_wait: float = 0.01
    requests: int = 32
    cpus: float = 1.0
    gpus: float = 0.0


@dataclass(frozen=True)
class ServiceSettings:
    """How rewards are served together.

    Attributes:
        host: address to listen on.
        port: to listen on.
        token: that clients have to send; empty = none. Replicas get its digest.
        max_body: bytes that a request may have.
        body_seconds: seconds that a request may take to arrive.
        modules: packages (folders) and .py files that replicas import; sent to every node.
        folders: in which replicas on this machine look for rewards that are not installed.
        address: of a Ray cluster, ``auto`` for the one of this machine; empty = a Ray of its own
            is started on this machine, and ends with the service.
        object_store: bytes of shared memory of a Ray of its own.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    token: str = ""
    max_body: int = 256_000_000
    body_seconds: float = 60.0
    modules: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    address: str = ""
    object_store: int = 200_000_000


@dataclass(frozen=True)
class ServedState:
    """How a served reward does.

    Attributes:
        path: the last part of its URL.
        url: where it is asked.
        state: of all its replicas together.
        replicas: that are running.
        cause: what is wrong, or what is awaited.
    """

    path: str
    url: str
    state: State
    replicas: int
    cause: str

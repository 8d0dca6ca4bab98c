"""What a service of rewards serves, and in which state it is."""

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
        name: name of the reward.
        options: its options.
        requirements: packages for pip, in addition to what is installed here.
        replicas: how many replicas run.
        max_replicas: how many may run when requests wait; at most ``replicas`` = a fixed number.
        target_requests: how many requests under way per replica are the aim.
        batch_size: samples that the reward is given at once.
        batch_wait: seconds that the first sample of a batch waits for others.
        requests: how many requests a replica takes at a time.
        cpus: CPUs that a replica reserves.
        gpus: GPUs that a replica reserves.
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
        port: port to listen on.
        token: token that clients have to send; empty = none. Replicas get its digest.
        max_body: bytes that a request may have.
        body_seconds: seconds that a request may take to arrive.
        modules: packages (folders) and .py files that replicas import; sent to every node.
        folders: where replicas on this machine look for rewards that are not installed.
        address: address of a Ray cluster, ``auto`` for the one of this machine; empty = the
            service starts its own Ray on this machine, which ends with it.
        object_store: bytes of shared memory of its own Ray.
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
    """The state of a served reward.

    Attributes:
        path: the last part of its URL.
        url: where it is asked.
        state: the state of all its replicas together.
        replicas: how many are running.
        cause: what is wrong, or what it waits for.
    """

    path: str
    url: str
    state: State
    replicas: int
    cause: str

"""Serves rewards on Ray Serve, each in replicas and in an environment of its own."""

from __future__ import annotations

import logging
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ddrl.errors
from ddrl.errors import RewardError, UsageError
from ddrl.rewards.serve.cluster import import_ray, join, make_folder, set_up_own, start_own
from ddrl.rewards.serve.served import APP, ServedReward, ServedState, ServiceSettings

logger = logging.getLogger(__name__)


class RewardService:
    """Rewards under ``http://host:port/PATH``; a context that starts and stops them.

    Args:
        rewards: at least one, of distinct paths.
        settings: how they are served.
    """

    def __init__(self, rewards: Sequence[ServedReward], settings: ServiceSettings) -> None:
        self._rewards, self._settings = tuple(rewards), settings
        self._host, self._port = settings.host, settings.port
        self._folder: Path | None = None  # of a Ray of its own
        self._started: list[str] = []  # applications
        self._owns_serve = False

    def start(self) -> None:
        """Start Ray where there is none, and ask Serve for the rewards; does not wait for them.

        Raises:
            UsageError: the port is taken, or there is no such cluster.
            RewardError: ray is missing, or the machine does not have what the rewards reserve.
        """
        if not self._settings.address and "ray" not in sys.modules:
            set_up_own()
        import_ray()
        from ddrl.rewards.serve.apps import deploy

        uris = self._connect()
        self._check_resources()
        self._owns_serve = self._start_serve()
        self._started = deploy(self._rewards, self._settings, uris)

    def states(self) -> list[ServedState]:
        """Return the state of each reward, in the order in which they were given."""
        from ddrl.rewards.serve.apps import look

        return look(self._rewards, self._url())

    def stop(self) -> None:
        """Stop everything that was started here; what was there before stays."""
        if sys.modules.get("ray.serve") is not None:
            self._stop_ray()
        if self._folder is not None:
            for _ in range(20):  # a process of Ray that is ending may still write there
                shutil.rmtree(self._folder, ignore_errors=True)
                if not self._folder.exists():
                    break
                time.sleep(0.25)
            self._folder = None

    def _stop_ray(self) -> None:
        import ray
        from ray import serve

        if self._settings.address and ray.is_initialized():
            with suppress(Exception):  # the cluster may be gone
                if self._owns_serve:
                    serve.shutdown()
                else:
                    for name in self._started:
                        serve.delete(name)
        ray.shutdown()  # also what is left of a start that failed

    def __enter__(self) -> RewardService:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _url(self) -> str:
        host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(self._host)
        return f"http://{host or self._host}:{self._port}"

    def _connect(self) -> list[str]:
        """Join or start a Ray; return where it keeps the code of replicas."""
        import ray

        code = [str(Path(ddrl.errors.__file__).parent), *map(str, self._settings.modules)]
        settings: dict[str, Any] = {
            "runtime_env": {"py_modules": code},
            "log_to_driver": False,
            "logging_level": logging.ERROR,
        }
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        if self._settings.address:
            join(self._settings.address, **settings)
        else:
            self._check_port()
            self._folder = make_folder()
            start_own(self._folder, object_store_memory=self._settings.object_store, **settings)
        return list(ray.get_runtime_context().runtime_env["py_modules"])

    def _start_serve(self) -> bool:
        """Start Serve, unless it is there; return whether it was started."""
        from ray import serve
        from ray.serve.config import HTTPOptions

        from ddrl.rewards.serve.apps import applications, http_address

        before = applications() if self._settings.address else None
        if before is None:
            everywhere = "EveryNode" if self._settings.address else "HeadOnly"
            options = HTTPOptions(host=self._host, port=self._port)
            try:
                serve.start(http_options=options, proxy_location=everywhere)
            except Exception as error:  # of no class of its own
                if "Failed to bind" not in str(error):
                    raise
                raise self._port_taken("another process has just taken the port") from error
            return True
        taken = [one.path for one in self._rewards if APP + one.path in before]
        if taken:
            raise UsageError(
                f"The cluster serves a reward as {taken[0]!r} already.",
                hint="give this one another route, or stop the other service",
            )
        host, port = http_address()
        if (host, port) != (self._host, self._port):
            logger.warning("Serve is running already; it listens on %s:%d", host, port)
        self._host, self._port = host, port
        return False

    def _check_port(self) -> None:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((self._host, self._port))
        except OSError as error:
            raise self._port_taken(error.strerror or str(error)) from error

    def _port_taken(self, why: str) -> UsageError:
        return UsageError(
            f"Can't listen on {self._host}:{self._port}: {why}.",
            hint="choose another port in [serve]",
        )

    def _check_resources(self) -> None:
        import ray

        there = ray.cluster_resources()
        for resource, label, key in (("CPU", "CPUs", "cpus"), ("GPU", "GPUs", "gpus")):
            asked = sum(one.replicas * getattr(one, key) for one in self._rewards)
            has = there.get(resource, 0.0)
            if asked <= has:
                continue
            if self._settings.address:  # a cluster may grow
                logger.warning("the rewards reserve %g %s, the cluster has %g", asked, label, has)
                continue
            raise RewardError(
                f"The rewards reserve {asked:g} {label}, and this machine has {has:g}.",
                hint=f"lower replicas, or {key} of a [[reward]]: fractions are allowed",
            )

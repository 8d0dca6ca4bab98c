"""Rewards as applications of Ray Serve: what is deployed, and in which state it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig

from ddrl.rewards.http.server_words import quoted
from ddrl.rewards.serve.replica import Replica
from ddrl.rewards.serve.served import (
    APP,
    ServedReward,
    ServedState,
    ServiceSettings,
    State,
)
from ddrl.rewards.serve.status import STATUS_APP, STATUS_NAME, Status
from ddrl.rewards.serve.token import digest

_SETUP_SECONDS = 3600  # that an environment may take to be installed
_STOP_SECONDS = 5.0  # that requests under way are given at the end
_HEALTH_SECONDS = 5.0
_MAX_CAUSE = 500  # characters of what pip, Ray or a reward said
_ERROR = re.compile(r"^\s*(?:ddrl\.errors\.)?(\w*(?:Error|Exception)): (.+)$", re.MULTILINE)
_PIP = re.compile(r"^(?:\S+ )?ERROR: (.+)$", re.MULTILINE)


def applications() -> Mapping[str, Any] | None:
    """Return the applications that Serve has; None where it is not running."""
    try:
        ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")
    except ValueError:
        return None
    return dict(serve.status().applications)


def http_address() -> tuple[str, int]:
    """Return host and port of a Serve that is running."""
    from ray.serve.context import _get_global_client

    config = _get_global_client().http_config
    return str(config.host), int(config.port)


def deploy(
    rewards: Sequence[ServedReward], settings: ServiceSettings, py_modules: Sequence[str]
) -> list[str]:
    """Ask Serve for the rewards and the status page; does not wait.

    Args:
        rewards: what is served.
        settings: how.
        py_modules: URIs of the code that replicas run.

    Returns:
        The names of the applications.
    """
    code: dict[str, Any] = {"py_modules": list(py_modules)}
    kept = replace(settings, token=digest(settings.token))
    targets = []
    if STATUS_APP not in (applications() or {}):
        page = serve.deployment(Status, name=STATUS_NAME).options(
            ray_actor_options={"num_cpus": 0, "runtime_env": code}
        )
        targets.append(
            serve.RunTarget(page.bind(kept.token), name=STATUS_APP, route_prefix="/status")
        )
    for one in rewards:
        deployment = serve.deployment(Replica, name=one.path).options(**_options(one, code))
        targets.append(
            serve.RunTarget(
                deployment.bind(one, kept), name=APP + one.path, route_prefix=f"/{one.path}"
            )
        )
    serve.run_many(
        targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False
    )
    return [str(target.name) for target in targets]


def _options(one: ServedReward, code: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Serve is told of a reward's deployment."""
    environment = dict(code)
    if one.requirements:
        environment["pip"] = {
            "packages": list(one.requirements),
            "pip_install_options": ["--disable-pip-version-check"],
        }
        environment["config"] = {"setup_timeout_seconds": _SETUP_SECONDS}
    options: dict[str, Any] = {
        "max_ongoing_requests": max(one.requests, one.batch_size),
        "graceful_shutdown_timeout_s": _STOP_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.5,
        "health_check_period_s": _HEALTH_SECONDS,
        "ray_actor_options": {
            "num_cpus": one.cpus,
            "num_gpus": one.gpus,
            "runtime_env": environment,
        },
    }
    if one.max_replicas > one.replicas:
        options["autoscaling_config"] = AutoscalingConfig(
            min_replicas=one.replicas,
            max_replicas=one.max_replicas,
            target_ongoing_requests=one.target_requests,
        )
    else:
        options["num_replicas"] = one.replicas
    return options


def look(rewards: Sequence[ServedReward], url: str) -> list[ServedState]:
    """Return the states of the rewards.

    Args:
        rewards: what is served.
        url: address of the service, without a path.
    """
    found = serve.status().applications
    return [_state(one, found.get(APP + one.path), f"{url}/{one.path}") for one in rewards]


def _state(one: ServedReward, application: Any, url: str) -> ServedState:  # noqa: ANN401
    if application is None:
        return ServedState(one.path, url, "starting", 0, "")
    deployment = application.deployments.get(one.path)
    replicas = deployment.replica_states if deployment else {}
    running = int(replicas.get("RUNNING", 0))
    states: dict[str, State] = {
        "RUNNING": "running",
        "DEPLOY_FAILED": "failed",
        "UNHEALTHY": "unhealthy",
    }
    state: State = states.get(str(application.status.value), "starting")
    said = (deployment.message if deployment else "") or application.message or ""
    if state == "starting" and _ERROR.search(said):
        state = "unhealthy"  # Serve tries again
    return ServedState(one.path, url, state, running, "" if state == "running" else _cause(said))


def _cause(text: str) -> str:
    """Find the sentence that says why, in a traceback or in pip's output."""
    if found := _PIP.findall(text):
        return quoted(found[-1], limit=_MAX_CAUSE)
    errors = [(kind, words) for kind, words in _ERROR.findall(text) if not kind.startswith("Ray")]
    if errors:
        kind, words = errors[-1]
        said = words if kind == "RewardError" else f"{kind}: {words}"
        return quoted(said, limit=_MAX_CAUSE)
    return quoted(text, limit=_MAX_CAUSE)

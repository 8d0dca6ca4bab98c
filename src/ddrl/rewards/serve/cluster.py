"""Loads Ray, with settings that it reads when it is imported, and joins or starts one."""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from ddrl.errors import RewardError, UsageError

logger = logging.getLogger(__name__)

_MODE = "RAY_AUTH_MODE"


def set_up_own() -> None:
    """Set up the Ray that this service starts, by what Ray reads when it is imported."""
    mode = os.environ.get(_MODE, "token")
    if mode != "token":
        logger.warning(
            "%s=%s does not count here: the Ray that is started lets in only who has its token",
            _MODE,
            mode,
        )
    # It runs what it is sent: it lets in only who has its token, which nobody else has.
    os.environ |= {_MODE: "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    # Ray listens on all addresses where it may be joined by other machines; so it may not.
    os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # By default its workers give way to everything else on the machine, also to a trainer.
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


def join(address: str, **settings: Any) -> None:  # noqa: ANN401 - of ray.init
    """Join a cluster.

    Raises:
        UsageError: there is none.
    """
    import ray

    try:
        ray.init(address=address, job_config=_job(), **settings)
    except (ConnectionError, ValueError) as error:
        raise UsageError(
            f"There is no Ray cluster at {address!r}: {first_line(error)}.",
            hint="start one with `ray start --head`, or leave out --address; a cluster "
            "that wants a token is joined with RAY_AUTH_MODE=token",
        ) from error


def start_own(folder: Path, **settings: Any) -> None:  # noqa: ANN401 - of ray.init
    """Start a Ray on this machine that only this user can enter.

    Args:
        folder: an empty folder that nobody else can enter.
        settings: arguments of ray.init.

    Raises:
        RewardError: it can't be started, or not with a token.
    """
    import ray
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    if not is_token_auth_enabled():
        raise RewardError(
            "Ray was loaded before the service was made, and without a token.",
            hint=f"set {_MODE}=token and RAY_AUTH_TOKEN before ray is imported",
        )
    # Ray lets everybody write into the folder that it is given, code of replicas included, and
    # there is no setting for that: so it gets one inside of a folder that nobody else enters.
    inner = folder / "r"  # short: a Unix socket's path has 107 characters, and Ray adds about 70
    inner.mkdir()
    try:
        ray.init(
            address="local",
            include_dashboard=False,
            job_config=_job(),
            _temp_dir=str(inner),
            **settings,
        )
    except Exception as error:  # of no class of its own
        raise RewardError(
            f"Ray can't be started: {first_line(error)}",
            hint="is the machine overloaded, or its memory full? try again",
        ) from error


def make_folder() -> Path:
    """Make a folder that nobody else can enter."""
    return Path(tempfile.mkdtemp(prefix="ddrl-"))


def _job() -> Any:  # noqa: ANN401 - Ray has no types
    """Return the settings of a job whose workers do not look for modules in the working folder."""
    from ray.job_config import JobConfig

    class Job(JobConfig):  # type: ignore[misc]
        def _runtime_env_has_working_dir(self) -> bool:
            # Ray puts the working folder first on the path of every worker, unless this is true.
            return True

    return Job()


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, without a full stop."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__

"""``ddrl reward serve``."""

from __future__ import annotations

import logging
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.interrupts import Interrupted, Interrupts
from ddrl.cli.terminal.output import Verbose, say
from ddrl.errors import RewardError, UsageError

if TYPE_CHECKING:
    from ddrl.recipe.serving import Serving
    from ddrl.rewards.serve.served import ServedState
    from ddrl.rewards.serve.service import RewardService

_POLL_SECONDS = 0.5
_LOOK_SECONDS = 5.0  # between looks at rewards that run

logger = logging.getLogger(__name__)


def serve(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A TOML file, like rewards.toml.")],
    check: Annotated[
        bool, typer.Option("--check", help="Start everything, show the table, and stop.")
    ] = False,
    address: Annotated[
        str,
        typer.Option(
            "--address",
            metavar="ADDRESS",
            help="A Ray cluster to serve on: auto, or HOST:PORT; left out: a Ray of its own on "
            "this machine.",
        ),
    ] = "",
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Serve rewards over HTTP, each in replicas and in an environment of its own.

    Prints name, URL and state of each once all of them run. Ctrl-C stops everything it started.
    """
    from ddrl.recipe.serving import load_serving

    serving = load_serving(file)
    token = _token(serving)
    service = _service(serving, file, token, address)
    with Interrupts() as interrupts:
        interrupts.be_patient(lambda: None)
        try:
            _run(service, interrupts, check=check)
        finally:
            _stop(service)
    if interrupts.number and not check:
        name = signal.Signals(interrupts.number).name
        raise Interrupted(interrupts.number, f"stopped by {name}; nothing is left running")


def _run(service: RewardService, interrupts: Interrupts, *, check: bool) -> None:
    """Start, show, and wait for the end."""
    service.start()
    if not _wait(service, interrupts):
        return
    _show(service.states())
    if check:
        return
    say("serving; Ctrl-C ends it", err=True)
    before = {one.path: one.state for one in service.states()}
    looked = time.monotonic()
    while not interrupts.number:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - looked < _LOOK_SECONDS:
            continue
        looked = time.monotonic()
        for one in service.states():
            if one.state != before[one.path]:
                _tell(one)
            before[one.path] = one.state


def _wait(service: RewardService, interrupts: Interrupts) -> bool:
    """Wait until all rewards run; false if a signal came first.

    Raises:
        RewardError: one of them can't be started.
    """
    told: dict[str, tuple[str, str]] = {}
    while not interrupts.number:
        states = service.states()
        for one in states:
            known = (one.state, one.cause if one.state == "unhealthy" else "")
            if told.get(one.path) != known:
                _tell(one)
                told[one.path] = known
            if one.state == "failed":
                raise RewardError(
                    f"Reward {one.path!r} can't be served: {one.cause.rstrip('.')}.",
                    hint="its name, options and requirements are in its [[reward]]",
                )
        if all(one.state == "running" for one in states):
            return True
        time.sleep(_POLL_SECONDS)
    return False


def _tell(one: ServedState) -> None:
    """A line on stderr about a reward whose state has changed."""
    cause = f": {one.cause}" if one.cause and one.state != "starting" else ""
    level = logging.INFO if one.state in ("starting", "running") else logging.WARNING
    logger.log(level, "%s is %s%s", one.path, one.state, cause)


def _show(states: list[ServedState]) -> None:
    """The table, on stdout."""
    rows = [("reward", "URL", "state", "replicas")]
    rows += [(one.path, one.url, one.state, str(one.replicas)) for one in states]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def _stop(service: RewardService) -> None:
    """Stop everything, also when a second signal wants it at once."""
    try:
        service.stop()
    except Interrupted:
        service.stop()
        raise


def _token(serving: Serving) -> str:
    """Return the token that clients have to send.

    Raises:
        UsageError: the variable that should hold it does not.
    """
    name = serving.serve.token_env
    token = os.environ.get(name, "") if name else ""
    if name and not token:
        raise UsageError(
            f"serve.token_env names the environment variable {name}, which is not set.",
            hint=f"export {name}=$(openssl rand -hex 32), and the same where the trainer runs",
        )
    if name not in {reward.options.get("token_env") for reward in serving.reward}:
        os.environ.pop(name, None)  # no process that is started here needs it
    if not name and serving.serve.host not in ("127.0.0.1", "localhost", "::1"):
        logger.warning(
            "anybody who reaches %s:%d can use the rewards; serve.token_env asks for a token",
            serving.serve.host,
            serving.serve.port,
        )
    return token


def _service(serving: Serving, file: Path, token: str, address: str) -> RewardService:
    """Return the service of a file.

    Raises:
        UsageError: a module of the file is not there.
    """
    from ddrl.rewards.serve.served import ServedReward, ServiceSettings
    from ddrl.rewards.serve.service import RewardService

    folder = file.absolute().parent
    modules = [folder / name for name in serving.serve.modules]
    for path in modules:
        if not path.is_dir() and path.suffix != ".py":
            raise UsageError(
                f"{file}: serve.modules names {path.name}, which is no folder and no .py file.",
                hint="paths start from the folder of the file",
            )
        if not path.exists():
            raise UsageError(
                f"{file}: serve.modules names {path}, which is not there.",
                hint="paths in serve.modules start at the folder of the file that names them",
            )
    rewards = [
        ServedReward(path=one.path, **one.model_dump(exclude={"route"})) for one in serving.reward
    ]
    settings = ServiceSettings(
        host=serving.serve.host,
        port=serving.serve.port,
        token=token,
        max_body=round(serving.serve.max_body_mb * 1e6),
        body_seconds=serving.serve.body_seconds,
        modules=tuple(modules),
        folders=(folder, Path.cwd()),
        address=address,
        object_store=serving.serve.object_store_mb * 1_000_000,
    )
    return RewardService(rewards, settings)

"""The checks of ``ddrl doctor``: each really runs what it speaks of."""

from __future__ import annotations

import math
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ddrl.errors import DDRLError

if TYPE_CHECKING:
    from ddrl.training.trainer import Trainer

REPORT = "report it with the output of `ddrl doctor --json`"


@dataclass(frozen=True)
class Result:
    """What a check found.

    Attributes:
        name: of the check.
        ok: whether it passed.
        detail: what was found, in words.
        hint: what to do about a failure.
    """

    name: str
    ok: bool
    detail: str
    hint: str = ""


@dataclass(frozen=True)
class Check:
    """A check.

    Attributes:
        name: what is checked.
        run: returns what was found, or raises.
        hint: what to do if it raises without a hint of its own.
    """

    name: str
    run: Callable[[], str]
    hint: str


def run_checks(cache: Path, checks: Sequence[Check] | None = None) -> list[Result]:
    """Run every check; one that raises has failed, and the others still run.

    Args:
        cache: folder that base models are kept in.
        checks: instead of all of them.
    """
    return [_run(check) for check in (all_checks(cache) if checks is None else checks)]


def _run(check: Check) -> Result:
    try:
        return Result(check.name, True, check.run())
    except DDRLError as error:
        return Result(check.name, False, error.message, error.hint or check.hint)
    except Exception as error:  # whatever is wrong with this machine is a finding
        return Result(check.name, False, f"{type(error).__name__}: {error}", check.hint)


def all_checks(cache: Path) -> list[Check]:
    """Return every check, the cheap ones first."""
    reinstall = "install ddrl again: pip install --force-reinstall ddrl"
    return [
        Check("python", _python, ""),
        Check("packages", _packages, reinstall),
        Check("optional packages", _optional, ""),
        Check("device", _device, "install the PyTorch build for this machine: pytorch.org"),
        Check("cache", lambda: _cache(cache), "set run.cache to a writable folder"),
        Check("sampling kernels", _kernels, REPORT),
        Check("replay of a rollout", _replay, REPORT),
        Check("two DDRL steps", _two_steps, REPORT),
    ]


def speed_check(cache: Path, found: dict[str, object]) -> Check:
    """The check that measures this machine, keeps that in the cache, and puts it into ``found``."""

    def run() -> str:
        import torch

        from ddrl.jobs.machine import Machine

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        machine = Machine.measure(device)
        found.update(asdict(machine))
        machine.keep(cache, device)
        if not machine.attention:
            raise DDRLError("No attention of PyTorch runs in bfloat16.")
        return machine.sentence()

    return Check("speed", run, "measure nothing: ddrl doctor --no-measure")


def _python() -> str:
    return f"{platform.python_version()} at {sys.executable}"


def _packages() -> str:
    from ddrl.runs.provenance import REQUIRED, version_of

    found = {name: version_of(name) for name in ("ddrl", *REQUIRED)}
    import ddrl.jobs.train.trainer  # loads them all, which is the check

    assert ddrl.jobs.train.trainer
    return ", ".join(f"{name} {number or 'from source'}" for name, number in found.items())


def _optional() -> str:
    from ddrl.runs.provenance import OPTIONAL, version_of

    return ", ".join(f"{name} {version_of(name) or 'not installed'}" for name in OPTIONAL)


def _device() -> str:
    import torch

    from ddrl.runs.provenance import describe_hardware

    if torch.cuda.is_available():
        torch.ones(2, device="cuda").sum().item()
    return describe_hardware()


def _cache(folder: Path) -> str:
    """Write where run.cache is or would be, and leave nothing behind."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0" * 1024)
    except OSError as error:
        raise DDRLError(f"{there} can't be written: {error.strerror}.") from error
    free = os.statvfs(there).f_bavail * os.statvfs(there).f_frsize / 2**30
    return f"{folder} can be written, {free:.1f} GiB free"


def _kernels() -> str:
    """Samples and log-densities of each kernel are those of the normal distribution."""
    import torch

    from ddrl.diffusion.kernels import make_kernel
    from ddrl.diffusion.process import RectifiedFlow
    from ddrl.diffusion.schedule import time_grid
    from ddrl.diffusion.transition import Transitions, step_log_prob, step_mean

    names = ("flow_sde", "dance_sde", "ddim", "cps")
    rng = torch.Generator().manual_seed(0)
    x_t, velocity, x_s = torch.randn(3, 8, 5, generator=rng).unbind()
    worst = 0.0
    for name in names:
        transitions = Transitions.build(
            make_kernel(name, eta=0.7), RectifiedFlow(), time_grid(10, shift=1.0)
        )
        step = transitions.step(torch.full((8,), 4))
        log_prob = step_log_prob(step, x_s, x_t, velocity, reduction="sum")
        distance = (x_s - step_mean(step, x_t, velocity)).double() / step.std[:, None].double()
        log_scale = (step.std.double() * math.sqrt(2 * math.pi)).log()
        expected = (-(distance**2) / 2).sum(1) - 5 * log_scale
        worst = max(worst, float(((log_prob - expected) / expected).abs().max()))
    if not worst < 1e-5:
        raise DDRLError(f"A log-density differs from the closed form by {worst:.2g}, relatively.")
    return f"{', '.join(names)} agree with the closed form to {worst:.1g}"


def _replay() -> str:
    """Log-probabilities taken again on untouched weights give ratio 1."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = _tiny_trainer(folder)
    sampler, prompt_id = trainer.sampler, trainer.dealer.deal(0).prompt_id
    group = prompt_id.new_tensor(range(len(prompt_id))).repeat_interleave(4)
    condition = trainer.collector.pool.condition[prompt_id].to(sampler.device)
    trajectory = sampler.rollout(condition, group, step=0)
    stored = trajectory.log_prob[:, list(sampler.trained)]
    off = float(((sampler.replay(trajectory) - stored).exp() - 1).abs().max())
    if not off < 1e-3:
        raise DDRLError(f"The ratio is off from 1 by {off:.2g} on untouched weights.")
    return f"ratio 1 to {off:.1g}"


def _two_steps() -> str:
    """Two optimizer steps with a reward and data move the weights, and stay finite."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = _tiny_trainer(folder)
    parameters = list(trainer.forward.model.transformer.parameters())
    before = [parameter.detach().clone() for parameter in parameters]
    losses = [trainer.iteration()["data_loss"] for _ in range(2)]
    moved = max(
        float((now - then).detach().abs().max())
        for now, then in zip(parameters, before, strict=True)
    )
    if not (moved > 0 and all(math.isfinite(loss) for loss in losses)):
        raise DDRLError(f"The weights moved by {moved}, with data losses {losses}.")
    return f"weights moved by {moved:.1g} on {trainer.sampler.device}, data loss {losses[-1]:.2f}"


def _tiny_trainer(cache: str) -> Trainer:
    """Return the smallest run there is: random weights, the brightness reward, two prompts."""
    from ddrl.jobs.train.trainer import build_job
    from ddrl.recipe import parse_recipe

    overrides = [
        "model.width=16",
        "model.depth=1",
        "model.pretrain.steps=0",
        "rollout.prompts_per_step=2",
        "rollout.group_size=4",
        "evaluation.every=0",
        f'run.cache="{cache}"',
    ]
    return build_job(parse_recipe('[[reward]]\nname = "ink"\n', overrides=overrides)).trainer

"""ddrl post-trains diffusion and flow models with a reward, and holds them to data while it does.

The public names, from the order in which an iteration uses them:

    TinyModel, digit_splits                       a model and data to try everything on
    Transitions, make_kernel, time_grid           the sampler, eq. (T1)
    Sampler, Forward, Trajectory                  samples with the log-probability of every step
    group_advantage, ... , Advantages             rewards to advantages, eqs. (A1) to (A4)
    Objective, Gradient, Anchor                   the one loss, eq. (L1)
    sample_ode                                    deterministic samples
    compare                                       methods side by side, as `ddrl compare`

Names are loaded when they are first used, so that ``import ddrl`` costs nothing.
"""

from __future__ import annotations

import importlib
import os
import sys

TYPE_CHECKING = False  # as in typing, which may not be imported before the next lines

# `python -m ddrl` puts the working folder first on the path, where a stranger's modules may lie
# under the names of ours and of everybody's. Here, because this runs before all else of ddrl.
if sys.argv[:1] == ["-m"] and not sys.flags.safe_path:
    _module = sys.orig_argv[-len(sys.argv)]
    _module = _module[_module.find("m") + 1 :] if _module.startswith("-") else _module
    try:
        _here = os.getcwd()
    except OSError:  # it is gone
        _here = ""
    if _module.partition(".")[0] == "ddrl" and sys.path[0] in (_here, ""):
        del sys.path[0]

if TYPE_CHECKING:
    from ddrl.data.embedded.digits import digit_splits
    from ddrl.diffusion.kernels import make_kernel
    from ddrl.diffusion.process import RectifiedFlow, VariancePreserving
    from ddrl.diffusion.schedule import select_steps, time_grid
    from ddrl.diffusion.transition import Transitions
    from ddrl.errors import DDRLError
    from ddrl.jobs.compare.job import compare
    from ddrl.models.base import DiffusionModel
    from ddrl.models.ema import EMA
    from ddrl.models.tiny.config import TinyConfig
    from ddrl.models.tiny.model import TinyModel
    from ddrl.objective.advantage import (
        center_advantage,
        global_advantage,
        group_advantage,
        log_partition,
        tilt_advantage,
    )
    from ddrl.objective.loss import Objective
    from ddrl.recipe import Recipe, load_recipe
    from ddrl.records import Advantages, Anchor, Condition, Prompts, Scores, Trajectory
    from ddrl.rewards.base import Reward
    from ddrl.rewards.scoring.attempt import WeightedReward
    from ddrl.rewards.scoring.scorer import Scorer
    from ddrl.training.forward import Forward
    from ddrl.training.pretrain import PretrainSettings, pretrain
    from ddrl.training.rollout import Sampler, sample_ode
    from ddrl.training.update import Gradient

_HOME = {
    "Advantages": "ddrl.records",
    "Anchor": "ddrl.records",
    "Condition": "ddrl.records",
    "DDRLError": "ddrl.errors",
    "DiffusionModel": "ddrl.models.base",
    "EMA": "ddrl.models.ema",
    "Forward": "ddrl.training.forward",
    "Gradient": "ddrl.training.update",
    "Objective": "ddrl.objective.loss",
    "PretrainSettings": "ddrl.training.pretrain",
    "Prompts": "ddrl.records",
    "Recipe": "ddrl.recipe",
    "RectifiedFlow": "ddrl.diffusion.process",
    "Reward": "ddrl.rewards.base",
    "Sampler": "ddrl.training.rollout",
    "Scorer": "ddrl.rewards.scoring.scorer",
    "Scores": "ddrl.records",
    "TinyConfig": "ddrl.models.tiny.model",
    "TinyModel": "ddrl.models.tiny.model",
    "Trajectory": "ddrl.records",
    "Transitions": "ddrl.diffusion.transition",
    "VariancePreserving": "ddrl.diffusion.process",
    "WeightedReward": "ddrl.rewards.scoring.scorer",
    "center_advantage": "ddrl.objective.advantage",
    "compare": "ddrl.jobs.compare.job",
    "digit_splits": "ddrl.data.embedded.digits",
    "global_advantage": "ddrl.objective.advantage",
    "group_advantage": "ddrl.objective.advantage",
    "load_recipe": "ddrl.recipe",
    "log_partition": "ddrl.objective.advantage",
    "make_kernel": "ddrl.diffusion.kernels",
    "pretrain": "ddrl.training.pretrain",
    "sample_ode": "ddrl.training.rollout",
    "select_steps": "ddrl.diffusion.schedule",
    "tilt_advantage": "ddrl.objective.advantage",
    "time_grid": "ddrl.diffusion.schedule",
}

__all__ = [
    "EMA",
    "Advantages",
    "Anchor",
    "Condition",
    "DDRLError",
    "DiffusionModel",
    "Forward",
    "Gradient",
    "Objective",
    "PretrainSettings",
    "Prompts",
    "Recipe",
    "RectifiedFlow",
    "Reward",
    "Sampler",
    "Scorer",
    "Scores",
    "TinyConfig",
    "TinyModel",
    "Trajectory",
    "Transitions",
    "VariancePreserving",
    "WeightedReward",
    "center_advantage",
    "compare",
    "digit_splits",
    "global_advantage",
    "group_advantage",
    "load_recipe",
    "log_partition",
    "make_kernel",
    "pretrain",
    "sample_ode",
    "select_steps",
    "tilt_advantage",
    "time_grid",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ddrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

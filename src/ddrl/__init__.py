"""ddrl post-trains diffusion and flow models with a reward, and holds them to data while it does.

The public names, from the order in which an iteration uses them:

    TinyModel, digit_splits                       a model and data to try everything on
    Transitions, make_kernel, time_grid           the sampler, eq. (T1)
    Sampler, Forward, Trajectory                  samples with the log-probability of every step
    group_advantage, ... , Advantages             rewards to advantages, eqs. (A1) to (A4)
    Objective, Gradient, Anchor                   the one loss, eq. (L1)
    sample_ode                                    deterministic samples
    train, evaluate, compare                      what the commands of these names do

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
    from ddrl.data.embedded.digits import digit_splits as digit_splits
    from ddrl.diffusion.kernels import make_kernel as make_kernel
    from ddrl.diffusion.process import RectifiedFlow as RectifiedFlow
    from ddrl.diffusion.process import VariancePreserving as VariancePreserving
    from ddrl.diffusion.schedule import select_steps as select_steps
    from ddrl.diffusion.schedule import time_grid as time_grid
    from ddrl.diffusion.transition import Transitions as Transitions
    from ddrl.errors import DDRLError as DDRLError
    from ddrl.jobs.compare.job import compare as compare
    from ddrl.jobs.evaluate.audit import evaluate as evaluate
    from ddrl.jobs.train.run import train as train
    from ddrl.models.base import DiffusionModel as DiffusionModel
    from ddrl.models.ema import EMA as EMA
    from ddrl.models.tiny.config import TinyConfig as TinyConfig
    from ddrl.models.tiny.model import TinyModel as TinyModel
    from ddrl.objective.advantage import center_advantage as center_advantage
    from ddrl.objective.advantage import global_advantage as global_advantage
    from ddrl.objective.advantage import group_advantage as group_advantage
    from ddrl.objective.advantage import log_partition as log_partition
    from ddrl.objective.advantage import tilt_advantage as tilt_advantage
    from ddrl.objective.loss import Objective as Objective
    from ddrl.recipe import Recipe as Recipe
    from ddrl.recipe import load_recipe as load_recipe
    from ddrl.records import Advantages as Advantages
    from ddrl.records import Anchor as Anchor
    from ddrl.records import Condition as Condition
    from ddrl.records import Prompts as Prompts
    from ddrl.records import Scores as Scores
    from ddrl.records import Trajectory as Trajectory
    from ddrl.rewards.base import Reward as Reward
    from ddrl.rewards.scoring.attempt import WeightedReward as WeightedReward
    from ddrl.rewards.scoring.scorer import Scorer as Scorer
    from ddrl.training.forward import Forward as Forward
    from ddrl.training.pretrain import PretrainSettings as PretrainSettings
    from ddrl.training.pretrain import pretrain as pretrain
    from ddrl.training.rollout import Sampler as Sampler
    from ddrl.training.rollout import sample_ode as sample_ode
    from ddrl.training.update import Gradient as Gradient

_NAMES = {
    "ddrl.data.embedded.digits": "digit_splits",
    "ddrl.diffusion.kernels": "make_kernel",
    "ddrl.diffusion.process": "RectifiedFlow VariancePreserving",
    "ddrl.diffusion.schedule": "select_steps time_grid",
    "ddrl.diffusion.transition": "Transitions",
    "ddrl.errors": "DDRLError",
    "ddrl.jobs.compare.job": "compare",
    "ddrl.jobs.evaluate.audit": "evaluate",
    "ddrl.jobs.train.run": "train",
    "ddrl.models.base": "DiffusionModel",
    "ddrl.models.ema": "EMA",
    "ddrl.models.tiny.config": "TinyConfig",
    "ddrl.models.tiny.model": "TinyModel",
    "ddrl.objective.advantage": "center_advantage global_advantage group_advantage "
    "log_partition tilt_advantage",
    "ddrl.objective.loss": "Objective",
    "ddrl.recipe": "Recipe load_recipe",
    "ddrl.records": "Advantages Anchor Condition Prompts Scores Trajectory",
    "ddrl.rewards.base": "Reward",
    "ddrl.rewards.scoring.attempt": "WeightedReward",
    "ddrl.rewards.scoring.scorer": "Scorer",
    "ddrl.training.forward": "Forward",
    "ddrl.training.pretrain": "PretrainSettings pretrain",
    "ddrl.training.rollout": "Sampler sample_ode",
    "ddrl.training.update": "Gradient",
}
"""What is public, by the module that it is in."""

_HOME = {name: module for module, names in _NAMES.items() for name in names.split()}

# Constants, then classes, then functions.
__all__ = sorted(_HOME, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'ddrl' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__

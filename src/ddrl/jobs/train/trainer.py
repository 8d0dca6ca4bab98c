"""A recipe to a trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ddrl.builders.advantage import build_advantage
from ddrl.builders.assets import Assets
from ddrl.builders.device import pick_device
from ddrl.builders.pool import build_pool
from ddrl.builders.sampler import build_drawing, build_forward, build_transitions
from ddrl.builders.store import Progress
from ddrl.diffusion.schedule import select_steps
from ddrl.jobs.evaluate.background import BackgroundPanel
from ddrl.jobs.evaluate.monitors import build_budget, build_monitor
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.models.compiling import compile_blocks
from ddrl.models.ema import EMA
from ddrl.models.lora.adapter import WithoutLoRA, has_lora
from ddrl.objective.loss import Objective
from ddrl.recipe import Recipe
from ddrl.recipe.sections.run import OptimizerSection
from ddrl.training.collect import Collector
from ddrl.training.forward import Forward
from ddrl.training.learner import Learner
from ddrl.training.manifest import Checkpoint
from ddrl.training.rollout import Sampler
from ddrl.training.safety.guard import Guard
from ddrl.training.safety.inspector import Inspector
from ddrl.training.safety.watch import Watch
from ddrl.training.trainer import Trainer
from ddrl.training.update import Gradient


@dataclass(frozen=True)
class Job:
    """A trainer, ready to run, what it was built from, and what its checkpoints note of that."""

    recipe: Recipe
    trainer: Trainer
    notes: Mapping[str, Any]


def build_job(
    recipe: Recipe, *, checkpoint: Checkpoint | None = None, progress: Progress | None = None
) -> Job:
    """Make everything that ``ddrl train`` runs.

    Args:
        recipe: of the run.
        checkpoint: that it is to go on from, on the same base and the same data.
        progress: told of what is made.

    Raises:
        CheckpointError: base or data are other ones than the checkpoint's.
        DDRLError: of the kind that fits, for whatever the recipe asks for and can't be had.
    """
    device = pick_device(recipe)
    assets = Assets.build(recipe, device, checkpoint=checkpoint, progress=progress)
    model, corpus = assets.model, assets.corpus
    forward, reference = _build_forwards(recipe, model)
    pool, dealer = build_pool(assets.task, model, corpus.train, assets.scorer, progress=progress)
    samplers = [
        _build_sampler(recipe, forward, reference, shape, device)
        for shape in assets.latent_shapes()
    ]
    learner = _build_learner(recipe, samplers, reference)
    trainer = Trainer(
        dealer=dealer,
        collector=Collector(
            samplers,
            pool,
            assets.scorer,
            Inspector(learner.guard, learner.gradients, recipe.guard.replay_tolerance or math.inf),
            group_size=recipe.rollout.group_size,
            overlap=recipe.scoring.overlap,
        ),
        advantage=build_advantage(recipe, assets.scorer, pool, model),
        learner=learner,
        watch=_build_watch(recipe, assets, learner, device),
        num_updates=recipe.objective.updates_per_rollout,
    )
    return Job(recipe, trainer, assets.notes)


def _build_watch(recipe: Recipe, assets: Assets, learner: Learner, device: torch.device) -> Watch:
    """What measures the run: made before any weight is moved or restored."""
    forward, every = learner.forward, recipe.evaluation.every
    watch = Watch(learner, build_budget(recipe, assets, forward, device), every)
    if every and recipe.evaluation.panel == "background":
        watch.auditor = BackgroundPanel(recipe)
    elif every:
        watch.monitor = build_monitor(recipe, assets, forward, device)
    return watch


def _build_guard(recipe: Recipe) -> Guard:
    limits = recipe.guard.model_dump(exclude={"replay_tolerance"})
    return Guard(**limits, stop_hacked=2 if recipe.evaluation.stop_on_hack else 0)


def _build_forwards(recipe: Recipe, model: DiffusionModel) -> tuple[Forward, Forward | None]:
    """The policy, and the frozen start where the regularizer holds to it."""
    forward = build_forward(recipe, model)
    if recipe.objective.regularizer != "reference" and recipe.data.target != "teacher":
        return forward, None
    frozen: DiffusionModel
    if has_lora(model.transformer):
        frozen = WithoutLoRA(model)  # the reference is the adapter switched off, not a copy
    else:
        shared = model.frozen_parts() if isinstance(model, DiffusersModel) else []
        frozen = copy.deepcopy(model, {id(part): part for part in shared})
        frozen.transformer.requires_grad_(False)
        if recipe.model.compile:
            compile_blocks(frozen.transformer)  # which a copy is not
    return forward, build_forward(recipe, frozen)


def _build_sampler(
    recipe: Recipe,
    forward: Forward,
    reference: Forward | None,
    latent_shape: tuple[int, ...],
    device: torch.device,
) -> Sampler:
    """Make the sampler of one size, with the model's shift of times for that size."""
    rollout, model = recipe.rollout, forward.model
    shift = model.time_shift(latent_shape, rollout.steps)
    transitions = build_transitions(rollout, model.process, own_shift=shift)
    return Sampler(
        forward,
        transitions,
        latent_shape=latent_shape,
        seed=recipe.run.seed,
        trained=select_steps(rollout.trained_steps, transitions.stochastic.tolist()),
        micro_batch=recipe.run.micro_batch,
        reduction=recipe.objective.log_prob_reduction,
        storage_dtype=getattr(torch, rollout.storage_dtype),
        on_host=rollout.storage_device == "host",
        reference=reference if recipe.objective.kl_in_return else None,
        drawing=build_drawing(recipe, forward),
        device=device,
    )


def _build_learner(
    recipe: Recipe, samplers: Sequence[Sampler], reference: Forward | None
) -> Learner:
    objective, section = _build_objective(recipe), recipe.optimizer
    fold, model = recipe.run.steps_per_pass, samplers[0].forward.model
    optimizer, scheduler = _build_optimizer(recipe, model)
    return Learner(
        [
            Gradient(
                one,
                objective,
                steps_per_pass=fold,
                reference=reference,
                own_ratio=recipe.has_own_ratio,
            )
            for one in samplers
        ],
        optimizer,
        scheduler,
        EMA(model.transformer, decay=section.ema, warmup=section.ema_warmup),
        grad_clip=section.grad_clip,
        guard=_build_guard(recipe),
    )


def _build_objective(recipe: Recipe) -> Objective:
    section = recipe.objective
    return Objective(
        policy=section.policy,
        regularizer=section.regularizer,
        beta=section.beta,
        step_weight=section.step_weight,
        clip_low=section.clip_low,
        clip_high=section.clip_high,
        reduction=section.log_prob_reduction,
        data_times=section.data_times,
        data_target=recipe.data.target,
        data_per_step=section.data_per_step,
        condition_dropout=recipe.data.condition_dropout,
        kl_in_return=section.kl_in_return,
    )


def _build_optimizer(
    recipe: Recipe, model: DiffusionModel
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    section = recipe.optimizer
    optimizer = torch.optim.AdamW(
        [p for p in model.transformer.parameters() if p.requires_grad],
        lr=section.learning_rate,
        betas=(section.beta1, section.beta2),
        eps=section.epsilon,
        weight_decay=section.weight_decay,
        fused=True,
    )
    total = recipe.run.steps * recipe.objective.updates_per_rollout
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, _schedule(section, total))


def _schedule(section: OptimizerSection, total: int) -> Callable[[int], float]:
    """The factor on the learning rate by update: linear warm-up, then constant or cosine."""

    def factor(update: int) -> float:
        warm = min(1.0, (update + 1) / (section.warmup_steps + 1))
        if section.schedule == "constant":
            return warm
        return warm * 0.5 * (1 + math.cos(math.pi * min(1.0, update / total)))

    return factor

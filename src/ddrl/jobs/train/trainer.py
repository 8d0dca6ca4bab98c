"""A recipe to a trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ddrl.builders.advantage import build_advantage
from ddrl.builders.assets import Assets
from ddrl.builders.device import pick_device
from ddrl.builders.pool import build_pool
from ddrl.builders.sampler import build_transitions
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
from ddrl.training.collect import RolloutSettings
from ddrl.training.forward import Forward
from ddrl.training.manifest import Checkpoint
from ddrl.training.safety.guard import Guard
from ddrl.training.trainer import Trainer


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
    optimizer, scheduler = _build_optimizer(recipe, model)
    settings = [_build_settings(recipe, model, shape) for shape in assets.latent_shapes()]
    trainer = Trainer(
        forward=forward,
        pool=pool,
        dealer=dealer,
        scorer=assets.scorer,
        advantage=build_advantage(recipe, assets.scorer, pool, model),
        objective=_build_objective(recipe),
        settings=settings[0],
        by_size=tuple(settings) if len(settings) > 1 else (),
        optimizer=optimizer,
        scheduler=scheduler,
        ema=EMA(
            model.transformer,
            decay=recipe.optimizer.ema,
            warmup=recipe.optimizer.ema_warmup,
        ),
        seed=recipe.run.seed,
        grad_clip=recipe.optimizer.grad_clip,
        reference=reference,
        guard=_build_guard(recipe),
        budget=build_budget(recipe, assets, forward, device),
        device=device,
    )
    if recipe.evaluation.every and recipe.evaluation.panel == "background":
        trainer.auditor = BackgroundPanel(recipe)
    elif recipe.evaluation.every:
        trainer.monitor = build_monitor(recipe, assets, forward, device)
        trainer.monitor_every = recipe.evaluation.every
    return Job(recipe, trainer, assets.notes)


def _build_guard(recipe: Recipe) -> Guard:
    limits = recipe.guard.model_dump(exclude={"replay_tolerance"})
    return Guard(**limits, stop_hacked=2 if recipe.evaluation.stop_on_hack else 0)


def _build_forwards(recipe: Recipe, model: DiffusionModel) -> tuple[Forward, Forward | None]:
    """The policy, and the frozen start where the regularizer holds to it."""
    guidance = recipe.rollout.guidance
    autocast = torch.bfloat16 if recipe.run.precision == "bfloat16" else None
    forward = Forward(model, guidance=guidance, autocast=autocast)
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
    return forward, Forward(frozen, guidance=guidance, autocast=autocast)


def _build_settings(
    recipe: Recipe, model: DiffusionModel, latent_shape: tuple[int, ...]
) -> RolloutSettings:
    """How samples of one size are drawn, with the model's shift of times for that size."""
    rollout = recipe.rollout
    shift = model.time_shift(latent_shape, rollout.steps)
    transitions = build_transitions(rollout, model.process, own_shift=shift)
    return RolloutSettings(
        transitions=transitions,
        trained=select_steps(rollout.trained_steps, transitions.stochastic.tolist()),
        latent_shape=latent_shape,
        group_size=rollout.group_size,
        num_updates=recipe.objective.updates_per_rollout,
        micro_batch=recipe.run.micro_batch,
        steps_per_pass=recipe.run.steps_per_pass,
        storage_dtype=getattr(torch, rollout.storage_dtype),
        replay_tolerance=recipe.guard.replay_tolerance or math.inf,
        overlap=recipe.scoring.overlap,
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

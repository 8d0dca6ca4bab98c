"""A recipe to a trainer."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ddrl.builders.advantage import build_advantage
from ddrl.builders.assets import (
    Assets,
    build_pretrained,
    check_named,
    pick_device,
    tiny_config,
)
from ddrl.builders.corpus import Part
from ddrl.builders.store import Progress
from ddrl.data.digits import digit_splits
from ddrl.data.groups import Dealer
from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import Process
from ddrl.diffusion.schedule import select_steps, time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.evaluation.drift import DriftMeter
from ddrl.models.base import DiffusionModel
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.models.ema import EMA
from ddrl.models.lora import WithoutLoRA, has_lora
from ddrl.models.tiny import TinyModel
from ddrl.objective.loss import Objective
from ddrl.recipe import Plan, Recipe, make_plan, stochastic_steps
from ddrl.recipe.schema import OptimizerSection, RolloutSection
from ddrl.training.forward import Forward
from ddrl.training.guard import Guard
from ddrl.training.trainer import Pool, RolloutSettings, Trainer

__all__ = ["Job", "build_drift", "build_job", "build_plan", "build_transitions", "plan_recipe"]


@dataclass(frozen=True)
class Job:
    """A trainer, ready to run, and what it was built from."""

    recipe: Recipe
    trainer: Trainer
    plan: Plan


def build_transitions(
    section: RolloutSection, process: Process, *, own_shift: float = 1.0
) -> Transitions:
    """The sampler of ``[rollout]``; the model's own shift of times where the recipe has none."""
    chosen = stochastic_steps(section)
    mask = torch.zeros(section.steps, dtype=torch.bool)
    mask[list(chosen)] = True
    return Transitions.build(
        make_kernel(section.kernel, eta=section.eta),
        process,
        time_grid(section.steps, shift=section.time_shift or own_shift),
        stochastic=mask,
    )


def build_plan(
    recipe: Recipe, model: DiffusionModel, transitions: Transitions, latent_shape: tuple[int, ...]
) -> Plan:
    """What the run will do and need."""
    columns = (transitions.a, transitions.b, transitions.std)
    rows = [(a, b, s) for a, b, s in zip(*(c.tolist() for c in columns), strict=True)]
    return make_plan(
        recipe,
        transitions=rows,
        times=transitions.times.tolist(),
        num_parameters=sum(p.numel() for p in model.transformer.parameters()),
        num_trainable=sum(p.numel() for p in model.transformer.parameters() if p.requires_grad),
        latent_size=math.prod(latent_shape),
    )


def plan_recipe(recipe: Recipe) -> Plan:
    """The plan of a recipe, and a check of what it names, without training or writing anything.

    Raises:
        DDRLError: of the kind that fits, for what the recipe asks for and can't be had.
    """
    device, data = pick_device(recipe), recipe.data
    check_named(recipe)
    model: DiffusionModel
    if recipe.model.family == "diffusers":
        model = build_pretrained(recipe, device)
        shape = model.latent_shape(data.height, data.width, data.frames)
    else:
        model = TinyModel(tiny_config(recipe, digit_splits().train))
        shape = model.latent_shape(model.config.height, model.config.columns)
    shift = model.time_shift(shape)
    transitions = build_transitions(recipe.rollout, model.process, own_shift=shift)
    return build_plan(recipe, model, transitions, shape)


def build_job(recipe: Recipe, *, progress: Progress | None = None) -> Job:
    """Make everything that ``ddrl train`` runs.

    Raises:
        DDRLError: of the kind that fits, for whatever the recipe asks for and can't be had.
    """
    device = pick_device(recipe)
    assets = Assets.build(recipe, device, progress=progress)
    model, corpus = assets.model, assets.corpus
    transitions = build_transitions(
        recipe.rollout, model.process, own_shift=model.time_shift(assets.latent_shape())
    )
    forward, reference = _build_forwards(recipe, model)
    pool = _build_pool(corpus.train)
    optimizer, scheduler = _build_optimizer(recipe, model)
    trainer = Trainer(
        forward=forward,
        pool=pool,
        dealer=_build_dealer(recipe, pool),
        scorer=assets.scorer,
        advantage=build_advantage(recipe.objective, assets.scorer, pool, model),
        objective=_build_objective(recipe),
        settings=_build_settings(recipe, pool, transitions),
        optimizer=optimizer,
        scheduler=scheduler,
        ema=EMA(model.transformer, decay=recipe.optimizer.ema),
        seed=recipe.run.seed,
        grad_clip=recipe.optimizer.grad_clip,
        reference=reference,
        guard=Guard(**recipe.guard.model_dump(exclude={"replay_tolerance"})),
        device=device,
    )
    if recipe.evaluation.every:
        trainer.monitors = [_drift_monitor(recipe, corpus.heldout, forward, device)]
        trainer.monitor_every = recipe.evaluation.every
    return Job(recipe, trainer, build_plan(recipe, model, transitions, assets.latent_shape()))


def _build_pool(part: Part) -> Pool:
    """Prompts and data, encoded before and never again."""
    return Pool(
        prompts=part.captions,
        condition=part.condition,
        x0=part.x0,
        caption_id=part.caption_id,
    )


def _build_forwards(recipe: Recipe, model: DiffusionModel) -> tuple[Forward, Forward | None]:
    """The policy, and the reference policy where the regularizer holds to one."""
    guidance = recipe.rollout.guidance
    autocast = torch.bfloat16 if recipe.run.precision == "bfloat16" else None
    forward = Forward(model, guidance=guidance, autocast=autocast)
    if recipe.objective.regularizer != "reference":
        return forward, None
    frozen: DiffusionModel
    if has_lora(model.transformer):
        frozen = WithoutLoRA(model)  # the reference is the adapter switched off, not a copy
    else:
        shared = model.frozen_parts() if isinstance(model, DiffusersModel) else []
        frozen = copy.deepcopy(model, {id(part): part for part in shared})
        frozen.transformer.requires_grad_(False)
    return forward, Forward(frozen, guidance=guidance, autocast=autocast)


def _build_dealer(recipe: Recipe, pool: Pool) -> Dealer:
    return Dealer(
        pool.caption_id,
        num_prompts=len(pool.prompts),
        seed=recipe.run.seed,
        prompts_per_step=recipe.rollout.prompts_per_step,
        anchors_per_group=recipe.data.anchors_per_group or recipe.rollout.group_size,
        mode=recipe.data.anchor,
    )


def _build_settings(recipe: Recipe, pool: Pool, transitions: Transitions) -> RolloutSettings:
    rollout = recipe.rollout
    return RolloutSettings(
        transitions=transitions,
        trained=select_steps(rollout.trained_steps, transitions.stochastic.tolist()),
        latent_shape=tuple(pool.x0.shape[1:]),
        group_size=rollout.group_size,
        num_updates=recipe.objective.updates_per_rollout,
        micro_batch=recipe.run.micro_batch,
        steps_per_pass=recipe.run.steps_per_pass,
        storage_dtype=getattr(torch, rollout.storage_dtype),
        replay_tolerance=recipe.guard.replay_tolerance or math.inf,
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


def build_drift(recipe: Recipe, part: Part, device: torch.device) -> DriftMeter:
    """The meter of the diffusion loss on the held-out data, at noise and times that are fixed."""
    return DriftMeter(
        x0=part.x0.to(device), caption_id=part.caption_id.to(device), seed=recipe.evaluation.seed
    )


def _drift_monitor(
    recipe: Recipe, part: Part, forward: Forward, device: torch.device
) -> Callable[[], Mapping[str, float]]:
    """The monitor; called before any weight is moved or restored, so that it starts at the base."""
    meter = build_drift(recipe, part, device)
    start = float(meter.losses(forward, part.condition).mean())

    def monitor() -> Mapping[str, float]:
        loss = float(meter.losses(forward, part.condition).mean())
        return {"heldout_loss": loss, "heldout_loss_change": loss / start - 1}

    return monitor

"""What watches a run from held-out data while it trains: drift alone, or a reduced audit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ddrl.builders.assets import Assets
from ddrl.errors import GuardStop
from ddrl.evaluation.findings.signs import Marks
from ddrl.evaluation.findings.verdict import Verdict, judge_run
from ddrl.evaluation.measures.generate import SampleSet
from ddrl.evaluation.measures.mixed import first_samples
from ddrl.evaluation.measures.result import RunResult
from ddrl.jobs.evaluate.bench import Bench, Values, build_bench, build_drift
from ddrl.jobs.evaluate.measure import Found, measure_model
from ddrl.recipe import Recipe
from ddrl.training.forward import Forward
from ddrl.training.logs.shown import SHOWN, Shown, as_shown, small_pictures
from ddrl.training.safety.auditing import Audit, Monitor
from ddrl.training.safety.budget import DriftBudget


def build_monitor(
    recipe: Recipe, assets: Assets, forward: Forward, device: torch.device
) -> Monitor:
    """The monitor of a run; made before any weight is moved or restored: it starts at the base.

    Raises:
        RewardError: a held-out reward can't be had.
        WeightsError: the encoder can't be loaded.
    """
    if not recipe.evaluation.panel_samples:
        return _drift_monitor(recipe, assets, forward, device)
    return build_panel(recipe, assets, forward, device)


def build_panel(recipe: Recipe, assets: Assets, forward: Forward, device: torch.device) -> Panel:
    """The reduced audit of a run; made before any weight is moved or restored.

    Args:
        recipe: of the run.
        assets: its data, rewards and model.
        forward: the model, with the base's weights now.
        device: where it is.

    Raises:
        RewardError: a held-out reward can't be had.
        WeightsError: the encoder can't be loaded.
    """
    return Panel(
        build_bench(assets.task, assets.corpus, assets.scorer, device),
        forward,
        assets.latent_shapes(),
        num_samples=recipe.evaluation.panel_samples,
    )


def build_budget(
    recipe: Recipe, assets: Assets, forward: Forward, device: torch.device
) -> DriftBudget | None:
    """The drift budget of a run, if it has one; made before any weight is moved or restored."""
    objective = recipe.objective
    if not objective.drift_budget:
        return None
    monitor = _drift_monitor(recipe, assets, forward, device)
    return DriftBudget(
        lambda: monitor(0).metrics["heldout_loss_change"],
        objective.drift_budget,
        objective.beta,
        every=objective.drift_budget_every,
    )


def _drift_monitor(
    recipe: Recipe, assets: Assets, forward: Forward, device: torch.device
) -> Monitor:
    part = assets.corpus.heldout
    meter = build_drift(recipe, part, device)
    start = float(meter.losses(forward, part.condition).mean())

    def monitor(step: int) -> Audit:
        loss = float(meter.losses(forward, part.condition).mean())
        return Audit(step, {"heldout_loss": loss, "heldout_loss_change": loss / start - 1})

    return monitor


class Panel:
    """A reduced audit: few prompts and samples, the same noise every time, the report's own rule.

    Proxy and audit part where the verdict on these samples is "hacked": the held-out loss is past
    its mark, or the trained reward rose above the base's and signs of two kinds agree. What it
    finds depends on the weights alone, and on no audit before.

    Args:
        bench: what is measured; its prompts are cut to what the samples allow.
        forward: the model, with the base's weights now.
        latent_shapes: of one sample of each size.
        num_samples: in all; each prompt gets at least two.
    """

    def __init__(
        self,
        bench: Bench,
        forward: Forward,
        latent_shapes: Sequence[tuple[int, ...]],
        *,
        num_samples: int,
    ) -> None:
        num_prompts = max(1, min(len(bench.prompts), num_samples // 2))
        self._bench = dataclasses.replace(bench, prompts=bench.prompts[:num_prompts])
        self._per_prompt = max(2, num_samples // num_prompts)
        self._forward, self._latent_shapes = forward, latent_shapes
        self._shown: Shown | None = None
        self._found = Found(self._drift_losses(), self._measure())
        self._base = measure_model(
            self._bench, self._found, self._found, name="base", is_base=True, quick=True
        )

    def __call__(self, step: int) -> Audit:
        """Measure the model as it is now.

        Returns:
            The metrics ``heldout_loss``, ``heldout_loss_change`` and ``audit/*``; the first two
            alone where they are not finite: there is nothing to sample, and the guard says so.

        Raises:
            GuardStop: the samples are not finite.
        """
        losses = self._drift_losses()
        loss = float(losses.mean())
        if not np.isfinite(losses).all():
            change = loss / float(self._found.losses.mean()) - 1
            return Audit(step, {"heldout_loss": loss, "heldout_loss_change": change})
        mine = Found(losses, self._measure(step))
        run = measure_model(self._bench, mine, self._found, name="run", quick=True)
        limit = self._bench.recipe.evaluation.drift_limit
        verdict = judge_run(run, self._base, marks=Marks(drift_limit=limit))
        metrics = {
            "audit/reward": run.reward.value,
            "audit/frechet": run.frechet.value,
            "audit/diversity": run.diversity.value,
            "audit/vendi": run.vendi.value,
            "audit/pixels": max(shift.moved.value for shift in run.pixels),
            "audit/score": self._score(run, verdict),
            **{f"audit/held_out/{one.name}": one.value.value for one in run.measures},
        }
        found = {
            "heldout_loss": loss,
            "heldout_loss_change": run.drift.value,
            **{name: value for name, value in metrics.items() if math.isfinite(value)},
            "audit/hacked": float(verdict.status == "hacked"),
        }
        return Audit(step, found, verdict.sentence, self._shown)

    def _drift_losses(self) -> NDArray[np.float64]:
        bench = self._bench
        losses = bench.meter.losses(self._forward, bench.corpus.heldout.condition)
        return losses.double().numpy()

    def _measure(self, step: int = 0) -> Values:
        """Sample the model and measure the samples; those of the base are at step 0."""
        samples = self._bench.sample(
            self._forward, self._latent_shapes, samples_per_prompt=self._per_prompt
        )
        if step and not all(one.media.isfinite().all() for one in samples):
            raise GuardStop(
                f"The audit's samples are not finite at step {step}: training has diverged.",
                hint="a lower learning rate or float32 usually helps",
            )
        self._shown = self._few(samples, step)
        return self._bench.values(samples)

    def _few(self, samples: Sequence[SampleSet], step: int) -> Shown:
        """The first sample of the first prompts, to be looked at."""
        few = first_samples(samples, 1)
        pictures = small_pictures(few.media[:SHOWN])
        return as_shown(step, "audit", few.prompts.text[:SHOWN], pictures)

    def _score(self, run: RunResult, verdict: Verdict) -> float:
        """How good a checkpoint is: the gain in what was not trained on, where nothing is wrong.

        Mean over judges and held-out rewards of their gain on the base, in standard deviations of
        the base's values; without any, that of the trained reward. -inf with any sign of hacking.
        """
        if verdict.status not in ("clean", "no gain"):
            return -math.inf
        gains = [one.change.value / one.scale for one in run.measures if one.scale > 0]
        if not gains:
            spread = float(np.nanstd(self._found.values.reward)) or 1.0
            gains = [run.reward_change.value / spread]
        return float(np.mean(gains))

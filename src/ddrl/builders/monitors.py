"""What watches a run from held-out data while it trains: drift alone, or a reduced audit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from ddrl.builders.assets import Assets
from ddrl.builders.bench import Bench, build_bench, build_drift
from ddrl.builders.measure import Found, measure_model
from ddrl.builders.runs import RunFolder
from ddrl.errors import GuardStop
from ddrl.evaluation.result import RunResult
from ddrl.evaluation.signs import Marks
from ddrl.evaluation.verdict import Verdict, judge_run
from ddrl.recipe import Recipe
from ddrl.training.budget import DriftBudget
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.forward import Forward
from ddrl.training.sinks import read_metrics

__all__ = ["Panel", "build_budget", "build_monitor", "build_panel"]

IN_A_ROW = 2
"""A run is stopped when so many audits in a row say hacked: one may be bad luck."""

Monitor = Callable[[], Mapping[str, float]]


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


def build_panel(
    recipe: Recipe,
    assets: Assets,
    forward: Forward,
    device: torch.device,
    *,
    resumed_at: int | None = None,
) -> Panel:
    """The reduced audit of a run; made before any weight is moved or restored.

    Args:
        recipe: of the run.
        assets: its data, rewards and model.
        forward: the model, with the base's weights now.
        device: where it is.
        resumed_at: iterations that are kept of the run; default: those of its newest checkpoint.

    Raises:
        RewardError: a held-out reward can't be had.
        WeightsError: the encoder can't be loaded.
    """
    bench = build_bench(recipe, assets.corpus, assets.scorer, assets.splits, device)
    run = RunFolder(Path(recipe.run.folder))
    marked = CheckpointFolder(run.checkpoints).best()
    if resumed_at is None:
        resumed_at = _newest_step(run)
    return Panel(
        bench,
        forward,
        assets.latent_shape(),
        num_samples=recipe.evaluation.panel_samples,
        stops=recipe.evaluation.stop_on_hack,
        best=-math.inf if marked is None else marked.score,
        hacked=_hacked_at_last(run, resumed_at),
    )


def _newest_step(run: RunFolder) -> int:
    """Of its newest checkpoint, by name: whether that is whole is for the resume to find."""
    return max((int(found.name[5:]) for found in run.checkpoints.glob("step-*")), default=0)


def _hacked_at_last(run: RunFolder, step: int) -> int:
    """How many audits up to a step said hacked in a row, so that a resumed run counts on."""
    found = [row for row in read_metrics(run.metrics) if "audit/hacked" in row]
    words = [row["audit/hacked"] for row in found if row["step"] <= step]
    return next((i for i, word in enumerate(reversed(words)) if not word), len(words))


def build_budget(
    recipe: Recipe, assets: Assets, forward: Forward, device: torch.device
) -> DriftBudget | None:
    """The drift budget of a run, if it has one; made before any weight is moved or restored."""
    objective = recipe.objective
    if not objective.drift_budget:
        return None
    monitor = _drift_monitor(recipe, assets, forward, device)
    return DriftBudget(
        lambda: monitor()["heldout_loss_change"],
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

    def monitor() -> Mapping[str, float]:
        loss = float(meter.losses(forward, part.condition).mean())
        return {"heldout_loss": loss, "heldout_loss_change": loss / start - 1}

    return monitor


class Panel:
    """A reduced audit: few prompts and samples, the same noise every time, the report's own rule.

    Proxy and audit part where the verdict on these samples is "hacked": the held-out loss is past
    its mark, or the trained reward rose above the base's and signs of two kinds agree.

    Args:
        bench: what is measured; its prompts are cut to what the samples allow.
        forward: the model, with the base's weights now.
        latent_shape: of one sample.
        num_samples: in all; each prompt gets at least two.
        stops: whether two audits in a row that say hacked stop the run.
        best: score of the best checkpoint so far.
        hacked: audits so far that said hacked in a row.
    """

    def __init__(
        self,
        bench: Bench,
        forward: Forward,
        latent_shape: tuple[int, ...],
        *,
        num_samples: int,
        stops: bool,
        best: float = -math.inf,
        hacked: int = 0,
    ) -> None:
        num_prompts = max(1, min(len(bench.prompts), num_samples // 2))
        self._bench = dataclasses.replace(bench, prompts=bench.prompts[:num_prompts])
        self._per_prompt = max(2, num_samples // num_prompts)
        self._forward, self._latent_shape = forward, latent_shape
        self._stops, self._best, self._hacked = stops, best, hacked
        self._found = self._measure()
        self._base = measure_model(
            self._bench, self._found, self._found, name="base", is_base=True, quick=True
        )

    def __call__(self) -> Mapping[str, float]:
        """Measure the model as it is now.

        Returns:
            The metrics ``heldout_loss``, ``heldout_loss_change`` and ``audit/*``.

        Raises:
            GuardStop: proxy and audit have parted, if that stops the run.
        """
        found = self._measure()
        run = measure_model(self._bench, found, self._found, name="run", quick=True)
        limit = self._bench.recipe.evaluation.drift_limit
        verdict = judge_run(run, self._base, marks=Marks(drift_limit=limit))
        self._hacked = self._hacked + 1 if verdict.status == "hacked" else 0
        if self._stops and self._hacked >= IN_A_ROW:
            kept = "; the best checkpoint by the audit is kept: see --step best"
            raise GuardStop(
                f"Reward and audit have parted at {IN_A_ROW} audits in a row: {verdict.sentence}",
                hint="raise objective.beta, or train for fewer steps"
                + (kept if math.isfinite(self._best) else ""),
            )
        score = self._score(run, verdict)
        is_best = score > self._best
        self._best = max(self._best, score)
        metrics = {
            "heldout_loss": float(found.losses.mean()),
            "heldout_loss_change": run.drift.value,
            "audit/reward": run.reward.value,
            "audit/frechet": run.frechet.value,
            "audit/diversity": run.diversity.value,
            "audit/vendi": run.vendi.value,
            "audit/pixels": max(shift.moved.value for shift in run.pixels),
            "audit/score": score,
            **{f"audit/held_out/{one.name}": one.value.value for one in run.measures},
        }
        known = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return known | {
            "audit/hacked": float(verdict.status == "hacked"),
            "audit/best": float(is_best),
        }

    def _measure(self) -> Found:
        bench = self._bench
        samples = bench.sample(
            self._forward, self._latent_shape, samples_per_prompt=self._per_prompt
        )
        losses = bench.meter.losses(self._forward, bench.corpus.heldout.condition)
        return Found(losses.double().numpy(), bench.values(samples))

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

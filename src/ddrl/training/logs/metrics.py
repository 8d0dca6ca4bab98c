"""The metrics of a run: every name that is logged, with its unit, meaning and reduction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddrl.errors import DDRLError
from ddrl.records import Advantages, Scores

ReductionName = Literal["mean", "max", "sum", "last"]


@dataclass(frozen=True)
class MetricSpec:
    """The meaning of a metric.

    Attributes:
        unit: unit of the value.
        reduction: rule that makes one value of those of several updates.
        description: meaning of the value, and what to look out for.
    """

    unit: str
    reduction: ReductionName
    description: str


_TAGS: Mapping[str, str] = {
    "reward": "reward/mean",
    "reward_std": "reward/std",
    "reward/*": "rewards/*/mean",
    "reward_std/*": "rewards/*/std",
    "reward_min/*": "rewards/*/min",
    "reward_max/*": "rewards/*/max",
    "reward_failed": "reward/failed",
    "reward_failed/*": "rewards/*/failed",
    "reward_cached/*": "rewards/*/cached",
    "flat_groups": "reward/flat_groups",
    "advantage_clipped": "reward/advantage_clipped",
    "effective_beta": "loss/effective_beta",
    "policy_loss": "loss/policy",
    "ratio_deviation": "policy/ratio_deviation",
    "rollout_deviation": "policy/rollout_deviation",
    "ratio_max": "policy/ratio_max",
    "clip_fraction": "policy/clip_fraction",
    "reference_kl": "loss/reference_kl",
    "data_loss": "loss/data",
    "data_term": "loss/data_term",
    "grad_norm": "optimizer/grad_norm",
    "learning_rate": "optimizer/learning_rate",
    "latent_std": "policy/latent_std",
    "size": "policy/size",
    "heldout_loss": "drift/heldout_loss",
    "heldout_loss_change": "drift/heldout_loss_change",
    "budget_drift": "drift/budget_drift",
    "beta": "drift/beta",
    "seconds": "time/iteration",
    "seconds/rollout": "time/rollout",
    "seconds/reward": "time/reward",
    "seconds/update": "time/update",
}
"""Names in dashboards, where what stands before the first slash is a group.

Groups come in the order of the alphabet, those that decide first: audit, drift, loss, optimizer,
policy, reward, rewards, time. A name that is not here is the same there.
"""


GLOSSARY: Mapping[str, MetricSpec] = {
    "step": MetricSpec("1", "last", "Iterations finished."),
    "reward": MetricSpec(
        "reward",
        "mean",
        "Mean weighted sum of the raw rewards, over the samples whose rewards all succeeded.",
    ),
    "reward_std": MetricSpec(
        "reward",
        "mean",
        "Mean over groups of the standard deviation within the group, of the reward as "
        "`scoring.combine` makes it.",
    ),
    "reward/*": MetricSpec("reward", "mean", "Mean raw value of one reward, by name."),
    "reward_std/*": MetricSpec("reward", "mean", "Standard deviation of its raw values."),
    "reward_min/*": MetricSpec("reward", "last", "Smallest of its raw values."),
    "reward_max/*": MetricSpec("reward", "last", "Largest of its raw values."),
    "reward_failed": MetricSpec("share", "mean", "Samples without a valid reward."),
    "reward_failed/*": MetricSpec(
        "share", "mean", "Samples for which one reward failed; absent in a step where none did."
    ),
    "reward_cached/*": MetricSpec(
        "share", "mean", "Samples whose value is from the reward's cache; absent without one."
    ),
    "flat_groups": MetricSpec(
        "groups", "sum", "Groups without spread: they teach nothing. Many: the reward saturates."
    ),
    "advantage_clipped": MetricSpec(
        "share", "mean", "Advantages cut off by objective.advantage_clip."
    ),
    "effective_beta": MetricSpec(
        "reward",
        "mean",
        "Beta by the gradients of the two terms, in units of the reward trained on: beta times "
        "what the advantage was divided by (the standard deviation of the group or the batch, or "
        "1), as a mean over groups; for the data term over rollout.guidance, which does not "
        "multiply it. It falls when the reward saturates, and the regularizer with it.",
    ),
    "policy_loss": MetricSpec("1", "mean", "Policy term of eq. (L1), mean over samples and steps."),
    "ratio_deviation": MetricSpec(
        "1", "mean", "Mean distance of rho from 1; 0 in a rollout's first update, up to rounding."
    ),
    "rollout_deviation": MetricSpec(
        "nat",
        "mean",
        "Mean distance between the log-probabilities of a step in the update and in the rollout, "
        "on the same weights; absent where the two compute alike. Ratios don't contain it.",
    ),
    "ratio_max": MetricSpec("1", "max", "Largest rho. Above 10, lower the learning rate."),
    "clip_fraction": MetricSpec(
        "share", "mean", "Pairs of sample and step where grpo's clip binds."
    ),
    "reference_kl": MetricSpec(
        "nat", "mean", "KL to the reference policy along the chain, eq. (T3), per sample."
    ),
    "data_loss": MetricSpec(
        "1",
        "mean",
        "Diffusion loss on the anchor: squared velocity error per dimension, unweighted.",
    ),
    "data_term": MetricSpec("1", "mean", "Data term of eq. (L1), with beta and its weights."),
    "grad_norm": MetricSpec("1", "mean", "Gradient norm before clipping."),
    "learning_rate": MetricSpec("1", "last", "Of the optimizer."),
    "latent_std": MetricSpec("1", "mean", "Standard deviation of the samples' latents."),
    "heldout_loss": MetricSpec(
        "1", "last", "Diffusion loss on held-out data at fixed noise and times, averaged weights."
    ),
    "heldout_loss_change": MetricSpec(
        "share", "last", "Change of heldout_loss against the base. Above 0.10: suspect hacking."
    ),
    "budget_drift": MetricSpec(
        "share", "last", "heldout_loss_change where objective.drift_budget corrects beta."
    ),
    "beta": MetricSpec("1", "last", "Strength of the regularizer after that correction."),
    "audit/reward": MetricSpec(
        "reward",
        "last",
        "Trained reward of the reduced audit's samples, which follow the ODE.",
    ),
    "audit/held_out/*": MetricSpec(
        "1", "last", "Judge or held-out reward of these samples, by name. More is better."
    ),
    "audit/frechet": MetricSpec("1", "last", "Their squared Fréchet distance to held-out data."),
    "audit/diversity": MetricSpec(
        "ratio", "last", "Mean distance between samples of a prompt, real data is 1. Low: hacking."
    ),
    "audit/vendi": MetricSpec(
        "ratio", "last", "Effective number of different samples of a prompt, real data is 1."
    ),
    "audit/pixels": MetricSpec(
        "std", "last", "How much farther from data than the base is the worst statistic of pixels."
    ),
    "audit/score": MetricSpec(
        "std",
        "last",
        "Mean gain in judges and held-out rewards on the base; absent with any sign of hacking.",
    ),
    "audit/hacked": MetricSpec("1", "last", "1 where reward and audit have parted, else 0."),
    "audit/best": MetricSpec("1", "last", "1 where audit/score is the best so far, else 0."),
    "size": MetricSpec(
        "1",
        "last",
        "Which of `data.sizes` the iteration's samples have, counted from 0; absent with one size.",
    ),
    "seconds": MetricSpec("s", "sum", "Wall time of the iteration, without audits."),
    "seconds/rollout": MetricSpec(
        "s", "sum", "Part of it: sampling; with micro-batches also decoding, while rewards run."
    ),
    "seconds/reward": MetricSpec(
        "s", "sum", "Part of it: decoding and rewards; with micro-batches what is left of them."
    ),
    "seconds/update": MetricSpec("s", "sum", "Part of it: gradients and optimizer."),
}


def spec_of(name: str) -> MetricSpec:
    """Return the entry of a metric; ``reward/ink`` is described by ``reward/*``.

    Raises:
        DDRLError: the metric is not in the glossary, which is a fault of ddrl.
    """
    for key in (name, f"{name.rpartition('/')[0]}/*", f"{name.partition('/')[0]}/*"):
        if key in GLOSSARY:
            return GLOSSARY[key]
    raise DDRLError(f"Metric {name!r} is not in the glossary.")


def tag_of(name: str) -> str:
    """Return the name of a metric in dashboards: ``reward/ink`` is ``rewards/ink/mean``."""
    if name in _TAGS:
        return _TAGS[name]
    group, _, rest = name.partition("/")
    return _TAGS.get(f"{group}/*", name).replace("*", rest) if rest else f"other/{name}"


def merge(updates: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Reduce the metrics of several updates to one value each."""
    merged: dict[str, float] = {}
    for name in dict.fromkeys(name for update in updates for name in update):
        values = [update[name] for update in updates if name in update]
        reduction = spec_of(name).reduction
        if reduction == "mean":
            merged[name] = sum(values) / len(values)
        elif reduction == "max":
            merged[name] = max(values)
        else:
            merged[name] = sum(values) if reduction == "sum" else values[-1]
    return merged


def reward_metrics(
    scores: Scores, advantages: Advantages, group: Tensor, latents: Tensor, beta: float
) -> dict[str, float]:
    """Return the metrics of one batch of rewards; statistics are over valid samples only.

    Args:
        scores: rewards of B samples.
        advantages: advantages of the samples.
        group: group of each sample, shape (B,), on the CPU.
        latents: finished latents of the samples, shape (B, ...).
        beta: strength of the regularizer by its gradient.
    """
    keep = scores.valid
    num_groups = int(group.max()) + 1
    zeros = torch.zeros(num_groups, dtype=torch.float64)
    size = zeros.index_add(0, group, keep.double())
    count = size.clamp_min(1)
    reward = scores.combined.double() * keep
    weighted_sum = scores.weighted_sum.double() * keep
    mean = zeros.index_add(0, group, reward) / count
    deviation = (reward - mean[group]) * keep
    std = (zeros.index_add(0, group, deviation**2) / count).sqrt()
    scale = zeros.index_add(0, group, advantages.scale.double() * keep) / count
    values = torch.stack(
        [
            weighted_sum.sum() / keep.sum().clamp_min(1),
            std.sum() / (size > 0).sum().clamp_min(1),
            1 - keep.double().mean(),
            advantages.clipped.double().mean(),
            latents.float().std().cpu().double(),
            # Within a group it is the same for all; groups count alike, as in reward_std.
            scale.sum() / (size > 0).sum().clamp_min(1),
        ]
    ).tolist()
    names = ("reward", "reward_std", "reward_failed", "advantage_clipped", "latent_std", "scale")
    metrics = dict(zip(names, values, strict=True))
    metrics |= _raw_metrics(scores)
    metrics["flat_groups"] = float(advantages.num_flat_groups)
    metrics["effective_beta"] = beta * metrics.pop("scale")
    return metrics


def _raw_metrics(scores: Scores) -> dict[str, float]:
    """Summarize each reward's raw values, over the samples for which it did not fail."""
    metrics = {}
    cached = scores.num_cached or (None,) * len(scores.names)
    for name, value, count in zip(scores.names, scores.value.unbind(1), cached, strict=True):
        known = value[value.isfinite()].double()
        if len(known):
            figures = torch.stack([known.mean(), known.std(correction=0), *known.aminmax()])
            kinds = ("reward", "reward_std", "reward_min", "reward_max")
            for kind, figure in zip(kinds, figures.tolist(), strict=True):
                metrics[f"{kind}/{name}"] = figure
        if len(known) < len(value):
            metrics[f"reward_failed/{name}"] = 1 - len(known) / len(value)
        if count is not None:
            metrics[f"reward_cached/{name}"] = count / len(value)
    return metrics


def glossary_table() -> str:
    """Return the glossary as a Markdown table."""
    rows = ["| metric | in dashboards | unit | meaning |", "|---|---|---|---|"]
    for name, spec in GLOSSARY.items():
        tag = "" if name == "step" else f"`{tag_of(name)}`"
        rows.append(f"| `{name}` | {tag} | {spec.unit} | {spec.description} |")
    return "\n".join(rows) + "\n"

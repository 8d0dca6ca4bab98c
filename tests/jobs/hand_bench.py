"""A bench whose every value is given by hand, to see what figures and verdicts follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.builders.data.corpus import Corpus, Part, Real
from ddrl.evaluation.findings.verdict import Verdict, judge_run
from ddrl.evaluation.measures.drift import DriftMeter
from ddrl.evaluation.measures.encoder import Encoder
from ddrl.evaluation.measures.generate import SampleSet
from ddrl.evaluation.measures.result import RunResult
from ddrl.jobs.evaluate.bench import Bench, Values
from ddrl.jobs.evaluate.features import RealData
from ddrl.jobs.evaluate.measure import Found, measure_model
from ddrl.models.tiny.model import TinyCondition
from ddrl.recipe import parse_recipe
from ddrl.records import Prompts
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.forward import Forward

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass
class Script:
    """What each measurement of a model finds, in turn; the last again and again.

    Losses and samples each have their turn, since either may be measured first.
    """

    found: list[Found] = field(default_factory=list)
    sampled: int = 0
    measured: int = 0

    def values(self) -> Values:
        self.sampled += 1
        return self.found[min(self.sampled, len(self.found)) - 1].values

    def losses(self, forward: Forward, condition: object) -> Tensor:
        self.measured += 1
        return torch.from_numpy(self.found[min(self.measured, len(self.found)) - 1].losses)


@dataclass(frozen=True, kw_only=True)
class HandBench(Bench):
    """A bench that samples nothing and finds what its script says."""

    script: Script
    asked: list[int] = field(default_factory=list)

    def sample(
        self,
        forward: Forward,
        latent_shapes: Sequence[tuple[int, ...]],
        *,
        samples_per_prompt: int = 0,
    ) -> tuple[SampleSet, ...]:
        self.asked.append(samples_per_prompt)
        return (SampleSet(torch.zeros(1, 3, 1, 1), Prompts.numbered(["a"], [])),)

    def values(self, samples: Sequence[SampleSet]) -> Values:
        return self.script.values()


def make_bench(
    real: Numbers,
    real_id: Ids,
    *,
    whole: bool = False,
    settings: str = "",
    judges: Sequence[str] = (),
    frames: Numbers | None = None,
    num_prompts: int = 0,
) -> HandBench:
    """A bench with these features of real data.

    Args:
        real: (M, F) features of the held-out data; their first column is the brightness.
        real_id: (M,) the prompt of each.
        whole: whether the prompts are all that are trained on.
        settings: lines of the recipe.
        judges: names of measures that are judges.
        frames: (M, T, F) features of frames.
        num_prompts: held-out prompts; 0: as many as ``real_id`` has.
    """
    held = tuple(f"prompt {i}" for i in range(num_prompts or int(real_id.max()) + 1))
    condition = TinyCondition(torch.zeros(len(held), dtype=torch.int64))
    ids = torch.from_numpy(real_id)
    x0 = torch.zeros(len(real), 1)
    part = Part(held, condition, ids, x0)
    train = Part(held if whole else ("another",), condition, ids, x0)
    script = Script()
    return HandBench(
        recipe=parse_recipe('[[reward]]\nname = "classifier"\n' + settings),
        corpus=Corpus(train, part, Real(torch.zeros(len(real), 3, 1, 1), ids, held), ((1, 1, 1),)),
        prompts=held,
        scorer=cast("Scorer", None),
        judges=dict.fromkeys(judges, cast("Any", None)),
        heldout=None,
        encoder=Encoder("by hand", lambda media: media.flatten(1).double().numpy()),
        real=RealData(real, frames, {"brightness": real[:, 0]}, real_id),
        meter=cast("DriftMeter", script),
        device=torch.device("cpu"),
        script=script,
    )


def find(
    features: Numbers,
    prompt_id: Ids,
    *,
    reward: Numbers | None = None,
    losses: Numbers | None = None,
    measures: dict[str, Numbers] | None = None,
    frames: Numbers | None = None,
) -> Found:
    """What is found of a model: samples with these features, and losses of the held-out data."""
    values = Values(
        reward=np.zeros(len(features)) if reward is None else reward,
        measures=measures or {},
        pixels={"brightness": features[:, 0]},
        features=features,
        frames=frames,
        prompt_id=prompt_id,
    )
    return Found(np.ones(1000) if losses is None else losses, values)


IDS = np.repeat(np.arange(6), 8)


def clouds(
    seed: int = 0, *, spread: float = 1.0, prompts: int = 6, each: int = 8, width: int = 4
) -> Numbers:
    """Samples around a centre of each prompt; the same seed gives the same clouds at any spread."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 3, (prompts, 1, width))
    samples: Numbers = (centres + spread * rng.standard_normal((prompts, each, width))).reshape(
        -1, width
    )
    return samples


def row(bench: HandBench, run: Found, base: Found) -> RunResult:
    return measure_model(bench, run, base, name="run")


def judge(bench: HandBench, run: Found, base: Found) -> Verdict:
    start = measure_model(bench, base, base, name="base", is_base=True)
    return judge_run(row(bench, run, base), start)

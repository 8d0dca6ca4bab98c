"""What every model of an audit is measured with, and the values of a model's samples."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddrl.builders.data.corpus import Corpus, Part
from ddrl.builders.scorers import build_heldout
from ddrl.builders.tasks.task import Judge, Task
from ddrl.evaluation.measures.drift import DriftMeter
from ddrl.evaluation.measures.encoder import Encoder
from ddrl.evaluation.measures.generate import SampleSet, generate
from ddrl.evaluation.measures.pixels import pixel_statistics
from ddrl.evaluation.measures.statistics import Unit
from ddrl.jobs.evaluate.features import RealData, build_encoder, real_data, same_length
from ddrl.recipe import Recipe
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.forward import Forward

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Values:
    """What is measured of each of N samples.

    Attributes:
        reward: the weighted sum of the trained rewards' raw values, (N,), which compares between
            models whatever ``scoring.combine`` is; NaN where one failed.
        measures: name -> (N,), of judges and held-out rewards; NaN where one failed.
        pixels: name -> (N,), statistics of pixels.
        features: of the encoder, (N, F).
        frames: of every frame, (N, T, F); None for images.
        prompt_id: the prompt of each, (N,).
        causes: name -> why samples have no value, of held-out rewards that failed.
    """

    reward: NDArray[np.float64]
    measures: Mapping[str, NDArray[np.float64]]
    pixels: Mapping[str, NDArray[np.float64]]
    features: NDArray[np.float64]
    frames: NDArray[np.float64] | None
    prompt_id: NDArray[np.int64]
    causes: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def join(cls, parts: Sequence[Values]) -> Values:
        """All samples of several sets, in the order of their prompts."""
        if len(parts) == 1:
            return parts[0]
        prompt_id = np.concatenate([part.prompt_id for part in parts])
        order = prompt_id.argsort(kind="stable")

        def together(found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
            joined: NDArray[np.float64] = np.concatenate(found)[order]
            return joined

        frames = same_length([part.frames for part in parts])
        return cls(
            reward=together([part.reward for part in parts]),
            measures={n: together([p.measures[n] for p in parts]) for n in parts[0].measures},
            pixels={n: together([p.pixels[n] for p in parts]) for n in parts[0].pixels},
            features=together([part.features for part in parts]),
            frames=together(frames) if frames else None,
            prompt_id=prompt_id[order],
            causes={name: cause for part in parts for name, cause in part.causes.items()},
        )


@dataclass(frozen=True)
class Bench:
    """What every model of an audit is measured with.

    Attributes:
        recipe: of the first run.
        corpus: the data.
        prompts: the held-out prompts that are sampled.
        scorer: the rewards that were trained on.
        judges: name -> judge.
        heldout: the held-out rewards, if there are any.
        encoder: pixels to features.
        real: of the held-out data.
        meter: measures the diffusion loss on it.
        device: where the model is.
    """

    recipe: Recipe
    corpus: Corpus
    prompts: tuple[str, ...]
    scorer: Scorer
    judges: Mapping[str, Judge]
    heldout: Scorer | None
    encoder: Encoder
    real: RealData
    meter: DriftMeter
    device: torch.device

    @property
    def unit(self) -> Unit:
        """What intervals over the sampled prompts are over."""
        return self._unit(self.prompts)

    @property
    def drift_unit(self) -> Unit:
        """What intervals over the held-out data are over."""
        return self._unit(self.corpus.heldout.captions)

    def _unit(self, prompts: Sequence[str]) -> Unit:
        """Samples, where the prompts are all that the model is trained for; else prompts.

        With given frames, or source images, every prompt is another one, even where the text is
        the same.
        """
        is_all = set(self.corpus.train.captions) <= set(prompts)
        return "sample" if is_all and not self.recipe.data.num_given else "prompt"

    def sample(
        self,
        forward: Forward,
        latent_shapes: Sequence[tuple[int, ...]],
        *,
        samples_per_prompt: int = 0,
    ) -> tuple[SampleSet, ...]:
        """Samples of every prompt, from the same noise for every model.

        Args:
            forward: the model.
            latent_shapes: of one sample of each of the data's sizes.
            samples_per_prompt: 0 = as many as the recipe says.

        Returns:
            A set for each size that has prompts: a prompt's samples have the size of its data.
        """
        section = self.recipe.evaluation
        sizes = self.corpus.heldout.prompt_sizes()[: len(self.prompts)]
        return tuple(
            generate(
                forward,
                self.prompts,
                metadata=self.corpus.heldout.metadata[: len(self.prompts)],
                condition=self.corpus.heldout.condition,
                chosen=(sizes == size).nonzero().flatten().tolist(),
                samples_per_prompt=samples_per_prompt or section.samples_per_prompt,
                latent_shape=latent_shapes[size],
                seed=section.seed,
                num_steps=section.steps,
                solver=section.solver,
                micro_batch=self.recipe.run.micro_batch,
                device=self.device,
            )
            for size in sorted(set(sizes.tolist()))
        )

    def values(self, samples: Sequence[SampleSet]) -> Values:
        """Measure samples, in the order of their prompts.

        Args:
            samples: sets of one size each; rewards see one size at a time.

        Raises:
            RewardError: a reward failed where that is not allowed.
        """
        return Values.join([self._values(one) for one in samples])

    def _values(self, samples: SampleSet) -> Values:
        media, prompts = samples.media, samples.prompts
        scores = self.scorer.score(media, prompts, prompts.prompt_id)
        measures = {name: _numbers(judge(media, prompts)) for name, judge in self.judges.items()}
        causes: dict[str, str] = {}
        if self.heldout is not None:
            held = self.heldout.measure(media, prompts, prompts.prompt_id)
            for name, column in zip(self.heldout.names, held, strict=True):
                measures[name] = _numbers(column.value)
                if column.cause:
                    causes[name] = column.cause
                    hint = f"; {column.hint}" if column.hint else ""
                    logger.warning("held-out %s%s", column.cause, hint)
        frames = self.encoder.frames(media) if media.ndim == 5 else None
        return Values(
            reward=_numbers(torch.where(scores.valid, scores.weighted_sum, math.nan)),
            measures=measures,
            pixels=pixel_statistics(media),
            features=self.encoder.features(media) if frames is None else frames.mean(1),
            frames=frames,
            prompt_id=prompts.prompt_id.numpy(),
            causes=causes,
        )


def build_bench(
    task: Task,
    corpus: Corpus,
    scorer: Scorer,
    device: torch.device,
) -> Bench:
    """Make what models are measured with.

    Raises:
        RewardError: a held-out reward can't be had.
        WeightsError: the encoder can't be loaded.
    """
    recipe, jury = task.recipe, task.jury()
    encoder = build_encoder(recipe.evaluation.encoder, jury.features, device)
    return Bench(
        recipe=recipe,
        corpus=corpus,
        prompts=corpus.heldout.captions[: recipe.evaluation.prompts],
        scorer=scorer,
        judges=jury.judges,
        heldout=build_heldout(task),
        encoder=encoder,
        real=real_data(encoder, corpus.real),
        meter=build_drift(recipe, corpus.heldout, device),
        device=device,
    )


def build_drift(recipe: Recipe, part: Part, device: torch.device) -> DriftMeter:
    """The meter of the diffusion loss on the held-out data, at noise and times that are fixed."""
    samples = recipe.rollout.prompts_per_step * recipe.rollout.group_size
    is_small = recipe.model.is_embedded
    return DriftMeter(
        x0=part.x0,
        caption_id=part.caption_id,
        seed=recipe.evaluation.seed,
        # A large model has room for what it trains on at once, and not for all that is held out.
        micro_batch=recipe.run.micro_batch or (1024 if is_small else samples),
        device=device,
        size_id=part.size_id,
    )


def _numbers(values: Tensor) -> NDArray[np.float64]:
    numbers: NDArray[np.float64] = values.detach().double().cpu().numpy()
    return numbers

"""The best of each prompt's synthetic samples, by the run's own rewards.

Samples are scored as those of a step are: as many at once, in groups of ``rollout.group_size``. The
scores are kept beside the samples, by all that is known of the rewards: names, options, weights
and code.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import torch

from ddrl.builders.data.corpus import Part
from ddrl.builders.identity import encoder_hash, text_hash
from ddrl.builders.keys import cache_key, family_code
from ddrl.builders.scorers import reward_key
from ddrl.builders.store import Progress
from ddrl.builders.synthetic.drawing import Drawn, Synthetic, with_samples
from ddrl.builders.tasks.task import Task
from ddrl.disk import parse_json
from ddrl.errors import DataError, RewardError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.recipe import Recipe
from ddrl.rewards.base import reward_class
from ddrl.rewards.scoring.scorer import Scorer
from ddrl.training.rollout import batches

logger = logging.getLogger(__name__)

FORMAT = "ddrl-synthetic-scores/1"  # part of every name: raise it when the scoring changes

Column = list[float | None]
"""The weighted sums of a group of samples' rewards; None: one has failed."""


def keep_best(
    task: Task,
    model: DiffusionModel,
    part: Part,
    made: Synthetic,
    scorer: Scorer,
    *,
    progress: Progress | None = None,
) -> Synthetic:
    """Keep the share ``data.synthetic.keep`` of each prompt's samples, at least one.

    Those whose reward failed are never kept; of equal ones the first is better.

    Args:
        task: whose recipe's share, rewards and cache.
        model: decodes them.
        part: whose prompts they follow.
        made: all samples.
        scorer: the recipe's rewards.
        progress: called as samples are scored.

    Raises:
        DataError: the cache can't be read or written.
        RewardError: samples can't be scored, or a prompt is left with none.
    """
    recipe = task.recipe
    share = Fraction(str(recipe.data.synthetic.keep))  # exactly what the recipe says
    path = scores_path(task, model)
    scores = _scores(recipe, model, part, made, scorer, path, progress)
    kept: list[Drawn] = []
    for _, own in itertools.groupby(made.samples, key=lambda one: one.prompt):
        drawn = [replace(one, score=scores[one.key]) for one in own]
        ranked = sorted(
            ((-one.score, one.sample, one) for one in drawn if one.score is not None),
            key=lambda entry: entry[:2],
        )
        if not ranked:
            raise RewardError(
                f"No sample of the base for {drawn[0].text!r:.80} has a reward, so none is kept.",
                hint="set data.synthetic.keep = 1, or draw more: data.synthetic.per_prompt",
            )
        best = ranked[: max(1, math.floor(len(drawn) * share))]
        kept += sorted((one for _, _, one in best), key=lambda one: one.sample)
    logger.info("the best %d of %d synthetic samples are kept", len(kept), len(made.samples))
    return with_samples(recipe, made, kept)


def scores_path(task: Task, model: DiffusionModel) -> Path:
    """Where the scores by a recipe's rewards are: a line per group, in no order.

    Args:
        task: whose recipe's rewards and cache.
        model: decodes the samples, which are latents.
    """
    recipe, rewards = task.recipe, []
    for section in recipe.reward:
        made_by = reward_key(section.name, task.options(section), reward_class(section.name))
        rewards.append([made_by, section.weight])
    decoder = encoder_hash(model) if isinstance(model, DiffusersModel) else ""
    code = family_code(model)
    key = cache_key("scores", FORMAT, rewards, recipe.scoring.on_failure, decoder, code=code)
    return Path(recipe.run.cache) / "synthetic" / "scores" / f"{key[:32]}.jsonl"


def _scores(
    recipe: Recipe,
    model: DiffusionModel,
    part: Part,
    made: Synthetic,
    scorer: Scorer,
    path: Path,
    progress: Progress | None,
) -> dict[str, float | None]:
    """The combined reward of every sample by its key, stored or computed now."""
    groups = {
        _key([made.samples[i] for i in rows], part): rows for rows in _groups(recipe, made.samples)
    }
    known = _read(path)
    found = {
        key: known[key] for key, rows in groups.items() if len(known.get(key, ())) == len(rows)
    }
    if found:
        logger.info("the scores of %d groups of synthetic samples are from %s", len(found), path)
    absent, done = [key for key in groups if key not in found], 0
    # Evenly: in a small last batch one failure would be a large share.
    num_batches = max(1, math.ceil(len(absent) / recipe.rollout.prompts_per_step))
    for taken in batches(len(absent), max(1, math.ceil(len(absent) / num_batches))):
        batch = {key: groups[key] for key in absent[taken]}
        columns = _score(recipe, model, part, made, scorer, list(batch.values()))
        fresh = dict(zip(batch, columns, strict=True))
        _append(path, fresh)
        found |= fresh
        done += len(batch)
        if progress is not None:
            progress("scores of samples", done, len(absent), "")
    return {
        made.samples[row].key: score
        for key, rows in groups.items()
        for row, score in zip(rows, found[key], strict=True)
    }


def _groups(recipe: Recipe, samples: Sequence[Drawn]) -> Iterator[list[int]]:
    """Rows of one prompt each, as many as a group of the run has."""
    for _, own in itertools.groupby(range(len(samples)), key=lambda row: samples[row].prompt):
        rows = list(own)
        yield from (rows[part] for part in batches(len(rows), recipe.rollout.group_size))


def _key(samples: Sequence[Drawn], part: Part) -> str:
    """Of a group, since a reward may look at all of it, and at the metadata of its prompt."""
    known = part.metadata[samples[0].prompt] if part.metadata else {}
    more = [json.dumps(known, sort_keys=True)] if known else []
    return text_hash([*(one.key for one in samples), *more])


@torch.no_grad()
def _score(
    recipe: Recipe,
    model: DiffusionModel,
    part: Part,
    made: Synthetic,
    scorer: Scorer,
    groups: Sequence[Sequence[int]],
) -> list[Column]:
    """The combined rewards of some groups, which are in memory together, as those of a step are."""
    device = next(model.transformer.parameters()).device
    rows = torch.tensor([row for group in groups for row in group])
    ids = made.caption_id[rows]
    media = torch.cat(
        [
            model.decode(made.latents[rows[few]].to(device), part.condition[ids[few]].to(device))
            for few in batches(len(rows), recipe.run.micro_batch)
        ]
    )
    prompts = part.prompts.select(ids.tolist())
    sizes = [len(group) for group in groups]
    group_id = torch.arange(len(groups)).repeat_interleave(torch.tensor(sizes))
    scores = scorer.score(media, prompts, group_id)
    valid = scores.valid & scores.weighted_sum.isfinite()
    column = [
        value if fine else None
        for value, fine in zip(scores.weighted_sum.tolist(), valid.tolist(), strict=True)
    ]
    ends = list(itertools.accumulate(sizes))
    return [column[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def _read(path: Path) -> dict[str, Column]:
    """The scores that are stored; a line that is not whole does not count.

    Raises:
        DataError: they can't be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    except OSError as error:
        raise DataError(
            f"{path} can't be read: {error.strerror}.", hint="remove it, and it is made anew"
        ) from error
    found: dict[str, Column] = {}
    for line in text.split("\n"):
        try:
            record: object = parse_json(line)
        except ValueError:
            continue
        match record:
            case {"group": str(group), "scores": list(scores)} if all(map(_is_score, scores)):
                found[group] = scores
    return found


def _is_score(value: object) -> bool:
    return value is None or (type(value) is float and math.isfinite(value))


def _append(path: Path, columns: Mapping[str, Column]) -> None:
    """Store scores.

    Raises:
        DataError: they can't be written.
    """
    lines = [json.dumps({"group": key, "scores": column}) for key, column in columns.items()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            # The line before may be half a line, if its writer was killed.
            file.write("\n" + "\n".join(lines) + "\n")
    except OSError as error:
        raise DataError(
            f"The cache {path.parent} can't be written: {error.strerror}.",
            hint="set run.cache to a writable folder with free space",
        ) from error

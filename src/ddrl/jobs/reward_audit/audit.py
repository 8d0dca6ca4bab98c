"""Audits a reward: scores samples and their changed copies, and hands the numbers on."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import Tensor

from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.table import check_reward, example_task
from ddrl.errors import DDRLError, RewardError
from ddrl.evaluation.findings.reward_audit import PROMPTS, Copy, RewardAudit, shuffled
from ddrl.jobs.reward_audit.samples import Audited, embedded_samples, file_samples
from ddrl.jobs.reward_audit.transforms import TRANSFORMS
from ddrl.recipe.sections.rewards import RewardSection
from ddrl.records import Prompts
from ddrl.rewards.base import Reward, SampleError, make_reward, reward_class
from ddrl.rewards.card import RewardCard
from ddrl.rewards.level import is_group_level
from ddrl.rewards.scoring.attempt import Piece, score_once

_NUM_ALONE = 8
"""Samples that are scored alone, too."""


def audit_reward(
    name: str,
    options: Mapping[str, JsonValue],
    data: str,
    *,
    limit: int = 200,
    progress: Callable[[int, int], None] | None = None,
    command: str = "",
) -> RewardAudit:
    """Score samples, changed copies of them, and the samples with each other's prompts.

    To a reward of whole groups, all samples of a prompt are a group.

    Args:
        name: of the reward.
        options: of the reward.
        data: a path, or the name of embedded data.
        limit: samples at most; 0: all.
        progress: told how many samples are done, and of how many.
        command: what repeats it.

    Raises:
        RewardError: there is no such reward, or it scores no sample.
        DataError: the samples can't be had.
    """
    reward_class(name)  # a name that does not exist fails before anything is read
    task = example_task(data)
    if task is not None:
        samples, reward = _embedded(name, options, task, limit)
    else:
        samples = file_samples(Path(data), limit=limit)
        reward = make_reward(name, options)
    table = _scored(reward, samples, progress)
    if not table["originals"].is_known():
        failed = table["originals"]
        raise RewardError(
            f"Reward {name!r} scores none of the {len(samples.texts)} samples: {failed.cause}.",
            hint=failed.hint
            or f"its card says what it needs: `ddrl reward list`; --data has {samples.said}",
        )
    card = getattr(reward, "card", None)
    return RewardAudit(
        reward=name,
        options=dict(options),
        data=samples.said,
        originals=table["originals"].values,
        again=table["again"].values,
        reordered=table["reordered"].values,
        alone=table["alone"].values,
        copies=table.copies(),
        samples_per_second=len(samples.texts) / max(table.seconds, 1e-9),
        num_prompts=len(set(samples.texts)),
        prompt_id=np.unique(samples.texts, return_inverse=True)[1],
        unit="prompt" if task is None else "sample",
        cause=table["originals"].cause,
        picture=table["originals"].picture,
        ignores_prompt=isinstance(card, RewardCard) and card.prompt == "none",
        command=command,
    )


def _scored(
    reward: Reward, samples: Audited, progress: Callable[[int, int], None] | None
) -> _Table:
    """Every sample, scored in every way."""
    grouped, done = is_group_level(reward), 0
    table = _Table(_prompts(samples), len(samples.texts), grouped)
    for rows, media in samples.batches(whole_groups=grouped):
        table.add(reward, rows, media)
        done += len(rows)
        if progress is not None:
            progress(done, len(samples.texts))
    return table


def _embedded(
    name: str, options: Mapping[str, JsonValue], task: EmbeddedTask, limit: int
) -> tuple[Audited, Reward]:
    """The embedded samples, and the reward with what it can take from them."""
    section = RewardSection(name=name, options=dict(options))
    check_reward(task, section)
    reward = make_reward(name, task.options(section))
    return embedded_samples(task.splits.heldout, task.recipe.data.source, limit=limit), reward


def _prompts(samples: Audited) -> Prompts:
    ids = {text: place for place, text in enumerate(dict.fromkeys(samples.texts))}
    prompt_id = torch.tensor([ids[text] for text in samples.texts])
    return dataclasses.replace(
        Prompts.numbered(samples.texts, samples.metadata), prompt_id=prompt_id
    )


@dataclass
class _Column:
    """Scores of N samples as they come in."""

    values: NDArray[np.float64]
    compared: NDArray[np.bool_]
    cause: str = ""
    hint: str = ""
    picture: NDArray[np.uint8] | None = None

    def is_known(self) -> bool:
        """Whether one sample at least has a score."""
        return bool(np.isfinite(self.values).any())


@dataclass
class _Table:
    """All scores of N samples with their prompts."""

    prompts: Prompts
    num: int
    grouped: bool = False
    seconds: float = 0.0
    columns: dict[str, _Column] = field(default_factory=dict)
    given: list[int] = field(init=False)

    def __post_init__(self) -> None:
        if not self.grouped:
            self.given = shuffled(self.prompts.text, seed=0)
            return
        first = {text: row for row, text in reversed(list(enumerate(self.prompts.text)))}
        texts = list(dict.fromkeys(self.prompts.text))  # a group gets another one's prompt
        other = dict(zip(texts, [*texts[1:], *texts[:1]], strict=True))
        self.given = [first[other[text]] for text in self.prompts.text]

    def __getitem__(self, name: str) -> _Column:
        if name not in self.columns:
            values, compared = np.full(self.num, np.nan), np.zeros(self.num, dtype=bool)
            self.columns[name] = _Column(values, compared)
        return self.columns[name]

    def add(self, reward: Reward, rows: list[int], media: Tensor) -> None:
        """Score a batch in every way."""
        own = self.prompts.select(rows)
        self._fill("originals", reward, rows, media, own)
        start = time.perf_counter()
        self._fill("again", reward, rows, media, own)
        self.seconds += time.perf_counter() - start
        back = rows[::-1]
        self._fill("reordered", reward, back, media.flip(0), self.prompts.select(back))
        for places in self._alone(rows):
            few = [rows[place] for place in places]
            self._fill("alone", reward, few, media[places], self.prompts.select(few))
        others = self.prompts.select([self.given[row] for row in rows])
        texts = zip(own.text, others.text, strict=True)
        self._fill(PROMPTS, reward, rows, media, others)
        self[PROMPTS].compared[rows] = [mine != other for mine, other in texts]
        for transform in TRANSFORMS:
            if transform.clips_only and media.ndim == 4:
                continue
            changed = transform.apply(media)
            self._fill(transform.name, reward, rows, changed, own)
            # Half a level of 255 is what a file can't tell either.
            differs = (changed - media).abs().flatten(1).amax(1) > 0.5 / 255
            self[transform.name].compared[rows] = differs.numpy()

    def _alone(self, rows: list[int]) -> list[list[int]]:
        """What is scored alone, too: single samples of the first batch, or a batch's first group.

        Returns:
            Places in the batch.
        """
        if not self.grouped:
            return [[place] for place, row in enumerate(rows) if row < _NUM_ALONE]
        group = self.prompts.prompt_id[rows]
        return [(group == group[0]).nonzero().flatten().tolist()]

    def _fill(
        self, name: str, reward: Reward, rows: list[int], media: Tensor, prompts: Prompts
    ) -> None:
        column = self[name]
        group = self.prompts.prompt_id[rows]  # whatever prompts they are scored with
        values, cause, hint = _score(reward, Piece(media.clone(), prompts, group, rows))
        column.values[rows] = values
        if not column.cause:
            column.cause, column.hint = cause, hint
        if column.picture is None:
            frame = media[0] if media.ndim == 4 else media[0, media.shape[1] // 2]
            levels = (255 * frame).round().clamp(0, 255).to(torch.uint8)
            column.picture = levels.permute(1, 2, 0).numpy()

    def copies(self) -> tuple[Copy, ...]:
        """The columns of changed samples."""
        labels = {PROMPTS: "another prompt", **{one.name: one.label for one in TRANSFORMS}}
        return tuple(
            Copy(
                name,
                label,
                column.values,
                column.compared,
                column.cause,
                None if name == PROMPTS else column.picture,
            )
            for name, label in labels.items()
            if (column := self.columns.get(name)) is not None
        )


def _score(reward: Reward, piece: Piece) -> tuple[NDArray[np.float64], str, str]:
    """Scores (B,), NaN where there is none; why the first of these has none; the reward's hint."""
    media = piece.media
    nothing = np.full(len(media), np.nan)
    failed: Mapping[int, str] = {}
    hint = ""
    try:
        value = score_once(reward, piece)
    except SampleError as error:
        value, failed, hint = error.value, error.causes, error.hint
    except DDRLError as error:
        return nothing, error.message.rstrip("."), error.hint
    except Exception as error:  # a reward is somebody's code
        return nothing, f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip("."), ""
    if not isinstance(value, Tensor) or value.shape != (len(media),):
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise RewardError(
            f"The reward returned {found} for {len(media)} samples, not shape ({len(media)},).",
            hint="a reward returns one float per sample",
        )
    values: NDArray[np.float64] = value.detach().double().cpu().numpy().copy()
    values[list(failed)] = np.nan
    odd = ~np.isfinite(values)
    cause = failed[min(failed)] if failed else "it is not a finite number" if odd.any() else ""
    values[odd] = np.nan
    return values, cause, hint

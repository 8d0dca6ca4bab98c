"""A reward's cache: what was scored is not scored again, and a failure is never kept."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.rewards.chat_server import Handler, chat_server
from torch import Tensor

from ddrl.builders.scorers import build_heldout, build_scorer
from ddrl.builders.tasks.table import task_of
from ddrl.errors import DataError, RewardError
from ddrl.recipe import Recipe, parse_recipe
from ddrl.records import Prompts, Scores, Status
from ddrl.rewards.scoring.attempt import WeightedReward
from ddrl.rewards.scoring.cache import RewardCache
from ddrl.rewards.scoring.scorer import Scorer

SIZE = 6
GROUP = torch.zeros(SIZE, dtype=torch.int64)
TEXTS = ("ant", "ant", "ant", "bee", "bee", "bee")
PROMPTS = Prompts(torch.tensor([0, 0, 0, 1, 1, 1]), TEXTS, tuple({} for _ in TEXTS))
MEDIA = torch.rand((SIZE, 3, 2, 2), generator=torch.Generator().manual_seed(0))


class Counted:
    """Brightness; fails for samples that are darker than ``floor``."""

    def __init__(self, *, floor: float = 0.0, raises: int = 0) -> None:
        self.floor, self.raises, self.calls = floor, raises, list[int]()

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        self.calls.append(len(media))
        if len(self.calls) <= self.raises:
            raise ValueError("planted")
        value = media.flatten(1).mean(1)
        return value.where(value >= self.floor, torch.nan)


def score(reward: Counted, path: Path, media: Tensor = MEDIA, retries: int = 0) -> Scores:
    entry = WeightedReward("counted", reward, retries=retries, cache=RewardCache(path))
    scorer = Scorer([entry], on_failure="drop_sample", max_failed_share=1.0, pause=0.001)
    return scorer.score(media, PROMPTS, GROUP)


def test_what_was_scored_is_not_scored_again(tmp_path: Path) -> None:
    path, reward = tmp_path / "deep" / "cache.sqlite", Counted()
    first, second = score(reward, path), score(reward, path)
    assert reward.calls == [SIZE]
    assert torch.equal(first.value, second.value)
    assert (first.num_cached, second.num_cached) == ((0,), (SIZE,))
    other = MEDIA.clone()
    other[4] = 0.5
    third = score(reward, path, other)
    assert reward.calls == [SIZE, 1]
    assert third.num_cached == (SIZE - 1,)
    assert torch.equal(third.combined, other.flatten(1).mean(1))


def test_a_key_is_pixels_shape_type_and_prompt(tmp_path: Path) -> None:
    cache = RewardCache(tmp_path / "cache.sqlite")
    keys = cache.keys(MEDIA, PROMPTS)
    assert len(set(keys)) == SIZE
    assert cache.keys(MEDIA[[2]], PROMPTS.select([2])) == keys[2:3]
    changed = [
        cache.keys(MEDIA.double(), PROMPTS),
        cache.keys(MEDIA.flatten(-2), PROMPTS),
        cache.keys(MEDIA.flip(-1), PROMPTS),
        cache.keys(MEDIA, PROMPTS.select([3, 4, 5, 0, 1, 2])),
        cache.keys(MEDIA, Prompts(PROMPTS.prompt_id + 1, TEXTS, PROMPTS.metadata)),
        cache.keys(MEDIA, Prompts(PROMPTS.prompt_id, TEXTS, tuple({"a": 1} for _ in TEXTS))),
    ]
    assert all(not set(keys) & set(other) for other in changed)


def test_a_failure_is_never_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    dark = int(MEDIA.flatten(1).mean(1).argmin())
    floor = float(MEDIA.flatten(1).mean(1).sort().values[1])
    path, reward = tmp_path / "cache.sqlite", Counted(floor=floor)
    assert score(reward, path).status[dark, 0] == Status.NOT_FINITE
    with caplog.at_level(logging.WARNING):
        again = score(reward, path)
    assert reward.calls == [SIZE, 1]
    assert again.num_cached == (SIZE - 1,)
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("SELECT count(*) FROM scores").fetchone() == (SIZE - 1,)
    assert again.status[dark, 0] == Status.NOT_FINITE
    assert f"sample {dark} (" in caplog.text  # by its place in the batch, not in the call
    reward.floor = 0.0
    assert score(reward, path).valid.all()


def test_what_is_missing_is_tried_again_and_costs_no_more_than_itself(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    score(Counted(), path)
    other = MEDIA.clone()
    other[3:] = other[3:] / 2
    reward = Counted(raises=1)
    assert score(reward, path, other, retries=1).valid.all()
    assert reward.calls == [3, 3]


def test_what_failed_beside_cached_samples(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    score(Counted(), path)
    other = MEDIA.clone()
    other[3:] = other[3:] / 2
    scores = score(Counted(raises=9), path, other)
    assert scores.status[:, 0].tolist() == [Status.OK] * 3 + [Status.ERROR] * 3


def test_a_file_that_is_no_cache_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"something else" * 100)
    with pytest.raises(DataError, match=r"cache\.sqlite can't be used: file is not a database"):
        RewardCache(path)


def test_a_cache_that_breaks_later_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "cache.sqlite"
    cache, reward = RewardCache(path), Counted()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DROP TABLE scores")
    scorer = Scorer([WeightedReward("counted", reward, cache=cache)])
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert scorer.score(MEDIA, PROMPTS, GROUP).valid.all()
    assert reward.calls == [SIZE, SIZE]
    (record,) = caplog.records
    assert "scoring goes on without the reward cache" in record.getMessage()


# --- of a recipe --------------------------------------------------------------------------------

TEXT = """
[[reward]]
name = "tests.rewards.test_cache:Counted"
cache = true
options = {{ floor = {floor} }}
[[evaluation.reward]]
name = "{held_out}"
cache = true
[run]
cache = "{cache}"
"""


def recipe(tmp_path: Path, floor: float = 0.0, held_out: str = "ink") -> Recipe:
    return parse_recipe(TEXT.format(floor=floor, cache=tmp_path, held_out=held_out))


def test_a_file_per_reward_and_options(tmp_path: Path) -> None:
    media = MEDIA[:, :, :1, :1]
    for floor in (0.0, 0.0, 0.01):
        build_scorer(task_of(recipe(tmp_path, floor))).score(media, PROMPTS, GROUP)
    assert len(list((tmp_path / "rewards").glob("*.sqlite"))) == 2
    held_out = build_heldout(task_of(recipe(tmp_path)))
    assert held_out is not None
    assert held_out.measure(media, PROMPTS, GROUP)[0].num_cached == 0
    assert held_out.measure(media, PROMPTS, GROUP)[0].num_cached == SIZE
    assert len(list((tmp_path / "rewards").glob("*.sqlite"))) == 3


def test_what_a_reward_has_settled_by_itself_tells_files_apart(tmp_path: Path) -> None:
    refuses = [False, True, False]  # log-probabilities, each time that the reward is made

    def no_logprobs(handler: Handler, body: dict[str, Any]) -> bool:
        refused = refuses[0] and "logprobs" in body
        if refused:
            handler.reply(400, {"error": {"message": "logprobs is not supported"}})
        return refused

    with chat_server(no_logprobs) as server:
        text = '[[reward]]\nname = "vlm_judge"\ncache = true\n[reward.options]\nmode = "auto"\n'
        text += f'url = "{server.url}"\n[run]\ncache = "{tmp_path}"\n'
        while refuses:
            build_scorer(task_of(parse_recipe(text)))
            refuses.pop(0)
    assert len(list((tmp_path / "rewards").glob("*.sqlite"))) == 2


def test_a_reward_of_whole_groups_has_none(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match="'diversity' looks at whole groups") as caught:
        build_heldout(task_of(recipe(tmp_path, held_out="diversity")))
    assert caught.value.hint == "set cache = false in its section"

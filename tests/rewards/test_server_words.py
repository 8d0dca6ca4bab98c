"""Addresses hold no passwords, and what servers say is short, of one line and without controls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.rewards.chat_server import chat_server
from tests.rewards.reward_server import Answer, serving

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import make_reward
from ddrl.rewards.http.server_words import check_url, quoted, read_json
from ddrl.rewards.remote import RemoteReward
from ddrl.rewards.wire.format import FORMAT

DEEP = b"[" * 100_000 + b"]" * 100_000
EVIL = "\x1b[2J\x1b]0;x\x07\u202e\x9b31m\r\nerror: all is lost" + "!" * 5000


@pytest.mark.parametrize("name", ["remote", "vlm_judge"])
@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@host/v1",
        "https://hunter2@host/v1",
        "me:hunter2@host:8000/v1",
        "//me:hunter2@host/v1",
        "http:/me:hunter2@host/v1",
        "ftp://me:hunter2@host/v1",
        "http://me:hunter2%40host/v1",
        "http://me:hunter2,x@host/v1",
        "http://me:hun/ter2@host/hunter2",
        "http://host/v1?key=hunter2",
        "http://host/v1#hunter2",
        " http://me:hunter2@host/v1",
    ],
)
def test_a_password_is_refused_and_not_repeated(name: str, url: str) -> None:
    with pytest.raises(RewardError) as caught:
        make_reward(name, {"url": url})
    said = f"{caught.value.message} {caught.value.hint}"
    assert "token_env" in said
    assert "hunter2" not in said
    assert "ter2" not in said


@pytest.mark.parametrize("name", ["remote", "vlm_judge"])
@pytest.mark.parametrize("token", ["hunter2\nhunter3", "hünter2", "hunter2 3"])
def test_a_token_that_cannot_be_sent_is_not_repeated(
    name: str, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_TOKEN", token)
    options = {"url": "http://127.0.0.1:9/v1", "token_env": "A_TOKEN"}
    with pytest.raises(RewardError, match="variable A_TOKEN holds no token") as caught:
        make_reward(name, options)
    assert "nter" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://h", "https://h:1/a/@b", "http://[::1]:8000/v1", "HTTP://H/"]
)
def test_addresses_that_can_be_asked(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize(
    "url", ["", "h:80/x", "http://", "http://h:port/", "http://[::1", "file:///x"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="is no http:// or https:// address"):
        check_url(url)


def test_words_of_any_shape() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert quoted(deep) == "list"
    assert quoted(10**5000) == "int"
    assert quoted(" a\n b\x1b ") == "a b\\x1b"
    assert len(quoted("\x1b" * 10**6)) <= 200
    with pytest.raises(ValueError, match="nested too deep"):
        read_json(DEEP)


@pytest.mark.parametrize("status", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        DEEP,
        b'{"error": ' + DEEP + b"}",
        b'{"format": "ddrl-reward/1", "error": ' + DEEP + b"}",
        b'{"error": ' + b"1" * 4300 + b"}",
        b"1" * 5000,
        EVIL.encode(),
        {"format": FORMAT, "error": EVIL, "hint": EVIL},
        {"error": EVIL},
        {"format": EVIL},
    ],
    ids=range(9),
)
def test_whatever_a_server_of_rewards_says(status: int, body: bytes | dict[str, Any]) -> None:
    with serving(lambda _: Answer(body, status)) as server:
        reward = RemoteReward(url=server.url, attempts=1)
        with pytest.raises(RewardError) as caught:
            reward.score(torch.ones(1, 3, 4, 4), Prompts(torch.arange(1), ("a",), ({},)))
    check_plain(caught.value.message, 1500)
    check_plain(caught.value.hint, 1500)


def check_plain(text: str, longest: int) -> None:
    assert not {"\x1b", "\x07", "\u202e", "\x9b", "\r", "\n"} & set(text)
    assert len(text) < longest


@pytest.mark.parametrize(
    "listed",
    [DEEP, b'{"data": ' + DEEP + b"}", b'{"data": [{"id": "' + b"x" * 9999 + b'"}, {"id": "b"}]}'],
    ids=range(3),
)
def test_whatever_an_endpoint_lists(listed: bytes) -> None:
    with chat_server(models=listed) as server, pytest.raises(RewardError) as caught:
        make_reward("vlm_judge", {"url": server.url})
    check_plain(caught.value.message + caught.value.hint, 1500)

"""``vlm_judge`` and the ways of servers: each gives a score, or one sentence says why not."""

# Plans take a request whether they look at it or not, and words of other alphabets stand here.
# ruff: noqa: ARG005, RUF001

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.rewards.chat_server import ChatServer, Handler, chat_server, judge, walls
from tests.rewards.endpoint_behaviours import (
    FORMS,
    RUBRIC,
    Plan,
    Said,
    choice,
    refused,
    says,
    tokens,
    whole,
)
from tests.rewards.endpoint_replies import LANGUAGES, PASSES, TEXTS, WAITS, WORDS
from tests.rewards.rendering import prompts

from ddrl.errors import RewardError
from ddrl.rewards.base import SampleError


def always(said: Said) -> Plan:
    """The same for every request."""
    return lambda body, count: said


PLANS: dict[str, Plan] = {name: one.plan for name, one in {**FORMS, **WAITS, **PASSES}.items()}
PLANS |= {name: always(said) for name, (said, _) in {**TEXTS, **WORDS}.items()}
PLANS |= {name: always(tokens({yes: 0.6, no: 0.2})) for name, (yes, no) in LANGUAGES.items()}


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """All servers in one: the first part of the path says which."""
    counts: dict[str, int] = {}
    lock = threading.Lock()

    def fault(handler: Handler, body: dict[str, Any]) -> bool:
        name = handler.path.split("/")[1]
        with lock:
            count = counts[name] = counts.get(name, -1) + 1
        status, said, headers = PLANS[name](body, count)
        handler.reply(status, said, headers=headers)
        return True

    with chat_server(fault) as running:
        yield running


def url_of(server: ChatServer, name: str) -> str:
    return server.url.replace("/v1", f"/{name}/v1")


def asked(server: ChatServer, name: str) -> list[dict[str, Any]]:
    return [one for one in server.requests if one["path"].split("/")[1] == name]


def check(
    server: ChatServer,
    name: str,
    expected: float | str,
    options: Mapping[str, Any],
    samples: int = 1,
) -> RewardError | None:
    """Ask a server; its score, or the sentence, which is returned."""
    reward = judge(url_of(server, name), model="m", **options)
    media, texts = walls(*[0.8] * samples), prompts(*["a red wall"] * samples)
    if not isinstance(expected, str):
        assert reward.score(media, texts).tolist() == pytest.approx([expected] * samples)
        return None
    with pytest.raises(RewardError) as caught:
        reward.score(media, texts)
    cause = (
        caught.value.causes[0] if isinstance(caught.value, SampleError) else caught.value.message
    )
    assert re.search(expected, cause), cause
    assert "\n" not in cause
    return caught.value


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_refused_is_learned_once(
    name: str, server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    one = FORMS[name]
    lessons = one.requests - 1
    with caplog.at_level(logging.WARNING):
        check(server, name, one.expected, one.options, samples=4)
    assert len(asked(server, name)) == (4 + lessons)
    assert len(caplog.records) == lessons
    assert all("from now on" in record.getMessage() for record in caplog.records)


def test_what_is_sent_once_the_form_is_known(server: ChatServer) -> None:
    reward = judge(url_of(server, "reasoning-model"), model="m", mode="rubric", max_tokens=99)
    before = len(server.requests)
    for _ in range(2):
        reward.score(walls(0.8, 0.8), prompts("red", "red"))
    sent = server.requests[before:]
    assert len(sent) == 2 + 4
    for body in sent[2:]:
        assert not {"max_tokens", "temperature"} & set(body)
        assert body["max_completion_tokens"] == 99


@pytest.mark.parametrize("name", TEXTS)
def test_what_surrounds_a_score(name: str, server: ChatServer) -> None:
    check(server, name, TEXTS[name][1], RUBRIC)


@pytest.mark.parametrize("name", [*WORDS, *LANGUAGES])
def test_yes_and_no(name: str, server: ChatServer) -> None:
    error = check(server, name, WORDS[name][1] if name in WORDS else 0.75, {})
    if name == "ignored":
        assert error is not None
        assert 'mode = "auto"' in error.hint


@pytest.mark.parametrize(
    ("said", "score"),
    [
        ("Yes, it does.", 1.0),
        ("**No**", 0.0),
        ("No, I would not say yes.", 0.0),
        ("The answer is: ja", 1.0),
        ("<think>yes</think>Nein.", 0.0),
        ("是的，它显示了一面墙。", 1.0),
        ("Non !", 0.0),
        ("A wall.", "neither yes nor no: 'A wall.'"),
        ("", "has no text"),
        ("Nothing", "neither yes nor no"),
    ],
)
def test_words_without_log_probabilities(said: str, score: float | str, server: ChatServer) -> None:
    PLANS["words"] = says(said)
    check(server, "words", score, {"omit": ["logprobs"]})


def test_words_of_ones_own(server: ChatServer) -> None:
    PLANS["own"] = lambda body, count: tokens({"Aye": 0.3, "Yes": 0.3, "Nay": 0.2})
    check(server, "own", 0.75, {"yes": ["aye"], "no": ["nay"]})
    PLANS["turned"] = lambda body, count: tokens({"no": 0.6, "yes": 0.2})
    check(server, "turned", 0.75, {"yes": ["No"], "no": ["Yes"]})


@pytest.mark.parametrize("name", [*WAITS, *PASSES])
def test_a_busy_server_is_waited_for(name: str, server: ChatServer) -> None:
    one = {**WAITS, **PASSES}[name]
    start = time.monotonic()
    check(server, name, one.expected, one.options)
    seconds = time.monotonic() - start
    assert len(asked(server, name)) == one.requests
    if name in WAITS:
        assert seconds >= 0.15 * (one.requests - 1)
    assert seconds < 5


def test_what_a_server_asks_to_wait_holds_for_all_questions(server: ChatServer) -> None:
    times: list[float] = []

    def plan(body: dict[str, Any], count: int) -> Any:
        times.append(time.monotonic())
        said = refused("slow", status=429)
        return (*said[:2], {"retry-after": "0.3"}) if count == 2 else whole(body, count)

    PLANS["limited"] = plan
    check(server, "limited", 0.75, {"concurrency": 1}, samples=6)
    assert len(times) == 7
    assert times[3] - times[2] >= 0.3


def by_logprobs(with_them: Any) -> Plan:
    """Answers so where log-probabilities are asked for, and else as a server that has none."""
    return lambda body, count: with_them if "logprobs" in body else whole(body, count)


BLIND = tokens({"No": 0.9, "Yes": 0.1})
AUTO: dict[str, tuple[Plan, str, float, str]] = {
    "auto-yes": (whole, "yes_no", 0.75, "scores 0.75 as 'a red wall'"),
    "auto-rubric": (by_logprobs(refused("logprobs: not supported")), "rubric", 0.7, "scores 0.7"),
    "auto-ignored": (by_logprobs(choice("Yes")), "rubric", 0.7, ""),
    "auto-reasons": (by_logprobs(tokens({"<think>": 1.0})), "rubric", 0.7, ""),
    "auto-blind": (lambda body, count: BLIND, "yes_no", 0.1, "it may not see pictures"),
}


@pytest.mark.parametrize("name", AUTO)
def test_auto_finds_out_what_a_server_can_do(
    name: str, server: ChatServer, caplog: pytest.LogCaptureFixture
) -> None:
    PLANS[name], mode, score, phrase = AUTO[name]
    with caplog.at_level(logging.INFO):
        reward = judge(url_of(server, name), model="m", mode="auto")
    (said,) = (one for one in (r.getMessage() for r in caplog.records) if "is asked with" in one)
    assert f"mode = {mode!r}" in said
    assert phrase in said
    assert reward.settled == {"mode": mode}
    before = len(asked(server, name))
    found = float(reward.score(walls(0.8), prompts("a red wall")))
    assert found == pytest.approx(score)
    assert len(asked(server, name)) == before + 1


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            refused("m is not a multimodal model: image_url is not supported"),
            "takes no pictures: yes_no: .*; rubric: .*multimodal",
            "vision-language model",
        ),
        (choice("Hello!"), "gives no score in any mode: yes_no: .*; rubric: .*no score", ""),
        (refused("bad key", status=401), "refuses every question: .*401: 'bad key'", "token_env"),
    ],
)
def test_auto_without_a_way_says_so(said: Any, message: str, hint: str, server: ChatServer) -> None:
    PLANS["none"] = always(said)
    with pytest.raises(RewardError, match=message) as caught:
        judge(url_of(server, "none"), model="m", mode="auto")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        ({"omit": ["temprature"]}, "omit names 'temprature'; it may name temperature, max_tokens"),
        ({"omit": "temperature"}, "Option 'omit' of reward 'vlm_judge' can't be 'temperature'"),
        ({"extra_body": {"messages": []}}, "extra_body can't hold messages"),
        ({"extra_body": {"x": float("nan")}}, "extra_body can't be sent as JSON"),
        ({"extra_body": 3}, "Option 'extra_body' of reward 'vlm_judge' can't be 3"),
        ({"yes": ["no"], "no": ["No"]}, "no word stands in both"),
        ({"yes": ["?"]}, "lists of words"),
        ({"deadline": 0.0}, "deadline above 0"),
        ({"ca_file": "/nowhere.pem"}, "option ca_file names can't be read: No such file"),
    ],
)
def test_wrong_options(options: dict[str, Any], phrase: str) -> None:
    with pytest.raises(RewardError, match=phrase):
        judge("http://127.0.0.1:9/v1", model="m", **options)

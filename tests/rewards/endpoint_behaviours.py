"""How servers of OpenAI's API behave, each as a plan: what a request gets, and what comes of it."""

# Plans take a request whether they look at it or not.
# ruff: noqa: ARG005

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Body = dict[str, Any]
Said = tuple[int, object, Mapping[str, str]]
Plan = Callable[[Body, int], Said]
"""Gets a request and how many came before it; gives status, body and headers."""


@dataclass(frozen=True)
class Behaviour:
    """One server.

    Attributes:
        plan: what it answers.
        expected: the score, or a pattern of the sentence.
        options: of the judge.
        requests: how many one question takes.
    """

    plan: Plan
    expected: float | str
    options: Mapping[str, Any] = field(default_factory=dict)
    requests: int = 1


def choice(content: object, **more: Any) -> Said:
    first = {"message": {"content": content}, "finish_reason": "stop", **more}
    return 200, {"choices": [first]}, {}


def says(content: object, **more: Any) -> Plan:
    return lambda body, count: choice(content, **more)


def tokens(shares: Mapping[str, float], *before: str) -> Said:
    """An answer with log-probabilities, behind tokens that are certain."""
    top = [{"token": token, "logprob": math.log(share)} for token, share in shares.items()]
    sure = [{"token": one, "top_logprobs": [{"token": one, "logprob": 0.0}]} for one in before]
    return choice(
        "x", logprobs={"content": [*sure, {"token": top[0]["token"], "top_logprobs": top}]}
    )


YES = {"Yes": 0.6, " no": 0.2}


def whole(body: Body, count: int) -> Said:
    """What a server that takes everything answers: .75, or 7 of 10."""
    if body.get("logprobs"):
        return tokens(YES)
    return choice('{"reason": "fine", "score": 7}' if "response_format" in body else "Score: 7/10")


def refused(message: object, *, status: int = 400, param: str | None = None, **more: Any) -> Said:
    return status, {"error": {"message": message, "param": param, **more}}, {}


def unless(refuse: Callable[[Body], Said | None], then: Plan = whole) -> Plan:
    """Refuses what a function refuses, and answers the rest."""
    return lambda body, count: refuse(body) or then(body, count)


def without(name: str, said: Said) -> Callable[[Body], Said | None]:
    return lambda body: said if name in body else None


def at_first(said: Said, times: int = 1) -> Plan:
    return lambda body, count: said if count < times else whole(body, count)


def headed(said: Said, **headers: str) -> Said:
    return said[0], said[1], {name.replace("_", "-"): value for name, value in headers.items()}


def reasoning_model(body: Body) -> Said | None:
    if "max_tokens" in body:
        return refused(
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
            param="max_tokens",
        )
    if "temperature" in body:
        return refused(
            "Unsupported value: 'temperature' does not support 0 with this model. Only the "
            "default (1) value is supported.",
            param="temperature",
        )
    return refused("no logprobs: logprobs is not supported") if "logprobs" in body else None


def one_kind(body: Body) -> Said | None:
    kind = body.get("response_format", {}).get("type")
    return refused("response_format.type must be json_object") if kind == "json_schema" else None


def at_least_16(body: Body) -> Said | None:
    if body["max_tokens"] >= 16:
        return None
    return refused("Invalid 'max_output_tokens': integer below minimum value. Expected >= 16.")


def few(body: Body) -> Said | None:
    if body.get("top_logprobs", 0) <= 5:
        return None
    return refused("Requested sample logprobs of 20, which is greater than max allowed: 5")


def forbidden(name: str) -> Said:
    detail = {"type": "extra_forbidden", "loc": ["body", name], "msg": "Extra inputs are not"}
    return 422, {"detail": [{**detail, "input": {"temperature": 0, "max_tokens": 1}}]}, {}


def unset(*names: str, **wanted: Any) -> Plan:
    """Answers where these fields are not sent and those are."""

    def plan(body: Body, count: int) -> Said:
        right = not set(names) & set(body) and all(body.get(k) == v for k, v in wanted.items())
        return whole(body, count) if right else refused("this is not what was to be sent")

    return plan


RUBRIC = {"mode": "rubric"}
NO_LOGPROBS = refused("You are not allowed to request logprobs from this model", status=403)

FORMS = {
    "reasoning-model": Behaviour(unless(reasoning_model), 0.7, RUBRIC, 3),
    "reasoning-model-yes": Behaviour(unless(reasoning_model, says("Yes.")), 1.0, {}, 4),
    "no-logprobs": Behaviour(unless(without("logprobs", NO_LOGPROBS), says("No")), 0.0, {}, 2),
    "no-route": Behaviour(
        unless(
            without("logprobs", refused("No endpoints found that support: logprobs", status=404)),
            says("yes"),
        ),
        1.0,
        {},
        2,
    ),
    "few-logprobs": Behaviour(unless(few), 0.75, {}, 2),
    "json-object": Behaviour(unless(one_kind), 0.7, RUBRIC, 2),
    "no-format": Behaviour(
        unless(without("response_format", refused("JSON mode is not enabled for this model"))),
        0.7,
        RUBRIC,
        3,
    ),
    "grammar": Behaviour(
        unless(without("response_format", (500, {"error": "failed to parse grammar"}, {}))),
        0.7,
        RUBRIC,
        3,
    ),
    "not-implemented": Behaviour(
        unless(without("response_format", (501, b"response_format: not implemented", {}))),
        0.7,
        RUBRIC,
        3,
    ),
    "schema-of-fields": Behaviour(
        unless(without("temperature", forbidden("temperature"))), 0.75, {}, 2
    ),
    "schema-of-logprobs": Behaviour(
        unless(without("logprobs", forbidden("logprobs")), says("yes")), 1.0, {}, 2
    ),
    "unrecognized": Behaviour(
        unless(without("max_tokens", (400, b"Unrecognized argument: max_tokens", {}))), 0.75, {}, 2
    ),
    "at-least-16": Behaviour(unless(at_least_16), 0.75, {}, 2),
    "too-long": Behaviour(
        unless(without("max_tokens", refused("max_tokens is too large: 512; the context is 256"))),
        "answered 400: 'max_tokens is too large",
        RUBRIC,
    ),
    "echo": Behaviour(
        lambda body, count: refused(f"bad picture in {sorted(body)}"), "bad picture", RUBRIC
    ),
    "another-field": Behaviour(
        unless(without("top_k", refused("top_k is not supported"))),
        "top_k is not supported",
        {"extra_body": {"top_k": 1}},
    ),
    "omitted": Behaviour(
        unset("temperature", "top_logprobs"), 0.75, {"omit": ["temperature", "top_logprobs"]}
    ),
    "omitted-logprobs": Behaviour(
        lambda body, count: choice("no") if "logprobs" not in body else refused("x"),
        0.0,
        {"omit": ["logprobs"]},
    ),
    "added": Behaviour(
        unset(chat_template_kwargs={"enable_thinking": False}, temperature=0.6),
        0.7,
        {
            "mode": "rubric",
            "extra_body": {"chat_template_kwargs": {"enable_thinking": False}, "temperature": 0.6},
        },
    ),
    "own-limit": Behaviour(
        unset("max_tokens", max_completion_tokens=9),
        0.75,
        {"extra_body": {"max_completion_tokens": 9}},
    ),
}

"""The fields of a request in addition to its messages, in the form that an endpoint takes.

Servers of the same API differ in what they take. A refusal that names a field teaches the form:
another name, another value, or without it. What was learned holds for all further requests.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

Mode = Literal["yes_no", "rubric"]

FIELDS = ("temperature", "max_tokens", "logprobs", "top_logprobs", "response_format")
"""What is sent with the model and the messages, and may be left out."""

_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "number"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
_JSON_SCHEMA = {
    "type": "json_schema",
    "json_schema": {"name": "judgement", "strict": True, "schema": _SCHEMA},
}
_SHAPES = ("response_format", "guided_json", "structured_outputs")
_AS_JSON = (
    'Answer with one JSON object and nothing else: {"reason": "one sentence", "score": number}'
)

FEW = 5
"""Likeliest tokens that are asked for where 20 are too many."""

LEAST = 16
"""Tokens of an answer where one is too few."""

# The order in which fields are looked for in a refusal, and how it may call them.
_NAMES = {
    "max_tokens": r"max_?(?:output_?)?tokens",
    "max_completion_tokens": r"max_?completion_?tokens",
    "top_logprobs": r"(?:top_?|response_?)?logprobs|log[- ]?prob\w*",
    "logprobs": r"(?:top_?|response_?)?logprobs|log[- ]?prob\w*",
    "response_format": r"response[_ ]?(?:format|schema|mime_?type)|json[_ ]?(?:schema|object|mode)|"
    r"structured[_ ]?outputs?|guided\w*|grammar",
    "temperature": r"temperature",
}
_UNKNOWN = re.compile(
    r"(?i)not (?:\w+ )?(?:support|permit|allow|implement|available|recogni)|unsupported|unrecogni|"
    r"unknown|unexpected|extra (?:inputs|fields?)|extra_forbidden|instead|does(?:n't| not) support|"
    r"disabled|deprecated|cannot be used|can't be used|no longer|no endpoints|reasoning models"
)
_TOO_FEW = re.compile(r"(?i)minimum|at least|below|greater than|>=?|could not finish")


class ChatForm:
    """What is sent with the messages.

    Args:
        mode: what the answer is to be read as.
        max_tokens: most tokens of an answer that is text.
        extra: the user's fields, which are sent as they are.
        omit: fields that are not sent.
    """

    def __init__(
        self,
        mode: Mode,
        *,
        max_tokens: int,
        extra: Mapping[str, Any],
        omit: Collection[str] = (),
    ) -> None:
        self._mode, self._long, self._extra = mode, max_tokens, dict(extra)
        form: dict[str, Any] = {"temperature": 0}
        if mode == "yes_no":
            form |= {"max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        else:
            form |= {"max_tokens": max_tokens, "response_format": _JSON_SCHEMA}
        if "max_completion_tokens" in extra:
            del form["max_tokens"]
        self._form = {k: v for k, v in form.items() if k not in omit and k not in extra}
        if mode == "yes_no" and "logprobs" in omit:
            self._without_logprobs()

    @property
    def has_logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return bool(self._form.get("logprobs") or self._extra.get("logprobs"))

    @property
    def max_tokens(self) -> int:
        """The limit of an answer's tokens, as far as it is known."""
        both = {**self._form, **self._extra}
        limit = both.get("max_tokens", both.get("max_completion_tokens", self._long))
        return limit if isinstance(limit, int) else self._long

    def body(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        """Write a request about a message's content."""
        if self._mode == "rubric" and not any(key in self._extra for key in _SHAPES):
            # In words, too: some servers take a schema and pay no attention to it.
            content = [*content, {"type": "text", "text": _AS_JSON}]
        return {"messages": [{"role": "user", "content": content}], **self._form, **self._extra}

    def learn(self, sent: Mapping[str, Any], said: str, *, param: str = "") -> str | None:
        """Take a refusal into account.

        Args:
            sent: the request that was refused.
            said: what the server said.
            param: the field that it names by itself; empty: none.

        Returns:
            What is different from now on, as a clause; empty: it was already, so that asking
            again is worth it; None: nothing can be done.
        """
        names = [name for name in _NAMES if name in sent and name not in self._extra]
        named = [name for name in names if param.split(".")[0] == name]
        named = named or [name for name in names if _mentions(said, name)]
        if len(named) > 2 and set(named) == {*self._form} & {*names}:
            return None  # it repeats the whole request, and means none of it
        for name in named:
            if name not in self._form or sent[name] != self._form[name]:
                return ""
            change = self._change(name, said)
            if change is not None:
                return change
        return None

    def _change(self, name: str, said: str) -> str | None:
        form, is_unknown = self._form, bool(_UNKNOWN.search(said))
        if name in ("max_tokens", "max_completion_tokens"):
            return self._change_limit(name, said, is_unknown=is_unknown)
        if name == "top_logprobs" and form[name] > FEW and not is_unknown:
            form[name] = FEW
            return f"top_logprobs is {FEW}"
        if name in ("top_logprobs", "logprobs"):
            return self._without_logprobs()
        if name == "response_format" and form[name] is _JSON_SCHEMA:
            form[name] = {"type": "json_object"}
            return "response_format is json_object"
        del form[name]
        if name == "temperature":
            return "temperature is left out, so that the same question may get another score"
        return f"{name} is left out"

    def _change_limit(self, name: str, said: str, *, is_unknown: bool) -> str | None:
        limit = self._form[name]
        if _TOO_FEW.search(said) and limit < LEAST:
            self._form[name] = LEAST
            return f"{name} is {LEAST}"
        if not is_unknown:
            return None  # too large for this model: the user's to decide
        del self._form[name]
        if name == "max_tokens":
            self._form["max_completion_tokens"] = limit
            return "max_completion_tokens stands for max_tokens"
        return f"{name} is left out"

    def _without_logprobs(self) -> str:
        for name in ("logprobs", "top_logprobs"):
            self._form.pop(name, None)
        for name in ("max_tokens", "max_completion_tokens"):
            if name in self._form:
                self._form[name] = self._long
        return "it gives no log-probabilities, so that the score is 1 for yes and 0 for no"


def _mentions(said: str, name: str) -> bool:
    return re.search(rf"(?i)(?<!\w)(?:{_NAMES[name]})(?!\w)", said) is not None

"""The text of an answer without what surrounds it, and the score in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.http.server_words import quoted, read_json
from ddrl.rewards.judge.chat import Answer

# How models open and close their reasoning when the server leaves it in the text.
_TAGS = "think|thinking|thought|reasoning|analysis"
_REASONING = re.compile(
    rf"<\s*({_TAGS})\s*>.*?<\s*/\s*\1\s*>|◁think▷.*?◁/think▷"
    r"|<\|channel\|>analysis.*?(?:<\|end\|>|(?=<\|channel\|>final))|\[THINK\].*?\[/THINK\]",
    re.DOTALL | re.IGNORECASE,
)
_CLOSED = re.compile(rf"<\s*/\s*(?:{_TAGS})\s*>|◁/think▷|\[/THINK\]", re.IGNORECASE)
_OPENED = re.compile(rf"<\s*(?:{_TAGS})\s*>|◁think▷|\[THINK\]", re.IGNORECASE)
_MARKS = re.compile(
    r"<\|[^|<>]{1,40}\|>(?:final|assistant)?(?:<\|message\|>)?|```[\w-]*|[*`#]|</?answer>"
)

# A number, perhaps with a comma for the point and "/10" behind it. "1,000" is not taken: it may be
# a thousand.
_NUMBER = (
    r"(?P<number>[-+\N{MINUS SIGN}]?\d+(?:[.]\d+|,\d{1,2})?)"
    r"(?:\s*(?:/|(?:out )?of|von|sur|de|su|van|av|из)\s*(?P<of>\d+(?:[.]\d+)?))?"
)
_END = r"(?![\w.,/%\N{EN DASH}-]*[\w/%])(?!\s*[\N{EN DASH}-]\s*\d)"  # no part, range or percentage
_WHOLE = re.compile(rf"{_NUMBER}\s*[.!]?")
_LABELS = (
    r"(?<!\w)(?:score|rating|rate (?:it|this)|give (?:it|this)(?: an?)?|note|bewertung|punktzahl|"
    r"puntuación|puntaje|pontuação|nota|punteggio|оценка)|评分|分数|得分|スコア|点数|점수"
)
_IS = r"[\"']?(?:\s*\([^()]*\))?\s*(?:is|of|ist|:|=|\uff1a|是|は|\s)\s*[\"']?\s*"
_LABELLED = re.compile(rf"(?i)(?:{_LABELS}){_IS}{_NUMBER}{_END}")
_SHARE = re.compile(rf"(?<![\d.,/]){_NUMBER}{_END}")
_MAX_TEXT = 100_000  # characters that are searched


def answer_text(answer: Answer, *, max_tokens: int) -> str:
    """Return what the model says after its reasoning.

    Args:
        answer: the first of a reply's choices.
        max_tokens: the limit that was asked for, for the message.

    Raises:
        ExchangeError: it was cut off, or there is no text.
    """
    message = answer["message"]
    text = _joined(message.get("content"))
    thoughts = _joined(message.get("reasoning_content") or message.get("reasoning"))
    said = _REASONING.sub(" ", text[:_MAX_TEXT])
    if closed := list(_CLOSED.finditer(said)):  # the prompt has opened it
        said = said[closed[-1].end() :]
    opened = _OPENED.search(said)
    if str(answer.get("finish_reason")).casefold() in ("length", "max_tokens"):
        where = " while it was reasoning" if opened or not said.strip() else ""
        raise ExchangeError(
            f"the answer was cut off at max_tokens = {max_tokens}{where}",
            hint="raise the option max_tokens",
        )
    if opened:
        raise ExchangeError(
            "the answer ends within its reasoning", hint="raise the option max_tokens"
        )
    if not said.strip() and thoughts.strip().startswith(("{", "```")):
        said = thoughts  # a server that takes the answer for reasoning
    if not said.strip():
        more = ", but reasoning" if text.strip() or thoughts.strip() else ""
        raise ExchangeError(f"the answer has no text{more}")
    return said.strip()


def rubric_score(answer: Answer, *, low: float, high: float, max_tokens: int) -> float:
    """Return the score in an answer, scaled from [low, high] to [0, 1].

    Reads a JSON object with ``score``, whatever surrounds it, else text that is a score or names
    one. A number may be text, ``7,5`` or ``7/10``.

    Raises:
        ExchangeError: there is none in this range, or there are several.
    """
    text = answer_text(answer, max_tokens=max_tokens)
    found = [_number(value, high) for value in _objects(text)] or _in_words(text, high)
    if not found:
        raise ExchangeError(f"the answer has no score: {quoted(text)!r}")
    if len(set(found)) > 1:
        several = " and ".join(f"{score:g}" for score in dict.fromkeys(found))
        raise ExchangeError(f"the answer has several scores: {quoted(several)}")
    score = found[0]
    if not low <= score <= high:  # NaN is not
        raise ExchangeError(
            f"the answer's score is {score:g}, which is not from {low:g} to {high:g}"
        )
    return (score - low) / (high - low)


def _joined(content: object) -> str:
    """Join the text of a message, which is text or a list of parts of which some are text."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if _is_text(part)]
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, int | float) and not isinstance(content, bool):
        return repr(content)
    return content if isinstance(content, str) else ""


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "output_text", None)


def _objects(text: str) -> list[object]:
    """Find the scores of all JSON objects in a text that have one."""
    try:
        whole = read_json(text)
    except ValueError:
        return [value for each in _decoded(text) for value in _scores(each)]
    return list(_scores(whole))


def _decoded(text: str) -> Iterator[object]:
    decoder, place = json.JSONDecoder(), text.find("{")
    for _ in range(100):
        if place < 0:
            return
        try:
            found, place = decoder.raw_decode(text, place)
            yield found
        except (ValueError, RecursionError):
            place += 1
        place = text.find("{", place)


def _scores(found: object) -> Iterator[object]:
    """Yield the value of ``score``, also from within an object or list around it."""
    for _ in range(3):
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if not isinstance(found, dict):
            return
        named = {str(key).strip().casefold(): value for key, value in found.items()}
        alike = [value for key, value in named.items() if "score" in key or key == "rating"]
        if "score" in named or len(alike) == 1:
            yield named.get("score", alike[0])
            return
        found = next(iter(found.values())) if len(found) == 1 else None


def _number(value: object, high: float) -> float:
    """Turn a score of JSON into a number."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            value = "a number of too many digits"
    match = _WHOLE.fullmatch(_MARKS.sub("", value).strip()) if isinstance(value, str) else None
    if match is None:
        raise ExchangeError(f"the answer's score is {quoted(repr(value))}, which is no number")
    return _value(match, high)


def _in_words(text: str, high: float) -> list[float]:
    """Find the scores of an answer that is no JSON: all of it is one, or it names them."""
    plain = _MARKS.sub("", text).strip()
    if match := _WHOLE.fullmatch(plain):
        return [_value(match, high)]
    if labelled := [_value(match, high) for match in _LABELLED.finditer(plain)]:
        return labelled
    shares = [match for match in _SHARE.finditer(plain) if "/" in match[0]]
    right = [match for match in shares if float(match["of"]) == high] or shares[:1]
    last = _WHOLE.fullmatch(plain.rpartition("\n")[2].strip())
    found = right or ([last] if last else [])
    return [_value(match, high) for match in found]


def _value(match: re.Match[str], high: float) -> float:
    if match["of"] and float(match["of"]) != high:
        raise ExchangeError(
            f"the answer's score is {quoted(match[0])!r}, which is not out of {high:g}"
        )
    number: Any = match["number"].replace(",", ".").replace("\N{MINUS SIGN}", "-")
    return float(number)

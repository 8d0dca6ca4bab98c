"""What servers of OpenAI's API answer to one question, and what comes of it."""

# Words of other alphabets stand here.
# ruff: noqa: RUF001

from __future__ import annotations

import email.utils
import gzip
import json
import math
import time

from tests.rewards.endpoint_behaviours import (
    YES,
    Behaviour,
    Said,
    at_first,
    choice,
    headed,
    refused,
    tokens,
)

THREE = json.dumps({"score": 3})
BUSY = refused("slow", status=429)
PAST = email.utils.formatdate(time.time() - 9)

TEXTS: dict[str, tuple[Said, float | str]] = {
    "fence": (choice(f"```json\n{THREE}\n```"), 0.3),
    "text-around": (choice(f"Here it is: {THREE}. I hope that helps {{you}}!"), 0.3),
    "thinking": (choice(f'<think>{{"score": 9}}, or 8/10?</think>\n{THREE}'), 0.3),
    "thinking-closed": (choice(f'I would say {{"score": 9}}</think>{THREE}'), 0.3),
    "thinking-tags": (choice(f"<reasoning>Score: 9</reasoning> {THREE}"), 0.3),
    "thinking-kimi": (choice(f"◁think▷Score: 9◁/think▷{THREE}"), 0.3),
    "thinking-mistral": (choice(f"[THINK]Score: 9[/THINK]{THREE}"), 0.3),
    "channels": (
        choice(f"<|channel|>analysis<|message|>9/10?<|end|><|channel|>final<|message|>{THREE}"),
        0.3,
    ),
    "thinking-open": (choice('<think>I would say {"score": 9}'), "ends within its reasoning"),
    "reasoning-beside": (
        choice(None, message={"content": THREE, "reasoning_content": '{"score": 9}'}),
        0.3,
    ),
    "reasoning-alone": (choice(None, message={"content": None, "reasoning": THREE}), 0.3),
    "reasoning-only": (
        choice(None, message={"content": "", "reasoning_content": "Hm, 9/10."}),
        "has no text, but reasoning",
    ),
    "parts": (
        choice([{"type": "thinking", "thinking": "9/10"}, {"type": "text", "text": THREE}]),
        0.3,
    ),
    "text-number": (choice('{"score": "3"}'), 0.3),
    "text-share": (choice('{"score": "3/10"}'), 0.3),
    "comma": (choice('{"score": "3,5"}'), 0.35),
    "comma-alone": (choice("3,5"), 0.35),
    "thousands": (choice('{"score": "3,000"}'), "'3,000'.*no number"),
    "alone": (choice("3"), 0.3),
    "share": (choice("I give it **3/10**."), 0.3),
    "number": (choice(3), 0.3),
    "last-line": (choice("Two of the 9 dogs are missing.\n\n**3**"), 0.3),
    "rated": (choice("I rate it 3 out of 10."), 0.3),
    "labelled-range": (choice("Score (0-10): 3"), 0.3),
    "labelled-de": (choice("Bewertung: 3 von 10"), 0.3),
    "labelled-zh": (choice("墙是红色的。评分：3"), 0.3),
    "other-key": (choice('{"final_score": 3, "reason": "x"}'), 0.3),
    "several-keys": (choice('{"colour_score": 9, "score": 3}'), 0.3),
    "a-fraction": (choice("1/2 of the wall is red: 3/10"), 0.3),
    "spaced-range": (choice("Score: 3 - 4"), "has no score"),
    "a-share-of": (choice("2 of 10 dogs are missing."), "has no score"),
    "out-of": (choice("3 out of 10."), 0.3),
    "labelled": (choice("Reason: 2 dogs are missing.\n**Score:** 3"), 0.3),
    "capital": (choice('{"Score": 3.0, "Reason": "x"}'), 0.3),
    "nested": (choice('{"judgement": {"score": 3}}'), 0.3),
    "in-a-list": (choice('[{"score": 3}]'), 0.3),
    "python": (choice("{'reason': 'x', 'score': 3}"), 0.3),
    "trailing-comma": (choice('{"reason": "x", "score": 3,}'), 0.3),
    "twice-the-same": (choice(f"{THREE}\n{THREE}"), 0.3),
    "twice": (choice(f'{THREE} or {{"score": 9}}'), "several scores: 3 and 9"),
    "of-five": (choice("4/5"), "'4/5'.*not out of 10"),
    "range": (choice("Score: 7-8"), "has no score"),
    "percent": (choice("70%"), "has no score"),
    "a-count": (choice("There are 3 dogs."), "has no score"),
    "above": (choice('{"score": 11}'), "is 11, which is not from 0 to 10"),
    "below": (choice("Score: -1"), "is -1, which is not from 0 to 10"),
    "huge": (choice('{"score": 1' + "0" * 400 + "}"), "too many digits|not from 0 to 10"),
    "cut": (choice('{"score": 1', finish_reason="length"), "cut off at max_tokens = 512$"),
    "cut-thinking": (
        choice(None, finish_reason="length", message={"reasoning_content": "Hm", "content": ""}),
        "cut off at max_tokens = 512 while it was reasoning",
    ),
    "refusal": (
        choice(None, message={"content": None, "refusal": "I can't"}),
        "refused: \"I can't",
    ),
    "filter": (choice("", finish_reason="content_filter"), "refused: 'content filter'"),
    "filter-400": (refused("policy", code="content_filter"), "the judge refused: 'policy'"),
    "page": ((200, b"<html>Log in</html>", {}), "the reply is no JSON: '<html>"),
    "events": ((200, b'data: {"choices": []}\n\n', {}), "the reply is no JSON: 'data:"),
    "empty": ((200, b"", {}), "the reply is no JSON: ''"),
    "brotli": ((200, b"x", {"content-encoding": "br"}), r"compressed \(br\)"),
    "bomb": (
        (200, gzip.compress(b" " * (5 << 20)), {"content-encoding": "gzip"}),
        "larger than the limit",
    ),
    "gzip": (
        (200, gzip.compress(json.dumps(choice(THREE)[1]).encode()), {"content-encoding": "gzip"}),
        0.3,
    ),
    "error-200": ((200, {"error": {"code": 402, "message": "no credit"}}, {}), "answered 402"),
    "error-choice": ((200, {"choices": [{"error": {"code": 400, "message": "bad"}}]}, {}), "'bad'"),
    "quota": (refused("pay first", status=429, code="insufficient_quota"), "answered 429: 'pay"),
    "moved": (
        (308, b"", {"location": "http://127.0.0.1:1/"}),
        "308 .it moved to .http://127.0.0.1:1/.; no redirect",
    ),
}

WAITS = {
    "seconds": Behaviour(at_first(headed(BUSY, retry_after="0.15")), 0.75, {}, 2),
    "milliseconds": Behaviour(at_first(headed(BUSY, retry_after_ms="150")), 0.75, {}, 2),
    "unavailable": Behaviour(
        at_first(headed(refused("loads", status=503), retry_after="0.15"), 2), 0.75, {}, 3
    ),
}

PASSES = {
    "nonsense": Behaviour(at_first(headed(BUSY, retry_after="soon")), 0.75, {}, 2),
    "past": Behaviour(
        at_first(headed(BUSY, retry_after=PAST)),
        0.75,
        {},
        2,
    ),
    "negative": Behaviour(at_first(headed(BUSY, retry_after="-5")), 0.75, {}, 2),
    "conflict": Behaviour(at_first(refused("x", status=409)), 0.75, {}, 2),
    "overloaded": Behaviour(at_first(refused("x", status=529), 2), 0.75, {}, 3),
    "error-in-200": Behaviour(
        at_first((200, {"error": {"code": 502, "message": "upstream"}}, {})), 0.75, {}, 2
    ),
    "always": Behaviour(at_first(refused("slow", status=429), 99), "answered 429: 'slow'", {}, 3),
    "too-late": Behaviour(
        at_first(headed(BUSY, retry_after="3600"), 99),
        r"answered 429: 'slow'; waiting another 3\.6e\+03 s would pass the deadline of 600 s",
    ),
}

LANGUAGES = {
    "de": ("Ja", "Nein"),
    "fr": ("Oui", "non"),
    "es": ("Sí", "No"),
    "it": ("sì", "no"),
    "pt": ("Sim", "Não"),
    "nl": ("ja", "nee"),
    "ru": ("Да", "нет"),
    "uk": ("так", "ні"),
    "pl": ("Tak", "Nie"),
    "tr": ("Evet", "Hayır"),
    "zh": ("是", "不"),
    "ja": ("はい", "いいえ"),
    "ko": ("네", "아니요"),
    "hi": ("हाँ", "नहीं"),
    "ar": ("نعم", "لا"),
    "vi": ("Có", "Không"),
    "el": ("Ναι", "Όχι"),
    "he": ("כן", "לא"),
    "th": ("ใช่", "ไม่"),
    "sv": ("▁Ja", "Ġnej"),
}

LEGACY = {"top_logprobs": [{"Yes": math.log(0.6), "No": math.log(0.2)}]}

WORDS: dict[str, tuple[Said, float | str]] = {
    "legacy": (choice("Yes", logprobs=LEGACY), 0.75),
    "behind-reasoning": (tokens(YES, "<think>", "no", "</think>", "\n\n"), 0.75),
    "reasoning-first": (tokens({"<think>": 1.0}), "neither yes nor no; it begins with '<think>'"),
    "ignored": (choice("Yes"), "without the log-probabilities"),
}

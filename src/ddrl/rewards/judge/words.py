"""Yes and no in many languages: words of an answer, or log-probabilities of its first token."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.http.server_words import quoted
from ddrl.rewards.judge.chat import Answer
from ddrl.rewards.judge.text import answer_text

# What answers a question in a language; whole words, since a first token may begin a longer one.
# Their letters look like others to a linter.
# ruff: noqa: RUF001
_YES = (
    "yes yeah yep ja oui si sì sí sim da да так tak ano áno igen evet kyllä joo taip ναι có ya "
    "iya ndiyo हाँ हां जी হ্যাঁ ஆம் అవును نعم أجل بله بلی ہاں כן ใช่ "
    "是 是的 对 對 はい ええ うん 네 예 true correct"
)
_NO = (
    "no nope nein non não nao nee nej nei nie nem ne нет ні не όχι hayır hayir ei không tidak "
    "hapana नहीं नही না இல்லை కాదు لا كلا نه خیر نہیں לא ไม่ ไม่ใช่ "
    "不 不是 否 没有 沒有 いいえ いえ いや 아니요 아니오 아뇨 아니 false incorrect"
)
_SPACES = "▁Ġ"  # how two kinds of tokenizer write a space
_BETWEEN = re.compile(r"[\s,.;:!?，。、！？；：…*\"'“”„«»()]+")
_THINKING = re.compile(r"<\s*/?\s*(?:think|thinking|thought|reasoning)\b|<\|channel\|>|◁think▷")
_HINT = 'ask a model that reasons by mode = "rubric", or switch that off with the option extra_body'


class YesNo:
    """What counts as yes and as no.

    Args:
        yes: further words for yes.
        no: further words for no.
        min_mass: least probability of yes and no together; below, there is no answer.

    Raises:
        ValueError: a word means both, or is none.
    """

    def __init__(
        self, yes: Iterable[str] = (), no: Iterable[str] = (), min_mass: float = 0.1
    ) -> None:
        self._min_mass = min_mass
        own_yes, own_no = ({_word(one) for one in given} for given in (yes, no))
        if "" in own_yes | own_no or own_yes & own_no:
            raise ValueError("yes and no are lists of words, and no word stands in both")
        self._yes = (set(map(_word, _YES.split())) - own_no) | own_yes
        self._no = (set(map(_word, _NO.split())) - own_yes) | own_no

    def share(self, answer: Answer) -> float:
        """P(yes) / (P(yes) + P(no)) of the first token, each summed over all spellings.

        Raises:
            ExchangeError: the log-probabilities are missing or wrong, or it is neither.
        """
        tokens = _first_token(answer)
        if any(math.isnan(logprob) or logprob > 1e-3 for _, logprob in tokens):
            raise ExchangeError("a log-probability of the answer is NaN or above 0")
        yes = no = 0.0
        for token, logprob in tokens:
            word = _word(token)
            if word in self._yes:
                yes += math.exp(logprob)
            elif word in self._no:
                no += math.exp(logprob)
        if yes + no < self._min_mass:
            likeliest = max(tokens, key=lambda each: each[1])[0] if tokens else ""
            is_thinking = bool(_THINKING.search(likeliest))
            raise ExchangeError(
                f"the answer is neither yes nor no; it begins with {quoted(likeliest)!r}",
                hint=_HINT if is_thinking else "",
            )
        return yes / (yes + no)

    def said(self, answer: Answer, *, max_tokens: int) -> float:
        """Return 1 for an answer that says yes and 0 for no, without log-probabilities.

        Raises:
            ExchangeError: it says neither, or both.
        """
        text = answer_text(answer, max_tokens=max_tokens)
        words = [word for part in _BETWEEN.split(text) if (word := _word(part))]
        found = [self._meaning(word) for word in (words[:1] + words[-1:])]
        if words and found[0] is not None:
            return found[0]
        if not words or found[1] is None:
            raise ExchangeError(f"the answer is neither yes nor no: {quoted(text)!r}")
        return found[1]

    def _meaning(self, word: str) -> float | None:
        return 1.0 if word in self._yes else 0.0 if word in self._no else None


def _word(text: str) -> str:
    """Strip a word to its letters and their marks, in one case."""
    text = unicodedata.normalize("NFC", text.strip(_SPACES).casefold())
    return "".join(letter for letter in text if unicodedata.category(letter)[0] in "LMN")


def _first_token(answer: Answer) -> list[tuple[str, float]]:
    """Return the likeliest first tokens of the answer proper, each with its log-probability."""
    try:
        logprobs = answer["logprobs"]
        content = logprobs.get("content")
        if content is None:  # the older form, a dictionary for each token
            top: Any = logprobs["top_logprobs"][0]
            return [(str(token), float(value)) for token, value in top.items()]
        place = _begin([str(each.get("token", "")) for each in content])
        top = content[place]["top_logprobs"]
        return [(str(each["token"]), float(each["logprob"])) for each in top]
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        raise ExchangeError(
            "the answer comes without the log-probabilities of its first token (top_logprobs)",
            hint='set mode = "auto", which asks for what the endpoint has, or mode = "rubric"',
        ) from None


def _begin(tokens: Sequence[str]) -> int:
    """Find where the answer begins: after its reasoning and empty lines, if it goes on there."""
    ends = [place for place, token in enumerate(tokens) if re.search(r"</\s*think", token)]
    place = ends[-1] + 1 if ends else 0
    while place + 1 < len(tokens) and not tokens[place].strip():
        place += 1
    return place if place < len(tokens) else 0

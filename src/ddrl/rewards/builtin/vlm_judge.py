"""A vision-language model as the judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import math
import os
import re
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.chat import Answer, ChatEndpoint, Failure, picture_part
from ddrl.rewards.frames import sample_frames
from ddrl.rewards.server_words import quoted, read_json

__all__ = ["VlmJudge", "rubric_score", "yes_share"]

Mode = Literal["yes_no", "rubric"]

YES_NO = 'Does this show "{prompt}", with everything that is asked for? Answer with yes or no.'
RUBRIC = (
    'How well does this show "{prompt}"? Name what is missing or wrong in one sentence, then give '
    "a score from {low} (nothing of it) to {high} (everything, without a fault)."
)
_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "number"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
_FIELD = re.compile(r"\{(\w*)\}")
_NO_LETTERS = re.compile(r"[\W_▁Ġ]+")  # with the marks of a space of two kinds of tokenizer


class VlmJudge:
    """What a vision-language model answers to a question about picture and prompt, in [0, 1].

    ``yes_no``: P(yes) / (P(yes) + P(no)) of the first token of the answer, each summed over all
    spellings among the 20 likeliest tokens. ``rubric``: the number in the answer, a JSON object
    that follows a schema, from ``low`` to ``high``, scaled to [0, 1].

    Args:
        url: of the API of vLLM, a llama.cpp server or any other, usually ending in ``/v1``.
        model: which of its models; empty: the only one that it lists.
        mode: how the answer becomes a number.
        question: what is asked; ``{prompt}`` stands for the prompt, ``{low}`` and ``{high}`` for
            the ends of the rubric. Empty: a question about how well the prompt is followed.
        low: score of the rubric that becomes 0.
        high: score of the rubric that becomes 1.
        frames: frames of a clip that are shown, as pictures of one question.
        token_env: environment variable that holds the token; empty: none is sent.
        concurrency: questions under way at once.
        timeout: seconds that one attempt may take.
        attempts: how often a question is asked when the endpoint is busy or breaks off, after
            1, 2, 4, ... times ``pause`` seconds.
        pause: seconds before the second attempt.
        min_mass: ``yes_no``: least probability of yes and no together; below, there is no answer.
        max_tokens: ``rubric``: of the answer.

    Raises:
        RewardError: httpx is not installed, an option is wrong, or no model can be found out.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="pictures that a vision-language model says yes to, or gives a high score",
        range="[0, 1]",
        prompt="all of it, as the question quotes it; with a question of your own as you write it",
        hacks="text in the picture that tells the judge what to answer; whatever the judge can't "
        "see or count. The prompt is part of the question: one that gives orders may be obeyed. "
        "Reported: probabilities near 0 and 1, which tell the samples of a group little apart",
        cost="one request per sample, with a PNG per frame: `yes_no` one token, `rubric` up to "
        "`max_tokens`",
        license="of the model behind the endpoint",
        weights="option `url`: an endpoint that you run or pay for",
        modules=("httpx",),
        extra="remote",
    )

    def __init__(
        self,
        *,
        url: str,
        model: str = "",
        mode: Mode = "yes_no",
        question: str = "",
        low: float = 0.0,
        high: float = 10.0,
        frames: int = 4,
        token_env: str = "",
        concurrency: int = 8,
        timeout: float = 60.0,
        attempts: int = 3,
        pause: float = 1.0,
        min_mass: float = 0.1,
        max_tokens: int = 512,
    ) -> None:
        if min(frames, concurrency, attempts, max_tokens) < 1:
            raise ValueError("frames, concurrency, attempts and max_tokens must be at least 1")
        if not (0 < timeout < math.inf and 0 <= pause < math.inf and 0 < min_mass <= 1):
            raise ValueError("timeout must be above 0, pause at least 0, min_mass in (0, 1]")
        if not -math.inf < low < high < math.inf:
            raise ValueError("low must be less than high")
        question = question or (YES_NO if mode == "yes_no" else RUBRIC)
        if unknown := set(_FIELD.findall(question)) - {"prompt", "low", "high"}:
            raise ValueError(
                f"question has {{{sorted(unknown)[0]}}}; it may have {{prompt}}, {{low}}, {{high}}"
            )
        self.card.require("vlm_judge")
        self._mode, self._question, self._frames = mode, question, frames
        self._low, self._high, self._min_mass = low, high, min_mass
        self._max_tokens, self._token_env = max_tokens, token_env
        self._endpoint = ChatEndpoint(
            url,
            model=model,
            token=_token(token_env),
            timeout=timeout,
            attempts=attempts,
            concurrency=concurrency,
            pause=pause,
        )

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite.

        Raises:
            SampleError: some samples have no answer, or none that can be used.
            RewardError: the endpoint can't be reached at all, or refuses every question.
        """
        frames = sample_frames(media, self._frames).detach().cpu()
        rows = [i for i in range(len(frames)) if bool(frames[i].isfinite().all())]
        questions = [self._request(frames[i], prompts.text[i]) for i in rows]
        answers = self._endpoint.ask_all(questions, self._read)
        failures = {
            i: answer
            for i, answer in zip(rows, answers, strict=True)
            if isinstance(answer, Failure)
        }
        if rows and len(failures) == len(rows):
            self._check_reachable(next(iter(failures.values())), failures)
        value = torch.full((len(frames),), torch.nan)
        for i, answer in zip(rows, answers, strict=True):
            if not isinstance(answer, Failure):
                value[i] = answer
        if failures:
            raise SampleError(value, {i: failure.cause for i, failure in failures.items()})
        return value

    def _check_reachable(self, first: Failure, failures: dict[int, Failure]) -> None:
        if all(failure.down for failure in failures.values()):
            raise RewardError(
                f"The judge has no answer: {first.cause}.", hint="is the endpoint running?"
            )
        if all(failure.refused for failure in failures.values()):
            raise RewardError(
                f"{self._endpoint.url} refuses every question: {first.cause}.",
                hint="check the options url and model, and token_env"
                + (f" (now {self._token_env})" if self._token_env else " (now no token is sent)"),
            )

    def _request(self, frames: Tensor, prompt: str) -> dict[str, Any]:
        """The body of a request about the frames of one sample, shape (F, 3, H, W)."""
        values = {"prompt": prompt, "low": f"{self._low:g}", "high": f"{self._high:g}"}
        text = _FIELD.sub(lambda field: values[field[1]], self._question)
        if len(frames) > 1:
            text = f"These are {len(frames)} frames of one video, in their order. {text}"
        content = [*map(picture_part, frames), {"type": "text", "text": text}]
        body: dict[str, Any] = {"messages": [{"role": "user", "content": content}]}
        body["temperature"] = 0
        if self._mode == "yes_no":
            return {**body, "max_tokens": 1, "logprobs": True, "top_logprobs": 20}
        schema = {"name": "judgement", "strict": True, "schema": _SCHEMA}
        form = {"type": "json_schema", "json_schema": schema}
        return {**body, "max_tokens": self._max_tokens, "response_format": form}

    def _read(self, answer: Answer) -> float:
        if self._mode == "yes_no":
            return yes_share(answer, min_mass=self._min_mass)
        return rubric_score(answer, low=self._low, high=self._high)


def yes_share(answer: Answer, *, min_mass: float) -> float:
    """P(yes) / (P(yes) + P(no)) of the first token.

    Raises:
        Failure: the log-probabilities are missing or wrong, or it is neither.
    """
    try:
        top = answer["logprobs"]["content"][0]["top_logprobs"]
        tokens = [(str(each["token"]), float(each["logprob"])) for each in top]
    except (LookupError, TypeError, ValueError, OverflowError):
        raise Failure(
            "the answer comes without the log-probabilities of its first token (top_logprobs)"
        ) from None
    if any(math.isnan(logprob) or logprob > 1e-3 for _, logprob in tokens):
        raise Failure("a log-probability of the answer is NaN or above 0")
    mass = {"yes": 0.0, "no": 0.0}
    for token, logprob in tokens:
        word = _NO_LETTERS.sub("", token).casefold()
        if word in mass:
            mass[word] += math.exp(logprob)
    both = sum(mass.values())
    if both < min_mass:
        likeliest = max(tokens, key=lambda each: each[1])[0] if tokens else ""
        raise Failure(f"the answer is neither yes nor no; it begins with {quoted(likeliest)!r}")
    return mass["yes"] / both


def rubric_score(answer: Answer, *, low: float, high: float) -> float:
    """The score in the answer's JSON, scaled from [low, high] to [0, 1].

    Raises:
        Failure: there is none in this range.
    """
    if answer.get("finish_reason") == "length":
        raise Failure("the answer was cut off at max_tokens")
    content = answer["message"].get("content")
    try:
        score = read_json(content)["score"]
    except (LookupError, TypeError, ValueError):
        raise Failure(f"the answer is not the JSON asked for: {quoted(content)!r}") from None
    if isinstance(score, bool) or not isinstance(score, int | float):
        raise Failure(f"the answer's score is {quoted(repr(score))}, which is no number")
    if not low <= score <= high:  # NaN is not
        raise Failure(
            f"the answer's score is {quoted(repr(score))}, which is not from {low:g} to {high:g}"
        )
    return (score - low) / (high - low)


def _token(variable: str) -> str:
    if not variable:
        return ""
    if token := os.environ.get(variable, "").strip():
        return token
    raise RewardError(
        f"The environment variable {variable} is not set, which holds the judge's token.",
        hint="set it, or leave the option token_env out if the endpoint needs none",
    )

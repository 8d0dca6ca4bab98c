"""A vision-language model as the judge, behind any OpenAI-compatible endpoint."""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import sample_frames
from ddrl.rewards.http.client import ExchangeError
from ddrl.rewards.http.retry import Patience
from ddrl.rewards.http.server_words import read_token
from ddrl.rewards.judge.chat import Answer, ChatEndpoint, Content, picture_part
from ddrl.rewards.judge.form import FIELDS, ChatForm, Mode
from ddrl.rewards.judge.text import rubric_score
from ddrl.rewards.judge.words import YesNo

logger = logging.getLogger(__name__)

QUESTIONS: dict[Mode, str] = {
    "yes_no": 'Does this show "{prompt}", with everything that is asked for? '
    "Answer with yes or no.",
    "rubric": 'How well does this show "{prompt}"? Name what is missing or wrong in one sentence, '
    "then give a score from {low} (nothing of it) to {high} (everything, without a fault).",
}
_FIELD = re.compile(r"\{(\w*)\}")
_NOT_EXTRA = ("messages", "model", "stream")
_PROBED = "a red wall"
_NO_PICTURES = re.compile(r"(?i)image|vision|multi-?modal|picture|content type|must be a string")


class VlmJudge:
    """What a vision-language model answers to a question about picture and prompt, in [0, 1].

    ``yes_no``: P(yes) / (P(yes) + P(no)) of the first token of the answer, each summed over all
    spellings among the 20 likeliest tokens, in many languages. ``rubric``: the number in the
    answer, a JSON object that follows a schema, from ``low`` to ``high``, scaled to [0, 1].
    ``auto``: a red picture is asked about first, and it is ``yes_no`` where the endpoint gives
    log-probabilities and else ``rubric``; the log says which.

    Args:
        url: address of the API of vLLM, a llama.cpp server or any other, usually ending in ``/v1``.
        model: which of its models is asked; empty: the only one that it lists.
        mode: how the answer becomes a number.
        question: what is asked; ``{prompt}`` stands for the prompt, ``{low}`` and ``{high}`` for
            the ends of the rubric. Empty: a question about how well the prompt is followed.
        low: score of the rubric that becomes 0.
        high: score of the rubric that becomes 1.
        frames: how many frames of a clip are shown, as pictures of one question.
        token_env: environment variable that holds the token; empty: none is sent.
        concurrency: questions under way at once.
        timeout: seconds that one attempt may take.
        attempts: how often a question is asked when the endpoint is busy or breaks off, after
            1, 2, 4, ... times ``pause`` seconds, or as long as the endpoint asks to wait.
        pause: seconds before the second attempt.
        deadline: seconds that a question may take with all attempts and pauses.
        min_mass: ``yes_no``: least probability of yes and no together; below, there is no answer.
        max_tokens: ``rubric``: most tokens of the answer, its reasoning included.
        extra_body: a table of fields that are added to every request, such as ``top_k``, or
            ``chat_template_kwargs`` of vLLM; they stand in place of ddrl's own.
        omit: a list of fields that are not sent: ``temperature``, ``max_tokens``, ``logprobs``,
            ``top_logprobs``, ``response_format``.
        yes: a list of further words for yes.
        no: a list of further words for no.
        ca_file: file of the certificates to trust, in PEM format; empty: the one of SSL_CERT_FILE,
            else the usual ones.

    Raises:
        RewardError: httpx is not installed, an option is wrong, no model can be found out, or
            ``auto`` finds nothing that the endpoint can do.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="pictures that a vision-language model says yes to, or gives a high score",
        range="[0, 1]",
        prompt="all of it, as the question quotes it; with a question of your own as you write it",
        hacks="text in the picture that tells the judge what to answer; whatever the judge can't "
        "see or count. The prompt is part of the question: one that gives orders may be obeyed. "
        "Reported: probabilities near 0 and 1, which hardly tell the samples of a group from each "
        "other",
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
        mode: Literal["yes_no", "rubric", "auto"] = "yes_no",
        question: str = "",
        low: float = 0.0,
        high: float = 10.0,
        frames: int = 4,
        token_env: str = "",
        concurrency: int = 8,
        timeout: float = 60.0,
        attempts: int = 3,
        pause: float = 1.0,
        deadline: float = 600.0,
        min_mass: float = 0.1,
        max_tokens: int = 512,
        extra_body: Mapping[str, Any] = MappingProxyType({}),
        omit: Sequence[str] = (),
        yes: Sequence[str] = (),
        no: Sequence[str] = (),
        ca_file: str = "",
    ) -> None:
        if min(frames, concurrency, max_tokens) < 1:
            raise ValueError("frames, concurrency and max_tokens must be at least 1")
        if not (0 < timeout < math.inf and 0 < min_mass <= 1):
            raise ValueError("timeout must be above 0, min_mass in (0, 1]")
        if not -math.inf < low < high < math.inf:
            raise ValueError("low must be less than high")
        if unknown := set(_FIELD.findall(question)) - {"prompt", "low", "high"}:
            raise ValueError(
                f"question has {{{sorted(unknown)[0]}}}; it may have {{prompt}}, {{low}}, {{high}}"
            )
        self.card.require("vlm_judge")
        self._question, self._frames, self._low, self._high = question, frames, low, high
        self._max_tokens, self._token_env = max_tokens, token_env
        self._extra, self._omit = _checked_fields(extra_body, omit)
        self._words = YesNo(yes, no, min_mass)
        self._endpoint = ChatEndpoint(
            url,
            model=model,
            token=read_token(token_env),
            patience=Patience(attempts, pause, deadline, timeout),
            concurrency=concurrency,
            ca_file=ca_file,
        )
        self.settled: dict[str, object] = {}
        if mode == "auto":
            self._mode, self._form = self._choose()
            self.settled["mode"] = self._mode
        else:
            self._mode, self._form = mode, self._new_form(mode)

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite.

        Raises:
            SampleError: some samples have no answer, or none that can be used.
            RewardError: the endpoint can't be reached at all, or refuses every question.
        """
        frames = sample_frames(media, self._frames).detach().cpu()
        rows = [i for i in range(len(frames)) if bool(frames[i].isfinite().all())]
        questions = [self._content(self._mode, frames[i], prompts.text[i]) for i in rows]
        read = self._reader(self._mode, self._form)
        answers = self._endpoint.ask_all(questions, self._form, read)
        value, failures = torch.full((len(frames),), torch.nan), dict[int, ExchangeError]()
        for i, answer in zip(rows, answers, strict=True):
            if isinstance(answer, ExchangeError):
                failures[i] = answer
            else:
                value[i] = answer
        if rows and len(failures) == len(rows):
            self._check_reachable(list(failures.values()))
        if failures:
            hint = next((each.hint for each in failures.values() if each.hint), "")
            causes = {i: failure.cause for i, failure in failures.items()}
            raise SampleError(value, causes, hint=hint)
        return value

    def _new_form(self, mode: Mode) -> ChatForm:
        return ChatForm(mode, max_tokens=self._max_tokens, extra=self._extra, omit=self._omit)

    def _choose(self) -> tuple[Mode, ChatForm]:
        """Find out what the endpoint can do, by a question about a red picture in each mode."""
        picture = torch.zeros(1, 3, 64, 64)
        picture[:, 0] = 1.0
        failures = []
        for mode in QUESTIONS:
            form = self._new_form(mode)
            content = self._content(mode, picture, _PROBED, question=QUESTIONS[mode])
            read = self._reader(mode, form)
            (found,) = self._endpoint.ask_all([content], form, read)
            if mode == "yes_no" and not form.has_logprobs:
                found = ExchangeError("it gives no log-probabilities")
            if not isinstance(found, ExchangeError):
                logger.info(
                    "%s is asked with mode = %r, by what it can do; a red picture scores %.3g as "
                    "%r%s",
                    self._endpoint.url,
                    mode,
                    found,
                    _PROBED,
                    ", so that it may not see pictures" if found < 0.5 else "",
                )
                return mode, form
            failures.append(found)
            self._check_reachable([found])
        causes = "; ".join(
            f"{mode}: {each.cause}" for mode, each in zip(QUESTIONS, failures, strict=True)
        )
        blind = all(_NO_PICTURES.search(each.cause) for each in failures)
        what = "takes no pictures" if blind else "gives no score in any mode"
        raise RewardError(
            f"{self._endpoint.url} {what}: {causes}.",
            hint="name a vision-language model with the option model"
            if blind
            else failures[-1].hint,
        )

    def _check_reachable(self, failures: Sequence[ExchangeError]) -> None:
        """See whether an endpoint that has answered nothing would answer something else."""
        first = failures[0]
        if all(failure.down for failure in failures):
            raise RewardError(
                f"The judge has no answer: {first.cause}.", hint="is the endpoint running?"
            )
        if all(failure.refused for failure in failures):
            now = f"now {self._token_env}" if self._token_env else "now no token is sent"
            raise RewardError(
                f"{self._endpoint.url} refuses every question: {first.cause}.",
                hint=first.hint.replace("token_env", f"token_env ({now})"),
            )

    def _content(self, mode: Mode, frames: Tensor, prompt: str, *, question: str = "") -> Content:
        """Write the question about the frames of one sample, shape (F, 3, H, W)."""
        values = {"prompt": prompt, "low": f"{self._low:g}", "high": f"{self._high:g}"}
        question = question or self._question or QUESTIONS[mode]
        text = _FIELD.sub(lambda field: values[field[1]], question)
        if len(frames) > 1:
            text = f"These are {len(frames)} frames of one video, in their order. {text}"
        return [*map(picture_part, frames), {"type": "text", "text": text}]

    def _reader(self, mode: Mode, form: ChatForm) -> Callable[[Answer], float]:
        """Return the function that turns an answer to a request of this form into a score."""

        def read(answer: Answer) -> float:
            if mode == "rubric":
                return rubric_score(
                    answer, low=self._low, high=self._high, max_tokens=form.max_tokens
                )
            if form.has_logprobs:
                return self._words.share(answer)
            return self._words.said(answer, max_tokens=form.max_tokens)

        return read


def _checked_fields(
    extra: Mapping[str, Any], omit: Sequence[str]
) -> tuple[Mapping[str, Any], Sequence[str]]:
    """Check the user's fields of a request and return them."""
    if taken := [name for name in _NOT_EXTRA if name in extra]:
        raise ValueError(f"extra_body can't hold {taken[0]}")
    if unknown := [name for name in omit if name not in FIELDS]:
        raise ValueError(f"omit names {unknown[0]!r}; it may name {', '.join(FIELDS)}")
    try:
        json.dumps(dict(extra), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"extra_body can't be sent as JSON: {error}") from None
    return extra, omit

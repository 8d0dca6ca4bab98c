"""Questions about pictures to an OpenAI-compatible chat endpoint, several at a time."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from PIL import Image
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.rewards.frames import as_bytes
from ddrl.rewards.http.client import Answered, ExchangeError, send
from ddrl.rewards.http.retry import NoAnswerError, Patience
from ddrl.rewards.http.server_words import check_url, quoted
from ddrl.rewards.http.servers import Servers
from ddrl.rewards.judge.errors import RefusedError, first_choice, parsed
from ddrl.rewards.judge.form import ChatForm

logger = logging.getLogger(__name__)

MAX_REPLY = 4 << 20

MAX_LESSONS = 8
"""Refusals of one question that may teach a form."""

Answer = dict[str, Any]
"""The first of a reply's choices."""

Content = list[dict[str, Any]]
"""The parts of a message: pictures and text."""


class ChatEndpoint:
    """Asks ``{url}/chat/completions``.

    Args:
        url: address of the API, usually up to and with ``/v1``.
        model: which of its models is asked; empty: the only one that it lists.
        token: sent as a bearer token; empty: none.
        patience: how often, and how long, a question is asked when the endpoint is busy or breaks
            off.
        concurrency: questions under way at once.
        ca_file: certificates to trust; see :func:`~ddrl.rewards.http.client.make_client`.

    Raises:
        ValueError: the url is no address, or holds a password.
        RewardError: no model is named and the endpoint does not list exactly one; a proxy or the
            file can't be used.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        token: str = "",
        patience: Patience,
        concurrency: int = 8,
        ca_file: str = "",
    ) -> None:
        check_url(url)
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self._servers = Servers(
            [self.url],
            content_type="application/json",
            token=token,
            connections=concurrency,
            patience=patience,
            ca_file=ca_file,
        )
        self._has_answered = False
        self.model = model or self._only_model()

    def ask_all(
        self,
        questions: Sequence[Content],
        form: ChatForm,
        read: Callable[[Answer], float],
    ) -> list[float | ExchangeError]:
        """Ask every question and read its answer; a list in the order of the questions.

        Until the endpoint has answered for the first time it is asked one question alone, so that
        it refuses what it does not take once and not for every question.

        Args:
            questions: the contents of messages.
            form: of the requests; it learns from refusals.
            read: makes a number of an answer, or raises :class:`ExchangeError`.
        """
        calls = [partial(self._ask, question, form, read) for question in questions]
        first = 0 if self._has_answered else 1
        return [*self._servers.gather(calls[:first]), *self._servers.gather(calls[first:])]

    async def _ask(
        self, question: Content, form: ChatForm, read: Callable[[Answer], float]
    ) -> float | ExchangeError:
        async def ask(url: str, timeout: float) -> Answer:
            return await self._ask_in_form(url, question, form, timeout)

        try:
            answer = await self._servers.persist(ask)
            self._has_answered = True
            return read(answer)
        except NoAnswerError as error:
            return self._why(error)
        except ExchangeError as error:
            return error
        except Exception as error:  # whatever it is, it is no number
            return ExchangeError(f"{type(error).__name__}: {quoted(error)}")

    async def _ask_in_form(
        self, url: str, question: Content, form: ChatForm, timeout: float
    ) -> Answer:
        """Make one attempt; a refusal that teaches the form does not count as one."""
        for _ in range(MAX_LESSONS):
            body = form.body(question)
            content = json.dumps({"model": self.model, **body}).encode()
            try:
                answered = await self._send("POST", f"{url}/chat/completions", timeout, content)
                return first_choice(parsed(answered))
            except ExchangeError as error:
                if not isinstance(error, RefusedError) or not error.is_of_form:
                    raise
                lesson = form.learn(body, error.said, param=error.param)
                if lesson is None:
                    raise
                if lesson:
                    logger.warning("%s: %s; from now on, %s", url, error.cause, lesson)
        raise ExchangeError("it refuses every form of the question")

    async def _send(
        self, method: str, url: str, timeout: float, content: bytes | None = None
    ) -> Answered:
        return await send(
            self._servers.client, method, url, timeout=timeout, max_reply=MAX_REPLY, content=content
        )

    def _only_model(self) -> str:
        async def ask(url: str, timeout: float) -> object:
            return parsed(await self._send("GET", f"{url}/models", timeout))

        try:
            listed = self._servers.run(self._servers.persist(ask))
        except NoAnswerError as error:
            why = self._why(error)
            raise RewardError(
                f"{self.url} does not list its models: {why.cause}.",
                hint=why.hint
                or "is the endpoint running, and does its url end in /v1? Or set the option model",
            ) from error
        entries = listed.get("data") if isinstance(listed, dict) else None
        entries = entries if isinstance(entries, list) else []
        names = [quoted(e["id"]) for e in entries if isinstance(e, dict) and "id" in e]
        if len(names) != 1:
            raise RewardError(
                f"{self.url} lists {len(names)} models.",
                hint="name one with the option model" + (f": {', '.join(names[:5])}" * bool(names)),
            )
        return names[0]

    def _why(self, error: NoAnswerError) -> ExchangeError:
        """Return why there is no answer; that of an endpoint that is not reached names it."""
        told = error.told[self.url]
        if not told.down:
            return told
        cause = f"{self.url} can't be reached: {told.cause}"
        return ExchangeError(cause, hint=told.hint, down=True, refused=told.refused)


def picture_part(frame: Tensor) -> dict[str, Any]:
    """Write a frame, pixels in [0, 1], shape (3, H, W), as a part of a message: a PNG in a URL."""
    file = io.BytesIO()
    Image.fromarray(as_bytes(frame).numpy()).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}

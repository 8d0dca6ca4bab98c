"""Questions about pictures to an OpenAI-compatible chat endpoint, several at a time."""

from __future__ import annotations

import base64
import collections
import io
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from PIL import Image
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.rewards.frames import as_bytes
from ddrl.rewards.server_words import check_url, quoted, read_json

__all__ = ["Answer", "ChatEndpoint", "Failure", "picture_part"]

MAX_REPLY = 4 << 20
LONGEST_PAUSE = 60.0  # seconds between two attempts

Answer = dict[str, Any]
"""The first of a reply's choices."""


class Failure(Exception):  # noqa: N818 - an outcome of one question, which becomes a cause
    """One question has no answer.

    Args:
        cause: why, as a clause.
        again: whether it may be asked again.
        down: whether the endpoint was not reached at all.
        refused: whether every other question would meet the same.
    """

    def __init__(
        self, cause: str, *, again: bool = False, down: bool = False, refused: bool = False
    ) -> None:
        super().__init__(cause)
        self.cause, self.again, self.down, self.refused = cause, again, down, refused


class ChatEndpoint:
    """Asks ``{url}/chat/completions``.

    Args:
        url: of the API, usually up to and with ``/v1``.
        model: which of its models; empty: the only one that it lists.
        token: sent as a bearer token; empty: none.
        timeout: seconds that one attempt may take.
        attempts: how often a question is asked when the endpoint is busy or breaks off.
        concurrency: questions under way at once.
        pause: seconds before the second attempt; each further pause is twice as long.

    Raises:
        ValueError: the url is no address, or holds a password.
        RewardError: no model is named and the endpoint does not list exactly one.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        token: str = "",
        timeout: float = 60.0,
        attempts: int = 3,
        concurrency: int = 8,
        pause: float = 1.0,
    ) -> None:
        import httpx

        check_url(url)
        self.url = url.rstrip("/").removesuffix("/chat/completions")
        self._timeout, self._attempts, self._pause = timeout, attempts, pause
        self._concurrency = concurrency
        self._client = httpx.Client(
            timeout=timeout,
            headers={
                "Accept-Encoding": "identity",  # a small reply can't unpack to a large one
                **({"Authorization": f"Bearer {token}"} if token else {}),
            },
            limits=httpx.Limits(max_connections=concurrency),
        )
        self.model = model or self._only_model()

    def ask_all(
        self, questions: Sequence[dict[str, Any]], read: Callable[[Answer], float]
    ) -> list[float | Failure]:
        """Ask every question and read its answer; a list in the order of the questions.

        Args:
            questions: bodies of requests, without the model.
            read: makes a number of an answer, or raises :class:`Failure`.
        """
        result: list[float | Failure] = [Failure("it was not asked") for _ in questions]
        waiting = collections.deque(enumerate(questions))
        stop = threading.Event()

        def work() -> None:
            while not stop.is_set():
                try:
                    index, question = waiting.popleft()
                except IndexError:
                    return
                try:
                    result[index] = read(self._ask(question, stop))
                except Failure as failure:
                    result[index] = failure
                except Exception as error:  # whatever it is, it is no number
                    result[index] = Failure(f"{type(error).__name__}: {quoted(error)}")

        # Daemons, so that a hanging endpoint does not keep a stopped process.
        count = min(self._concurrency, len(questions))
        threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        finally:
            stop.set()
        return result

    def _ask(self, question: dict[str, Any], stop: threading.Event) -> Answer:
        body = {"model": self.model, **question}
        pause = self._pause
        for attempt in range(1, self._attempts + 1):
            try:
                return _first_choice(self._request("POST", "chat/completions", body))
            except Failure as failure:
                if not failure.again or attempt == self._attempts:
                    raise
                if stop.wait(min(pause, LONGEST_PAUSE)):
                    raise
                pause *= 2
        raise Failure("it was not asked")

    def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:  # noqa: ANN401
        """The JSON of a reply.

        Raises:
            Failure: there is none in time, or of another status than 200.
        """
        import httpx

        start = time.monotonic()
        data = bytearray()
        try:
            with self._client.stream(method, f"{self.url}/{path}", json=body) as reply:
                for chunk in reply.iter_raw():
                    data += chunk
                    if len(data) > MAX_REPLY:
                        raise Failure(f"the reply is larger than {MAX_REPLY} bytes")
                    if time.monotonic() - start > self._timeout:
                        raise Failure(f"no whole reply came within {self._timeout:g} s")
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            cause = f"{self.url} can't be reached ({quoted(error)})"
            raise Failure(cause, again=True, down=True) from error
        except httpx.TimeoutException as error:
            raise Failure(f"no reply came within {self._timeout:g} s") from error
        except httpx.InvalidURL as error:
            raise Failure(f"{self.url} is no url ({quoted(error)})", refused=True) from error
        except httpx.HTTPError as error:
            raise Failure(f"the connection broke ({quoted(error)})", again=True) from error
        text = data.decode("utf-8", errors="replace")
        if reply.status_code != 200:
            raise _refusal(reply.status_code, text)
        try:
            return read_json(text)
        except ValueError as error:
            raise Failure(f"the reply is no JSON: {_short(text)}") from error

    def _only_model(self) -> str:
        try:
            listed = self._request("GET", "models")
        except Failure as failure:
            raise RewardError(
                f"{self.url} does not list its models: {failure.cause}.",
                hint="is the endpoint running, and does its url end in /v1? Or set the option "
                "model",
            ) from failure
        entries = listed.get("data") if isinstance(listed, dict) else None
        names = [quoted(e["id"]) for e in entries or () if isinstance(e, dict) and "id" in e]
        if len(names) != 1:
            raise RewardError(
                f"{self.url} lists {len(names)} models.",
                hint="name one with the option model" + (f": {', '.join(names[:5])}" * bool(names)),
            )
        return names[0]


def picture_part(frame: Tensor) -> dict[str, Any]:
    """A frame, pixels in [0, 1] of shape (3, H, W), as the part of a message: a PNG in the URL."""
    file = io.BytesIO()
    Image.fromarray(as_bytes(frame).numpy()).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _refusal(status: int, text: str) -> Failure:
    """What a status other than 200 means."""
    try:
        parsed = read_json(text)
        error = parsed.get("error", parsed) if isinstance(parsed, dict) else parsed
        text = quoted(error.get("message", error) if isinstance(error, dict) else error)
    except ValueError:
        pass
    said = f"the endpoint answered {status}" + (f": {_short(text)}" if text.strip() else "")
    return Failure(
        said, again=status in (408, 429) or status >= 500, refused=status in (401, 403, 404)
    )


def _first_choice(reply: object) -> Answer:
    choices = reply.get("choices") if isinstance(reply, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or not isinstance(first.get("message"), dict):
        raise Failure(f"the reply has no choices with a message: {_short(reply)}")
    refusal = first["message"].get("refusal")
    if refusal or first.get("finish_reason") == "content_filter":
        raise Failure(f"the judge refused: {_short(refusal or 'content filter')}")
    return first


def _short(said: object) -> str:
    return repr(quoted(said))

"""A reward in a replica of Ray Serve: requests in, replies out, batches across requests between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ray import serve
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ddrl.rewards.base import make_reward
from ddrl.rewards.level import is_group_level
from ddrl.rewards.serve_batch import Outcome, Sample, samples_of, score_samples
from ddrl.rewards.serve_status import STATUS_APP, STATUS_NAME, Counts
from ddrl.rewards.serve_token import admits
from ddrl.rewards.wire import (
    CONTENT_TYPE,
    FORMAT,
    Reply,
    Request,
    WireError,
    decode_request,
    encode_error,
    encode_reply,
)

__all__ = ["Replica", "ReplicaSettings"]

_REPORT_SECONDS = 1.0


@dataclass(frozen=True)
class ReplicaSettings:
    """What a replica has to know.

    Attributes:
        path: the last part of its URL.
        name: of the reward.
        options: of the reward.
        batch_size: samples that the reward is given at once.
        batch_wait: seconds that the first sample of a batch waits for others.
        max_body: bytes of a request.
        token: of :func:`ddrl.rewards.serve_token.digest`; empty = none is asked for.
    """

    path: str
    name: str
    options: Mapping[str, Any]
    batch_size: int
    batch_wait: float
    max_body: int
    token: str


class Replica:
    """One copy of a reward.

    Args:
        settings: of it.

    Raises:
        RewardError: the reward can't be made here.
    """

    def __init__(self, settings: ReplicaSettings) -> None:
        self._settings = settings
        self._reward = make_reward(settings.name, settings.options)
        self._is_group = is_group_level(self._reward)
        self._turn = asyncio.Lock()
        self._counts = Counts()
        self._refused: Counter[str] = Counter()
        self._reporter: asyncio.Task[None] | None = None
        self._one.set_max_batch_size(settings.batch_size)
        self._one.set_batch_wait_timeout_s(settings.batch_wait)

    async def check_health(self) -> None:
        """Called by Serve now and then, which replaces a replica where this raises."""
        check = getattr(self._reward, "check_health", None)
        if check is not None:
            await asyncio.to_thread(check)

    async def __call__(self, request: HttpRequest) -> Response:
        """Answer one request."""
        if self._reporter is None:
            self._reporter = asyncio.create_task(self._report())
        try:
            if not admits(self._settings.token, request):
                raise WireError("the token is missing or wrong", status=401)
            if request.method == "GET":
                level = "group" if self._is_group else "sample"
                return JSONResponse(
                    {"format": FORMAT, "reward": self._settings.path, "level": level}
                )
            if request.method != "POST":
                raise WireError(f"{request.method} is not for rewards", status=405)
            body = await self._body(request)
            parsed = await asyncio.to_thread(decode_request, body)
            if parsed.reward not in ("", self._settings.path, self._settings.name):
                found = f"this is {self._settings.path!r}, not {parsed.reward[:80]!r}"
                raise WireError(found, status=404)
            if self._is_group and not parsed.group:
                raise WireError(
                    f"{self._settings.path!r} scores whole groups, and the request names none",
                    hint='set level = "group" in the options of the remote reward',
                )
        except WireError as error:
            self._refused[str(error.status)] += 1
            return _error(error.status, error.message, error.hint)
        return await self._answer(parsed)

    async def _answer(self, request: Request) -> Response:
        samples = samples_of(request)
        self._counts.requests += 1
        if self._is_group:
            outcomes = await self._score(samples)
        else:
            outcomes = list(await asyncio.gather(*(self._one(sample) for sample in samples)))
        if all(outcome.raised for outcome in outcomes):
            first = outcomes[0]
            return _error(500, f"reward {self._settings.path!r}: {first.cause}", first.hint)
        causes = {i: one.cause for i, one in enumerate(outcomes) if one.value is None}
        reply = Reply(tuple(one.value for one in outcomes), causes)
        return Response(encode_reply(request, reply), media_type="application/json")

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)  # type: ignore[untyped-decorator]
    async def _one(self, samples: list[Sample]) -> list[Outcome]:
        """Takes one sample; Serve gathers those of all requests that are under way."""
        return await self._score(samples)

    async def _score(self, samples: Sequence[Sample]) -> list[Outcome]:
        async with self._turn:  # a reward need not bear two calls at once
            loop = asyncio.get_running_loop()
            start = loop.time()
            outcomes = await asyncio.to_thread(score_samples, self._reward, samples)
            seconds = loop.time() - start
        failed = sum(outcome.value is None for outcome in outcomes)
        requests = len({sample.request for sample in samples})
        self._counts.add(len(samples), requests=requests, failed=failed, seconds=seconds)
        return outcomes

    async def _body(self, request: HttpRequest) -> bytes:
        """Read the body as far as its size and type are allowed.

        Raises:
            WireError: they are not.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != CONTENT_TYPE:
            raise WireError(
                f"the content type is {kind[:80]!r}, not {CONTENT_TYPE!r}",
                status=415,
                hint="the wire format is described in docs/rewards.md; pickles are never read",
            )
        limit = self._settings.max_body
        said = request.headers.get("content-length", "0")
        large = said.isdecimal() and int(said) > limit
        body = bytearray()
        if not large:
            async for chunk in request.stream():
                body += chunk
                if len(body) > limit:
                    large = True
                    break
        if large:
            raise WireError(f"the request is larger than {limit / 1e6:g} MB", status=413)
        return bytes(body)

    async def _report(self) -> None:
        """Tell the status page, as long as the replica lives."""
        handle = serve.get_deployment_handle(STATUS_NAME, app_name=STATUS_APP)
        replica = serve.get_replica_context().replica_id.unique_id
        told: dict[str, Any] = {}
        while True:
            counts = {**self._counts.as_json(), "refused": dict(self._refused)}
            if counts != told:
                await handle.report.remote(self._settings.path, replica, counts)
                told = counts
            await asyncio.sleep(_REPORT_SECONDS)


def _error(status: int, message: str, hint: str = "") -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    body = encode_error(message, hint=hint)
    return Response(body, status, media_type="application/json", headers=headers)

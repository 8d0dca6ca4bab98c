"""A reward in a replica of Ray Serve: requests in, replies out, batches across requests between."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from ray import serve
from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from ddrl.named_code import look_in
from ddrl.rewards.base import make_reward
from ddrl.rewards.level import is_group_level, plan_calls
from ddrl.rewards.serve.batch import Outcome, Sample, samples_of, score_samples
from ddrl.rewards.serve.budget import Budget
from ddrl.rewards.serve.served import ServedReward, ServiceSettings
from ddrl.rewards.serve.status import STATUS_APP, STATUS_NAME, Counts
from ddrl.rewards.serve.token import admits
from ddrl.rewards.wire.format import FORMAT, WireError
from ddrl.rewards.wire.media import MAX_NUMBERS
from ddrl.rewards.wire.message import (
    CONTENT_TYPE,
    Opened,
    Reply,
    Request,
    encode_error,
    encode_reply,
    open_request,
)

_REPORT_SECONDS = 1.0
_DECODERS = 2
_MAX_DIGITS = 18  # of a length that is worth reading


class Replica:
    """One copy of a reward.

    Args:
        served: the reward.
        settings: those of the service, with the digest of its token.

    Raises:
        RewardError: the reward can't be made here.
    """

    def __init__(self, served: ServedReward, settings: ServiceSettings) -> None:
        self._served, self._settings = served, settings
        look_in(*settings.folders)
        self._reward = make_reward(served.name, served.options)
        self._is_group = is_group_level(self._reward)
        self._turn = asyncio.Lock()
        self._opening = asyncio.Lock()
        self._budget = Budget(MAX_NUMBERS)  # of all requests together: one of the largest
        self._decoders = ThreadPoolExecutor(_DECODERS, "decode")  # scoring never waits for them
        self._under_way: set[asyncio.Task[Response]] = set()
        self._counts = Counts()
        self._refused: Counter[str] = Counter()
        self._reporter: asyncio.Task[None] | None = None
        self._one.set_max_batch_size(served.batch_size)
        self._one.set_batch_wait_timeout_s(served.batch_wait)

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
                return JSONResponse({"format": FORMAT, "reward": self._served.path, "level": level})
            if request.method != "POST":
                raise WireError(f"{request.method} is not for rewards", status=405)
            opened = await self._opened(request)
            cost = await self._budget.take(opened.cost)
        except WireError as error:
            return self._refuse(error)
        # A client that leaves does not free what its request takes: that is decoded or scored yet.
        task = asyncio.create_task(self._answer(opened, cost))
        del opened
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    def _refuse(self, error: WireError) -> Response:
        self._refused[str(error.status)] += 1
        return _error(error.status, error.message, error.hint)

    async def _opened(self, request: HttpRequest) -> Opened:
        """Read a request's header; its media are not decoded yet."""
        body = await self._body(request)
        async with self._opening:  # of headers that are not in the budget yet, one at a time
            opened = await asyncio.to_thread(open_request, body)
        header = opened.header
        if header.reward not in ("", self._served.path, self._served.name):
            found = f"this is {self._served.path!r}, not {header.reward[:80]!r}"
            raise WireError(found, status=404)
        if self._is_group and not header.group:
            raise WireError(
                f"{self._served.path!r} scores whole groups, and the request names none",
                hint='set level = "group" in the options of the remote reward',
            )
        return opened

    async def _answer(self, opened: Opened, cost: int) -> Response:
        """Decode and score a request, and give its part of the budget back."""
        loop = asyncio.get_running_loop()
        try:
            request = await loop.run_in_executor(self._decoders, opened.decode)
            del opened
            self._counts.requests += 1
            outcomes = await self._outcomes(request)
            if all(outcome.raised for outcome in outcomes):
                first = outcomes[0]
                return _error(500, f"reward {self._served.path!r}: {first.cause}", first.hint)
            causes = {i: one.cause for i, one in enumerate(outcomes) if one.value is None}
            reply = Reply(tuple(one.value for one in outcomes), causes)
            return Response(encode_reply(request, reply), media_type="application/json")
        except WireError as error:
            return self._refuse(error)
        except MemoryError:
            return self._refuse(WireError("there is no memory for the request", status=503))
        finally:
            self._budget.give(cost)

    async def _outcomes(self, request: Request) -> list[Outcome]:
        """Score each sample; a large request takes turns with those that come later."""
        samples, size = samples_of(request), self._served.batch_size
        if not self._is_group:
            found: list[Outcome] = []
            for start in range(0, len(samples), size):
                part = samples[start : start + size]
                found += await asyncio.gather(*map(self._one, part))
            return found
        group = torch.tensor(request.group)
        calls = plan_calls(group, [len(samples)], whole_groups=True, samples_per_call=size)
        scored: dict[int, Outcome] = {}
        for rows in calls:
            outcomes = await self._score([samples[row] for row in rows])
            scored |= dict(zip(rows, outcomes, strict=True))
        return [scored[row] for row in range(len(samples))]

    @serve.batch(max_batch_size=16, batch_wait_timeout_s=0.01)  # type: ignore[untyped-decorator]
    async def _one(self, samples: list[Sample]) -> list[Outcome]:
        """Score one sample; Serve gathers those of all requests that are under way."""
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
        """Read the body as far as its size and type are allowed."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != CONTENT_TYPE:
            raise WireError(
                f"the content type is {kind[:80]!r}, not {CONTENT_TYPE!r}",
                status=415,
                hint="the wire format is described in docs/serving.md; pickles are never read",
            )
        limit, stream = self._settings.max_body, request.stream()
        said = request.headers.get("content-length", "0")
        large = len(said) > _MAX_DIGITS or (said.isdecimal() and int(said) > limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while not large and (chunk := await anext(stream, None)) is not None:
                    body += chunk
                    large = len(body) > limit
        except TimeoutError:
            raise WireError(
                f"the request did not arrive within {self._settings.body_seconds:g} s",
                status=408,
                hint="send fewer samples in a request, or raise the server's body_seconds",
            ) from None
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
                await handle.report.remote(self._served.path, replica, counts)
                told = counts
            await asyncio.sleep(_REPORT_SECONDS)


def _error(status: int, message: str, hint: str = "") -> Response:
    headers = {"www-authenticate": "Bearer"} if status == 401 else None
    body = encode_error(message, hint=hint)
    return Response(body, status, media_type="application/json", headers=headers)

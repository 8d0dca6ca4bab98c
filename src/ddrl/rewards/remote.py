"""A reward that another process computes: `ddrl reward serve`, or any server of its format."""

from __future__ import annotations

from functools import partial
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.frames import batches
from ddrl.rewards.http.retry import NoAnswerError, Patience
from ddrl.rewards.http.server_words import check_url, read_token
from ddrl.rewards.http.servers import Servers
from ddrl.rewards.level import plan_calls
from ddrl.rewards.wire.exchange import Sent, exchange
from ddrl.rewards.wire.media import Array
from ddrl.rewards.wire.message import CONTENT_TYPE, Reply, Request, encode_request

PAUSE = 0.5  # seconds before all addresses are asked again; doubles each time


class RemoteReward:
    """Asks a server for rewards, in the wire format of docs/serving.md.

    Args:
        url: where the reward is served, ``http://HOST:PORT/NAME``; several, separated by commas,
            are tried in this order, and one that failed is tried last for a while.
        reward: what the server has to have there; empty: whatever it has.
        token_env: the environment variable that holds the server's token; empty: none.
        timeout: seconds that one request to one address may take.
        encoding: of the media: ``safetensors`` is exact; ``uint8`` and ``png`` round to 255 levels;
            ``mp4``, for clips, is lossy.
        fps: frames per second of clips (``mp4`` only).
        samples_per_request: how many samples are sent at once; 0: all.
        connections: requests that are under way at the same time.
        attempts: how often all addresses are gone through when what failed may pass: a refused or
            broken connection, a busy server, or a server's own failure.
        deadline: seconds that a request may take with all attempts and pauses, also those that a
            server asks for.
        ca_file: file of the certificates to trust, in PEM format; empty: the one of SSL_CERT_FILE,
            else the usual ones.
        level: ``sample``, or ``group`` for a reward that looks at all samples of a prompt
            together: groups are then sent whole, as many as ``samples_per_request`` holds.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="what the reward behind the address does",
        range="that of the reward behind it",
        prompt="as the reward behind it",
        hacks="those of the reward behind it",
        cost="sending the pixels; see `encoding`",
        modules=("httpx",),
        extra="remote",
    )

    def __init__(
        self,
        *,
        url: str,
        reward: str = "",
        token_env: str = "",
        timeout: float = 60.0,
        encoding: Literal["safetensors", "uint8", "png", "mp4"] = "safetensors",
        fps: float = 16.0,
        samples_per_request: int = 16,
        connections: int = 4,
        attempts: int = 3,
        deadline: float = 600.0,
        ca_file: str = "",
        level: Literal["sample", "group"] = "sample",
    ) -> None:
        self.card.require("remote")
        urls = [one.strip() for one in url.split(",") if one.strip()]
        for one in urls:
            check_url(one, beside=url)
        if not urls or len(set(urls)) < len(urls):
            raise ValueError("url names no address, or one of them twice")
        if timeout <= 0 or fps <= 0 or samples_per_request < 0:
            raise ValueError("timeout and fps must be above 0, samples_per_request at least 0")
        if connections < 1:
            raise ValueError("connections must be at least 1")
        token = read_token(token_env)
        self.level = level
        self._reward, self._encoding = reward, encoding
        self._fps, self._size = fps, samples_per_request
        self._servers = Servers(
            urls,
            content_type=CONTENT_TYPE,
            token=token,
            connections=connections,
            patience=Patience(attempts, PAUSE, deadline, timeout),
            ca_file=ca_file,
        )

    def score(self, media: Tensor, prompts: Prompts, group: Tensor | None = None) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); the server's numbers as they are.

        ``group``, the group of every sample, shape (B,), comes with ``level = "group"``.

        Raises:
            SampleError: some samples have no reward.
            RewardError: none has; names each address, and why.
        """
        if not len(media):
            return torch.empty(0)
        value, causes = torch.full((len(media),), torch.nan), {}
        exact = self._encoding == "safetensors"
        finite = torch.ones(len(media), dtype=torch.bool)
        if not exact:  # levels have no NaN: it would come out as black
            finite = media.flatten(1).isfinite().all(1).cpu()
            cause = f"its pixels are not finite, which {self._encoding} can't carry"
            causes = {int(i): cause for i in (~finite).nonzero()}
        rows = finite.nonzero().flatten().tolist()
        parts = self._parts(rows, group)
        sent = [
            self._pack(media[part], prompts.select(part), None if group is None else group[part])
            for part in parts
        ]
        answers = self._servers.gather([partial(self._ask, one) for one in sent]) if sent else []
        errors = [answer for answer in answers if isinstance(answer, RewardError)]
        if errors and len(errors) == len(answers) and not causes:
            raise errors[0]
        hint = errors[0].hint if errors else ""
        for part, answer in zip(parts, answers, strict=True):
            if isinstance(answer, RewardError):
                causes |= dict.fromkeys(part, answer.message.rstrip("."))
                continue
            causes |= {part[i]: cause for i, cause in answer.causes.items()}
            numbers = [torch.nan if v is None else v for v in answer.values]
            value[part] = torch.tensor(numbers)
        if causes:
            raise SampleError(value, causes, hint=hint)
        return value

    def _parts(self, rows: list[int], group: Tensor | None) -> list[list[int]]:
        """Return which samples each request has."""
        if self.level == "sample" or group is None:
            size = self._size or max(len(rows), 1)
            return [rows[one] for one in batches(len(rows), size)]
        ends, size = [len(rows)], self._size or len(rows)
        calls = plan_calls(group.cpu()[rows], ends, whole_groups=True, samples_per_call=size)
        return [[rows[i] for i in call] for call in calls] if rows else []

    def _pack(self, media: Tensor, prompts: Prompts, group: Tensor | None) -> Sent:
        encoding = "safetensors" if self._encoding == "uint8" else self._encoding
        request = Request(
            _as_array(media, levels=self._encoding != "safetensors"),
            prompts.text,
            tuple(prompts.prompt_id.tolist()),
            tuple(dict(one) for one in prompts.metadata),
            () if group is None else tuple(group.tolist()),
            self._reward,
        )
        body = encode_request(request, encoding=encoding, fps=self._fps)
        return Sent(body, request.request, request.samples)

    async def _ask(self, sent: Sent) -> Reply | RewardError:
        """Send a request to one address after another; an error says why none has values."""

        async def ask(url: str, timeout: float) -> Reply:
            return await exchange(self._servers.client, url, sent, timeout=timeout)

        try:
            return await self._servers.persist(ask)
        except NoAnswerError as error:
            hint = next((each.hint for each in error.told.values() if each.hint), "")
            number = len(error.told)
            before = "" if number == 1 else f"None of {number} addresses gave a reward: "
            return RewardError(f"{before}{error}.", hint=hint)


def _as_array(media: Tensor, *, levels: bool) -> Array:
    """Turn pixels into an array that can be written."""
    media = media.detach().cpu()
    if levels:
        return np.asarray((255 * media.float()).round().clamp(0, 255).byte())
    return np.asarray(media if media.dtype == torch.float16 else media.float())

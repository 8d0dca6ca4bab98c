"""What the replicas have done, added up: JSON for people and programs, and Prometheus' format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, PlainTextResponse, Response

from ddrl.rewards.serve.token import admits

STATUS_FORMAT = "ddrl-reward-status/1"
STATUS_APP = "reward-status"
STATUS_NAME = "RewardStatus"

_METRICS = {
    "requests": "Requests that were scored.",
    "samples": "Samples that were scored.",
    "batches": "Calls of the reward.",
    "shared_batches": "Calls of the reward with samples of several requests.",
    "failed_samples": "Samples without a reward.",
    "seconds": "Seconds in the reward.",
}


class Counts:
    """What one replica has done."""

    def __init__(self) -> None:
        self.requests = self.samples = self.shared_batches = self.failed_samples = 0
        self.seconds = 0.0
        self.sizes: Counter[int] = Counter()

    def add(self, samples: int, *, requests: int, failed: int, seconds: float) -> None:
        """Count one call of the reward."""
        self.samples += samples
        self.failed_samples += failed
        self.shared_batches += requests > 1
        self.seconds += seconds
        self.sizes[samples] += 1

    def as_json(self) -> dict[str, Any]:
        """Everything, in types of JSON."""
        return {
            "requests": self.requests,
            "samples": self.samples,
            "batches": self.sizes.total(),
            "shared_batches": self.shared_batches,
            "failed_samples": self.failed_samples,
            "seconds": self.seconds,
            "batch_sizes": {str(size): self.sizes[size] for size in sorted(self.sizes)},
        }


def add_up(replicas: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Add up the counts of all replicas of a reward."""
    total: dict[str, Any] = {name: sum(one[name] for one in replicas.values()) for name in _METRICS}
    for name in ("batch_sizes", "refused"):
        counter: Counter[str] = Counter()
        for one in replicas.values():
            counter.update(one[name])
        total[name] = dict(sorted(counter.items(), key=lambda item: int(item[0])))
    return {"replicas": len(replicas), **total}


class Status:
    """The page under ``/status``, and ``/status/metrics`` for Prometheus.

    Args:
        token: digest of the token that clients have to send.
    """

    def __init__(self, token: str) -> None:
        self._token = token
        self._counts: dict[str, dict[str, dict[str, Any]]] = {}

    async def report(self, path: str, replica: str, counts: dict[str, Any]) -> None:
        """Take a replica's counts since its start; those of one that died stay."""
        self._counts.setdefault(path, {})[replica] = counts

    async def __call__(self, request: HttpRequest) -> Response:
        """Answer a request."""
        if not admits(self._token, request):
            return PlainTextResponse("the token is missing or wrong", 401)
        totals = {path: add_up(replicas) for path, replicas in sorted(self._counts.items())}
        if request.url.path.rstrip("/").endswith("/metrics"):
            return PlainTextResponse(_prometheus(totals))
        return JSONResponse({"format": STATUS_FORMAT, "rewards": totals})


def _prometheus(totals: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, text in _METRICS.items():
        metric = f"ddrl_reward_{name}_total"
        lines += [f"# HELP {metric} {text}", f"# TYPE {metric} counter"]
        lines += [f'{metric}{{reward="{path}"}} {one[name]}' for path, one in totals.items()]
    metric = "ddrl_reward_batch_size"
    lines += [f"# HELP {metric} Samples in a call of the reward.", f"# TYPE {metric} histogram"]
    for path, one in totals.items():
        seen = 0
        for size, count in one["batch_sizes"].items():
            seen += count
            lines.append(f'{metric}_bucket{{reward="{path}",le="{size}"}} {seen}')
        lines.append(f'{metric}_bucket{{reward="{path}",le="+Inf"}} {seen}')
        lines.append(f'{metric}_sum{{reward="{path}"}} {one["samples"]}')
        lines.append(f'{metric}_count{{reward="{path}"}} {seen}')
    return "\n".join(lines) + "\n"

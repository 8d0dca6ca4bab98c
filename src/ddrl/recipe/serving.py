"""What `ddrl reward serve` serves: a TOML file with one service and its rewards.

[serve]
host = "127.0.0.1"
port = 8000
token_env = "DDRL_REWARD_TOKEN"

[[reward]]
name = "ocr"
requirements = ["onnxruntime<2"]               # of this reward alone
replicas = 2
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from ddrl.recipe.reading.document import parse_document, read_text
from ddrl.recipe.reading.problems import Problem
from ddrl.recipe.sections.base import Options, Section, as_tuple

Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]

ROUTE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
TAKEN = ("status",)


class ServeSection(Section):
    """Where the rewards are served, and to whom."""

    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; `0.0.0.0` = all of them."
    )
    port: int = Field(8000, ge=1, le=65535, description="Port to listen on.")
    token_env: str = Field(
        "",
        description="Environment variable with the token that clients have to send; empty = "
        "nobody is asked for one.",
    )
    max_body_mb: float = Field(
        256.0, gt=0, description="Size of a request above which it is refused, in 10^6 bytes."
    )
    body_seconds: float = Field(
        60.0, gt=0, description="Seconds that a request may take to arrive."
    )
    modules: Texts = Field(
        (),
        description="Packages (folders) and .py files of your own that replicas import, beside "
        "this file; they are sent to every node.",
    )
    object_store_mb: int = Field(
        200, ge=100, description="Shared memory of the Ray that is started here, in 10^6 bytes."
    )


class ServedRewardSection(Section):
    """One reward, in an environment of its own."""

    name: str = Field(
        min_length=1, description="Registered name of the reward, or `package.module:Class`."
    )
    route: str = Field("", description="Last part of its URL; empty = its name.")
    options: Options = Field(
        default_factory=dict, description="The reward's own options, one key each."
    )
    requirements: Texts = Field(
        (), description="Of pip, for this reward alone, on top of what is installed here."
    )
    replicas: int = Field(1, ge=1, description="How often it is loaded, side by side.")
    max_replicas: int = Field(
        0,
        ge=0,
        description="Above `replicas`: more are added while requests wait, up to this; 0 = none.",
    )
    target_requests: float = Field(
        8.0, gt=0, description="Requests under way per replica that are aimed at (`max_replicas`)."
    )
    batch_size: int = Field(16, ge=1, description="Samples that the reward is given at once.")
    batch_wait: float = Field(
        0.01, ge=0, description="Seconds that the first sample of a batch waits for others."
    )
    requests: int = Field(
        32, ge=1, description="Requests that a replica takes at a time; further ones wait."
    )
    cpus: float = Field(1.0, ge=0, description="CPUs that a replica reserves; may be a fraction.")
    gpus: float = Field(0.0, ge=0, description="GPUs that a replica reserves; may be a fraction.")

    @property
    def path(self) -> str:
        """The last part of its URL."""
        return self.route or self.name.rpartition(":")[2]


class Serving(Section):
    """A service of rewards."""

    serve: ServeSection = Field(default_factory=ServeSection, description="The service.")
    reward: Annotated[tuple[ServedRewardSection, ...], BeforeValidator(as_tuple)] = Field(
        min_length=1, description="The rewards that are served.", examples=['name = "ocr"']
    )


def load_serving(path: Path) -> Serving:
    """Read a service's file.

    Raises:
        RecipeError: it can't be read, or is not what it should be; names file, line and key.
    """
    document = parse_document(read_text(path), origin=str(path))
    serving = document.check(Serving)
    for problem in _conflicts(serving):
        raise document.error(problem)
    return serving


def _conflicts(serving: Serving) -> Iterator[Problem]:
    """Yield what the keys of a service can't be together."""
    seen = set()
    for i, reward in enumerate(serving.reward):
        place = (("reward", i, "route" if reward.route else "name"),)
        if not ROUTE.fullmatch(reward.path) or reward.path in TAKEN:
            wrong = "is taken" if reward.path in TAKEN else "can't be part of a URL"
            yield Problem(
                place,
                f"{reward.path!r} {wrong}.",
                "give it a route of letters, digits, - and _, for example route = "
                f'"{re.sub("[^A-Za-z0-9]+", "-", reward.path).strip("-")}-reward"',
            )
        if reward.path in seen:
            hint = 'give one of them a route of its own, for example route = "large"'
            yield Problem(place, f"Two rewards are served as {reward.path!r}.", hint)
        seen.add(reward.path)
        if 0 < reward.max_replicas < reward.replicas:
            yield Problem(
                (("reward", i, "max_replicas"),),
                f"max_replicas is {reward.max_replicas}, below replicas = {reward.replicas}.",
                "0 = no more than replicas",
            )

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
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError

from ddrl.errors import RecipeError
from ddrl.recipe.reading.keys import nearest
from ddrl.recipe.reading.load import parse_tables, read_text
from ddrl.recipe.reading.toml import KeyPath, format_value, line_numbers
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
        min_length=1, description="The rewards that are served."
    )


def load_serving(path: Path) -> Serving:
    """Read a service's file.

    Raises:
        RecipeError: it can't be read, or is not what it should be; names file, line and key.
    """
    text = read_text(path)
    data = parse_tables(text, origin=str(path))
    lines = line_numbers(text)
    try:
        serving = Serving.model_validate(data)
    except ValidationError as error:
        raise _explain(error, path, lines) from None
    for place, message, hint in _conflicts(serving):
        where = f"{path}:{lines[place]}" if place in lines else str(path)
        raise RecipeError(f"{where}: {message}", hint=hint)
    return serving


def _conflicts(serving: Serving) -> Iterator[tuple[KeyPath, str, str]]:
    """What the keys of a service can't be together: the key, what is wrong, and a hint."""
    seen: dict[str, int] = {}
    for i, reward in enumerate(serving.reward):
        key = "route" if reward.route else "name"
        place: KeyPath = ("reward", i, key)
        if not ROUTE.fullmatch(reward.path) or reward.path in TAKEN:
            wrong = "is taken" if reward.path in TAKEN else "can't be part of a URL"
            yield (
                place,
                f"{reward.path!r} {wrong}",
                "give it a route of letters, digits, - and _, for example route = "
                f'"{re.sub("[^A-Za-z0-9]+", "-", reward.path).strip("-")}-reward"',
            )
        if reward.path in seen:
            hint = 'give one of them a route of its own, for example route = "large"'
            yield place, f"two rewards are served as {reward.path!r}", hint
        seen[reward.path] = i
        if 0 < reward.max_replicas < reward.replicas:
            yield (
                ("reward", i, "max_replicas"),
                f"max_replicas is {reward.max_replicas}, below replicas = {reward.replicas}",
                "0 = no more than replicas",
            )


def _explain(error: ValidationError, path: Path, lines: Mapping[KeyPath, int]) -> RecipeError:
    """The first fault, in words; what is missing last, since a misspelt key may explain it."""
    found = min(error.errors(), key=lambda one: one["type"] in ("missing", "too_short"))
    place: KeyPath = tuple(found["loc"])
    known = next((place[:n] for n in range(len(place), 0, -1) if place[:n] in lines), ())
    where = f"{path}:{lines[known]}" if known else str(path)
    name = ".".join(map(str, place))
    sections: dict[str, type[Section]] = {"serve": ServeSection, "reward": ServedRewardSection}
    section = sections.get(str(place[0]), Serving) if len(place) > 1 else Serving
    fields = section.model_fields
    last = str(place[-1])
    if found["type"] == "extra_forbidden":
        close = nearest(last, list(fields))
        hint = f"did you mean {close}?" if close else f"keys are {', '.join(fields)}"
        return RecipeError(f"{where}: unknown key {name}", hint=hint)
    if found["type"] in ("missing", "too_short") and name == "reward":
        return RecipeError(
            f"{path}: there is no reward",
            hint='add a [[reward]] section with a line such as name = "ocr"',
        )
    reason = found["msg"][:1].lower() + found["msg"][1:]
    field = next((str(one) for one in reversed(place) if str(one) in fields), "")
    hint = f"{field}: {fields[field].description}" if field else ""
    return RecipeError(f"{where}: {name}: {reason}", hint=hint)


def serving_table() -> str:
    """A Markdown table of every key of a service's file."""
    rows = ["| Key | Default | Meaning |", "| --- | --- | --- |"]
    sections: dict[str, type[Section]] = {
        "[serve]": ServeSection,
        "[[reward]]": ServedRewardSection,
    }
    for header, section in sections.items():
        for name, field in section.model_fields.items():
            if field.is_required():
                default = "required"
            else:
                value = field.get_default(call_default_factory=True, validated_data={})
                default = f"`{format_value(value)}`"
            rows.append(f"| `{header}` `{name}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"

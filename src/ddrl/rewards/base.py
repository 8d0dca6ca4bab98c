"""What a reward is, and how one is found by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Protocol

from torch import Tensor

from ddrl.errors import RewardError
from ddrl.records import Prompts

__all__ = ["BUILTIN", "ENTRY_POINTS", "Reward", "make_reward", "reward_class"]

ENTRY_POINTS = "ddrl.rewards"
"""Entry point group in which an installed package names its rewards."""

BUILTIN: Mapping[str, str] = {
    "classifier": "ddrl.rewards.builtin.classifier:ClassifierReward",
    "ink": "ddrl.rewards.builtin.ink:Ink",
}


class Reward(Protocol):
    """Scores media. Options are the keyword arguments of the class."""

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Return one float per sample, shape (B,); higher is better.

        Args:
            media: pixels in [0, 1], shape (B, 3, H, W), or (B, T, 3, H, W) for video.
            prompts: the prompt of every sample, length B.

        Raises:
            RewardError: the reward can't be computed.
        """
        ...


def reward_class(name: str) -> type[Reward]:
    """Find a reward's class: built in, from an entry point, or ``package.module:Class``.

    Raises:
        RewardError: there is none.
    """
    plugins = {point.name: point for point in entry_points(group=ENTRY_POINTS)}
    path = BUILTIN.get(name, plugins[name].value if name in plugins else name)
    module_name, colon, attribute = path.partition(":")
    if not colon:
        known = sorted({*BUILTIN, *plugins})
        near = difflib.get_close_matches(name, known, 1)
        raise RewardError(
            f"There is no reward named {name!r}.",
            hint=f"did you mean {near[0]!r}?"
            if near
            else f"known: {', '.join(known)}; or give package.module:Class",
        )
    try:
        found: type[Reward] = getattr(importlib.import_module(module_name), attribute)
    except Exception as error:  # importing a module runs somebody's code
        raise RewardError(
            f"Reward {name!r} can't be loaded: {error}.",
            hint="is its package installed in this environment?",
        ) from error
    if not (inspect.isclass(found) and callable(getattr(found, "score", None))):
        raise RewardError(f"Reward {name!r} is not a class with a method score(media, prompts).")
    return found


def make_reward(name: str, options: Mapping[str, object]) -> Reward:
    """Make a reward from its name and options.

    Raises:
        RewardError: there is no such reward, or it does not take such options.
    """
    cls = reward_class(name)
    known = [p for p in inspect.signature(cls).parameters if p != "self"]
    for option in options:
        if option not in known:
            near = difflib.get_close_matches(option, known, 1)
            raise RewardError(
                f"Reward {name!r} has no option {option!r}.",
                hint=f"did you mean {near[0]!r}?"
                if near
                else "it has " + (", ".join(known) or "no options"),
            )
    try:
        return cls(**options)
    except (TypeError, ValueError) as error:
        raise RewardError(f"Reward {name!r} can't be made: {error}.") from error

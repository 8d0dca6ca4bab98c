"""What is known about a reward before it is trained on: a card, and what it needs to run."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from ddrl.errors import RewardError

Media = Literal["images", "clips"]


@dataclass(frozen=True)
class RewardCard:
    """A reward's class attribute ``card``.

    Attributes:
        rewards: what it rewards, as a phrase.
        range: the values that it takes.
        prompt: how it depends on the prompt.
        hacks: how a policy raises it without doing what was meant.
        cost: what a call costs.
        media: what it scores.
        license: license of its weights.
        weights: which weights it needs and where to get them; empty without weights.
        hub: the id under which the weights are found on the hub when no folder is given.
        modules: what it imports and ddrl does not install by itself.
        extra: the extra of ddrl that installs them.
    """

    rewards: str
    range: str
    prompt: str
    hacks: str
    cost: str
    media: tuple[Media, ...] = ("images", "clips")
    license: str = "none needed"
    weights: str = ""
    hub: str = ""
    modules: tuple[str, ...] = ()
    extra: str = ""

    def missing_modules(self) -> tuple[str, ...]:
        """Return the modules that are not installed here."""
        return tuple(name for name in self.modules if importlib.util.find_spec(name) is None)

    def require(self, name: str) -> None:
        """Check that the modules are installed.

        Raises:
            RewardError: one is not; the hint installs it.
        """
        if missing := self.missing_modules():
            raise RewardError(
                f"Reward {name!r} needs {' and '.join(missing)}.", hint=self.install_hint()
            )

    def install_hint(self) -> str:
        """Return the command that installs the modules."""
        if self.extra:
            return f"pip install 'ddrl[{self.extra}]'"
        return "pip install " + " ".join(self.modules)

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Return label and text of everything that is known, in reading order."""
        needs = f"`{self.install_hint()}`" if self.modules else ""
        rows = (
            ("rewards", self.rewards),
            ("range", self.range),
            ("media", " and ".join(self.media)),
            ("prompt", self.prompt),
            ("known hacks", self.hacks),
            ("cost", self.cost),
            ("weights", self.weights),
            ("license of the weights", self.license),
            ("needs", needs),
        )
        return tuple((label, text) for label, text in rows if text)

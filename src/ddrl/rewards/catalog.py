"""Which rewards there are, and what each still needs on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from ddrl.errors import RewardError
from ddrl.rewards.base import BUILTIN, ENTRY_POINTS, reward_class
from ddrl.rewards.card import RewardCard

State = Literal["ready", "needs weights", "not installed", "broken"]


@dataclass(frozen=True)
class Entry:
    """A reward that a recipe can name.

    Attributes:
        name: what the recipe writes.
        path: ``module:Class``.
        state: whether it can be used as it is.
        todo: what it needs if not, as a clause.
        card: what its class says about it, if it does.
    """

    name: str
    path: str
    state: State
    todo: str
    card: RewardCard | None

    def as_json(self) -> dict[str, Any]:
        """Everything, in types of JSON."""
        return asdict(self)


def catalog() -> Iterator[Entry]:
    """Yield every reward, built in or of an installed package, by name."""
    plugins = {point.name: point.value for point in entry_points(group=ENTRY_POINTS)}
    paths = {**plugins, **BUILTIN}
    for name in sorted(paths):
        try:
            card = getattr(reward_class(name), "card", None)
        except RewardError as error:
            yield Entry(name, paths[name], "broken", error.message, None)
            continue
        card = card if isinstance(card, RewardCard) else None
        yield Entry(name, paths[name], *_state(card), card)


def _state(card: RewardCard | None) -> tuple[State, str]:
    if card is None:
        return "ready", ""
    if missing := card.missing_modules():
        return "not installed", f"{' and '.join(missing)}: {card.install_hint()}"
    if card.hub:
        if _is_cached(card.hub):
            return "ready", ""
        return "needs weights", f"{card.hub} is downloaded at first use; or name a folder"
    if card.weights:
        return "needs weights", card.weights
    return "ready", ""


def _is_cached(hub: str) -> bool:
    """Return whether the hub's local cache has this id, without asking the network."""
    if importlib.util.find_spec("huggingface_hub") is None:
        return False
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(hub, local_files_only=True)
    except (OSError, ValueError):
        return False
    return True

"""The built-in rewards as a page of the documentation, made from their cards and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping

from ddrl.rewards.base import BUILTIN, Reward, options_of, reward_class
from ddrl.rewards.card import RewardCard

_OPTION = re.compile(r"(\w+): (.*?)(?=\n\w+: |\Z)", re.DOTALL)


def cards_page() -> str:
    """Write a section for every built-in reward: its card, and its options with their defaults."""
    return "\n".join(_section(name) for name in BUILTIN)


def _section(name: str) -> str:
    cls = reward_class(name)
    lines = [f"## `{name}`", ""]
    card = getattr(cls, "card", None)
    if isinstance(card, RewardCard):
        lines += ["| | |", "|---|---|"]
        lines += [f"| {label} | {_cell(text)} |" for label, text in card.rows()] + [""]
    if options := _options(cls):
        lines += ["| option | default | what it is |", "|---|---|---|"]
        lines += [f"| `{n}` | {d} | {_cell(text)} |" for n, d, text in options] + [""]
    return "\n".join(lines)


def _options(cls: type[Reward]) -> list[tuple[str, str, str]]:
    """Name, default and description of each option, the last from the docstrings of its classes."""
    told: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        args = inspect.cleandoc(text.partition("Args:\n")[2].partition("\n\n")[0])
        told |= dict(_OPTION.findall(args))
    options = []
    for name, parameter in options_of(cls).items():
        default = parameter.default
        shown = "required" if default is parameter.empty else f"`{_toml(default)}`"
        options.append((name, shown, told.get(name, "")))
    return options


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key} = {_toml(one)}' for key, one in value.items())}}}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _cell(text: str) -> str:
    """Write text on one line, with reStructuredText's marks as Markdown's."""
    text = re.sub(r":\w+:`~?(?:[\w.]+\.)?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")

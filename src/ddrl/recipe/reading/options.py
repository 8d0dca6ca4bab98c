"""The table of all keys of a file, generated for the documentation."""

from __future__ import annotations

from pydantic import BaseModel

from ddrl.recipe.reading.keys import key_specs
from ddrl.recipe.recipe import Recipe


def options_table(model: type[BaseModel] = Recipe) -> str:
    """Return a Markdown table of every key: what it takes, its default, what it means.

    Keys of ``[[reward]]`` stand without a position; in an override it is ``reward.0.weight``.
    """
    rows = [("Key", "Takes", "Default", "Meaning"), ("---", "---", "---", "---")]
    for spec in key_specs(model).values():
        default = spec.default if spec.default == "required" else f"`{spec.default}`"
        rows.append((f"`{spec.key}`", spec.expected, default, spec.description))
    # A bar inside a cell would end it.
    lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"

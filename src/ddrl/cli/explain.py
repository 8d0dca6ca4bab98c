"""``ddrl explain``: what a key of a recipe means."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ddrl.cli.terminal.output import Verbose, say, say_json
from ddrl.cli.terminal.tables import print_table

if TYPE_CHECKING:
    from ddrl.recipe.explaining import Explanation

FORMAT = "ddrl-explain/1"


def explain(
    key: Annotated[
        str,
        typer.Argument(metavar="KEY", help="A key (objective.beta), its last part, or a section."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    verbose: Verbose = False,  # noqa: ARG001 - its callback does the work
) -> None:
    """Say what a key of a recipe means, what it takes, and which recipes set it."""
    from ddrl.recipe.explaining import explain as explained
    from ddrl.recipe.explaining import find_keys

    specs = find_keys(key)
    if as_json:
        say_json(json.dumps({"format": FORMAT, "keys": [_row(explained(s)) for s in specs]}))
    elif len(specs) > 1:
        rows = [(spec.key, spec.default, spec.description) for spec in specs]
        print_table(("key", "default", "meaning"), rows, left=(0, 1, 2))
    else:
        _print(explained(specs[0]))


def _row(one: Explanation) -> dict[str, object]:
    spec = one.spec
    return {
        "key": spec.key,
        "meaning": spec.description,
        "takes": spec.expected,
        "default": None if spec.default == "required" else spec.default,
        "on_resume": one.on_resume,
        "set_by": dict(one.set_by),
    }


def _print(one: Explanation) -> None:
    spec = one.spec
    say(spec.key)
    say(f"  {spec.description}")
    say(f"  takes      {spec.expected}")
    say(f"  default    {'none, it is required' if spec.default == 'required' else spec.default}")
    say(f"  on resume  {one.on_resume}")
    values: dict[str, list[str]] = {}
    for name, value in one.set_by:
        values.setdefault(value, []).append(name)
    for number, (value, names) in enumerate(values.items()):
        say(f"  {'' if number else 'set by':9s}  {value}: {', '.join(dict.fromkeys(names))}")
    if not values:
        say("  set by     no recipe that comes with ddrl")

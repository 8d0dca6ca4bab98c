"""Which task a recipe is about."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from ddrl.builders.tasks.digits import Digits
from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.files import Files, Hub
from ddrl.builders.tasks.moving_digits import MovingDigits
from ddrl.builders.tasks.prompts import Prompts
from ddrl.builders.tasks.task import Task
from ddrl.builders.tasks.words import Words
from ddrl.errors import RewardError, UsageError
from ddrl.named_code import load_named
from ddrl.recipe.reading.load import parse_recipe
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.sections.rewards import HeldoutRewardSection, RewardSection

EMBEDDED: dict[str, type[EmbeddedTask]] = {
    "digits": Digits,
    "moving_digits": MovingDigits,
    "words": Words,
}
TASKS: dict[str, type[Task]] = {**EMBEDDED, "files": Files, "hub": Hub, "prompts": Prompts}
"""``data.source`` -> what a run is about."""

NAMED = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
SEE = "docs/tasks.md has one to copy"


def task_of(recipe: Recipe) -> Task:
    """What a recipe is about.

    Raises:
        UsageError: it names a task of the user's own that can't be had, or is of another model.
    """
    name, model = recipe.data.own_task, recipe.model
    kind = own_task(name) if name else TASKS[recipe.data.source]
    if kind.is_embedded != model.is_embedded:  # of ddrl's own the recipe's rules say so
        raise UsageError(
            f"Task {name!r} can't be trained with model.family {model.family}.",
            hint='leave model.family out, or set it to "tiny"'
            if kind.is_embedded
            else 'set model.family = "diffusers" and model.path',
        )
    return kind(recipe)


def own_task(name: str) -> type[Task]:
    """Find the task that a recipe names.

    Args:
        name: ``package.module:Class``, see :func:`ddrl.named_code.load_named`.

    Raises:
        UsageError: there is no such module or class, it fails as it is loaded, or it is no task.
    """
    found = load_named(name, what="Task")
    if not (inspect.isclass(found) and issubclass(found, Task)):
        raise UsageError(
            f"Task {name!r} is no task: it is not a class derived from "
            "ddrl.builders.tasks.embedded.EmbeddedTask.",
            hint=f"derive it from that class; {SEE}",
        )
    if missing := sorted(found.__abstractmethods__):
        raise UsageError(
            f"Task {name!r} is not whole: it has no {' and no '.join(missing)}.",
            hint=f"add {'it' if len(missing) == 1 else 'them'} to {found.__name__}; {SEE}",
        )
    return found


def example_task(name: str) -> EmbeddedTask | None:
    """An embedded task with the smallest recipe; None where the name is one of files.

    Args:
        name: of a task that is ddrl's, or ``package.module:Class``.

    Raises:
        UsageError: it names a task of the user's own that can't be had, or is not embedded.
    """
    is_own = bool(NAMED.fullmatch(name)) and not Path(name).exists()
    kind = own_task(name) if is_own else EMBEDDED.get(name)
    if kind is None:
        return None
    if not issubclass(kind, EmbeddedTask):
        raise UsageError(
            f"Task {name!r} has no data of its own, since it is not embedded.",
            hint="name a folder of captioned media",
        )
    keys = f'[data]\nsource = "{name}"\n{kind.example}[[reward]]\nname = "ink"\n'
    return kind(parse_recipe(keys))


def check_reward(task: Task, section: RewardSection | HeldoutRewardSection) -> None:
    """Refuse a reward without options that another task would give it, and this one can't.

    Raises:
        RewardError: it needs options.
    """
    if section.name in task.gives:
        return
    for source, kind in EMBEDDED.items():
        missing = [n for n in kind.gives.get(section.name, ()) if n not in section.options]
        if missing:
            options, name = " and ".join(missing), source.replace("_", " ")
            raise RewardError(
                f"Reward {section.name!r} needs the option {options} with data other than the "
                f"{name}.",
                hint="give a folder that holds a classifier, or another reward"
                if options == "weights"
                else "give its options, or another reward",
            )

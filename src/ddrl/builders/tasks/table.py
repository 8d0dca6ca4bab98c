"""Which task a recipe is about."""

from __future__ import annotations

from ddrl.builders.tasks.digits import Digits
from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.builders.tasks.files import Files, Hub
from ddrl.builders.tasks.moving_digits import MovingDigits
from ddrl.builders.tasks.prompts import Prompts
from ddrl.builders.tasks.task import Task
from ddrl.builders.tasks.words import Words
from ddrl.errors import RewardError
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


def task_of(recipe: Recipe) -> Task:
    """What a recipe is about."""
    return TASKS[recipe.data.source](recipe)


def example_task(source: str) -> EmbeddedTask:
    """An embedded task by its name, with the smallest recipe."""
    kind = EMBEDDED[source]
    keys = f'[data]\nsource = "{source}"\n{kind.example}[[reward]]\nname = "ink"\n'
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

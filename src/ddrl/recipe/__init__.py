"""What a run is: a TOML file, checked, with every key documented. Loads no torch.

Reading order: ``sections`` (the keys), ``schema`` (the whole), ``rules`` (what goes together),
``reading`` (from a name or file to a recipe, and back to text), ``plan`` (what it amounts to).
"""

from ddrl.recipe.plan.lines import format_size
from ddrl.recipe.plan.memory import Footprint, Memory, Working
from ddrl.recipe.plan.plan import Plan, make_plan
from ddrl.recipe.reading.finished import read_finished
from ddrl.recipe.reading.load import load_recipe, parse_recipe
from ddrl.recipe.reading.options import options_table
from ddrl.recipe.reading.paths import resolve_paths
from ddrl.recipe.reading.resume import (
    CHANGEABLE_ON_RESUME,
    bit_changes,
    difference,
    resume_conflicts,
)
from ddrl.recipe.reading.toml import dump_toml
from ddrl.recipe.recipe import Recipe
from ddrl.recipe.steps import stochastic_steps, trained_steps

__all__ = [
    "CHANGEABLE_ON_RESUME",
    "Footprint",
    "Memory",
    "Plan",
    "Recipe",
    "Working",
    "bit_changes",
    "difference",
    "dump_toml",
    "format_size",
    "load_recipe",
    "make_plan",
    "options_table",
    "parse_recipe",
    "read_finished",
    "resolve_paths",
    "resume_conflicts",
    "stochastic_steps",
    "trained_steps",
]

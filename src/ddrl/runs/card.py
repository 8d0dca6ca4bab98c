"""The model card of an export: what it is, how it is loaded, how it was made and judged."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ddrl.disk import read_json
from ddrl.recipe import Recipe, dump_toml
from ddrl.runs.describe import label, method
from ddrl.runs.loaded import LoadedRun

_ABSOLUTE = re.compile(r"(?:/|~|[A-Za-z]:[\\/]|\\\\|file:)")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(?:@.+)?")
_SNAPSHOT = re.compile(r"[\\/]models--([^\\/]+?)--([^\\/]+)[\\/]snapshots[\\/]([^\\/]+)[\\/]?")
_PRIVATE = {"[run]": ("folder = ", "cache = ")}  # lines of a recipe that say where things lie here

# Terms of bases that are not free: the name by which the hub knows them, and what they bind to.
_TERMS = {
    "black-forest-labs/FLUX.1-dev": ("flux-1-dev-non-commercial-license", "no commercial use"),
    "stabilityai/stable-diffusion-3": (
        "stabilityai-ai-community",
        "commercial use is free up to a yearly revenue that the licence names",
    ),
}


def public_recipe(recorded: Recipe, given: Recipe) -> Recipe:
    """The recipe with the base as others know it: by its id on the hub, if anything tells it.

    Args:
        recorded: the run's own recipe, in which the path of a folder is absolute.
        given: the same with the paths of the one who exports; the base is known to be the same.

    Returns:
        ``given``, whose ``model.path`` is an id of the hub, an absolute path, or empty.
    """
    if not given.model.path:
        return given
    path = str(Path(given.model.path).absolute())
    for known, is_id in (
        (recorded.model.path, True),
        (given.model.path, not Path(given.model.path).exists()),
    ):
        cached = _SNAPSHOT.search(known)  # a folder of the hub's cache
        if cached or (is_id and _HUB_ID.fullmatch(known)):
            path = "{}/{}@{}".format(*cached.groups()) if cached else known
            break
    return given.model_copy(update={"model": given.model.model_copy(update={"path": path})})


def hub_id(recipe: Recipe) -> str:
    """The base's id on the hub, without a revision; empty: it is not known to have one."""
    path = recipe.model.path
    return path.partition("@")[0] if _HUB_ID.fullmatch(path) else ""


def base_name(recipe: Recipe) -> str:
    """The model that the run started from: its id on the hub, or the name of its folder."""
    return shared_path(recipe.model.path) or "the embedded model of ddrl"


def shared_path(text: str) -> str:
    """A path as it may be shown to others: the last part of an absolute one, others as they are."""
    if not _ABSOLUTE.match(text):
        return text
    return re.split(r"[\\/]", text.rstrip("\\/"))[-1]


def render_card(run: LoadedRun, *, what: str, load: Sequence[str]) -> str:
    """The card as Markdown, with the front matter that the hub reads.

    Args:
        run: what is exported.
        what: the kind of weights, in words.
        load: the lines of Python that load them; none for a file of another tool.
    """
    recipe = run.recipe
    blocks = [
        _front_matter(recipe),
        f"# {run.name}",
        f"{what} of {base_name(recipe)}, post-trained with ddrl. {label(recipe)}: "
        f"{method(recipe)}.",
        _table(
            {
                "Base model": _base(recipe),
                "Step": str(run.step),
                "Weights": {"ema": "averaged (EMA)"}.get(run.weights, run.weights),
                "Commit of ddrl": str(run.info.get("commit") or "unknown"),
                "Seed": str(recipe.run.seed),
                "Licence": _licence(recipe),
            },
            ("", ""),
        ),
        "## Load",
        _load(load),
        "## Audit",
        _audit(run),
        "## Metrics",
        _metrics(run.metrics, run.step),
        "## Recipe",
        "```toml\n" + _shared_recipe(recipe) + "```",
    ]
    return "\n\n".join(blocks) + "\n"


def _base(recipe: Recipe) -> str:
    is_folder = recipe.model.path and not hub_id(recipe)
    return base_name(recipe) + (", a folder whose public name is not known" if is_folder else "")


def _load(lines: Sequence[str]) -> str:
    if lines:
        return "```python\n" + "\n".join(lines) + "\n```"
    return (
        "Put the file where your tool looks for LoRA (ComfyUI: `models/loras`). Strength 1 is the "
        "strength that was trained."
    )


def _front_matter(recipe: Recipe) -> str:
    """Tags for the hub; the base is named where it is on the hub."""
    lines = [f"library_name: {'ddrl' if recipe.model.is_embedded else 'diffusers'}"]
    base = hub_id(recipe)
    if not recipe.model.path:
        lines.append("license: apache-2.0")
    elif base:
        name, _ = _terms(base) or ("that-of-the-base-model", "")
        lines += [
            f"base_model: {json.dumps(base)}",
            "license: other",
            f"license_name: {name}",
            f"license_link: {json.dumps(f'https://huggingface.co/{base}')}",
        ]
    tags = ["ddrl", *(["lora"] if recipe.model.lora.is_used else [])]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def _terms(base: str) -> tuple[str, str] | None:
    return next((terms for start, terms in _TERMS.items() if base.startswith(start)), None)


def _licence(recipe: Recipe) -> str:
    """Under which terms the weights may be shared, as far as it is known."""
    if not recipe.model.path:
        return "Apache-2.0, as ddrl's; the data may have terms of their own"
    terms = _terms(recipe.model.path)
    known = f" ({terms[0]}: {terms[1]})" if terms else ""
    return f"that of the base model{known}; read it before you share or use these weights"


def _shared_recipe(recipe: Recipe) -> str:
    """The recipe as TOML, without what says where files lie on this machine."""
    section, lines = "", []
    for line in dump_toml(_without_paths(recipe)).split("\n"):
        section = line if line.startswith("[") else section
        if not line.startswith(_PRIVATE.get(section, ("\n",))):
            lines.append(line)
    return "\n".join(lines)


def _without_paths(value: Any) -> Any:  # noqa: ANN401 - any value of a recipe
    """The same with the last part of every absolute path."""
    if isinstance(value, str):
        return shared_path(value)
    if isinstance(value, BaseModel):
        fields = {name: _without_paths(getattr(value, name)) for name in type(value).model_fields}
        return value.model_copy(update=fields)
    if isinstance(value, Mapping):
        return {key: _without_paths(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_without_paths(one) for one in value)
    return value


def _table(rows: Mapping[str, str], head: tuple[str, str]) -> str:
    lines = [f"| {a} | {b} |" for a, b in (head, ("---", "---"), *rows.items())]
    return "\n".join(lines)


def _metrics(metrics: Sequence[Mapping[str, Any]], step: int) -> str:
    """What was last measured at or before the step."""
    last: dict[str, float] = {}
    for line in metrics:
        if line.get("step", 0) <= step:
            last.update(
                (name, value) for name, value in line.items() if isinstance(value, int | float)
            )
    rows = {
        f"`{name}`": f"{value:.4g}"
        for name, value in last.items()
        if name != "step" and not name.startswith("seconds")
    }
    return _table(rows, ("metric", "last value")) if rows else "None was recorded."


def _audit(run: LoadedRun) -> str:
    """The verdict of the run's report, if ``ddrl evaluate`` has written one beside it."""
    try:
        path = run.folder / "evaluation" / "report.json"
        found = read_json(path)["runs"][run.name]
        sentence, step = str(found["verdict"]["sentence"]), int(found["num_steps"])
    except (OSError, ValueError, LookupError, TypeError):
        return "None yet: `ddrl evaluate` judges whether the reward was hacked."
    if step != run.step:
        return f"Of step {step}, which is not the step of these weights: {sentence}"
    return sentence

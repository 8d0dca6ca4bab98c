"""The model card of an export: what it is, how it is loaded, how it was made and judged."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddrl.builders.describe import label, method
from ddrl.builders.runs import LoadedRun
from ddrl.recipe import Recipe, dump_toml

__all__ = ["base_name", "render_card"]


def base_name(recipe: Recipe) -> str:
    """The model that the run started from, as the recipe names it."""
    return recipe.model.path or "the embedded model of ddrl"


def render_card(run: LoadedRun, *, what: str, load: Sequence[str]) -> str:
    """The card as Markdown, with the front matter that the hub reads.

    Args:
        run: what is exported.
        what: the kind of weights, in words.
        load: the lines of Python that load them.
    """
    recipe = run.recipe
    blocks = [
        _front_matter(recipe),
        f"# {run.name}",
        f"{what} of {base_name(recipe)}, post-trained with ddrl. {label(recipe)}: "
        f"{method(recipe)}.",
        _table(
            {
                "Base model": base_name(recipe),
                "Step": str(run.step),
                "Weights": {"ema": "averaged (EMA)"}.get(run.weights, run.weights),
                "Commit of ddrl": str(run.info.get("commit") or "unknown"),
                "Seed": str(recipe.run.seed),
            },
            ("", ""),
        ),
        "## Load",
        "```python\n" + "\n".join(load) + "\n```",
        "## Audit",
        _audit(run),
        "## Metrics",
        _metrics(run.metrics, run.step),
        "## Recipe",
        "```toml\n" + dump_toml(recipe) + "```",
    ]
    return "\n\n".join(blocks) + "\n"


def _front_matter(recipe: Recipe) -> str:
    """Tags for the hub; the base is named where it is on the hub."""
    lines = [f"library_name: {'diffusers' if recipe.model.family == 'diffusers' else 'ddrl'}"]
    path = recipe.model.path
    if path and not Path(path).exists():
        lines.append(f"base_model: {json.dumps(path)}")
    tags = ["ddrl", *(["lora"] if recipe.model.lora.rank else [])]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


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
        found = json.loads(path.read_text(encoding="utf-8"))["runs"][run.name]
        sentence, step = str(found["verdict"]["sentence"]), int(found["num_steps"])
    except (OSError, ValueError, LookupError, TypeError):
        return "None yet: `ddrl evaluate` judges whether the reward was hacked."
    if step != run.step:
        return f"Of step {step}, which is not the step of these weights: {sentence}"
    return sentence

"""What runs where: tasks and families with their hardware and evidence, from results and code.

A task is measured if a file of benchmarks/results is of a recipe of it; its hardware is what these
files name. A family is tested if the tests of adapters name its pipelines. All else is not run.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from evidence import SIDE_BY_SIDE
from markdown.extensions.toc import slugify
from results import RESULTS, ROOT, WORDS, Table, holds, listed, made, read_result, word

from ddrl.models.families.registry import FAMILIES
from ddrl.recipe import Recipe, load_recipe
from ddrl.recipe.comparison import load_comparison
from ddrl.rewards.catalog import catalog

__all__ = ["KINDS", "where_block"]

TESTS = ROOT / "tests" / "models" / "families"
REWARD_TESTS = ROOT / "tests" / "rewards"
OWN = ROOT / "tests" / "flow" / "test_own_family.py"
NOT_RUN = "not run"

TASKS: Mapping[str, tuple[str, str, bool]] = {
    "compare_digits": ("Scanned digits", "digits", False),
    "compare_moving_digits": ("Clips of moving digits", "moving_digits", False),
    "compare_moving_digits_image": ("The same from their first frame", "moving_digits", True),
    "compare_words": ("Words, read by an OCR engine", "words", False),
}
"""The comparison that is linked -> what the task is called, its data, whether frames are given."""

PICTURES: Mapping[str, tuple[str, ...]] = {
    "SD 1.5": ("StableDiffusionPipeline",),
    "SDXL": ("StableDiffusionXLPipeline",),
    "SD3 and SD3.5": ("StableDiffusion3Pipeline",),
    "FLUX.1": ("FluxPipeline",),
    "FLUX.2-klein": ("Flux2KleinPipeline",),
    "Qwen-Image": ("QwenImagePipeline",),
    "SANA": ("SanaPipeline",),
    "Z-Image": ("ZImagePipeline",),
}
CLIPS: Mapping[str, tuple[str, ...]] = {
    "Wan2.1 and 2.2": ("WanPipeline", "WanImageToVideoPipeline"),
    "Cosmos-Predict2.5": ("Cosmos2_5_PredictBasePipeline",),
    "HunyuanVideo-1.5": ("HunyuanVideo15Pipeline", "HunyuanVideo15ImageToVideoPipeline"),
    "LTX-Video": ("LTXPipeline", "LTXImageToVideoPipeline"),
    "LTX-2": ("LTX2Pipeline", "LTX2ImageToVideoPipeline"),
}
EDITS: Mapping[str, tuple[str, ...]] = {
    "FLUX.1 Kontext": ("FluxKontextPipeline",),
    "FLUX.2-klein": ("Flux2KleinPipeline",),
    "Qwen-Image-Edit": ("QwenImageEditPipeline", "QwenImageEditPlusPipeline"),
}
KINDS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "Pictures": PICTURES,
    "Clips": CLIPS,
    "Edits": EDITS,
}
"""What is made -> families by name -> their pipelines."""


def where_block(_: str) -> str:
    """The status line and the table."""
    measured = [name for name, task in TASKS.items() if _results(_is_of(*task[1:]))]
    large = _results(lambda recipe: not recipe.model.is_embedded)
    on_gpu = any(_is_gpu(_hardware(name)) for name in _all_with_hardware())
    rows = [
        "| what is trained | hardware | evidence |",
        "|---|---|---|",
        *(_task(name) for name in TASKS),
        *(_family(kind, names) for kind, names in KINDS.items()),
        _own(),
        _rewards(),
        _real_size(),
        _released(large),
    ]
    absent = ["on released weights"] * (not large) + ["on a GPU"] * (not on_gpu)
    nowhere = f" Nothing has been run {made(' or '.join(absent))} yet." if absent else ""
    families = {name for names in KINDS.values() for name in names}
    count = made(WORDS[len(measured)].capitalize())
    tasks = "small task is" if len(measured) == 1 else "small tasks are"
    return f"""**Status:** version {made(_version())}, alpha. {count} {tasks} measured. Adapters for {made(len(families))} model families of diffusers are tested on tiny random weights.{nowhere}

{made(chr(10).join(rows))}
"""


def _task(name: str) -> str:
    """The row of an embedded task."""
    label, source, given = TASKS[name]
    found = _results(_is_of(source, given))
    if name not in found:
        return f"| {label} | | {NOT_RUN} |"
    title = next(title for result, title, _ in SIDE_BY_SIDE if result == name)
    seeds = max(len(cell["seeds"]) for cell in Table(name).result["cells"])
    link = f"[measured](docs/evidence.md#{slugify(title, '-')})"
    hardware = "; ".join(sorted({_hardware(one) for one in found})).replace("; CPU: ", "; ")
    return (
        f"| {label} (tiny network) | {hardware} | {link}, {word(seeds)} seed{'s' * (seeds > 1)} |"
    )


def _family(kind: str, names: Mapping[str, tuple[str, ...]]) -> str:
    """The row of a kind of families, all of which are tested."""
    tested = "\n".join(path.read_text("utf-8") for path in sorted(TESTS.rglob("*.py")))
    for pipeline in (one for pipelines in names.values() for one in pipelines):
        holds(pipeline in FAMILIES, f"{pipeline} is a pipeline that ddrl has an adapter for")
        holds(
            re.search(rf"\b{pipeline}\b", tested) is not None,
            f"{pipeline} is tested on tiny random weights",
        )
    return f"| {kind}: {listed(list(names))} | CPU | tested on tiny random weights |"


def _own() -> str:
    """The row of families of the user's."""
    holds("check_adapter" in OWN.read_text("utf-8"), "a family of one's own is tested")
    return "| [A family of your own](docs/models.md#your-own-family) | CPU | tested on tiny random weights |"


def _rewards() -> str:
    """The row of rewards whose weights are models of diffusers' world."""
    tested = "\n".join(path.read_text("utf-8") for path in sorted(REWARD_TESTS.rglob("test_*.py")))
    names = [entry.name for entry in catalog() if entry.card and entry.card.extra == "models"]
    for name in names:
        holds(
            re.search(rf"\b{name}\b", tested) is not None,
            f"{name} is tested on tiny random weights",
        )
    links = listed([f"`{name}`" for name in names])
    return f"| [Rewards](docs/rewards.md) with weights: {links} | CPU | tested on tiny random weights |"


def _real_size() -> str:
    """The row of networks of real size whose weights are random."""
    label = "SD3.5-Medium and Wan2.1-1.3B at full size, random weights: speed and memory"
    if not (RESULTS / "real_size.json").exists():
        return f"| {label} | GPU | {NOT_RUN}; [prepared](docs/gpu.md) |"
    return f"| {label} | {_hardware('real_size')} | measured, `benchmarks/results/real_size.json` |"


def _released(large: list[str]) -> str:
    """The row of released weights."""
    if not large:
        return f"| Released weights of any of these | GPU | {NOT_RUN} |"
    hardware = "; ".join(sorted({_hardware(name) for name in large}))
    recipes = sorted({_recipe_of(name) or "" for name in large})
    return f"| {listed([f'`{name}`' for name in recipes])} | {hardware} | [measured](docs/evidence.md) |"


def _is_of(source: str, given: bool) -> Callable[[Recipe], bool]:
    """Whether a recipe is of a task."""

    def check(recipe: Recipe) -> bool:
        return recipe.data.source == source and (recipe.data.given_frames > 0) == given

    return check


def _results(condition: Callable[[Recipe], bool]) -> list[str]:
    """The results whose recipes are such."""
    return [
        name
        for name in _all_with_hardware()
        if (file := _recipe_of(name)) and condition(_load(file))
    ]


def _all_with_hardware() -> Iterator[str]:
    for path in sorted(RESULTS.glob("*.json")):
        if _hardware(path.stem):
            yield path.stem


def _hardware(name: str) -> str:
    """The machine of a result; empty where it does not say."""
    result = read_result(name)
    origin: dict[str, Any] = result.get("provenance", {})
    told = origin.get("hardware") or result.get("hardware") or result.get("machine")
    told = told or result.get("environment", {}).get("Hardware", "")
    text = re.sub(r"\(R\)| Processor|, \d+ threads?", "", str(told))
    return text if _is_gpu(text) else f"CPU: {text}" * bool(text)


def _is_gpu(hardware: str) -> bool:
    """Whether an accelerator is named after the processor."""
    return re.search(r"NVIDIA|AMD Instinct|Radeon", hardware) is not None


def _recipe_of(name: str) -> str:
    """The recipe or comparison that a result was measured by; empty where it is none of ours."""
    result = read_result(name)
    told = [result.get("recipe", ""), result.get("reproduce", "")]
    told.append(result.get("provenance", {}).get("command", ""))
    files = re.findall(r"\brecipes/\S+\.toml", " ".join(map(str, told)))
    return next((file for file in files if (ROOT / file).exists()), "")


@lru_cache
def _load(file: str) -> Recipe:
    """A recipe, or that of a comparison with what it sets for all."""
    path = ROOT / file
    if "variant" not in tomllib.loads(path.read_text("utf-8")):
        return load_recipe(path)
    comparison, beside = load_comparison([path])
    return load_recipe(beside / Path(comparison.recipe), comparison.set)


def _version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return str(project["version"])

"""A run's weights in a form that others load, with a model card beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError

from ddrl.builders.store import Progress
from ddrl.disk import apply_umask, read_json
from ddrl.errors import UsageError
from ddrl.models.lora.adapter import has_lora, lora_rank
from ddrl.models.lora.export import save_lora
from ddrl.models.lora.names import LoRAFormat
from ddrl.models.tiny.model import TinyModel
from ddrl.models.whole_export import save_whole
from ddrl.recipe import Recipe
from ddrl.runs.card import base_name, public_recipe, render_card, shared_path
from ddrl.runs.card_code import pipeline_code
from ddrl.runs.folder import RunFolder, read_recipe
from ddrl.runs.loaded import (
    LoadedRun,
    Step,
    Weights,
    load_run,
)

FORMAT = "ddrl-export/1"
MANIFEST = "export.json"


@dataclass(frozen=True)
class ExportForm:
    """What weights are written as.

    Attributes:
        format: of an adapter's keys.
        dtype: of what was trained; None: of an adapter float32, of whole weights the base's own.
        merged: whether an adapter becomes part of the base, and a whole pipeline is written.
    """

    format: LoRAFormat = "diffusers"
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    merged: bool = False


def export_run(
    folder: Path,
    out: Path | None = None,
    *,
    step: Step | None = None,
    raw: bool = False,
    form: ExportForm | None = None,
    hub_id: str = "",
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Write a run's weights: an adapter, a diffusers folder, or the embedded model's folder.

    Args:
        folder: of the run.
        out: where it goes, ``export`` in the run's folder by default. An earlier export there is
            replaced; files beside it are kept.
        step: of the checkpoint; default: the newest.
        raw: the weights as the optimizer left them, not their average.
        form: keys, type of numbers, and whether an adapter is merged.
        hub_id: ``owner/name`` from which the card loads it; empty: the folder.
        overrides: as :func:`~ddrl.runs.loaded.load_run` takes them.
        progress: told about the base model, where it has to be made again.

    Returns:
        Where it is.

    Raises:
        UsageError: ``folder`` is not a run's, ``out`` is in use, or it can't be written; or the
            run can't be given this form.
        CheckpointError: there is no such checkpoint.
    """
    target = folder / "export" if out is None else out
    _check_target(target)  # before any weight is read
    form = form or ExportForm()
    _check_form(read_recipe(RunFolder(folder), overrides), form)
    weights: Weights = "raw" if raw else "ema"
    run = load_run(folder, step=step, weights=weights, overrides=overrides, progress=progress)
    public = public_recipe(read_recipe(RunFolder(folder)), run.recipe)
    _write_export(replace(run, recipe=public), target, form, hub_id)
    return target


def _check_form(recipe: Recipe, form: ExportForm) -> None:
    """Refuse what a run's weights can't be written as, before they are read.

    Raises:
        UsageError: an adapter's form is asked for, and the run has none.
    """
    is_tiny, has_adapter = recipe.model.is_embedded, recipe.model.lora.is_used
    asked = {
        "--merged": form.merged and not has_adapter,
        f"--format {form.format}": form.format != "diffusers" and not has_adapter,
        "--dtype": form.dtype is not None and is_tiny,
    }
    for option, is_wrong in asked.items():
        if is_wrong:
            raise UsageError(
                f"{option} is for {'pipelines' if option == '--dtype' else 'adapters'}, and this "
                f"run trained {'the embedded model' if is_tiny else 'all weights'}.",
                hint=f"leave {option} out",
            )
    if form.merged and form.format != "diffusers":
        raise UsageError(
            f"--merged writes a whole pipeline, which has no adapter's keys to be in the format "
            f"{form.format}.",
            hint="leave --merged or --format out",
        )


def _write_export(run: LoadedRun, target: Path, form: ExportForm, hub_id: str) -> None:
    """Write the export beside its place, then put it there.

    Raises:
        UsageError: the folder is in use, or can't be written.
    """
    _check_target(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(
            tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
        )
        try:
            what, load = _save_weights(run, beside, target, form, hub_id)
            card = render_card(run, what=what, load=load)
            (beside / "README.md").write_text(card, encoding="utf-8")
            _write_manifest(run, beside)
            apply_umask(beside)
            _put(beside, target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The export can't be written to {target}: {reason}.",
            hint="name a folder that is writable and has space left: --out FOLDER",
        ) from error


def _save_weights(
    run: LoadedRun, folder: Path, target: Path, form: ExportForm, hub_id: str
) -> tuple[str, list[str]]:
    """Write the weights; return what they are, and the lines of Python that load them."""
    model, place = run.model, hub_id or shared_path(str(target))
    if isinstance(model, TinyModel):
        model.save(folder)
        return "All weights", _tiny_code(place, on_hub=bool(hub_id))
    dtype = None if form.dtype is None else getattr(torch, form.dtype)
    if form.merged or not has_lora(model.transformer):
        what = "All weights, a LoRA merged into them," if form.merged else "All weights"
        save_whole(model, folder, dtype=dtype)
        return what, pipeline_code(run, place, ())
    rank = lora_rank(model.transformer)
    calls = save_lora(model, folder, format=form.format, dtype=dtype)
    calls = tuple(call.replace('"{folder}"', _quoted(place)) for call in calls)
    if form.format != "diffusers":
        return f"LoRA of rank {rank}, in the format {form.format},", []
    return f"LoRA of rank {rank}", pipeline_code(run, base_name(run.recipe), calls)


def _tiny_code(place: str, *, on_hub: bool) -> list[str]:
    where = f"snapshot_download({_quoted(place)})" if on_hub else _quoted(place)
    return [
        "from pathlib import Path",
        "from ddrl.models.tiny.model import TinyModel",
        *(["from huggingface_hub import snapshot_download"] if on_hub else []),
        f"model = TinyModel.load(Path({where}))",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _write_manifest(run: LoadedRun, folder: Path) -> None:
    """Name every file, so that the next export to this place can tell its own from others."""
    files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    manifest = {
        "format": FORMAT,
        "run": run.name,
        "step": run.step,
        "weights": run.weights,
        "base": base_name(run.recipe),
        "commit": run.info.get("commit") or "",
        "files": files,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def exported_files(folder: Path) -> list[str]:
    """The files of the export in a folder, with its manifest, by their paths in it."""
    return sorted([*(_earlier(folder) or ()), MANIFEST])


def _check_target(target: Path) -> None:
    """Refuse a place that holds something else.

    Raises:
        UsageError: it is a file, or a folder with files that are not an export.
    """
    try:
        is_free = not target.exists() or (target.is_dir() and not any(target.iterdir()))
    except OSError:
        is_free = False
    if not is_free and _earlier(target) is None:
        raise UsageError(
            f"{target} is in use, and not by an export.",
            hint="name an empty or a new folder: --out FOLDER",
        )


def _earlier(target: Path) -> list[str] | None:
    """The files of the export that is there, or None where there is none."""
    try:
        manifest: object = read_json(target / MANIFEST)
    except (OSError, ValueError):
        return None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        return None
    return [str(name) for name in manifest.get("files", [])]


def _put(beside: Path, target: Path) -> None:
    """Replace the earlier export; the manifest goes first, so that a half is known as an export."""
    stale = _earlier(target) or []
    target.mkdir(exist_ok=True)
    (beside / MANIFEST).replace(target / MANIFEST)
    root = target.resolve()
    for name in stale:
        path = target / name
        if path.resolve().is_relative_to(root):  # nothing outside of this folder is ever removed
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()  # if it is empty now
    for path in sorted(p for p in beside.rglob("*") if p.is_file()):
        place = target / path.relative_to(beside)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)

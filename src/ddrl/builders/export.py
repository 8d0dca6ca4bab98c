"""A run's weights in a form that others load, with a model card beside them."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from safetensors import SafetensorError

from ddrl.builders.card import base_name, render_card, shared_path
from ddrl.builders.runs import LoadedRun, Step, Weights, load_run
from ddrl.builders.store import Progress
from ddrl.disk import apply_umask, read_json
from ddrl.errors import UsageError
from ddrl.models.lora import has_lora
from ddrl.models.lora_export import save_lora
from ddrl.models.tiny import TinyModel

__all__ = ["FORMAT", "MANIFEST", "export_run", "write_export"]

FORMAT = "ddrl-export/1"
MANIFEST = "export.json"


def export_run(
    folder: Path,
    out: Path | None = None,
    *,
    step: Step | None = None,
    raw: bool = False,
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
        overrides: as :func:`~ddrl.builders.runs.load_run` takes them.
        progress: told about the base model, where it has to be made again.

    Returns:
        Where it is.

    Raises:
        UsageError: ``folder`` is not a run's, ``out`` is in use, or it can't be written.
        CheckpointError: there is no such checkpoint.
    """
    target = folder / "export" if out is None else out
    _check_target(target)  # before any weight is read
    weights: Weights = "raw" if raw else "ema"
    run = load_run(folder, step=step, weights=weights, overrides=overrides, progress=progress)
    write_export(run, target)
    return target


def write_export(run: LoadedRun, target: Path) -> None:
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
            what, load = _save_weights(run, beside, target)
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


def _save_weights(run: LoadedRun, folder: Path, target: Path) -> tuple[str, list[str]]:
    """Write the weights; return what they are, and the lines of Python that load them."""
    model = run.model
    if isinstance(model, TinyModel):
        model.save(folder)
        load = [
            "from pathlib import Path",
            "from ddrl.models.tiny import TinyModel",
            f"model = TinyModel.load(Path({_quoted(target)}))",
        ]
        return "All weights", load
    kind = type(model.pipeline).__name__
    load = [f"from diffusers import {kind}"]
    if not has_lora(model.transformer):
        model.pipeline.save_pretrained(folder)
        return "All weights", [*load, f"pipeline = {kind}.from_pretrained({_quoted(target)})"]
    calls = save_lora(model, folder)
    load.append(f"pipeline = {kind}.from_pretrained({_quoted(base_name(run.recipe))})")
    load += [call.replace('"{folder}"', _quoted(target)) for call in calls]
    return f"LoRA of rank {run.recipe.model.lora.rank}", load


def _quoted(text: str | Path) -> str:
    return json.dumps(shared_path(str(text)), ensure_ascii=False)


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

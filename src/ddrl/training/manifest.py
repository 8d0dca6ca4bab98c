"""The parts of a checkpoint: the name of its folder, its manifest, its files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ddrl.disk import open_regular, read_json, replace_file
from ddrl.errors import CheckpointError

FORMAT = "ddrl-checkpoint/1"
ANOTHER = "remove that folder to go on from the checkpoint before it"
_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})")


def step_of(path: Path) -> int | None:
    """Return the step in the name of a checkpoint's folder; None for any other name."""
    name = _NAME.fullmatch(path.name)
    return int(name[1]) if name else None


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        folder: folder of its files.
        step: iterations finished when it was written.
        recipe: recipe that it was made with, as TOML.
        notes: notes stored with it, as JSON.
    """

    folder: Path
    step: int
    recipe: str
    notes: Mapping[str, Any] = field(default_factory=dict)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read ``name``.safetensors.

        Raises:
            CheckpointError: the file can't be read.
        """
        try:
            return load_file(self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(
                f"{self.folder}/{name}.safetensors: {error}.", hint=ANOTHER
            ) from error

    def state(self) -> dict[str, Any]:
        """Read the optimizer's and other state.

        Raises:
            CheckpointError: the file can't be read.
        """
        try:
            state: dict[str, Any] = torch.load(self.folder / "state.pt", weights_only=True)
        except Exception as error:  # torch.load raises a dozen types for a broken file
            raise CheckpointError(
                f"{self.folder}/state.pt can't be read: {error}.", hint=ANOTHER
            ) from error
        return state


def write_manifest(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the manifest of a checkpoint, with a hash of every file in its folder."""
    files = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    manifest = {
        "format": FORMAT,
        "step": checkpoint.step,
        "files": files,
        "notes": checkpoint.notes,
        "recipe": checkpoint.recipe,
    }
    replace_json(folder / "manifest.json", manifest)


def replace_json(path: Path, value: object) -> None:
    """Put JSON in place of a file at once."""
    replace_file(path, json.dumps(value, indent=1, allow_nan=False))


def read_manifest(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: it is damaged, incomplete, a copy under the name of another step, or not a
            checkpoint of ddrl.
    """
    path = folder / "manifest.json"
    try:
        manifest = read_json(path)
        if manifest.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} has format {manifest.get('format')!r}, not {FORMAT!r}.",
                hint="it was written by another program or version",
            )
        for name, expected in manifest["files"].items():
            if Path(name).name != name:
                raise CheckpointError(f"{path} names a file elsewhere, {name!r}.", hint=ANOTHER)
            with open_regular(folder / name) as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise CheckpointError(f"{folder / name} is damaged or truncated.", hint=ANOTHER)
        step, notes = int(manifest["step"]), dict(manifest.get("notes", {}))
        if step_of(folder) not in (None, step):
            raise CheckpointError(
                f"{folder} is a copy of the checkpoint of step {step}.", hint=ANOTHER
            )
        return Checkpoint(folder, step, str(manifest["recipe"]), notes)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{folder} is not a whole checkpoint: {error}.", hint=ANOTHER
        ) from error

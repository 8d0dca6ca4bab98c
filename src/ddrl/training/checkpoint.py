"""Checkpoints that a killed run can trust.

A checkpoint is a folder, written beside under another name and renamed when it is whole; its
manifest, written last, holds a hash of every file. A reader takes the newest one whose hashes
are right and says which ones it passed over.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddrl.errors import CheckpointError

__all__ = ["Best", "Checkpoint", "CheckpointFolder", "load_weights", "read_manifest", "set_weights"]

FORMAT = "ddrl-checkpoint/1"
BEST_FORMAT = "ddrl-best/1"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A whole checkpoint on disk.

    Attributes:
        folder: where it is.
        step: iterations finished when it was written.
        recipe: the recipe it was made with, as TOML.
    """

    folder: Path
    step: int
    recipe: str

    def tensors(self, name: str) -> dict[str, Tensor]:
        """Read ``name``.safetensors.

        Raises:
            CheckpointError: the file can't be read.
        """
        try:
            return load_file(self.folder / f"{name}.safetensors")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{self.folder}/{name}.safetensors: {error}.") from error

    def state(self) -> dict[str, Any]:
        """Read the optimizer's and other state.

        Raises:
            CheckpointError: the file can't be read.
        """
        try:
            state: dict[str, Any] = torch.load(self.folder / "state.pt", weights_only=True)
        except Exception as error:  # torch.load raises a dozen types for a broken file
            raise CheckpointError(f"{self.folder}/state.pt can't be read: {error}.") from error
        return state


@dataclass(frozen=True)
class Best:
    """Which checkpoint the audit prefers.

    Attributes:
        step: of the checkpoint.
        score: the audit's; more is better.
    """

    step: int
    score: float


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many to keep; at least 2, so that a damaged newest one is not the only one.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self._keep = max(2, keep)
        self._passed_over: set[Path] = set()  # not whole: no substitute for one to keep

    def save(
        self,
        *,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        recipe: str = "",
    ) -> Checkpoint:
        """Write a checkpoint, then remove the oldest beyond the number to keep.

        Args:
            step: iterations finished.
            tensors: file name (without suffix) to tensors by name.
            state: anything that ``torch.load(weights_only=True)`` reads back.
            recipe: as TOML.

        Raises:
            CheckpointError: it can't be written; earlier ones are untouched.
        """
        final = self.folder / f"step-{step:08d}"
        beside = self.folder / f".writing-{step:08d}"
        with _named_errors(final):
            for half in self.folder.glob(".writing-*"):  # left by a kill
                shutil.rmtree(half, ignore_errors=True)
            beside.mkdir(parents=True)
            try:
                for name, values in tensors.items():
                    contiguous = {k: v.detach().contiguous() for k, v in values.items()}
                    save_file(contiguous, beside / f"{name}.safetensors")
                torch.save(dict(state), beside / "state.pt")
                self._write_manifest(beside, step, recipe)
                shutil.rmtree(final, ignore_errors=True)
                beside.rename(final)
            except BaseException:
                shutil.rmtree(beside, ignore_errors=True)
                raise
        self._passed_over.discard(final)
        whole = [folder for folder in self._folders() if folder not in self._passed_over]
        marked = self.best()
        best = None if marked is None else self.folder / f"step-{marked.step:08d}"
        for old in whole[: -self._keep]:
            if old not in (final, best):
                shutil.rmtree(old, ignore_errors=True)
        return Checkpoint(final, step, recipe)

    def mark_best(self, *, step: int, score: float) -> None:
        """Mark a checkpoint as the best by the audit, in ``best.json``: it is never removed.

        Args:
            step: of a checkpoint that is there.
            score: the audit's.

        Raises:
            CheckpointError: the mark can't be written.
        """
        path, beside = self.folder / "best.json", self.folder / ".best.json.part"
        with _named_errors(path):
            beside.write_text(json.dumps({"format": BEST_FORMAT, "step": step, "score": score}))
            beside.replace(path)

    def best(self) -> Best | None:
        """Which checkpoint is marked; None where none is, or the marked one is gone."""
        try:
            read = json.loads((self.folder / "best.json").read_text())
            found = Best(int(read["step"]), float(read["score"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if (self.folder / f"step-{found.step:08d}").is_dir() else None

    def _write_manifest(self, folder: Path, step: int, recipe: str) -> None:
        files = {}
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                os.fsync(file.fileno())
                files[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        manifest = {"format": FORMAT, "step": step, "files": files, "recipe": recipe}
        with (folder / "manifest.json").open("w") as text:
            json.dump(manifest, text, indent=1)
            text.flush()
            os.fsync(text.fileno())

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, and none of them is whole.
        """
        broken = []
        for folder in reversed(self._folders()):
            try:
                checkpoint = read_manifest(folder)
            except CheckpointError as error:
                logger.warning("%s Falling back to the previous checkpoint.", error.message)
                broken.append(error.message)
                self._passed_over.add(folder)
                continue
            return checkpoint
        if broken:
            raise CheckpointError(
                f"No checkpoint in {self.folder} is whole: {broken[0]}",
                hint="restore one, or start afresh in another run.folder",
            )
        return None


def read_manifest(folder: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: it is damaged, incomplete, or not a checkpoint of ddrl.
    """
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text())
        if manifest.get("format") != FORMAT:
            raise CheckpointError(
                f"{path} has format {manifest.get('format')!r}, not {FORMAT!r}.",
                hint="it was written by another program or version",
            )
        for name, expected in manifest["files"].items():
            with (folder / name).open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise CheckpointError(f"{folder / name} is damaged or truncated.")
        return Checkpoint(folder, int(manifest["step"]), str(manifest["recipe"]))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder} is not a whole checkpoint: {error}.") from error


@torch.no_grad()
def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the network's trainable parameters.

    Raises:
        CheckpointError: names or shapes are not those of the trainable set.
    """
    trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
    wrong = sorted(trainable.keys() ^ weights.keys()) or [
        name for name, p in trainable.items() if p.shape != weights[name].shape
    ]
    if wrong:
        raise CheckpointError(
            f"The checkpoint is of another network: {len(wrong)} weights differ in name or "
            f"shape, the first is {wrong[0]}.",
            hint="its [model] section and this recipe's have to agree",
        )
    set_weights(network, weights)


@torch.no_grad()
def set_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy weights into the parameters of these names."""
    parameters = dict(network.named_parameters())
    for name, value in weights.items():
        parameters[name].copy_(value)


@contextmanager
def _named_errors(target: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into one sentence."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        # torch.save and safetensors report a full disk as errors of their own.
        raise CheckpointError(
            f"Checkpoint {target} can't be written: {error}.",
            hint="free space or make the folder writable, then run the same command again; "
            "earlier checkpoints are kept",
        ) from error

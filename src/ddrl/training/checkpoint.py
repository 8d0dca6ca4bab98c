"""Checkpoints that a killed run can trust.

A checkpoint is a folder ``step-00000150``, written under another name and renamed when it is
whole; its manifest, written last, holds a hash of every file. A reader takes the newest one
whose hashes are right and says which ones it passed over. Whatever else lies in the folder, under
any other name, is the user's: it is never read and never removed.

The manifest also holds notes, plain JSON. They can be changed later, since a manifest is replaced
at once.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ddrl.disk import folder_beside, read_json, settle
from ddrl.errors import CheckpointError
from ddrl.training.manifest import Checkpoint, read_manifest, replace_json, step_of, write_manifest

HALF = re.compile(r"\.(writing|replaced)-[0-9]+")
"""Name of a folder that a kill left while a checkpoint was written or replaced."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Best:
    """The checkpoint that the audit prefers.

    Attributes:
        step: step of the checkpoint.
        score: score of its audit; more is better.
    """

    step: int
    score: float


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        folder: folder of the checkpoints; made when the first is written.
        keep: number to keep; at least 2, in case the newest is damaged. The best by the audit is
            kept as well.
    """

    def __init__(self, folder: Path, *, keep: int = 2) -> None:
        self.folder = folder
        self._keep = max(2, keep)
        self._passed_over: set[int] = set()  # not whole: no substitute for one to keep

    def path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint, whether it is there or not."""
        return self.folder / f"step-{step:08d}"

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints that are there, whole or not, in order."""
        if not self.folder.is_dir():
            return []
        found = ((step_of(path), path) for path in self.folder.iterdir())
        return sorted(step for step, path in found if step is not None and path.is_dir())

    def save(
        self,
        *,
        step: int,
        tensors: Mapping[str, Mapping[str, Tensor]],
        state: Mapping[str, Any],
        recipe: str = "",
        notes: Mapping[str, Any] | None = None,
    ) -> Checkpoint:
        """Write a checkpoint, then remove the oldest beyond the number to keep.

        Args:
            step: iterations finished.
            tensors: file name (without suffix) to tensors by name.
            state: anything that ``torch.load(weights_only=True)`` reads back.
            recipe: recipe of the run, as TOML.
            notes: notes to store with it, as JSON.

        Raises:
            CheckpointError: it can't be written; earlier ones are untouched.
        """
        final = self.path(step)
        checkpoint = Checkpoint(final, step, recipe, dict(notes or {}))
        with _named_errors(final):
            for half in self.folder.glob(".*-*"):
                if HALF.fullmatch(half.name):
                    shutil.rmtree(half, ignore_errors=True)
            with folder_beside(final, name=f"{step:08d}") as beside:
                for name, values in tensors.items():
                    contiguous = {k: v.detach().contiguous() for k, v in values.items()}
                    save_file(contiguous, beside / f"{name}.safetensors")
                torch.save(dict(state), beside / "state.pt")
                write_manifest(beside, checkpoint)
                settle(beside)
                self._make_way(final)
                beside.rename(final)
        self._passed_over.discard(step)
        self._prune(step)
        return checkpoint

    def _make_way(self, final: Path) -> None:
        """Clear the place of a checkpoint: of one that is made again, or of something else."""
        if final.is_symlink():
            final.unlink()  # what it leads to stays
        elif final.is_dir():
            old = self.folder / f".replaced-{final.name.removeprefix('step-')}"
            final.rename(old)
            shutil.rmtree(old, ignore_errors=True)
        elif final.exists():
            kept = final.with_name(f"{final.name}.replaced")
            final.rename(kept)
            logger.warning("%s was no checkpoint; it is %s now.", final, kept.name)

    def _prune(self, newest: int) -> None:
        whole = [step for step in self.steps() if step not in self._passed_over]
        best = next(iter(self._ranking()), None)
        for step in whole[: -self._keep]:
            if step != newest and (best is None or step != best.step):
                shutil.rmtree(self.path(step), ignore_errors=True)

    def annotate(self, step: int, notes: Mapping[str, Any]) -> None:
        """Add notes to a checkpoint, in place of those of the same names; nothing if it is gone.

        Raises:
            CheckpointError: it can't be written; the checkpoint is as it was.
        """
        path = self.path(step) / "manifest.json"
        with _named_errors(path.parent):
            try:
                manifest = read_json(path)
                manifest["notes"] = {**manifest.get("notes", {}), **notes}
            except (FileNotFoundError, ValueError, AttributeError, TypeError):
                return  # not whole: a resume passes over it
            replace_json(path, manifest)

    def best(self) -> Best | None:
        """Return the whole checkpoint whose audit scored best; None where none has a score.

        Each checkpoint's notes hold the score of its own audit, so the best one is known as
        the best from the moment at which it is saved.
        """
        for candidate in self._ranking():
            try:
                read_manifest(self.path(candidate.step))
            except CheckpointError as error:
                logger.warning("%s It was the best by the audit.", error.message)
                continue
            return candidate
        return None

    def _ranking(self) -> list[Best]:
        """The checkpoints with a score, best first, the earlier of equals first; none verified."""
        found = []
        for step in self.steps():
            try:
                notes = read_json(self.path(step) / "manifest.json")
                audits = notes["notes"]["audits"]
                if audits["step"] == step and audits["score"] is not None:
                    found.append(Best(step, float(audits["score"])))
            except (OSError, ValueError, LookupError, TypeError, OverflowError):
                continue
        return sorted(found, key=lambda best: (-best.score, best.step))

    def latest(self) -> Checkpoint | None:
        """Return the newest whole checkpoint, or None where there is none at all.

        Raises:
            CheckpointError: there are checkpoints, and none of them is whole.
        """
        broken = []
        for step in reversed(self.steps()):
            try:
                checkpoint = read_manifest(self.path(step))
            except CheckpointError as error:
                logger.warning("%s Falling back to the previous checkpoint.", error.message)
                broken.append(error.message)
                self._passed_over.add(step)
                continue
            return checkpoint
        if broken:
            raise CheckpointError(
                f"No checkpoint in {self.folder} is whole: {broken[0]}",
                hint="restore one, or start again in another run.folder",
            )
        return None


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

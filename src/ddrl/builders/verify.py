"""Whether a run meets the base and the data that its checkpoint was trained on.

A checkpoint's notes hold hashes of both, by content: neither may be another under the same path,
and both may lie elsewhere.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ddrl.builders.identity import base_parts, text_hash
from ddrl.builders.keys import family_code, own_code
from ddrl.errors import CheckpointError
from ddrl.models.base import DiffusionModel
from ddrl.recipe import Recipe
from ddrl.training.manifest import Checkpoint

MOVABLE = ("model.path", "model.start", "model.lora.start", "data.path")
"""Keys that may change on resume, since what lies there is told by its content."""

NOTE = "identity"
CODE, TASK_CODE = "code of the family", "code of the task"
"""Beside the parts of a base: hashes of an adapter and of a task that are not ddrl's."""

MAX_ROWS = 5000
"""Samples that a checkpoint lists one by one; of more data it says only whether it is the same."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataRow:
    """One sample of a run's data.

    Attributes:
        name: path relative to the data, or the prompt.
        caption: of it.
        content: hash of its media, and of all else that is known of it.
        is_heldout: whether nothing is trained on it.
    """

    name: str
    caption: str
    content: str
    is_heldout: bool

    def entry(self) -> list[str]:
        """As a checkpoint lists it."""
        kind = "heldout" if self.is_heldout else "train"
        return [self.name, kind, text_hash(self.caption)[:16], text_hash(self.content)[:16]]


def base_identity(model: DiffusionModel, task: type | None = None) -> dict[str, str]:
    """A hash of every part of a base, and of the code of a family and a task of the user's own."""
    codes = {CODE: family_code(model), TASK_CODE: own_code(task) if task else []}
    return base_parts(model) | {name: text_hash(code) for name, code in codes.items() if code}


def identity_notes(base: Mapping[str, str], rows: Sequence[DataRow]) -> dict[str, Any]:
    """What a checkpoint notes about the base and the data."""
    entries = [row.entry() for row in rows]
    data: dict[str, Any] = {"count": len(rows), "hash": text_hash(entries)}
    if len(rows) <= MAX_ROWS:
        data["rows"] = entries
    return {NOTE: {"base": dict(base), "data": data}}


def has_identity(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint says what base and data it was trained on."""
    return bool(_note(checkpoint, "base"))


def same_places(one: Checkpoint | None, other: Checkpoint | None) -> tuple[str, ...]:
    """Keys of :data:`MOVABLE` that may differ between two runs, as what lies there is the same."""
    if one is None or other is None or not (has_identity(one) and has_identity(other)):
        return ()
    bases = _parts(_note(one, "base")) == _parts(_note(other, "base"))
    data = _note(one, "data").get("hash") == _note(other, "data").get("hash")
    return (*(MOVABLE[:-1] if bases else ()), *(MOVABLE[-1:] if data else ()))


def check_base(
    checkpoint: Checkpoint,
    base: Mapping[str, str],
    recipe: Recipe,
    *,
    hint: str,
    replaced: str = "",
) -> None:
    """Refuse another base than the checkpoint's; of a user's code only tell that it differs.

    A comment changes code, too, and ddrl's own may change within a run.

    Args:
        checkpoint: of the run.
        base: hashes of the parts that there are now.
        recipe: of the run.
        hint: what to do about another base.
        replaced: a part whose weights all come from the checkpoint. Of the embedded base, which
            another machine may make with other last bits, it is only told that it differs.

    Raises:
        CheckpointError: a part is another one, is missing or is new.
    """
    saved = _note(checkpoint, "base")
    if not saved:
        logger.warning(
            "%s does not say what base and data it was trained on, as checkpoints of earlier "
            "versions, so that neither can be checked",
            checkpoint.folder,
        )
        return
    for code, name in ((CODE, recipe.model.family), (TASK_CODE, recipe.data.source)):
        if saved.get(code) != base.get(code):
            logger.warning(
                "%s was trained with other code of %s than there is now; if that changes what it "
                "computes, the run is no longer one",
                checkpoint.folder,
                name,
            )
    saved, base = _parts(saved), _parts(base)
    changed = sorted(n for n in {*saved, *base} if saved.get(n) != base.get(n))
    where = f"the base at {recipe.model.path}" if recipe.model.path else "the embedded base"
    if changed == [replaced] and not recipe.model.path:
        logger.warning(
            "%s was trained from another %s than that of %s now; its own weights do not depend "
            "on it",
            checkpoint.folder,
            replaced,
            where,
        )
    elif changed:
        raise CheckpointError(
            f"{checkpoint.folder} was trained on another base than {where} now: "
            f"{_list(changed)} {'differs' if len(changed) == 1 else 'differ'}.",
            hint=hint,
        )


def check_data(
    checkpoint: Checkpoint, rows: Sequence[DataRow], recipe: Recipe, *, hint: str
) -> None:
    """Refuse other data than the checkpoint's.

    Raises:
        CheckpointError: a sample is new, gone or another, or their order is.
    """
    saved = _note(checkpoint, "data")
    entries = [row.entry() for row in rows]
    if not saved or saved.get("hash") == text_hash(entries):
        return
    known = saved.get("rows")
    found = list(_changes(known, entries)) if isinstance(known, list) else []
    if not found:
        found = [f"of {saved.get('count')} samples then and {len(rows)} now, some differ"]
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    where = f"{recipe.data.path} holds" if recipe.data.path else "there are"
    raise CheckpointError(
        f"{checkpoint.folder} was trained on other data than {where} now: {found[0]}{more}.",
        hint=hint,
    )


def resume_hint(recipe: Recipe, key: str) -> str:
    """How a run goes on whose base or data is another one now."""
    afresh = "or start afresh on what is there, in another folder: run.folder=PATH"
    if key == "model.path" and recipe.model.start:
        key = "model.start"
    elif key == "model.path" and recipe.model.is_embedded:
        cache = (
            f"the folder base-* of the run.cache that it was trained with into {recipe.run.cache}"
        )
        return f"copy {cache}, {afresh}"
    if key == "data.path" and not recipe.data.path:
        return f"install the versions that {recipe.run.folder}/run.json names, {afresh}"
    return f"put back what was there, give its place now ({key}=PATH), {afresh}"


def reading_hint(key: str) -> str:
    """How a run is read whose base or data is another one now."""
    if not key:
        return (
            "copy the folder base-* of the run.cache that it was trained with into run.cache, or "
            "give its place: run.cache=PATH"
        )
    return f"put back what was there, or give its place now: {key}=PATH"


def _parts(base: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in base.items() if name not in (CODE, TASK_CODE)}


def _note(checkpoint: Checkpoint, name: str) -> Mapping[str, Any]:
    notes = checkpoint.notes.get(NOTE)
    found = notes.get(name) if isinstance(notes, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _changes(saved: Sequence[Sequence[str]], now: Sequence[Sequence[str]]) -> Iterable[str]:
    """What has changed, in words; last what follows from the rest: what is held out, the order."""
    before, after = _by_name(saved), _by_name(now)
    moved = []
    for name, count in before:
        if (name, count) not in after:
            yield f"{name!r} is gone"
    for (name, count), (kind, caption, content) in after.items():
        if (name, count) not in before:
            yield f"{name!r} is new"
            continue
        old_kind, old_caption, old_content = before[name, count]
        if content != old_content:
            yield f"{name!r} holds something else"
        elif caption != old_caption:
            yield f"{name!r} has another caption"
        elif kind != old_kind:
            moved.append(f"{name!r} is {'' if kind == 'heldout' else 'no longer '}held out")
    yield from moved
    if before.keys() == after.keys():
        pairs = zip(before, after, strict=True)
        yield from [f"the order changes at {new[0]!r}" for old, new in pairs if old != new][:1]


def _by_name(rows: Sequence[Sequence[str]]) -> dict[tuple[str, int], tuple[str, str, str]]:
    """By name, and number where a name is there several times."""
    seen: Counter[str] = Counter()
    found = {}
    for name, kind, caption, content in rows:
        found[name, seen[name]] = (kind, caption, content)
        seen[name] += 1
    return found


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]]) if names[1:] else names[0]

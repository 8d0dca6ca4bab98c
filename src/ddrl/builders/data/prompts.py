"""Prompts without media as the data of a run: what is held out is sampled from the base."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddrl.builders.data.corpus import Corpus, Part, Real, heldout_ids
from ddrl.builders.data.encoding import filler_of, text_notes
from ddrl.builders.identity import text_hash
from ddrl.builders.store import Progress
from ddrl.builders.synthetic.drawing import synthesize
from ddrl.builders.verify import DataRow
from ddrl.data.encoded.stored import StoredConditions
from ddrl.data.layouts.prompts import read_prompts
from ddrl.data.samples import sample_id
from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.recipe import Recipe

HELDOUT = 8  # samples per held-out prompt, unless the recipe says how many; the length of the run
# does not matter, so that the drift of runs of any length can be compared


def prompts_corpus(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> Corpus:
    """The prompts of a file; samples of the base stand where a corpus has held-out data.

    The part that is trained on has no latents: the anchors are made when training begins.

    Args:
        recipe: with ``data.source`` prompts.
        model: the base.
        progress: called as texts are encoded and samples made.

    Raises:
        DataError: the prompts can't be used, or the model can't make media of this size from them.
    """
    train, heldout = prompts_parts(recipe, model, progress=progress)
    # Of these none is left out by its reward: drift is measured on what the base makes.
    wanted = recipe.data.synthetic.per_prompt or HELDOUT
    samples = synthesize(recipe, model, heldout, per_prompt=wanted, progress=progress)
    heldout = dataclasses.replace(heldout, x0=samples.latents, caption_id=samples.caption_id)
    section = recipe.data
    return Corpus(
        train=train,
        heldout=heldout,
        real=Real(_Decoded(model, heldout), heldout.caption_id, heldout.captions),
        sizes=section.shapes,
        rows=(*_rows(train, is_heldout=False), *_rows(heldout, is_heldout=True)),
    )


def _rows(part: Part, *, is_heldout: bool) -> Iterator[DataRow]:
    for text, known in zip(part.captions, part.metadata, strict=True):
        yield DataRow(text, text, text_hash(dict(known)), is_heldout)


def prompts_parts(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> tuple[Part, Part]:
    """The prompts to train on and those that are held out, encoded, without latents.

    Raises:
        DataError: as :func:`prompts_corpus`.
    """
    section = recipe.data
    if model.given_frames:
        raise DataError(
            f"{type(model).__name__} is given a {_what(model)}, and prompts alone give none.",
            hint='set data.source = "files"',
        )
    (size,) = section.shapes
    shape = model.latent_shape(*size)
    prompts = read_prompts(Path(section.path), on_broken=section.on_broken)
    work = filler_of(recipe, model, progress)
    cache, keys = work.cache, work.texts(list(prompts))
    text_notes(model, prompts)
    kind = type(model.encode([""]))
    held = heldout_ids([sample_id(prompt) for prompt in prompts], section.heldout)

    def part(chosen: Sequence[str]) -> Part:
        condition = StoredConditions(
            kind, cache, text_keys=[keys[prompt] for prompt in chosen], device=model.device
        )
        nothing = torch.empty(0, dtype=torch.int64)
        known = tuple(prompts[prompt] for prompt in chosen)
        return Part(tuple(chosen), condition, nothing, torch.empty((0, *shape)), known)

    return (
        part([prompt for prompt in prompts if sample_id(prompt) not in held]),
        part([prompt for prompt in prompts if sample_id(prompt) in held]),
    )


def _what(model: DiffusersModel) -> str:
    return "source image" if model.takes_sources else "first frame"


class _Decoded:
    """Media of latents by row, decoded when they are asked for."""

    def __init__(self, model: DiffusersModel, part: Part) -> None:
        self._model, self._part = model, part

    def __len__(self) -> int:
        return len(self._part.x0)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = torch.arange(len(self))[index if isinstance(index, slice) else index.cpu()]
        media = []
        for number in rows.tolist():
            row = slice(number, number + 1)
            condition = self._part.condition[self._part.caption_id[row]]
            latents = self._part.x0[row].to(self._model.device)
            media.append(self._model.decode(latents, condition).cpu())
        return torch.cat(media)

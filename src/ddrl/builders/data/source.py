"""The data of a recipe, wherever it comes from."""

from __future__ import annotations

from pathlib import Path

import torch

from ddrl.builders.data.corpus import Corpus, Part, Real, files_corpus
from ddrl.builders.data.prompts import prompts_corpus
from ddrl.builders.store import Progress, fingerprint
from ddrl.builders.verify import DataRow
from ddrl.data.embedded.digits import DigitSplits
from ddrl.data.embedded.sources import CaptionedMedia
from ddrl.data.layouts.pinned import check_name
from ddrl.data.layouts.prompts import read_prompts
from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.tiny.model import TinyModel
from ddrl.recipe import Recipe


def check_path(recipe: Recipe) -> None:
    """Refuse a path that is not there; costs nothing, so that it comes before a model is loaded.

    Raises:
        DataError: ``data.path`` is missing, holds no prompts although it should, or names no set.
    """
    section = recipe.data
    if section.source == "prompts":
        read_prompts(Path(section.path), on_broken=section.on_broken)
    if section.source == "hub":
        check_name(section.path)
    if section.source == "files" and not Path(section.path).exists():
        raise DataError(
            f"There is no data at {section.path}.",
            hint="set data.path to a folder of captioned media, or a file that lists them",
        )


def build_corpus(
    recipe: Recipe,
    model: TinyModel | DiffusersModel,
    splits: DigitSplits | None,
    *,
    progress: Progress | None = None,
) -> Corpus:
    """The data, encoded.

    Raises:
        DataError: it can't be had.
    """
    if splits is not None and isinstance(model, TinyModel):
        return digits_corpus(splits, model)
    assert isinstance(model, DiffusersModel)  # the recipe's rules pair models with data
    make = prompts_corpus if recipe.data.source == "prompts" else files_corpus
    return make(recipe, model, progress=progress)


@torch.no_grad()
def digits_corpus(splits: DigitSplits, model: TinyModel) -> Corpus:
    """The embedded data, encoded by the embedded model."""
    given = model.config.given_frames

    def part(data: CaptionedMedia) -> Part:
        x0 = model.encode_media(data.media)
        if given:  # a prompt is a caption and first frames, so that each clip has its own
            texts = data.texts()
            condition = model.encode(texts, first_frames=data.media[:, :given])
            return Part(texts, condition, torch.arange(len(texts)), x0)
        return Part(data.captions, model.encode(data.captions), data.caption_id, x0)

    size = (model.config.height, model.config.columns, model.config.frames)
    train, held = part(splits.train), part(splits.heldout)
    rows = tuple(
        DataRow(f"the {kind} part", " ".join(data.captions), fingerprint(data), kind == "held-out")
        for kind, data in (("training", splits.train), ("held-out", splits.heldout))
    )
    real = Real(splits.heldout.media, held.caption_id, held.captions)
    return Corpus(train, held, real, (size,), rows)

"""The data of a recipe as a run uses it: latents to train on, media to be measured by."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddrl.builders.store import Progress
from ddrl.data.cache import EncodedCache
from ddrl.data.digits import DigitSplits
from ddrl.data.encoders import MediaEncoder, TextEncoder
from ddrl.data.encoding import EncodedSample, EncodeReport, encode
from ddrl.data.files import find_samples, usable
from ddrl.data.framing import Bucket, Framing
from ddrl.data.media import frame_media, to_unit
from ddrl.data.samples import Sample
from ddrl.data.sources import CaptionedMedia
from ddrl.errors import DataError
from ddrl.models.base import DiffusionModel
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.models.tiny import TinyModel
from ddrl.recipe import Recipe
from ddrl.records import Condition
from ddrl.seeding import derive_seed

__all__ = ["Corpus", "Part", "check_path", "digits_corpus", "encode_files", "files_corpus"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Encoded data: what is trained on, or what is held out.

    Attributes:
        captions: the distinct captions, which are the prompts.
        condition: their encodings, one row each, on the model's device.
        caption_id: per latent, its caption's position, shape (N,).
        x0: clean latents, float32, on the CPU, shape (N, ...).
    """

    captions: tuple[str, ...]
    condition: Condition
    caption_id: Tensor
    x0: Tensor


@dataclass(frozen=True)
class Corpus:
    """The data of a run.

    Attributes:
        train: what is trained on and anchored to.
        heldout: what nothing is trained on.
        real: pixels of the held-out data, for comparison with samples.
        size: (height, width, frames) of the media.
    """

    train: Part
    heldout: Part
    real: CaptionedMedia
    size: tuple[int, int, int]


@torch.no_grad()
def digits_corpus(splits: DigitSplits, model: TinyModel) -> Corpus:
    """The embedded data, encoded by the embedded model."""

    def part(data: CaptionedMedia) -> Part:
        condition = model.encode(data.captions)
        return Part(data.captions, condition, data.caption_id, model.encode_media(data.media))

    size = (model.config.height, model.config.columns, 1)
    return Corpus(part(splits.train), part(splits.heldout), splits.heldout, size)


def check_path(recipe: Recipe) -> None:
    """Refuse a path that is not there; costs nothing, so that it comes before a model is loaded.

    Raises:
        DataError: ``data.path`` is missing.
    """
    section = recipe.data
    if section.source == "files" and not Path(section.path).exists():
        raise DataError(
            f"There is no data at {section.path}.",
            hint="set data.path to a folder of captioned media, or a file that lists them",
        )


def files_corpus(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> Corpus:
    """Captioned files, encoded once and found again in the cache.

    Raises:
        DataError: there is no data, it is broken, or the model can't make media of this size.
    """
    samples, report = encode_files(recipe, model, progress=progress)
    cache = _cache(recipe)
    held = _heldout_ids(report.samples, recipe.data.heldout)
    train = [sample for sample in report.samples if sample.id not in held]
    rest = [sample for sample in report.samples if sample.id in held]
    by_id = {sample.id: sample for sample in samples}
    section = recipe.data
    heldout = _part(rest, cache, report.text_keys, model)
    framing = _framing(recipe)
    pixels = [frame_media(by_id[s.id].media, framing).pixels for s in rest]
    real = CaptionedMedia(to_unit(torch.stack(pixels)), heldout.caption_id, heldout.captions)
    size = (section.height, section.width, section.frames)
    return Corpus(_part(train, cache, report.text_keys, model), heldout, real, size)


def encode_files(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> tuple[tuple[Sample, ...], EncodeReport]:
    """Encode the recipe's files: latents and texts that are not in the cache yet.

    Raises:
        DataError: as :func:`files_corpus`.
    """
    section = recipe.data
    model.latent_shape(section.height, section.width, section.frames)  # refuses a wrong size
    found = find_samples(Path(section.path))
    samples = usable(found, on_broken=section.on_broken)
    fingerprint = _fingerprint(recipe.model.path, model)

    def encode_media(pixels: Tensor) -> Tensor:
        return model.encode_media(pixels.to(model.device)).cpu()

    def encode_text(texts: Sequence[str]) -> dict[str, Tensor]:
        condition = model.encode(texts)
        values = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)}
        return {name: value for name, value in values.items() if value is not None}

    report = encode(
        samples,
        _cache(recipe),
        media=MediaEncoder(encode_media, fingerprint, torch.float32),
        text=TextEncoder(encode_text, fingerprint, torch.float32),
        framing=_framing(recipe),
        on_broken=section.on_broken,
        progress=None if progress is None else lambda what, i, n: progress(what, i, n, ""),
    )
    logger.info("%s", "; ".join(" ".join(line.split()) for line in report.lines()))
    return samples, report


def _cache(recipe: Recipe) -> EncodedCache:
    return EncodedCache(Path(recipe.run.cache) / "encoded")


def _framing(recipe: Recipe) -> Framing:
    section = recipe.data
    bucket = Bucket(section.height, section.width, section.frames)
    return Framing((bucket,), fps=section.fps or None)


def _fingerprint(path: str, model: DiffusersModel) -> str:
    """What latents and embeddings depend on: every frozen weight, sampled, and where it is from."""
    digest = hashlib.sha256(f"{path}/{type(model).__name__}".encode())
    for part in model.frozen_parts():
        digest.update(str(getattr(part, "config", "")).encode())
        for name, parameter in part.named_parameters():
            # The first and last numbers of every weight tell models apart without reading all.
            flat = parameter.detach().flatten()
            ends = torch.cat([flat[:8], flat[-8:]]).float().cpu()
            digest.update(name.encode() + ends.numpy().tobytes())
    return digest.hexdigest()


def _heldout_ids(samples: Sequence[EncodedSample], share: float) -> set[int]:
    """The held-out samples: chosen by their names, so that new files leave old ones where they are.

    Raises:
        DataError: there are too few samples to hold one out.
    """
    if len(samples) < 2:
        raise DataError(
            f"There is {len(samples)} usable sample, and one of at least two is held out.",
            hint="add data",
        )
    ranked = sorted(samples, key=lambda sample: derive_seed(0, "heldout", sample.id))
    count = min(len(samples) - 1, max(1, round(share * len(samples))))
    return {sample.id for sample in ranked[:count]}


def _part(
    samples: Sequence[EncodedSample],
    cache: EncodedCache,
    text_keys: Mapping[str, str],
    model: DiffusersModel,
) -> Part:
    captions = tuple(dict.fromkeys(sample.caption for sample in samples))
    index = {caption: i for i, caption in enumerate(captions)}
    latents = torch.stack([cache.media(sample.media_key)["latents"] for sample in samples])
    condition = _stack(model, [cache.text(text_keys[caption]) for caption in captions])
    caption_id = torch.tensor([index[sample.caption] for sample in samples])
    return Part(captions, condition.to(model.device), caption_id, latents.float())


def _stack(model: DiffusionModel, rows: Sequence[Mapping[str, Tensor]]) -> Condition:
    """Rows of the cache to the family's condition; shorter texts are padded with zeros."""
    kind = type(model.encode([""]))
    values: dict[str, Tensor | None] = {}
    for field in dataclasses.fields(kind):
        found = [row[field.name] for row in rows if field.name in row]
        if not found:
            values[field.name] = None
            continue
        if found[0].ndim == 0:
            values[field.name] = torch.stack(found)
            continue
        longest = max(len(value) for value in found)
        padded = [
            torch.cat([v, v.new_zeros((longest - len(v), *v.shape[1:]))]) if len(v) < longest else v
            for v in found
        ]
        values[field.name] = torch.stack(padded)
    return kind(**values)

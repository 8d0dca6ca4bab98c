"""Encodes the media of a recipe, wherever they are from, with its own model."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ddrl.builders.data.samples import find_files, hub_folder, hub_stream
from ddrl.builders.data.sizes import latent_shapes
from ddrl.builders.identity import text_hash
from ddrl.builders.keys import encoder_fingerprint
from ddrl.builders.store import Progress
from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoders import GivenEncoder, MediaEncoder, TextEncoder
from ddrl.data.encoded.encoding import EncodedSample, EncodeReport, encode
from ddrl.data.encoded.filling import Filler
from ddrl.data.encoded.streamed import encode_stream
from ddrl.data.locators import Locator
from ddrl.data.media.framing import Bucket, Framing
from ddrl.data.samples import Sample
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.files.text_limits import TextLimits
from ddrl.recipe import Recipe
from ddrl.recipe.sizes import size_name
from ddrl.seeding import derive_seed

logger = logging.getLogger(__name__)

MediaOf = Callable[[Sequence[EncodedSample]], list[Locator]]
"""Where the media of encoded samples are."""


def encode_data(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> tuple[MediaOf, EncodeReport]:
    """Encode the recipe's media, wherever they are from: what is not in the cache yet.

    Raises:
        DataError: as :func:`files_corpus`.
    """
    if recipe.data.source == "hub":
        media, report = _encode_hub(recipe, model, progress)
        return media, _with_notes(report, model, framing_of(recipe))
    samples, report = encode_files(recipe, model, progress=progress)
    report = _with_notes(report, model, framing_of(recipe))
    by_id = {sample.id: sample.media for sample in samples}
    return lambda chosen: [by_id[sample.id] for sample in chosen], report


def _with_notes(report: EncodeReport, model: DiffusersModel, framing: Framing) -> EncodeReport:
    """The report with what is worth knowing of texts and sizes."""
    notes = text_notes(model, [one.caption for one in report.samples])
    if len(framing.buckets) == 1:
        return dataclasses.replace(report, notes=tuple(notes))
    counts = Counter(one.bucket for one in report.samples)
    sizes = {size_name(dataclasses.astuple(bucket)): counts[bucket] for bucket in framing.buckets}
    logger.info("samples by size: %s", ", ".join(f"{size} {n}" for size, n in sizes.items()))
    for size in (size for size, count in sizes.items() if not count):
        notes.append(f"no sample has the size {size}: leave it out of data.sizes")
        logger.warning("%s", notes[-1])
    return dataclasses.replace(report, notes=tuple(notes), sizes=sizes)


def text_notes(model: DiffusersModel, texts: Iterable[str]) -> list[str]:
    """Say which texts the model's encoders do not read to their end, or take for one."""
    notes = TextLimits.of(model.pipeline).notes(list(texts))
    for note in notes:
        logger.warning("%s", note)
    return notes


def encode_files(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> tuple[tuple[Sample, ...], EncodeReport]:
    """Encode the recipe's files: latents and texts that are not in the cache yet.

    Raises:
        DataError: as :func:`files_corpus`.
    """
    work = filler_of(recipe, model, progress)
    samples = find_files(recipe)
    report = encode(samples, work, on_broken=recipe.data.on_broken)
    logger.info("%s", "; ".join(" ".join(line.split()) for line in report.lines()))
    return samples, report


def _encode_hub(
    recipe: Recipe, model: DiffusersModel, progress: Progress | None
) -> tuple[MediaOf, EncodeReport]:
    """Encode a set of the hub as a stream; all that its latents depend on names its folder."""
    section, work = recipe.data, filler_of(recipe, model, progress)
    stream, key = hub_stream(recipe)
    encoders = [work.media.fingerprint, work.text.fingerprint, model.given_frames]
    made_from = [key, encoders, str(work.text.dtype), dataclasses.asdict(work.framing)]
    below = 2 * section.heldout * (1 << 63)  # twice what is held out of many, to be safe
    streamed = encode_stream(
        stream,
        hub_folder(recipe) / text_hash(made_from),
        work,
        is_kept=lambda one: derive_seed(0, "heldout", one) < below,
        on_broken=section.on_broken,
    )
    report = streamed.report
    logger.info("%s", "; ".join(" ".join(line.split()) for line in report.lines()))
    return streamed.media, report


def filler_of(recipe: Recipe, model: DiffusersModel, progress: Progress | None) -> Filler:
    """What encodes the recipe's media.

    Raises:
        DataError: the model can't make media of this size.
    """
    latent_shapes(recipe, model)
    fingerprint, num_given = encoder_fingerprint(model), model.given_frames

    def encode_media(pixels: Tensor) -> Tensor:
        return model.encode_media(pixels.to(model.device)).cpu()

    def encode_given(pixels: Tensor, frames: int, caption: str) -> dict[str, Tensor]:
        return model.encode_given(pixels.to(model.device), frames=frames, texts=[caption])

    given = GivenEncoder(
        encode_given,
        fingerprint,
        num_given,
        is_source=model.takes_sources,
        reads_text=model.reads_given_with_texts,
    )
    return Filler(
        encoded_cache(recipe),
        # Latents lack the latent frames that are given, so that these are part of what they are.
        MediaEncoder(encode_media, f"{fingerprint}/{model.given_latents}", torch.float32),
        text_encoder(model),
        framing_of(recipe),
        given if num_given else None,
        None if progress is None else lambda what, i, n: progress(what, i, n, ""),
    )


def text_encoder(model: DiffusersModel) -> TextEncoder:
    """The model's text encoders, for the cache."""

    def encode_text(texts: Sequence[str]) -> dict[str, Tensor]:
        condition = model.encode(texts)
        values = {f.name: getattr(condition, f.name) for f in dataclasses.fields(condition)}
        return {name: value for name, value in values.items() if value is not None}

    return TextEncoder(encode_text, encoder_fingerprint(model), model.dtype)


def encoded_cache(recipe: Recipe) -> EncodedCache:
    """Where what was encoded is kept."""
    return EncodedCache(Path(recipe.run.cache) / "encoded")


def framing_of(recipe: Recipe) -> Framing:
    """The sizes that the recipe's media have."""
    buckets = tuple(Bucket(*shape) for shape in recipe.data.shapes)
    return Framing(buckets, fps=recipe.data.fps or None)

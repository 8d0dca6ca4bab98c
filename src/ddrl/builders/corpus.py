"""The data of a recipe as a run uses it: latents to train on, media to be measured by."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ddrl.builders.identity import text_hash
from ddrl.builders.keys import encoder_fingerprint
from ddrl.builders.samples import find_files, hub_folder, hub_stream
from ddrl.builders.store import Progress
from ddrl.builders.verify import DataRow
from ddrl.data.cache import EncodedCache
from ddrl.data.encoders import GivenEncoder, MediaEncoder, TextEncoder
from ddrl.data.encoding import EncodedSample, EncodeReport, encode
from ddrl.data.filling import Filler
from ddrl.data.framing import Bucket, Framing
from ddrl.data.locators import Locator
from ddrl.data.media import frame_media, to_unit
from ddrl.data.samples import Sample
from ddrl.data.stored import StoredConditions, StoredLatents
from ddrl.data.streamed import encode_stream
from ddrl.errors import DataError
from ddrl.models.diffusers_model import DiffusersModel
from ddrl.recipe import Recipe
from ddrl.records import Condition, ConditionRows, LatentRows, Prompts
from ddrl.seeding import derive_seed

__all__ = [
    "Corpus",
    "Part",
    "Real",
    "encode_data",
    "encode_files",
    "encoded_cache",
    "files_corpus",
    "heldout_ids",
    "text_encoder",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """Encoded data: what is trained on, or what is held out.

    A prompt is a caption; where frames are given, it is a caption and its frames, so that a
    caption may be there several times.

    Attributes:
        captions: of the prompts.
        condition: their encodings, one row each.
        caption_id: per latent, its prompt's position, shape (N,), on the CPU.
        x0: clean latents, float32, shape (N, ...).
        metadata: of the prompts; none: nothing is known of any.
    """

    captions: tuple[str, ...]
    condition: ConditionRows
    caption_id: Tensor
    x0: LatentRows
    metadata: tuple[Mapping[str, Any], ...] = ()

    @property
    def prompts(self) -> Prompts:
        """The prompts as rewards see them."""
        return Prompts.numbered(self.captions, self.metadata)


class Pixels(Protocol):
    """Media by row: a tensor, or what decodes rows when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Tensor | slice, /) -> Tensor: ...


@dataclass(frozen=True)
class Real:
    """Real media, to compare samples with.

    Attributes:
        media: pixels in [0, 1], shape (N, 3, H, W), or (N, T, 3, H, W) for clips.
        caption_id: per file, its prompt's position, shape (N,).
        captions: of the prompts.
    """

    media: Pixels
    caption_id: Tensor
    captions: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.media)


@dataclass(frozen=True)
class Corpus:
    """The data of a run.

    Attributes:
        train: what is trained on and anchored to.
        heldout: what nothing is trained on.
        real: the held-out media, which are decoded only if they are asked for.
        size: (height, width, frames) of the media.
        rows: every sample of both parts, in the order of the data, to be known again by.
    """

    train: Part
    heldout: Part
    real: Real
    size: tuple[int, int, int]
    rows: tuple[DataRow, ...] = ()


def files_corpus(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> Corpus:
    """Captioned files, or a set of the hub, encoded once and found again in the cache.

    Raises:
        DataError: there is no data, it is broken, or the model can't make media of this size.
    """
    media, report = encode_data(recipe, model, progress=progress)
    cache = encoded_cache(recipe)
    held = heldout_ids([sample.id for sample in report.samples], recipe.data.heldout)
    train = [sample for sample in report.samples if sample.id not in held]
    rest = [sample for sample in report.samples if sample.id in held]
    kind = type(model.encode([""]))
    heldout = _part(rest, cache, kind, model.device)
    pixels = _Decoded(media(rest), _framing(recipe))
    section = recipe.data
    return Corpus(
        train=_part(train, cache, kind, model.device),
        heldout=heldout,
        real=Real(pixels, heldout.caption_id, heldout.captions),
        size=(section.height, section.width, section.frames),
        rows=tuple(_row(sample, is_heldout=sample.id in held) for sample in report.samples),
    )


def _row(sample: EncodedSample, *, is_heldout: bool) -> DataRow:
    known = [sample.content, sample.given_content, dict(sample.metadata)]
    return DataRow(sample.name, sample.caption, text_hash(known), is_heldout)


class _Decoded:
    """Media files by row, decoded when they are asked for."""

    def __init__(self, media: Sequence[Locator], framing: Framing) -> None:
        self._media, self._framing = tuple(media), framing

    def __len__(self) -> int:
        return len(self._media)

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        rows = torch.arange(len(self))[index].tolist()
        media = [frame_media(self._media[row], self._framing).pixels for row in rows]
        return to_unit(torch.stack(media))


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
        return _encode_hub(recipe, model, progress)
    samples, report = encode_files(recipe, model, progress=progress)
    by_id = {sample.id: sample.media for sample in samples}
    return lambda chosen: [by_id[sample.id] for sample in chosen], report


def encode_files(
    recipe: Recipe, model: DiffusersModel, *, progress: Progress | None = None
) -> tuple[tuple[Sample, ...], EncodeReport]:
    """Encode the recipe's files: latents and texts that are not in the cache yet.

    Raises:
        DataError: as :func:`files_corpus`.
    """
    work = _work(recipe, model, progress)
    samples = find_files(recipe)
    report = encode(
        samples,
        work.cache,
        media=work.media,
        text=work.text,
        given=work.given,
        framing=work.framing,
        on_broken=recipe.data.on_broken,
        progress=work.progress,
    )
    logger.info("%s", "; ".join(" ".join(line.split()) for line in report.lines()))
    return samples, report


def _encode_hub(
    recipe: Recipe, model: DiffusersModel, progress: Progress | None
) -> tuple[MediaOf, EncodeReport]:
    """Encode a set of the hub as a stream; all that its latents depend on names its folder."""
    section, work = recipe.data, _work(recipe, model, progress)
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


def _work(recipe: Recipe, model: DiffusersModel, progress: Progress | None) -> Filler:
    """What encodes the recipe's media.

    Raises:
        DataError: the model can't make media of this size.
    """
    section = recipe.data
    model.latent_shape(section.height, section.width, section.frames)
    fingerprint, num_given = encoder_fingerprint(model), model.given_frames

    def encode_media(pixels: Tensor) -> Tensor:
        return model.encode_media(pixels.to(model.device)).cpu()

    def encode_given(pixels: Tensor, frames: int) -> dict[str, Tensor]:
        return model.encode_given(pixels.to(model.device), frames=frames)

    return Filler(
        encoded_cache(recipe),
        # Latents lack the latent frames that are given, so that these are part of what they are.
        MediaEncoder(encode_media, f"{fingerprint}/{model.given_latents}", torch.float32),
        text_encoder(model),
        GivenEncoder(encode_given, fingerprint, num_given) if num_given else None,
        _framing(recipe),
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


def _framing(recipe: Recipe) -> Framing:
    section = recipe.data
    bucket = Bucket(section.height, section.width, section.frames)
    return Framing((bucket,), fps=section.fps or None)


def heldout_ids(ids: Sequence[int], share: float) -> set[int]:
    """The held-out samples: chosen by their names, so that new ones leave old ones where they are.

    Raises:
        DataError: there are too few samples to hold one out.
    """
    if len(ids) < 2:
        raise DataError(
            f"There is {len(ids)} usable sample, and one of at least two is held out.",
            hint="add data",
        )
    ranked = sorted(ids, key=lambda one: derive_seed(0, "heldout", one))
    return set(ranked[: min(len(ids) - 1, max(1, round(share * len(ids))))])


def _part(
    samples: Sequence[EncodedSample],
    cache: EncodedCache,
    kind: type[Condition],
    device: torch.device,
) -> Part:
    """Samples whose prompts are numbered in the order in which they come up.

    Of a prompt with several samples that is known on which all of them agree.
    """
    index: dict[tuple[str, str], int] = {}
    first: list[EncodedSample] = []
    metadata: list[Mapping[str, Any]] = []
    for sample in samples:
        if (prompt := (sample.caption, sample.given_content)) not in index:
            index[prompt] = len(index)
            first.append(sample)
            metadata.append(sample.metadata)
        else:
            known = metadata[index[prompt]]
            metadata[index[prompt]] = _agreed(known, sample.metadata)
    condition = StoredConditions(
        kind,
        cache,
        text_keys=[sample.text_key for sample in first],
        given_keys=[sample.given_key for sample in first] if first[0].given_key else None,
        device=device,
    )
    return Part(
        tuple(sample.caption for sample in first),
        condition,
        torch.tensor([index[sample.caption, sample.given_content] for sample in samples]),
        StoredLatents(cache, [sample.media_key for sample in samples]),
        tuple(metadata),
    )


def _agreed(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key in other and other[key] == value}

"""The data of a recipe as a run uses it: latents to train on, media to be measured by."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from ddrl.builders.data.encoding import encode_data, encoded_cache, framing_of
from ddrl.builders.identity import text_hash
from ddrl.builders.store import Progress
from ddrl.builders.verify import DataRow
from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.encoding import EncodedSample
from ddrl.data.encoded.stored import StoredConditions, StoredLatents
from ddrl.data.locators import Locator
from ddrl.data.media.framing import Framing
from ddrl.data.media.reading import frame_media, to_unit
from ddrl.errors import DataError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.recipe import Recipe
from ddrl.records import Condition, ConditionRows, LatentRows, Prompts
from ddrl.seeding import derive_seed

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
        size_id: per latent, its position in the corpus' sizes, shape (N,); None: all have one.
    """

    captions: tuple[str, ...]
    condition: ConditionRows
    caption_id: Tensor
    x0: LatentRows
    metadata: tuple[Mapping[str, Any], ...] = ()
    size_id: Tensor | None = None

    @property
    def prompts(self) -> Prompts:
        """The prompts as rewards see them."""
        return Prompts.numbered(self.captions, self.metadata)

    def prompt_sizes(self) -> Tensor:
        """The size that each prompt is sampled at, shape (P,): that of its first latent."""
        sizes = torch.zeros(len(self.captions), dtype=torch.int64)
        if self.size_id is not None:
            # Written last to first, so that the first is what stays.
            for prompt, size in zip(
                self.caption_id.flip(0).tolist(), self.size_id.flip(0).tolist(), strict=True
            ):
                sizes[prompt] = size
        return sizes


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
        size_id: per file, its size, shape (N,), of which rows can be had together only if they
            have the same; None: all have one.
    """

    media: Pixels
    caption_id: Tensor
    captions: tuple[str, ...]
    size_id: Tensor | None = None

    def __len__(self) -> int:
        return len(self.media)


@dataclass(frozen=True)
class Corpus:
    """The data of a run.

    Attributes:
        train: what is trained on and anchored to.
        heldout: what nothing is trained on.
        real: the held-out media, which are decoded only if they are asked for.
        sizes: (height, width, frames) of the media, at least one.
        rows: every sample of both parts, in the order of the data, to be known again by.
    """

    train: Part
    heldout: Part
    real: Real
    sizes: tuple[tuple[int, int, int], ...]
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
    framing = framing_of(recipe)
    heldout = _part(rest, cache, kind, model.device, framing)
    pixels = _Decoded(media(rest), framing)
    return Corpus(
        train=_part(train, cache, kind, model.device, framing),
        heldout=heldout,
        real=Real(pixels, heldout.caption_id, heldout.captions, heldout.size_id),
        sizes=recipe.data.shapes,
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
    framing: Framing,
) -> Part:
    """Samples whose prompts are numbered in the order in which they come up.

    Of a prompt with several samples that is known on which all of them agree.
    """
    index: dict[tuple[object, ...], int] = {}
    first: list[EncodedSample] = []
    metadata: list[Mapping[str, Any]] = []
    for sample in samples:
        if (prompt := _prompt(sample)) not in index:
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
        torch.tensor([index[_prompt(sample)] for sample in samples]),
        StoredLatents(cache, [sample.media_key for sample in samples]),
        tuple(metadata),
        torch.tensor([framing.buckets.index(sample.bucket) for sample in samples])
        if len(framing.buckets) > 1
        else None,
    )


def _prompt(sample: EncodedSample) -> tuple[object, ...]:
    """What makes samples one prompt: the caption, and what is given, of one size."""
    given = sample.given_content
    return (sample.caption, given, sample.bucket) if given else (sample.caption, given)


def _agreed(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key in other and other[key] == value}

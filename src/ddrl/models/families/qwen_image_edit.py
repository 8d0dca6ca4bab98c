"""Qwen-Image-Edit: Qwen-Image with a source image; Qwen2.5-VL sees it with the instruction."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ddrl.condition import beside
from ddrl.models.adapter.packing import pack, unpack
from ddrl.models.adapter.source_images import as_pictures, require_source
from ddrl.models.families.qwen_image import QwenImage
from ddrl.models.text_lengths import without_padding
from ddrl.records import Condition

SOURCE_AREA = 1024 * 1024  # pixels that the pipeline brings every source to
SEEN_SIDE = 28  # pixels along the side of what Qwen2.5-VL makes one token of


@dataclass(frozen=True)
class QwenEditCondition(Condition):
    """Instructions, each encoded with its source image.

    Tokens of a text depend on the image before it, so that both are made together, and of the text
    alone is known only whether it is empty. Guidance and dropout then take the empty text's tokens
    with the same image. All but ``is_empty`` is None where there are no sources.

    Attributes:
        is_empty: whether the text is empty, bool, shape (B,).
        embeds: tokens of image and text, shape (B, L, D), 0 after their end.
        mask: which of them count, bool, shape (B, L).
        empty_embeds: tokens of the image and the empty text, shape (B, E, D).
        empty_mask: which of them count, bool, shape (B, E).
        given: latents of the source image, shape (B, C, h, w).
        length: how many tokens image and text have, shape (B,).
        empty_length: how many the image and the empty text have, shape (B,).
    """

    on_cpu: ClassVar[frozenset[str]] = frozenset({"is_empty", "length", "empty_length"})
    is_empty: Tensor
    embeds: Tensor | None = None
    mask: Tensor | None = None
    empty_embeds: Tensor | None = None
    empty_mask: Tensor | None = None
    given: Tensor | None = None
    length: Tensor | None = None
    empty_length: Tensor | None = None

    def tokens(self) -> tuple[Tensor, Tensor, list[int]]:
        """Tokens, their mask and lengths, of the text or of the empty one, row by row.

        Raises:
            DataError: there are no source images.
        """
        embeds, mask = require_source(self.embeds), require_source(self.mask)
        others, other_mask = require_source(self.empty_embeds), require_source(self.empty_mask)
        mine = require_source(self.length).tolist()
        theirs = require_source(self.empty_length).tolist()
        chosen = self.is_empty.tolist()
        if not any(chosen):
            return embeds, mask, mine
        if all(chosen):
            return others, other_mask, theirs
        length = max(embeds.shape[1], others.shape[1])
        pairs = (_padded(embeds, others, length), _padded(mask, other_mask, length))
        rows = [
            torch.where(beside(self.is_empty, one).reshape(-1, *[1] * (one.ndim - 1)), empty, one)
            for one, empty in pairs
        ]
        lengths = [b if c else a for a, b, c in zip(mine, theirs, chosen, strict=True)]
        return rows[0], rows[1], lengths


def _padded(one: Tensor, other: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Both with so many tokens, shape (B, length, ...)."""

    def pad(rows: Tensor) -> Tensor:
        return F.pad(rows, (*(0, 0) * (rows.ndim - 2), 0, length - rows.shape[1]))

    return pad(one), pad(other)


class QwenImageEdit(QwenImage):
    """The first Qwen-Image-Edit: Qwen2.5-VL sees the source at the size that the VAE sees it in.

    Texts are cut after as many tokens as the pipeline takes, which itself refuses none and cuts
    none.
    """

    pipelines: ClassVar[tuple[str, ...]] = ("QwenImageEditPipeline",)
    takes_sources: ClassVar[bool] = True
    reads_given_with_texts: ClassVar[bool] = True
    packages: ClassVar[tuple[str, ...]] = ("torchvision",)  # of the processor

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """One source image always."""
        return (1,)

    def source_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that the VAE sees a source of this size in."""
        return self._scaled(SOURCE_AREA, height, width)

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that Qwen2.5-VL sees a source of this size in."""
        return self.source_size(height, width)

    def num_seen(self, height: int, width: int) -> int:
        """About how many tokens Qwen2.5-VL makes of a source of this size."""
        rows, columns = self.seen_size(height, width)
        return -(-rows // SEEN_SIDE) * -(-columns // SEEN_SIDE)

    def _scaled(self, area: int, height: int, width: int) -> tuple[int, int]:
        """By the pipeline's own rule."""
        rule = cast(Any, inspect.getmodule(type(self.pipeline))).calculate_dimensions
        found = rule(area, width / height)
        return int(found[1]), int(found[0])

    def _encode(self, texts: list[str]) -> QwenEditCondition:  # type: ignore[override]
        return QwenEditCondition(torch.tensor([not text for text in texts]))

    def _encode_pairs(self, first_frames: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:
        """Texts with their source images, and the latents of these."""
        pictures = as_pictures(first_frames[:, 0])
        found: dict[str, list[Tensor]] = {name: [] for name in ("embeds", "empty_embeds", "given")}
        for picture, text in zip(pictures, texts, strict=True):
            size = self.seen_size(picture.height, picture.width)
            seen = self.pipeline.image_processor.resize(picture, *size)
            empty = self._read("", seen)
            limit = len(empty) + self._max_text_tokens()
            found["embeds"].append(self._read(text, seen)[:limit] if text else empty)
            found["empty_embeds"].append(empty)
            found["given"].append(self._source_latents(picture))
        fields = {"given": torch.cat(found.pop("given")).to(self.device)}
        for name, rows in found.items():
            longest = max(map(len, rows))
            fields[name] = torch.stack([F.pad(r, (0, 0, 0, longest - len(r))) for r in rows])
            lengths = torch.tensor([len(row) for row in rows])
            fields[name.replace("embeds", "length")] = lengths
            mask = torch.arange(longest) < lengths[:, None]
            fields[name.replace("embeds", "mask")] = mask.to(self.device)
        return fields

    def _max_text_tokens(self) -> int:
        parameters = inspect.signature(self.pipeline.__call__).parameters
        return int(parameters["max_sequence_length"].default)

    def _read(self, text: str, seen: Image.Image) -> Tensor:
        """Tokens of a picture and a text, shape (L, D), without those of the system's turn."""
        embeds, _ = self.pipeline.encode_prompt(
            prompt=[text], image=self._as_named(seen), device=self.device
        )
        return cast(Tensor, embeds[0])

    def _as_named(self, seen: Image.Image) -> Any:  # noqa: ANN401 - a picture or several
        """As the pipeline's template takes it."""
        return seen

    def _source_latents(self, picture: Image.Image) -> Tensor:
        size = self.source_size(picture.height, picture.width)
        made: Tensor = self.pipeline.image_processor.preprocess(picture, *size)
        return self.encode_media((made + 1) / 2)

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: there is no source image.
        """
        assert isinstance(condition, QwenEditCondition)
        given = require_source(condition.given)
        padded, whole, lengths = condition.tokens()
        embeds, mask = without_padding(self.transformer, lengths, padded, whole)
        tokens = pack(x_t.to(self.dtype))
        sizes = [(1, one.shape[-2] // 2, one.shape[-1] // 2) for one in (x_t, given)]
        output = self.transformer(
            hidden_states=torch.cat([tokens, pack(given.to(tokens))], dim=1),
            timestep=t,
            encoder_hidden_states=embeds.to(self.dtype),
            encoder_hidden_states_mask=mask,
            img_shapes=[sizes] * len(x_t),
            return_dict=False,
        )
        made = cast(Tensor, output[0])[:, : tokens.shape[1]]
        return unpack(made, *x_t.shape[-2:])


class QwenImageEditPlus(QwenImageEdit):
    """Qwen-Image-Edit 2509 and 2511: Qwen2.5-VL sees a smaller picture, which has a number."""

    pipelines: ClassVar[tuple[str, ...]] = ("QwenImageEditPlusPipeline",)

    def seen_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that Qwen2.5-VL sees a source of this size in."""
        return self._scaled(384 * 384, height, width)

    def _as_named(self, seen: Image.Image) -> list[Image.Image]:
        return [seen]

"""Finds named objects in pictures: OWLv2, OWL-ViT or Grounding DINO of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ddrl.errors import WeightsError
from ddrl.rewards.composition.rules import Box
from ddrl.rewards.frames import Runtime, as_bytes
from ddrl.rewards.networks.loading import (
    check_keys,
    load_images,
    load_model,
    load_tokenizer,
    loading,
)

_OWL = {"owlv2", "owlvit"}
_PADDED = {"owlv2"}  # to a square, below and to the right
_GROUNDED = {"grounding-dino", "mm-grounding-dino"}
_LEAST = 1.0  # pixels; less is no crop


class Detector:
    """An open-vocabulary detector: a box per object, for names that it is asked for.

    OWLv2 and OWL-ViT look for all names of a picture at once, as "a photo of a dog", and give
    each box to its best name. Grounding DINO looks for one name at a time, as "dog.".

    Args:
        weights: a folder written by ``save_pretrained``, or a hub id.
        runtime: where and how it runs.

    Raises:
        WeightsError: they can't be read, are incomplete, or are of another kind of model.
    """

    def __init__(self, weights: str, runtime: Runtime) -> None:
        from transformers import AutoModelForZeroShotObjectDetection

        self._runtime = runtime
        with loading(
            f"The detector {weights}",
            "give an OWLv2, OWL-ViT or Grounding DINO; offline, download it to a folder and name "
            "that folder",
        ):
            self._model, info = load_model(
                AutoModelForZeroShotObjectDetection, weights, runtime.dtype
            )
            self._tokenizer = load_tokenizer(
                weights, "download all files of the model, not its weights alone"
            )
            self._images = load_images(weights)
        self.kind = str(self._model.config.model_type)
        if self.kind not in _OWL | _GROUNDED:
            raise WeightsError(
                f"{weights} holds a {self.kind}.",
                hint="give a folder or hub id of an OWLv2, OWL-ViT or Grounding DINO",
            )
        check_keys(weights, list(info["missing_keys"]), list(info["unexpected_keys"]))
        self._model.to(runtime.device).eval().requires_grad_(False)

    @torch.no_grad()
    def find(
        self, frames: Tensor, names: Sequence[tuple[str, ...]], *, threshold: Sequence[float]
    ) -> list[dict[str, list[Box]]]:
        """Look for objects.

        Args:
            frames: pixels in [0, 1], shape (N, 3, H, W).
            names: what to look for in each, at least one.
            threshold: confidence above which a box counts, of each.

        Returns:
            For each, the boxes of every name, in pixels of the frame, in no order.
        """
        result: list[dict[str, list[Box]]] = [{name: [] for name in each} for each in names]
        for rows, queries in self._passes(names):
            logits, boxes = self._run(frames[rows], queries)
            for i, row in enumerate(rows):
                found = boxes_of(
                    logits[i],
                    boxes[i],
                    (frames.shape[-2], frames.shape[-1]),
                    threshold=threshold[row],
                    padded=self.kind in _PADDED,
                )
                for label, box in found:
                    result[row][queries[i][label]].append(box)
        return result

    def _passes(
        self, names: Sequence[tuple[str, ...]]
    ) -> list[tuple[list[int], list[tuple[str, ...]]]]:
        """Plan rows and their queries for each pass; queries of a pass are of one length."""
        wanted = [
            (row, query)
            for row, each in enumerate(names)
            for query in ([each] if self.kind in _OWL else [(name,) for name in each])
        ]
        passes = []
        for length in sorted({len(query) for _, query in wanted}):
            same = [pair for pair in wanted if len(pair[1]) == length]
            for piece in self._runtime.slices(len(same)):
                rows, queries = zip(*same[piece], strict=True)
                passes.append((list(rows), list(queries)))
        return passes

    def _run(self, frames: Tensor, queries: list[tuple[str, ...]]) -> tuple[Tensor, Tensor]:
        """Logits (N, boxes, queries) and boxes (N, boxes, 4) as centre and size, on the CPU."""
        pictures = list(as_bytes(frames).numpy())
        inputs: dict[str, Any] = dict(self._images(images=pictures, return_tensors="pt"))
        if self.kind in _OWL:
            texts = [f"a photo of a {name}" for query in queries for name in query]
            length = int(self._model.config.text_config.max_position_embeddings)
            padding: dict[str, Any] = {"padding": "max_length", "max_length": length}
        else:
            texts = [f"{query[0]}." for query in queries]
            padding = {"padding": True, "max_length": int(self._model.config.max_text_len)}
        inputs |= dict(self._tokenizer(texts, truncation=True, return_tensors="pt", **padding))
        moved = {key: value.to(self._runtime.device) for key, value in inputs.items()}
        moved["pixel_values"] = moved["pixel_values"].to(self._runtime.dtype)
        output = self._model(**moved)
        logits = output.logits.float().cpu()
        if self.kind in _GROUNDED:  # over the tokens of the one name
            logits = logits.amax(-1, keepdim=True)
        return logits, output.pred_boxes.float().cpu()


def boxes_of(
    logits: Tensor, boxes: Tensor, size: tuple[int, int], *, threshold: float, padded: bool
) -> list[tuple[int, Box]]:
    """Select the boxes of one picture whose confidence is above the threshold, with their query.

    Args:
        logits: shape (boxes, queries); a box belongs to its best query.
        boxes: centre x and y, width and height, as shares; shape (boxes, 4).
        size: height and width of the picture in pixels.
        threshold: least sigmoid of the logit.
        padded: whether shares are of the square that the picture was padded to.
    """
    height, width = size
    across, down = (max(size), max(size)) if padded else (width, height)
    confidence, label = logits.sigmoid().max(-1)
    found = []
    for i in (confidence > threshold).nonzero().flatten().tolist():
        x, y, wide, high = boxes[i].tolist()
        left, right = ((x + side * wide / 2) * across for side in (-1, 1))
        top, bottom = ((y + side * high / 2) * down for side in (-1, 1))
        left, right = max(left, 0.0), min(right, float(width))
        top, bottom = max(top, 0.0), min(bottom, float(height))
        if right - left >= _LEAST and bottom - top >= _LEAST:
            found.append((int(label[i]), Box(left, top, right, bottom, float(confidence[i]))))
    return found

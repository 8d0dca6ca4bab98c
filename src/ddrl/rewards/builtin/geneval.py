"""Whether a picture shows what its prompt asks for: objects, counts, colours, positions."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.composition.detector import Detector
from ddrl.rewards.composition.object_color import ColorClassifier
from ddrl.rewards.composition.prompt import Composition, composition_of
from ddrl.rewards.composition.rules import Box, conditions, suppress
from ddrl.rewards.frames import OverFrames, reduce_frames, sample_frames
from ddrl.rewards.networks.towers import Precision


class GenEvalReward:
    """The share of the prompt's conditions that a detector finds met, in [0, 1].

    Each object, with its number, is a condition; so are each colour and each position. A number
    that is not met counts by the share that is. Prompts are GenEval's: "a photo of a dog", "... a
    dog and a cat", "... three dogs", "... a red car", "... a dog left of a cat", "... a red car
    and a blue dog"; or any, with GenEval's metadata (``include``, ``exclude``, ``tag``).

    Source: arXiv 2310.11513. Departs: the detector is an open-vocabulary one of transformers
    instead of Mask2Former, so figures do not compare with published ones.

    Args:
        weights: of the detector, an OWLv2, OWL-ViT or Grounding DINO: a folder written by
            ``save_pretrained``, or a hub id.
        color_weights: of the CLIP that tells colours: a folder or hub id.
        strict: 1 if all conditions are met, else 0, as GenEval counts.
        threshold: confidence above which a box counts.
        counting_threshold: the same for prompts that ask for a number; 0: ``threshold``.
        max_overlap: of two boxes of a name whose intersection over union is larger, the less
            confident one goes.
        max_objects: of a name, at most.
        position_margin: share of both objects' sizes by which their centres have to be apart.
        frames: frames that are scored of a clip.
        over_frames: from frames to the clip.
        device: empty: CUDA if there is one, else the CPU.
        precision: of the weights and of the passes.
        batch_size: pictures per pass.

    Raises:
        RewardError: transformers is not installed, or an option is wrong.
        WeightsError: the weights can't be loaded, or not all of them.
    """

    card: ClassVar[RewardCard] = RewardCard(
        rewards="pictures with the objects, numbers, colours and positions of the prompt",
        range="[0, 1]; with `strict` 0 or 1",
        prompt="it follows one of GenEval's templates or comes with GenEval's metadata; any other "
        "has no reward. Nothing else of it counts",
        hacks="a detector that looks for a name finds it where a person would not: expect written "
        "names, toys, drawings and objects pasted side by side to pass. Style and quality count "
        "for nothing. Without `strict` one of two objects has half of the reward",
        cost="a pass of the detector per frame (960 x 960 pixels for OWLv2), or per frame and "
        "name for Grounding DINO; one of the CLIP per object whose colour is asked",
        license="Apache-2.0 (OWLv2), MIT (OpenAI's CLIP)",
        weights="`google/owlv2-base-patch16-ensemble`, and `openai/clip-vit-large-patch14` for "
        "colours. Tested on random weights only: the thresholds are not fitted to anything, look "
        "at what they find on your pictures first",
        hub="google/owlv2-base-patch16-ensemble",
        modules=("transformers",),
        extra="models",
    )

    def __init__(
        self,
        *,
        weights: str = "google/owlv2-base-patch16-ensemble",
        color_weights: str = "openai/clip-vit-large-patch14",
        strict: bool = False,
        threshold: float = 0.2,
        counting_threshold: float = 0.0,
        max_overlap: float = 0.5,
        max_objects: int = 16,
        position_margin: float = 0.1,
        frames: int = 1,
        over_frames: OverFrames = "mean",
        device: str = "",
        precision: Precision = "float32",
        batch_size: int = 4,
    ) -> None:
        if min(frames, batch_size, max_objects) < 1:
            raise ValueError("frames, batch_size and max_objects must be at least 1")
        shares = (threshold, counting_threshold, max_overlap, position_margin)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("thresholds, max_overlap and position_margin must be from 0 to 1")
        self.card.require("geneval")
        self._strict, self._frames, self._over_frames = strict, frames, over_frames
        self._threshold = threshold
        self._counting = counting_threshold or threshold
        self._max_overlap, self._max_objects = max_overlap, max_objects
        self._margin = position_margin
        self._detector = Detector(
            weights, device=device, precision=precision, batch_size=batch_size
        )
        self._colors = ColorClassifier(
            color_weights, device=device, precision=precision, batch_size=batch_size
        )

    @torch.no_grad()
    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite.

        Raises:
            SampleError: it is not clear what a prompt asks for.
        """
        frames = sample_frames(media, self._frames)
        wanted: dict[int, Composition] = {}
        causes: dict[int, str] = {}
        for i, (text, metadata) in enumerate(zip(prompts.text, prompts.metadata, strict=True)):
            try:
                wanted[i] = composition_of(text, metadata)
            except ValueError as error:
                causes[i] = str(error)
        finite = frames.flatten(1).isfinite().all(1).cpu()
        rows = [i for i in wanted if finite[i]]
        value = torch.full((len(frames),), torch.nan)
        if rows:
            value[rows] = self._score(frames[rows], [wanted[i] for i in rows])
        if causes:
            raise SampleError(
                value,
                causes,
                hint='write it as in "a photo of a red car left of two dogs", or give GenEval\'s '
                "metadata with it",
            )
        return value

    def _score(self, frames: Tensor, wanted: list[Composition]) -> Tensor:
        """Shape (N, F, 3, H, W) -> (N,)."""
        count = frames.shape[1]
        flat = frames.flatten(0, 1)
        each = [one for one in wanted for _ in range(count)]
        thresholds = [self._counting if one.counting else self._threshold for one in each]
        found = self._detector.find(flat, [one.names for one in each], threshold=thresholds)
        values = [self._judge(flat[i], one, found[i]) for i, one in enumerate(each)]
        return reduce_frames(torch.tensor(values).reshape(-1, count), self._over_frames)

    def _judge(self, frame: Tensor, wanted: Composition, found: dict[str, list[Box]]) -> float:
        kept = {
            name: suppress(boxes, max_overlap=self._max_overlap, limit=self._max_objects)
            for name, boxes in found.items()
        }
        met = conditions(
            wanted,
            kept,
            lambda name, box: self._colors.color(frame, name, box),
            margin=self._margin,
        )
        return float(min(met) == 1) if self._strict else sum(met) / len(met)

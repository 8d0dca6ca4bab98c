"""Whether a picture shows what its prompt asks for: objects, counts, colours, positions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.base import SampleError
from ddrl.rewards.card import RewardCard
from ddrl.rewards.composition.detector import Detector
from ddrl.rewards.composition.object_color import ColorClassifier
from ddrl.rewards.composition.prompt import Composition, composition_of
from ddrl.rewards.composition.rules import Box, conditions, suppress
from ddrl.rewards.frame_reward import FrameReward
from ddrl.rewards.frames import Runtime


@dataclass(kw_only=True, eq=False)
class GenEvalReward(FrameReward):
    """The share of the prompt's conditions that a detector finds met, in [0, 1].

    Each object, with its number, is a condition; so are each colour and each position. A number
    that is not met counts by the share that is. Prompts are GenEval's: "a photo of a dog", "... a
    dog and a cat", "... three dogs", "... a red car", "... a dog left of a cat", "... a red car
    and a blue dog"; or any, with GenEval's metadata (``include``, ``exclude``, ``tag``).

    Source: arXiv 2310.11513. Departs: the detector is an open-vocabulary one of transformers
    instead of Mask2Former, so figures do not compare with published ones.

    Args:
        weights: the detector, an OWLv2, OWL-ViT or Grounding DINO: a folder written by
            ``save_pretrained``, or a hub id.
        color_weights: the CLIP that tells colours: a folder or hub id.
        strict: 1 if all conditions are met, else 0, as GenEval counts.
        threshold: confidence above which a box counts.
        counting_threshold: the same for prompts that ask for a number; 0: ``threshold``.
        max_overlap: if the intersection over union of two boxes of a name is larger, the less
            confident one goes.
        max_objects: how many objects of a name count at most.
        position_margin: share of both objects' sizes by which their centres have to differ.
    """

    name = "geneval"
    card = RewardCard(
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

    weights: str = "google/owlv2-base-patch16-ensemble"
    color_weights: str = "openai/clip-vit-large-patch14"
    strict: bool = False
    threshold: float = 0.2
    counting_threshold: float = 0.0
    max_overlap: float = 0.5
    max_objects: int = 16
    position_margin: float = 0.1
    frames: int = 1
    batch_size: int = 4

    def __post_init__(self) -> None:
        if self.max_objects < 1:
            raise ValueError("max_objects must be at least 1")
        shares = (self.threshold, self.counting_threshold, self.max_overlap, self.position_margin)
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("thresholds, max_overlap and position_margin must be from 0 to 1")
        super().__post_init__()

    def load(self, runtime: Runtime) -> None:
        """Read the detector and the CLIP that tells colours."""
        self._counting = self.counting_threshold or self.threshold
        self._detector = Detector(self.weights, runtime)
        self._colors = ColorClassifier(self.color_weights, runtime)

    def score(self, media: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, 3, H, W) or (B, T, 3, H, W) -> (B,); NaN where a pixel is not finite.

        Raises:
            SampleError: it is not clear what a prompt asks for.
        """
        value = super().score(media, prompts)
        if causes := _understood(prompts)[1]:
            raise SampleError(
                value,
                causes,
                hint='write it as in "a photo of a red car left of two dogs", or give GenEval\'s '
                "metadata with it",
            )
        return value

    def score_frames(self, frames: Tensor, prompts: Prompts) -> Tensor:
        """Shape (B, F, 3, H, W) -> (B, F), on the CPU; NaN where there is nothing to judge."""
        wanted, _ = _understood(prompts)
        finite = frames.flatten(1).isfinite().all(1).cpu()
        rows = [i for i in wanted if finite[i]]
        value = torch.full(frames.shape[:2], torch.nan)
        if not rows:
            return value
        count, flat = frames.shape[1], frames[rows].flatten(0, 1)
        each = [wanted[i] for i in rows for _ in range(count)]
        thresholds = [self._counting if one.counting else self.threshold for one in each]
        found = self._detector.find(flat, [one.names for one in each], threshold=thresholds)
        values = [self._judge(flat[i], one, found[i]) for i, one in enumerate(each)]
        value[rows] = torch.tensor(values).reshape(-1, count)
        return value

    def _judge(self, frame: Tensor, wanted: Composition, found: dict[str, list[Box]]) -> float:
        kept = {
            name: suppress(boxes, max_overlap=self.max_overlap, limit=self.max_objects)
            for name, boxes in found.items()
        }
        met = conditions(
            wanted,
            kept,
            lambda name, box: self._colors.color(frame, name, box),
            margin=self.position_margin,
        )
        return float(min(met) == 1) if self.strict else sum(met) / len(met)


def _understood(prompts: Prompts) -> tuple[dict[int, Composition], dict[int, str]]:
    """Return what prompts ask for, by place, and why it is not clear for the others, by place."""
    wanted: dict[int, Composition] = {}
    causes: dict[int, str] = {}
    for i, (text, metadata) in enumerate(zip(prompts.text, prompts.metadata, strict=True)):
        try:
            wanted[i] = composition_of(text, metadata)
        except ValueError as error:
            causes[i] = str(error)
    return wanted, causes

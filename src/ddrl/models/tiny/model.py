"""The embedded model: rectified flow in pixel space, on images or short clips.

An image model knows whole texts, or spells them; a clip model knows the words of texts.

It needs no download and no extra, and trains on a laptop; it stands behind the same protocol as
the large families, so that everything else in ddrl can be tried, and tested, without them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ddrl.diffusion.process import RectifiedFlow
from ddrl.disk import check_regular, read_json
from ddrl.errors import DataError, WeightsError
from ddrl.models.adapter.given_frames import GivenFrames
from ddrl.models.tiny.config import TinyConfig
from ddrl.models.tiny.spelling import pieces
from ddrl.records import Condition

MAX_WORDS = 8  # of a text of a clip model

# What reading a missing, broken or foreign folder raises.
UNREADABLE: tuple[type[Exception], ...] = (
    *(OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError),
    SafetensorError,
)


@dataclass(frozen=True)
class TinyCondition(Condition):
    """The conditions of samples, as the network takes them.

    Attributes:
        label: vocabulary indices, int64; 0 is the empty text or the padding. Shape (B,) for
            images, (B, MAX_WORDS) for clips, (B, text_length) where texts are spelled.
        given: latents of the first frames, shape (B, C, F, H, W), or None.
    """

    label: Tensor
    given: Tensor | None = None


class TinyModel(GivenFrames):
    """A :class:`~ddrl.models.base.DiffusionModel` that is wholly contained in this package."""

    def __init__(self, config: TinyConfig, *, seed: int = 0) -> None:
        """Build with fresh weights.

        Args:
            config: the architecture.
            seed: of the weights; the global generator is left as it was.
        """
        self.config = config
        self.process = RectifiedFlow()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.transformer: nn.Module = config.build()
        self._index = {text: i for i, text in enumerate(("", *config.vocabulary))}

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """The one number that the network was made for."""
        return (self.config.given_frames,)

    @property
    def given_latents(self) -> int:
        """Latents are frames."""
        return self.config.given_frames

    def encode(
        self,
        texts: Sequence[str],
        *,
        first_frames: Tensor | None = None,
        frames: int = 0,  # noqa: ARG002 - the network has one length
    ) -> TinyCondition:
        """Look the texts, or their words, up in the vocabulary.

        Args:
            texts: U texts.
            first_frames: pixels in [0, 1], shape (U, given_frames, 3, H, W). Without them the
                result stands for texts alone, as in guidance.
            frames: left alone.

        Raises:
            DataError: a text is not known, or the frames are not as many as it takes.
        """
        device = next(self.transformer.parameters()).device
        if not self._max_pieces:
            label = torch.tensor([self._lookup(text, text) for text in texts], device=device)
        else:
            rows = [self._pieces(text) for text in texts]
            label = torch.tensor(rows, device=device).reshape(len(rows), self._max_pieces)
        if first_frames is None:
            return TinyCondition(label)
        self._check_first_frames(first_frames, len(texts))
        return TinyCondition(label, self._to_latents(first_frames).to(device))

    @property
    def _max_pieces(self) -> int:
        """Largest number of pieces of a text; 0 where a text is looked up as a whole."""
        return self.config.text_length or (MAX_WORDS if self.config.frames > 1 else 0)

    def _pieces(self, text: str) -> list[int]:
        """The indices of a text's words, or words and letters, padded.

        Raises:
            DataError: there are too many of them, or one is not known.
        """
        length, spells = self._max_pieces, bool(self.config.text_length)
        found = pieces(text) if spells else text.split()
        if len(found) > length:
            example = 'the word "lamp" in red' if spells else "a three moving left slowly"
            raise DataError(
                f"The prompt {text!r:.80} has {len(found)} words{' and letters' if spells else ''},"
                f" and the model takes {length} at most.",
                hint=f"it was trained on prompts such as {example}",
            )
        return [self._lookup(piece, text) for piece in found] + [0] * (length - len(found))

    def _lookup(self, piece: str, text: str) -> int:
        """The index of a text, or of one of its words."""
        if piece not in self._index:
            near = difflib.get_close_matches(piece, self.config.vocabulary, 1)
            kind = "letter" if piece.startswith('"') else "word"
            word = "" if piece == text else f"{kind} {piece.lstrip(chr(34))!r} of the "
            raise DataError(
                f"The model does not know the {word}prompt {text!r}.",
                hint=f"did you mean {near[0]!r}?"
                if near
                else "it knows " + ", ".join(map(repr, self.config.vocabulary)),
            )
        return self._index[piece]

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The velocity of eq. (P2), shape of ``x_t``.

        Raises:
            DataError: the network continues first frames, and none were given.
        """
        assert isinstance(condition, TinyCondition)
        if self.config.given_frames and condition.given is None:
            raise DataError("The model continues a first frame.", hint="encode(.., first_frames=)")
        more = () if condition.given is None else (condition.given,)
        velocity: Tensor = self.transformer(x_t, t, condition.label, *more)
        return velocity

    def encode_media(self, media: Tensor) -> Tensor:
        """Pixels to latents in [-1, 1]: of clips, the frames after the given ones.

        Shape (B, 3, H, W) -> (B, C, H, W), or (B, T, 3, H, W) -> (B, C, T - given, H, W).
        """
        frames = media.shape[1] if media.ndim == 5 else 1
        self.latent_shape(media.shape[-2], media.shape[-1], frames)
        return self._to_latents(media[:, self.config.given_frames :] if frames > 1 else media)

    def _to_latents(self, media: Tensor) -> Tensor:
        grey = media.mean(-3, keepdim=True) if self.config.channels == 1 else media
        latents = 2 * grey - 1
        return latents.transpose(1, 2) if media.ndim == 5 else latents

    def decode(self, latents: Tensor, condition: Condition | None = None) -> Tensor:
        """Latents to pixels (B, 3, H, W) or (B, T, 3, H, W), clipped to [0, 1]."""
        if self.config.frames == 1:
            return ((latents + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)
        if self.config.given_frames:
            assert isinstance(condition, TinyCondition)
            assert condition.given is not None
            latents = torch.cat([condition.given.to(latents), latents], dim=2)
        clips = ((latents + 1) / 2).clamp(0, 1).transpose(1, 2)
        return clips.expand(-1, -1, 3, -1, -1)

    def latent_shape(self, height: int, width: int, frames: int = 1) -> tuple[int, ...]:
        """(C, H, W), or (C, T - given, H, W) for clips, for the one size that the model makes."""
        config = self.config
        if (height, width, frames) != (config.height, config.columns, config.frames):
            made = "images" if config.frames == 1 else f"clips of {config.frames} frames"
            raise DataError(
                f"The model makes {made} of {config.height}x{config.columns}, "
                f"not {height}x{width} with {frames} frames.",
                hint=f"ask for {config.frames} frames"
                if (height, width) == (config.height, config.columns)
                else f"ask for {config.height}x{config.columns}",
            )
        if config.frames == 1:
            return (config.channels, height, width)
        return (config.channels, frames - config.given_frames, height, width)

    def time_shift(
        self,
        latent_shape: Sequence[int],  # noqa: ARG002
        num_steps: int | None = None,  # noqa: ARG002
    ) -> float:
        """No shift: pixels are few."""
        return 1.0

    def save(self, folder: Path) -> None:
        """Write ``config.json`` and ``model.safetensors``."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(dict(self.transformer.state_dict()), folder / "model.safetensors")
        (folder / "config.json").write_text(
            json.dumps({"family": "tiny", **asdict(self.config)}, indent=1)
        )

    @classmethod
    def load(cls, folder: Path) -> TinyModel:
        """Read what :meth:`save` wrote.

        Raises:
            WeightsError: a file is missing, unreadable, or of another model.
        """
        try:
            values = read_json(folder / "config.json")
            family = values.pop("family", None)
            if family != "tiny":
                raise WeightsError(
                    f"{folder} holds a model of family {family!r}, not 'tiny'.",
                    hint="give a folder that `ddrl export` has written of an embedded run",
                )
            values["vocabulary"] = tuple(values["vocabulary"])
            model = cls(TinyConfig(**values))
            check_regular(folder / "model.safetensors")
            model.transformer.load_state_dict(load_file(folder / "model.safetensors"))
        except UNREADABLE as error:
            raise WeightsError(
                f"The model in {folder} can't be read: {' '.join(str(error).split())[:200]}.",
                hint="delete the folder to have it made again, or check the path",
            ) from error
        return model

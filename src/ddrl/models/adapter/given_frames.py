"""Pictures that a model is given: first frames of a clip, or the source image of an edit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from ddrl.errors import DataError


class GivenFrames:
    """The frames of each sample that a model is given: none, unless its family says otherwise.

    A family that takes some names the numbers in ``allowed_given_frames``, and makes of their
    pixels those fields of its condition that are not about text, in ``_encode_given``. Where the
    frames are part of the clip by construction it leaves them out of the latents, and says how many
    latent frames that is in ``given_latents``; ``decode`` then puts them back, from the condition.

    A source image is a given frame that is no part of the result: a family that edits pictures says
    so in ``takes_sources``. All else is the same for both.
    """

    shows_given: ClassVar[bool] = True
    """True where given frames that ``decode`` puts back look the same whatever follows them."""
    takes_sources: ClassVar[bool] = False
    """True where the given frame is the source image of an edit, not the start of a clip."""
    reads_given_with_texts: ClassVar[bool] = False
    """True where a given frame is encoded together with its text, for this pair alone."""
    _given_frames: int | None = None

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """Numbers of frames that the model can be given, ascending."""
        return (0,)

    @property
    def given_frames(self) -> int:
        """Frames that are given of each sample; by default the fewest. May be set.

        Raises:
            DataError: when it is set to a number that is not allowed.
        """
        return self.allowed_given_frames[0] if self._given_frames is None else self._given_frames

    @given_frames.setter
    def given_frames(self, count: int) -> None:
        allowed, name = self.allowed_given_frames, type(self).__name__
        key, what = _words(is_source=self.takes_sources)
        if count not in allowed:
            if allowed == (0,):
                message = f"{name} takes no {what}s, but {key} is {count}."
            elif not count:
                message = f"{name} needs {what}s, but {key} is 0."
            else:
                given = f"{what}s" if self.takes_sources else "given frames"
                message = f"{name} takes {_either(allowed)} {given}, not {count}."
            raise DataError(message, hint=f"set {key} = {_either(allowed)}")
        self._given_frames = count

    def set_given(self, *, first_frames: int, source_images: int) -> None:
        """Take as many of each kind as the data give.

        Raises:
            DataError: the model takes another number, or is given the other kind.
        """
        mine, other = first_frames, source_images
        if self.takes_sources:
            mine, other = other, mine
        if other:
            key, what = _words(is_source=not self.takes_sources)
            raise DataError(
                f"{type(self).__name__} takes no {what}s, but {key} is {other}.",
                hint=f"set {key} = 0, or take a base that makes clips from first frames"
                if self.takes_sources
                else f"set {key} = 0, or take a base that edits pictures",
            )
        self.given_frames = mine

    @property
    def given_latents(self) -> int:
        """Latent frames that are given and so are no part of the latents; 0 where all are made."""
        return 0

    def source_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels that a source image of this size is encoded in."""
        return height, width

    def _encode_given(self, first_frames: Tensor, frames: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Encode given frames; a family that takes none is never asked."""
        return {}

    def _encode_pairs(self, first_frames: Tensor, texts: Sequence[str]) -> dict[str, Tensor]:  # noqa: ARG002
        """Encode given frames, each with its text, where the family reads them so."""
        return {}

    def _check_first_frames(self, first_frames: Tensor, num_texts: int) -> None:
        """Check pixels of given frames.

        Raises:
            DataError: the model takes none, or they are not as many as it takes for each text.
        """
        name, count, shape = type(self).__name__, self.given_frames, tuple(first_frames.shape)
        key, what = _words(is_source=self.takes_sources)
        if not count:
            others = self.allowed_given_frames[1:]
            made = "pictures" if self.takes_sources else "clips"
            raise DataError(
                f"{name} is set to make {made} from text, which takes no {what}s."
                if others
                else f"{name} takes no {what}s.",
                hint=f"set {key} = {_either(others)}" if others else "leave them out",
            )
        if len(shape) != 5 or shape[:3] != (num_texts, count, 3):
            frames = f"1 {what}" if count == 1 else f"{count} {what}s"
            raise DataError(
                f"{name} takes {frames} per text, shape ({num_texts}, {count}, 3, H, W), not "
                f"{shape}.",
                hint=f"give each text its own, or set {key}",
            )


def like_latents(given: Tensor, latents: Tensor, *, what: str = "first") -> Tensor:
    """Latents of given frames, shape (B, C, T, H, W), in the type and place of a clip's.

    Raises:
        DataError: they have another height or width.
    """
    if given.shape[3:] != latents.shape[3:]:
        raise DataError(
            f"The {what} frames have {tuple(given.shape[3:])} latents along height and width, "
            f"not {tuple(latents.shape[3:])}.",
            hint="give frames of data.height and data.width",
        )
    return given.to(latents)


def _words(*, is_source: bool) -> tuple[str, str]:
    """The key of a recipe, and what one of them is called."""
    named = ("data.source_images", "source image"), ("data.given_frames", "first frame")
    return named[0] if is_source else named[1]


def _either(counts: tuple[int, ...]) -> str:
    """As in "0, 1 or 5"."""
    *some, last = map(str, counts)
    return f"{', '.join(some)} or {last}" if some else last

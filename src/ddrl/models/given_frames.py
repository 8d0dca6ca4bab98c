"""First frames that a model of clips is given: image-to-video, video-to-video."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from ddrl.errors import DataError

__all__ = ["GivenFrames"]


class GivenFrames:
    """How many first frames of each clip a model is given: none, unless its family says otherwise.

    A family that takes some names the numbers in ``allowed_given_frames``, and makes of their
    pixels those fields of its condition that are not about text, in ``_encode_given``. Where the
    frames are part of the clip by construction it leaves them out of the latents, and says how many
    latent frames that is in ``given_latents``; ``decode`` then puts them back, from the condition.
    """

    shows_given: ClassVar[bool] = True
    """Whether given frames that ``decode`` puts back look the same whatever follows them."""
    _given_frames: int | None = None

    @property
    def allowed_given_frames(self) -> tuple[int, ...]:
        """Numbers of frames that the model can be given, ascending."""
        return (0,)

    @property
    def given_frames(self) -> int:
        """First frames of each clip that are given; by default the fewest. May be set.

        Raises:
            DataError: when it is set to a number that is not allowed.
        """
        return self.allowed_given_frames[0] if self._given_frames is None else self._given_frames

    @given_frames.setter
    def given_frames(self, count: int) -> None:
        allowed, name = self.allowed_given_frames, type(self).__name__
        if count not in allowed:
            if allowed == (0,):
                message = f"{name} takes no first frames, but data.given_frames is {count}."
            elif not count:
                message = f"{name} needs first frames, but data.given_frames is 0."
            else:
                message = f"{name} takes {_either(allowed)} given frames, not {count}."
            raise DataError(message, hint=f"set data.given_frames = {_either(allowed)}")
        self._given_frames = count

    @property
    def given_latents(self) -> int:
        """Latent frames that are given and so are no part of the latents; 0 where all are made."""
        return 0

    def _check_first_frames(self, first_frames: Tensor, num_texts: int) -> None:
        """Check pixels of first frames.

        Raises:
            DataError: the model takes none, or they are not as many as it takes for each text.
        """
        name, count, shape = type(self).__name__, self.given_frames, tuple(first_frames.shape)
        if not count:
            others = self.allowed_given_frames[1:]
            raise DataError(
                f"{name} is set to make clips from text, which takes no first frames."
                if others
                else f"{name} takes no first frames.",
                hint=f"set data.given_frames = {_either(others)}" if others else "leave them out",
            )
        if len(shape) != 5 or shape[:3] != (num_texts, count, 3):
            frames = "1 first frame" if count == 1 else f"{count} first frames"
            raise DataError(
                f"{name} takes {frames} per text, shape ({num_texts}, {count}, 3, H, W), not "
                f"{shape}.",
                hint="give each text its own, or set data.given_frames",
            )


def _either(counts: tuple[int, ...]) -> str:
    """As in "0, 1 or 5"."""
    *some, last = map(str, counts)
    return f"{', '.join(some)} or {last}" if some else last

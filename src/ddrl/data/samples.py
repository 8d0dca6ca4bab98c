"""One sample of a data set, and its identity."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ddrl.data.locators import Locator
from ddrl.errors import printable


@dataclass(frozen=True, slots=True)
class Sample:
    """One captioned image or clip.

    Attributes:
        id: of :func:`sample_id`: the same on every machine, whatever else is in the data set.
        name: path relative to the data set.
        caption: without white space around it; never empty.
        media: where the image or clip is.
        given: where the image is that goes with it, if the data name one: the first frame of a
            clip, or the source of an edit.
        metadata: what a list says of its caption.
    """

    id: int
    name: str
    caption: str
    media: Locator
    given: Locator | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def shown(self) -> str:
        """The name as text that can be printed."""
        return printable(self.name)


def sample_id(name: str) -> int:
    """Hash a relative path to an integer in [0, 2^63), the same for NFC and NFD names."""
    normal = unicodedata.normalize("NFC", name).encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(normal, digest_size=8).digest(), "big") >> 1

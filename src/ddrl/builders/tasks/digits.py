"""The embedded digits as a task."""

from __future__ import annotations

from ddrl.builders.tasks.embedded import EmbeddedTask
from ddrl.data.embedded.digits import digit_splits
from ddrl.data.embedded.sources import Splits


class Digits(EmbeddedTask):
    """Scanned digits of 8x8 pixels, captioned with their names."""

    def make_splits(self) -> Splits:
        """The scans."""
        return digit_splits()

"""What a test must leave as it found it: torch's global state."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class TorchState:
    """torch's process-wide state at one moment."""

    rng: torch.Tensor
    dtype: torch.dtype
    num_threads: int

    @classmethod
    def capture(cls) -> TorchState:
        return cls(torch.get_rng_state(), torch.get_default_dtype(), torch.get_num_threads())

    def changes(self) -> list[str]:
        """One phrase for each thing that is no longer as captured."""
        now = TorchState.capture()
        found = []
        if not torch.equal(self.rng, now.rng):
            found.append("drew from or seeded torch's global generator")
        if self.dtype != now.dtype:
            found.append(f"changed the default dtype from {self.dtype} to {now.dtype}")
        if self.num_threads != now.num_threads:
            found.append(f"changed the threads from {self.num_threads} to {now.num_threads}")
        return found

    def restore(self) -> None:
        """Put everything back, so that only the guilty test fails."""
        torch.set_rng_state(self.rng)
        torch.set_default_dtype(self.dtype)
        torch.set_num_threads(self.num_threads)

"""Weights with a fault, and what a reward has to say of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import Tensor

from ddrl.errors import WeightsError


def altered(state: Mapping[str, Tensor], name: str, value: Tensor | None) -> dict[str, Tensor]:
    """The weights with another value of one, or without it."""
    assert value is not None or name in state
    kept = {key: old for key, old in state.items() if key != name}
    return kept if value is None else {**kept, name: value}


@contextmanager
def refused(phrase: str, folder: Path | str = "") -> Iterator[None]:
    """Weights are refused in one line that names their folder."""
    with pytest.raises(WeightsError, match=phrase) as caught:
        yield
    assert str(folder) in caught.value.message
    assert "\n" not in caught.value.message

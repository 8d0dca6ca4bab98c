from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddrl.data.encoded.cache import EncodedCache
from ddrl.data.encoded.stored import StoredConditions, StoredLatents, collate
from ddrl.errors import DataError
from ddrl.records import Condition, ConditionRows, LatentRows


@dataclass(frozen=True)
class TwoParts(Condition):
    embeds: Tensor
    length: Tensor
    given: Tensor | None = None


@pytest.fixture
def cache(tmp_path: Path) -> EncodedCache:
    """Four latents, and texts of 1 to 4 tokens."""
    made = EncodedCache(tmp_path)
    for row in range(4):
        made.write("media", f"{row:02d}", {"latents": torch.full((2, 3), row).bfloat16()})
        embeds = torch.full((row + 1, 2), float(row))
        made.write("text", f"{row:02d}", {"embeds": embeds, "length": torch.tensor(row + 1)})
        made.write("given", f"{row:02d}", {"given": torch.full((1,), 10.0 * row)})
    return made


KEYS = ("00", "01", "02", "03")


def conditions(cache: EncodedCache, *, given: bool = False) -> StoredConditions:
    return StoredConditions(TwoParts, cache, text_keys=KEYS, given_keys=KEYS if given else None)


def test_latents_are_indexed_like_a_tensor(cache: EncodedCache) -> None:
    whole = torch.arange(4.0)[:, None, None].expand(-1, 2, 3)
    stored: LatentRows = StoredLatents(cache, KEYS)
    assert (len(stored), stored.shape) == (4, whole.shape)
    for index in (slice(1, 3), slice(None), torch.tensor([3, 0, 3]), torch.tensor([-1])):
        rows = stored[index]
        assert torch.equal(rows, whole[index])
        assert rows.dtype == torch.float32


def test_conditions_are_indexed_like_a_condition(cache: EncodedCache) -> None:
    stored: ConditionRows = conditions(cache, given=True)
    assert len(stored) == 4
    rows = stored[torch.tensor([2, 0, 2])]
    assert isinstance(rows, TwoParts)
    assert rows.length.tolist() == [3, 1, 3]
    assert rows.given is not None
    assert rows.given.flatten().tolist() == [20, 0, 20]
    assert rows.embeds[:, :, 0].tolist() == [[2, 2, 2], [0, 0, 0], [2, 2, 2]]
    mixed = stored[torch.tensor([1, 3, 3, 1])]
    assert isinstance(mixed, TwoParts)
    assert mixed.length.tolist() == [2, 4, 4, 2]
    assert isinstance(some := conditions(cache)[1:2], TwoParts)
    assert some.given is None


def test_rows_are_padded_to_the_longest_beside_them(cache: EncodedCache) -> None:
    shapes = [conditions(cache)[index] for index in (slice(0, 1), slice(0, 2), slice(0, 4))]
    assert [c.embeds.shape[1] for c in shapes if isinstance(c, TwoParts)] == [1, 2, 4]


def test_a_row_is_read_once_however_often_it_is_asked_for(
    cache: EncodedCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    text, media = cache.text, cache.media

    def counted_text(key: str) -> dict[str, Tensor]:
        read.append(key)
        return text(key)

    def counted_media(key: str) -> dict[str, Tensor]:
        read.append(key)
        return media(key)

    monkeypatch.setattr(cache, "text", counted_text)
    conditions(cache)[torch.tensor([1, 3, 1, 1])]
    assert read == ["01", "03"]
    latents = StoredLatents(cache, KEYS)
    read.clear()
    monkeypatch.setattr(cache, "media", counted_media)
    assert latents[torch.tensor([2, 2, 0])][:, 0, 0].tolist() == [2, 2, 0]
    assert read == ["02", "00"]


def test_nothing_is_read_before_it_is_needed(cache: EncodedCache) -> None:
    stored, latents = conditions(cache), StoredLatents(cache, KEYS)
    for kind in ("text", "media"):
        (cache.folder / kind / "02" / "02.safetensors").unlink()
    assert len(stored[torch.tensor([0, 1, 3])]) == 3
    assert len(latents[torch.tensor([0, 1, 3])]) == 3
    for rows in (stored, latents):
        with pytest.raises(DataError, match=r"02\.safetensors can't be read"):
            rows[torch.tensor([2])]


def test_collating_fills_fields_by_name() -> None:
    rows = [{"embeds": torch.ones(n, 2), "length": torch.tensor(n)} for n in (2, 1)]
    made = collate(TwoParts, rows)
    assert isinstance(made, TwoParts)
    assert made.embeds[1].tolist() == [[1, 1], [0, 0]]
    assert made.given is None

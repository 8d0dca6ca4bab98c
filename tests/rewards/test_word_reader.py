"""The judge of words: a network that reads letter by letter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.rewards.rendering import render
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.rewards.builtin.embedded.word_reader import ALPHABET, WordReader, fit_word_reader

WORDS = ["cat", "dog", "book", "egg"]


def pictures() -> Tensor:
    return torch.stack([render(word) for word in WORDS])


def fresh(**styles: int) -> WordReader:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WordReader(styles).eval()


class Columns(nn.Module):
    """Says the same letters whatever it sees; a dash is the blank."""

    def __init__(self, rows: list[str]) -> None:
        super().__init__()
        known = "-" + ALPHABET
        self.logits = torch.stack(
            [F.one_hot(torch.tensor([known.index(c) for c in row]), len(known)) for row in rows]
        )

    def forward(self, columns: Tensor) -> Tensor:
        return self.logits


def test_columns_become_words() -> None:
    """Equal neighbours are one letter, and a blank parts two that are the same."""
    reader = fresh()
    reader.columns = Columns(["bb-oo-o-kk--", "------------", "aaaaaaaaaaaa", "e-g---g-----"])  # type: ignore[assignment]
    assert reader.words(pictures()) == ["book", "", "a", "egg"]


def test_it_is_trained_the_same_way_every_time() -> None:
    media = torch.cat([pictures().repeat(4, 1, 1, 1), 1 - pictures().repeat(4, 1, 1, 1)])
    colour = (torch.arange(32) >= 16).long()

    def fit(seed: int, num_steps: int) -> WordReader:
        styles = {"colour": colour}
        return fit_word_reader(
            media, WORDS * 8, styles, seed=seed, num_steps=num_steps, batch_size=16
        )

    reader = fit(0, 25)
    assert torch.equal(reader.style(media, "colour"), colour)
    features = reader.features(media)
    assert features.shape == (32, 128)
    assert not features.requires_grad
    short = fit(0, 2).features(media)
    assert torch.equal(fit(0, 2).features(media), short)
    assert not torch.equal(fit(1, 2).features(media), short)


def test_the_loss_is_finite_for_every_word() -> None:
    words = ["aaaaa", "z", "abc", "book"]
    loss = fresh(colour=2).loss(pictures(), words, {"colour": torch.arange(4) % 2})
    assert bool(loss.isfinite())


def test_saved_and_loaded(tmp_path: Path) -> None:
    reader = fresh(colour=4, font=3)
    reader.save(tmp_path / "reader")
    again = WordReader.load(tmp_path / "reader")
    assert again.styles == {"colour": 4, "font": 3}
    assert torch.equal(again.features(pictures()), reader.features(pictures()))


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="can't be read"):
        WordReader.load(tmp_path)

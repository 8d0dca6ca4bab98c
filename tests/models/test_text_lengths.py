"""Texts of one length lose their padding; others, and those of compiled networks, keep it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddrl.models.compiling import compile_blocks
from ddrl.models.text_lengths import lengths_of, without_padding


def texts(*rows: str) -> tuple[Tensor, Tensor]:
    """Tokens, and which of them count: one for each x."""
    mask = torch.tensor([[letter == "x" for letter in row] for row in rows])
    return torch.arange(float(mask.numel())).reshape(*mask.shape, 1), mask


def test_lengths_are_of_texts_that_are_padded_behind() -> None:
    _, mask = texts("xx..", "xxxx", "....", "..xx", "x.x.")
    assert lengths_of(mask).tolist() == [2, 4, 0, -1, -1]
    assert lengths_of(mask.long()).tolist() == [2, 4, 0, -1, -1]


def test_only_one_length_is_cut() -> None:
    network = nn.ReLU()
    for rows, length in (
        (("xx..", "xx.."), 2),
        (("xxxx",), 4),
        (("xx..", "x..."), None),
        (("....", "...."), None),  # no token at all
        (("..xx", "..xx"), None),
    ):
        embeds, mask = texts(*rows)
        cut, left = without_padding(network, lengths_of(mask).tolist(), embeds, mask)
        if length is None:
            assert cut is embeds
            assert left is mask
        else:
            assert torch.equal(cut, embeds[:, :length])
            assert left is None


def test_a_compiled_network_has_one_graph_for_all_lengths() -> None:
    network = nn.Sequential(nn.Identity(), nn.ReLU())
    compile_blocks(network, backend="eager")
    embeds, mask = texts("xx..", "xx..")
    cut, left = without_padding(network, [2, 2], embeds, mask)
    assert cut is embeds
    assert left is mask

"""Samples of several sizes on one canvas, in the order of their prompts."""

from __future__ import annotations

import torch
from torch import Tensor

from ddrl.evaluation.measures.generate import SampleSet
from ddrl.evaluation.measures.mixed import first_samples, on_one_canvas
from ddrl.records import Prompts
from ddrl.training.rollout import rows_by_size


def grey(*levels: float, height: int, width: int, frames: int = 0) -> Tensor:
    """Pictures, or clips whose frames fall from a level by a tenth each."""
    pixels = torch.tensor(levels)[:, None, None, None].expand(-1, 3, height, width)
    if not frames:
        return pixels
    return torch.stack([pixels - 0.1 * frame for frame in range(frames)], dim=1)


def test_each_is_in_the_middle_of_white() -> None:
    found = on_one_canvas([grey(0.2, height=2, width=4), grey(0.4, 0.6, height=5, width=1)])
    assert found.shape == (3, 3, 5, 4)
    assert (found[0, :, 1:3] == 0.2).all()
    assert (found[0, :, [0, 3, 4]] == 1).all()
    assert (found[2, :, :, 1] == 0.6).all()
    assert (found[2, :, :, [0, 2, 3]] == 1).all()


def test_of_one_size_nothing_is_added() -> None:
    media = grey(0.1, 0.2, height=3, width=2, frames=4)
    assert torch.equal(on_one_canvas([media[:1], media[1:]]), media)


def test_of_clips_of_several_lengths_the_middle_frames_are_shown() -> None:
    clips, long = (grey(0.9, height=2, width=2, frames=n) for n in (3, 5))
    found = on_one_canvas([clips, long, grey(0.3, height=2, width=2)])
    assert found.shape == (3, 3, 2, 2)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor([0.8, 0.7, 0.3]))


def test_the_first_samples_of_every_prompt_in_the_order_of_prompts() -> None:
    prompts = Prompts.numbered(["a", "b", "c"], [{"n": 0}, {"n": 1}, {"n": 2}])
    wide = grey(0.1, 0.2, 0.5, 0.6, height=1, width=2)
    tall = grey(0.3, 0.4, height=2, width=1)
    sets = [
        SampleSet(wide, prompts.select([0, 0, 2, 2])),
        SampleSet(tall, prompts.select([1, 1])),
    ]
    found = first_samples(sets, 1)
    assert found.prompts.text == ("a", "b", "c")
    assert found.prompts.prompt_id.tolist() == [0, 1, 2]
    assert [known["n"] for known in found.prompts.metadata] == [0, 1, 2]
    torch.testing.assert_close(found.media.amin((1, 2, 3)), torch.tensor([0.1, 0.3, 0.5]))
    assert first_samples(sets, 9).prompts.prompt_id.tolist() == [0, 0, 1, 1, 2, 2]


def test_rows_of_one_size_each_cover_all_rows() -> None:
    found = [rows.tolist() for rows in rows_by_size(torch.tensor([1, 0, 1, 1, 2]), 2)]
    assert found == [[1], [0, 2], [3], [4]]
    assert [rows.tolist() for rows in rows_by_size(torch.zeros(3), 0)] == [[0, 1, 2]]

"""Samples of several requests in one call: each gets its own, and none fails for another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.rewards.served import Bright, Centred
from torch import Tensor

from ddrl.records import Prompts
from ddrl.rewards.serve.batch import Outcome, Sample, samples_of, score_samples
from ddrl.rewards.wire.message import Request

RANDOM = np.random.default_rng(0)


def request(name: str, *texts: str, size: int = 4, first: int = 0) -> Request:
    media = RANDOM.random((len(texts), 3, size, size), dtype=np.float32)
    ids = tuple(range(first, first + len(texts)))
    return Request(media, texts, ids, ({},) * len(texts), request=name, group=ids)


def mixed(*requests: Request) -> list[Sample]:
    samples = [sample for one in requests for sample in samples_of(one)]
    order = RANDOM.permutation(len(samples))
    return [samples[i] for i in order]


def wanted(sample: Sample) -> float:
    return float(torch.tensor(sample.media).mean() + sample.prompt_id)


def test_each_sample_gets_its_own_whatever_its_size() -> None:
    samples = mixed(
        request("a", "x", "y", "z"), request("b", "x", "y", size=6), request("c", "w", first=9)
    )
    found = score_samples(Bright(), samples)
    assert [one.value for one in found] == pytest.approx([wanted(one) for one in samples])


def test_a_request_does_not_fail_for_another_one() -> None:
    samples = mixed(request("a", "x", "y"), request("b", "x", "broken"), request("c", "unread"))
    found = dict(zip(((s.request, s.prompt) for s in samples), score_samples(Bright(), samples)))  # noqa: B905
    assert found["a", "x"].value is not None
    assert found["a", "y"].value is not None
    broken = Outcome(None, "The prompt is broken", "mend it", raised=True)
    assert found["b", "x"] == found["b", "broken"] == broken
    assert found["c", "unread"] == Outcome(None, "nothing to read")


def test_a_wrong_shape_is_no_reward() -> None:
    class Wide:
        def score(self, media: Tensor, prompts: Prompts) -> Tensor:
            return media.mean((-1, -2))

    (found,) = score_samples(Wide(), mixed(request("a", "x")))
    assert found.raised
    assert found.cause == "it returned (1, 3) for 1 samples, not one float each"


def test_a_reward_of_groups_is_given_them() -> None:
    one = Request(
        RANDOM.random((4, 3, 2, 2), dtype=np.float32),
        ("a",) * 4,
        (0,) * 4,
        ({},) * 4,
        group=(0, 1, 0, 1),
    )
    found = [outcome.value or 0.0 for outcome in score_samples(Centred(), samples_of(one))]
    assert found[0] + found[2] == pytest.approx(0, abs=1e-6)
    assert found[1] + found[3] == pytest.approx(0, abs=1e-6)
    assert abs(found[0]) > 1e-4

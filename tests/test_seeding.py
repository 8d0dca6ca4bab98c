"""Randomness has names: stable across versions, and the same however a batch is cut."""

from __future__ import annotations

import itertools

import pytest
import torch

from ddrl.seeding import SampleNoise, derive_seed, generator, permutation, sample_noise


def test_seeds_are_the_same_in_every_version() -> None:
    """Pinned on purpose: a resumed run of an older version has to draw the same numbers."""
    assert derive_seed(0, "rollout") == 2904073249561145650
    assert derive_seed(7, "rollout", 3, 41) == 3305952911213040875
    assert derive_seed(-1, "évaluation", -2) == 2739929030170288716


def test_draws_are_the_same_in_every_version() -> None:
    """torch's own stream: not promised by torch, but what resuming rests on."""
    assert permutation(8, 7, "prompts", 2).tolist() == [7, 5, 1, 3, 4, 0, 2, 6]
    noise = sample_noise((2,), run_seed=7, purpose="rollout", step=3, sample_ids=[41])
    torch.testing.assert_close(noise, torch.tensor([[-0.8314692, -0.0129136]]), rtol=0, atol=1e-6)


def test_seeds_differ_in_every_part() -> None:
    names: list[tuple[int, str, tuple[int, ...]]] = [
        (seed, purpose, indices)
        for seed in (0, 1, 12, -1)
        for purpose in ("rollout", "data", "rollout2")
        for indices in ((), (0,), (1,), (2,), (12,), (1, 2), (2, 1), (0, 0), (1, 0), (-1,))
    ]
    seeds = {derive_seed(seed, purpose, *indices) for seed, purpose, indices in names}
    assert len(seeds) == len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seeds_are_spread_over_the_whole_range() -> None:
    seeds = [derive_seed(0, "x", i) for i in range(2000)]
    mean = sum(seeds) / len(seeds) / 2**63
    assert mean == pytest.approx(0.5, abs=4 * (1 / 12 / 2000) ** 0.5)
    assert sum(seed % 2 for seed in seeds) == pytest.approx(1000, abs=90)


def test_generators_are_on_the_cpu_and_fresh() -> None:
    first, second = generator(1, "x", 2), generator(1, "x", 2)
    assert first.device == torch.device("cpu")
    assert first.initial_seed() == derive_seed(1, "x", 2)
    assert torch.equal(torch.rand(5, generator=first), torch.rand(5, generator=second))
    assert not torch.equal(
        torch.rand(5, generator=first), torch.rand(5, generator=generator(1, "y"))
    )


@pytest.mark.parametrize("shape", [(), (1,), (3,), (15,), (16,), (17,), (3, 5, 7)], ids=str)
def test_noise_does_not_depend_on_the_micro_batch(shape: tuple[int, ...]) -> None:
    """Bitwise, for sizes on both sides of torch's vectorised path, and odd ones."""

    def draw(ids: list[int]) -> torch.Tensor:
        return sample_noise(shape, run_seed=5, purpose="rollout", step=2, sample_ids=ids)

    together = draw([3, 1, 2, 1])
    assert together.shape == (4, *shape)
    assert together.dtype == torch.float32
    for row, sample_id in zip(together, [3, 1, 2, 1], strict=True):
        assert torch.equal(row, draw([sample_id])[0])
    assert torch.equal(torch.cat([draw([3, 1]), draw([2, 1])]), together)
    assert torch.equal(together[1], together[3])
    for one, other in itertools.combinations((0, 1, 2), 2):
        assert not torch.equal(together[one], together[other])


def test_noise_has_its_own_name() -> None:
    base = sample_noise((64,), run_seed=5, purpose="rollout", step=2, sample_ids=[1])
    for seed, purpose, step in ((6, "rollout", 2), (5, "data", 2), (5, "rollout", 3)):
        other = sample_noise((64,), run_seed=seed, purpose=purpose, step=step, sample_ids=[1])
        assert abs(float((base * other).mean())) < 0.5  # another draw, not the same shifted
        assert not torch.equal(base, other)


def test_noise_is_standard_normal_across_samples() -> None:
    """Each row starts a new stream: no correlation between neighbouring ids."""
    noise = sample_noise((8,), run_seed=0, purpose="x", step=0, sample_ids=range(2000))
    assert float(noise.mean()) == pytest.approx(0, abs=4 / 16000**0.5)
    assert float(noise.std()) == pytest.approx(1, abs=4 / 32000**0.5)
    assert float((noise[1:] * noise[:-1]).mean()) == pytest.approx(0, abs=4 / 16000**0.5)


def test_no_samples() -> None:
    empty = sample_noise((2, 3), run_seed=0, purpose="x", step=0, sample_ids=[])
    assert empty.shape == (0, 2, 3)


def test_permutation() -> None:
    first = permutation(50, 1, "data", 0)
    assert first.dtype == torch.int64
    assert sorted(first.tolist()) == list(range(50))
    assert torch.equal(first, permutation(50, 1, "data", 0))
    assert not torch.equal(first, permutation(50, 1, "data", 1))
    assert not torch.equal(first, permutation(50, 1, "prompts", 0))


def test_the_global_generator_is_not_touched() -> None:
    before = torch.get_rng_state()
    sample_noise((4,), run_seed=0, purpose="x", step=0, sample_ids=[0, 1])
    permutation(5, 0, "x")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("shape", [(16,), (3, 16), (4, 4, 4), (1, 2, 2), (5, 7), (17,)])
@pytest.mark.parametrize("size", [1, 2, 9])
def test_noise_in_pieces_is_the_noise(shape: tuple[int, ...], size: int) -> None:
    """Blocks of 16 or not, on any number of steps at a time, and with rows in any batches."""
    names = {"run_seed": 5, "step": 2, "purpose": "anchor"}
    ids = [4, 0, 9, 100, 7]
    whole = sample_noise((9, *shape), sample_ids=ids, **names)  # type: ignore[arg-type]
    noise = SampleNoise(shape, num_steps=9, sample_ids=ids, **names)  # type: ignore[arg-type]
    for start in range(0, 9, size):
        steps = slice(start, min(start + size, 9))
        for rows in (slice(0, 2), slice(2, 5)):
            assert torch.equal(noise.draw(rows, steps), whole[rows, steps])


def test_noise_out_of_order_is_refused() -> None:
    noise = SampleNoise((16,), num_steps=3, run_seed=0, purpose="x", step=0, sample_ids=[0, 1])
    noise.draw(slice(0, 1), slice(0, 1))
    with pytest.raises(AssertionError, match="order of the steps"):
        noise.draw(slice(0, 2), slice(1, 2))

"""What every family's adapter must do: the same tests, over the cases of each family's file.

A file has CASES and ``class TestFlux(Checks)``; tests of its own beneath may take the same
fixtures, ``case``, ``folder`` and ``model``.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from tests.models.families.cases import Call, Case, needs
from tests.models.families.tiny import noise, pixels
from torch import Tensor
from torch.nn import functional

from ddrl.errors import DataError
from ddrl.models.lora.adapter import LoRASettings, add_lora, lora_disabled
from ddrl.models.rollout_weights import merged_weights
from ddrl.testing.adapters import AdapterCase, check_adapter
from ddrl.training.forward import Forward
from ddrl.training.rollout import sample_ode

HALF = torch.tensor([0.5])


def velocity(model: Any, x: Tensor, t: Tensor, condition: Any) -> Tensor:
    with torch.no_grad():
        made: Tensor = model.predict(x, t.expand(len(x)), condition)
    return made


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def latents(model: Any, case: Case, *, seed: int = 2) -> Tensor:
    return noise(len(case.texts), *case.shape(model), seed=seed)


@contextmanager
def attention_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Whether each call of attention has a mask, while it is computed."""
    calls: list[bool] = []
    real = functional.scaled_dot_product_attention

    def attend(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, **more: Any
    ) -> Any:
        calls.append(attn_mask is not None)
        return real(query, key, value, attn_mask=attn_mask, **more)

    with monkeypatch.context() as patch:
        patch.setattr(functional, "scaled_dot_product_attention", attend)
        yield calls


class Checks:
    """Of every family."""

    def test_conformance(self, model: Any, case: Case) -> None:
        for size in case.given_sizes or [case.size[:2]]:
            first = case.first(size=size)
            check_adapter(
                AdapterCase(
                    model=model,
                    condition=case.encode(model, given=first),
                    latent_shape=case.shape(model),
                    media=case.media(),
                    pipeline=case.pipeline(model, first),
                    times=case.times,
                    texts=case.texts,
                    first_frames=first,
                )
            )

    def test_guidance(self, model: Any, case: Case) -> None:
        """As the pipeline has it; where that is not plain, as the formula has it."""
        x, given = latents(model, case), case.first()
        condition, forward = case.encode(model), Forward(model, guidance=case.guidance)
        if case.own is not None and case.guided:
            times = torch.tensor(case.guided_times, dtype=torch.float64)
            ours = sample_ode(forward, condition, x, times=times, solver="euler")
            call = Call(case, case.texts, x, case.guided_times[:-1], case.guidance, given)
            torch.testing.assert_close(ours, case.own(model, call), rtol=0, atol=2e-4)
            return
        t = torch.linspace(0.8, 0.2, len(x))
        empty = velocity(model, x, t, case.encode(model, [""] * len(x)))
        expected = empty + case.guidance * (velocity(model, x, t, condition) - empty)
        with torch.no_grad():
            torch.testing.assert_close(forward(x, t, condition), expected, rtol=1e-4, atol=1e-4)

    def test_texts_of_one_length_have_no_mask(
        self, model: Any, case: Case, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that any kernel of attention can run; the velocity is that with padding and mask."""
        condition = case.encode(model)[torch.zeros(2, dtype=torch.int64)]
        x, t = latents(model, case)[:1].repeat_interleave(2, 0), HALF
        with attention_calls(monkeypatch) as calls:
            made = velocity(model, x, t, condition)
        assert calls
        assert any(calls) == case.is_masked
        lengths = {n: torch.full((2,), -1) for n in vars(condition) if n.endswith("length")}
        if lengths and type(condition).__name__ != "ZImageCondition":  # which has no other way
            with attention_calls(monkeypatch) as calls:
                padded = velocity(model, x, t, dataclasses.replace(condition, **lengths))
            assert any(calls)
            torch.testing.assert_close(made, padded, rtol=1e-6, atol=1e-6)

    @needs("decodes")
    def test_decoding(self, model: Any, case: Case) -> None:
        """As the pipeline does it, of a text alone; and each time the same."""
        x, condition = latents(model, case)[:1], case.encode(model)[:1]
        ours = model.decode(x, condition)
        assert torch.equal(ours, model.decode(x, condition))
        assert ours.std() > 0.01
        assert case.decodes is not None
        torch.testing.assert_close(ours, case.decodes(model, x, case), rtol=0, atol=1e-4)

    @needs("limit")
    def test_long_texts_are_cut(self, model: Any, case: Case) -> None:
        """At the limit of the pipeline, the empty text and the longest side by side."""
        limit = case.limit
        assert limit is not None
        short = case.short or limit // 2
        texts = ["", "x" * short, *("x" * (2 * limit) + end for end in "yz")]
        condition = model.encode(texts)
        assert condition.embeds.shape == (4, *case.embeds)
        torch.testing.assert_close(condition.embeds[2], condition.embeds[3])
        assert not torch.allclose(condition.embeds[1], condition.embeds[2], atol=1e-3)
        if case.lengths is not None:
            mask = getattr(condition, "mask", condition.embeds.abs().sum(-1) > 0)
            lengths = getattr(condition, "length", mask.sum(1)).tolist()
            assert (lengths[0], *lengths[2:]) == (case.lengths[0], *case.lengths[1:] * 2)
            assert lengths[1] - lengths[0] - short in (0, 1)  # a token may stand in front

    def test_sizes(self, model: Any, case: Case) -> None:
        for size, shape in case.sizes.items():
            assert model.latent_shape(*size) == shape
        for size, message in case.refused.items():
            with pytest.raises(DataError, match=message) as error:
                model.latent_shape(*size)
            assert error.value.hint
        for shape, shift in case.shifts.items():
            assert model.time_shift(shape) == pytest.approx(shift)

    @needs("lora")
    def test_lora(self, fresh: Any, case: Case) -> None:
        """It begins as the base, alone gets gradients, changes the model, and can be left out."""
        network, condition, x = fresh.transformer, case.encode(fresh), latents(fresh, case)
        t = torch.linspace(0.95, 0.05, len(x))
        before = velocity(fresh, x, t, condition)
        settings, targets = LoRASettings(rank=2), fresh.lora_targets
        number = add_lora(network, settings, targets=targets, is_used=fresh.is_used)
        assert number == case.lora
        after = fresh.predict(x, t, condition)
        assert torch.equal(after, before)
        torch.autograd.backward(after.sum())
        reached = {n for n, p in network.named_parameters() if p.grad is not None}
        assert reached == {n for n, _ in network.named_parameters() if "lora_" in n}
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                torch.nn.init.constant_(parameter, 0.1)
        changed = velocity(fresh, x, t, condition) != before
        assert changed.flatten(1).any(1).all()  # of every row, whichever network has its time
        with lora_disabled(network):
            assert torch.equal(velocity(fresh, x, t, condition), before)
        self._merged(fresh, condition, x, t)

    def _merged(self, model: Any, condition: Any, x: Tensor, t: Tensor) -> None:
        """Merged it computes the same, and in bfloat16, without autocast, close to the same."""
        network = model.transformer
        for name, parameter in network.named_parameters():
            if "lora_B" in name:
                rng = torch.Generator().manual_seed(len(name))
                torch.nn.init.normal_(parameter, std=0.003, generator=rng)
        exact = velocity(model, x, t, condition)
        with merged_weights(network):
            assert error(velocity(model, x, t, condition), exact) < 1e-3
        for name, parameter in network.named_parameters():
            if "lora_" not in name:
                parameter.data = parameter.data.bfloat16()
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        with torch.no_grad():
            cast = Forward(model, autocast=torch.bfloat16).plain(x, t, condition)
            with merged_weights(network):
                half = Forward(model).plain(x, t, condition)
        assert 0 < error(half, cast) < 0.05
        assert all(torch.equal(value, kept[n]) for n, value in network.state_dict().items())

    @needs("lora")
    @pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
    def test_matrices_cast_once(self, model: Any, case: Case) -> None:
        """Autocast finds them cast, and no number changes."""
        condition, x = case.encode(model), latents(model, case)
        t = torch.linspace(0.95, 0.05, len(x))
        forward = Forward(model, autocast=torch.bfloat16)
        with torch.no_grad():
            expected = forward.plain(x, t, condition)
            with merged_weights(model.transformer, autocast=torch.bfloat16):
                types = {p.dtype for p in model.transformer.parameters()}
                found = forward.plain(x, t, condition)
        assert torch.bfloat16 in types
        assert torch.equal(found, expected)
        assert {p.dtype for p in model.transformer.parameters()} == {torch.float32}


class GivenChecks:
    """Of a family that is given first frames, or source images."""

    needs = "given"

    def test_text_and_picture_both_matter(self, model: Any, case: Case) -> None:
        first = case.first()
        assert first is not None
        x = latents(model, case)[:1]
        made = [
            velocity(model, x, HALF, case.encode(model, [text], given=given[None]))
            for text in case.texts[:2]
            for given in first[:2]
        ]
        for one in range(4):
            for other in range(one):
                assert (made[one] - made[other]).abs().max() > 1e-5

    def test_bad_given_frames(self, model: Any, case: Case) -> None:
        height, width, _ = case.size
        x, t, num = latents(model, case), HALF.expand(len(case.texts)), len(case.texts)
        with pytest.raises(DataError, match=case.told):
            model.predict(x, t, model.encode(list(case.texts)))
        many = pixels(num, case.given + 4, 3, height, width)
        with pytest.raises(DataError, match=case.too_many):
            model.encode(list(case.texts), first_frames=many)
        if model.given_latents:
            for condition in (None, model.encode(list(case.texts))):
                with pytest.raises(DataError, match=case.told):
                    model.decode(x, condition)
            sides = re.escape(f"have {tuple(x.shape[-2:])} latents along height and width")
            with pytest.raises(DataError, match=sides):
                model.predict(x.mT, t, case.encode(model))
            with pytest.raises(DataError, match=sides):
                model.decode(x.mT, case.encode(model))
        if 0 in model.allowed_given_frames:
            model.given_frames = 0
            with pytest.raises(DataError, match=r"is set to make .* from text, which takes no"):
                case.encode(model)


class FirstFrameChecks(GivenChecks):
    """Of a family that is given first frames."""

    def test_latents_that_are_given(self, model: Any, case: Case) -> None:
        """A clip's own first ones: left out of what is encoded, put in front of what is decoded."""
        clip, num = case.media(), model.given_latents
        if not num:  # beside the latents, in which nothing is given
            first = case.first()
            assert first is not None
            given, alone = case.encode(model).given, model.encode_media(first[:, 0])
            torch.testing.assert_close(given[:, :, :1], alone.reshape(given[:, :, :1].shape))
            return
        condition = case.encode(model, given=clip[:, : case.given])
        made, x = model.encode_media(clip, condition), latents(model, case)
        shown, others = model.decode(x, condition), model.decode(-x, condition)
        model.given_frames = 0
        whole = model.encode_media(clip)
        torch.testing.assert_close(condition.given, whole[:, :, :num])
        torch.testing.assert_close(made, whole[:, :, num:])
        together = torch.cat([condition.given, x], dim=2)
        torch.testing.assert_close(shown, model.decode(together), rtol=1e-4, atol=1e-5)
        same = torch.allclose(shown[:, : case.given], others[:, : case.given], atol=1e-4)
        assert same == model.shows_given

    def test_rows_have_times_of_their_own(self, model: Any, case: Case) -> None:
        x, condition = latents(model, case), case.encode(model)
        t = torch.linspace(0.2, 0.9, len(x))
        together = velocity(model, x, t, condition)
        for row in (slice(i, i + 1) for i in range(len(x))):
            alone = velocity(model, x[row], t[row], condition[row])
            torch.testing.assert_close(together[row], alone, rtol=1e-4, atol=1e-5)

"""Conformance of a model adapter: call :func:`check_adapter` from a test, with a tiny model.

Each check says in its error what is wrong with the adapter; none needs a GPU or a download.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ddrl.data.encoded.stored import collate
from ddrl.diffusion.kernels import FlowSDE
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions, step_sample
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.base import DiffusionModel
from ddrl.records import Condition
from ddrl.testing.given_frames import check_given_frames
from ddrl.testing.inputs import check_sizes, check_smallest, check_text_lengths
from ddrl.testing.require import require
from ddrl.training.forward import Forward
from ddrl.training.rollout import Sampler, sample_ode


@dataclass(frozen=True)
class AdapterCase:
    """An adapter and what it is checked with.

    Attributes:
        model: the adapter, over a tiny model.
        condition: of U texts (and given frames, if the family takes them), U at least 2.
        latent_shape: of one sample.
        media: pixels in [0, 1], as ``encode_media`` takes them, one row per text.
        pipeline: (noise, times without the final 0) -> the latents that the family's own pipeline
            reaches with the Euler method for the same condition, in the adapter's layout; or None
            where there is no such pipeline.
        times: the grid that the pipeline uses, the final 0 included.
        texts: those of the condition; without them it is not checked that each is encoded apart.
        first_frames: those of the condition, or the source images of edits, shape
            (U, F, 3, H, W), if the family takes them.
        round_trip: largest mean error of decode(encode(x)), or None for a VAE with random weights.
    """

    model: DiffusionModel
    condition: Condition
    latent_shape: tuple[int, ...]
    media: Tensor
    pipeline: Callable[[Tensor, Sequence[float]], Tensor] | None = None
    times: Sequence[float] = (1.0, 0.75, 0.5, 0.25, 0.0)
    round_trip: float | None = None
    texts: Sequence[str] = ()
    first_frames: Tensor | None = None


def check_adapter(case: AdapterCase, *, tolerance: float = 1e-4) -> None:
    """Run every check.

    Raises:
        ConformanceError: the first that fails.
    """
    noise = torch.randn(
        (len(case.condition), *case.latent_shape), generator=torch.Generator().manual_seed(0)
    )
    _check_prediction(case, noise)
    _check_pipeline(case, noise, tolerance)
    _check_batches(case, noise)
    _check_kernel(case, noise)
    _check_replay(case)
    _check_media(case)
    _check_scale(case, noise)
    _check_gradients(case, noise)
    if (pictures := _of_pictures(case)) is not None:
        _check_pictures(case, pictures)
    smallest = check_sizes(case.model, case.media, case.latent_shape)
    encode, num_given = _encoder(case), getattr(case.model, "given_frames", 0)
    if encode is not None:
        check_text_lengths(case.model, encode, noise[:1])
    if not num_given:
        check_smallest(case.model, smallest, case.condition[:1])
    if case.texts:
        _check_texts(case, noise)
    if case.first_frames is not None:
        require(isinstance(case.model, DiffusersModel), "only such a model is given frames.")
        assert isinstance(case.model, DiffusersModel)
        check_given_frames(
            case.model,
            case.texts,
            case.first_frames,
            frames=_num_frames(case),
            latents=noise,
        )


def _num_frames(case: AdapterCase) -> int:
    """Frames of the media; pictures have one."""
    return case.media.shape[1] if case.media.ndim == 5 else 1


def _of_pictures(case: AdapterCase) -> AdapterCase | None:
    """The case of a video model that is trained on pictures, as a first stage is."""
    model = case.model
    if not isinstance(model, DiffusersModel) or not model.is_video() or model.given_frames:
        return None  # given frames leave nothing of a single one to generate
    pictures = case.media[:, 0]
    height, width = pictures.shape[-2:]
    shape = model.latent_shape(height, width, 1)
    return dataclasses.replace(case, media=pictures, latent_shape=shape, pipeline=None)


def _check_pictures(case: AdapterCase, pictures: AdapterCase) -> None:
    """To a video model a picture is a clip of one frame, and such a clip comes out as a picture."""
    noise = torch.randn(
        (len(case.condition), *pictures.latent_shape), generator=torch.Generator().manual_seed(0)
    )
    latents = case.model.encode_media(pictures.media)
    as_clip = case.model.encode_media(case.media[:, :1])
    require(torch.equal(latents, as_clip), "a picture's latents are not those of one frame.")
    _check_prediction(pictures, noise)
    _check_batches(pictures, noise)
    _check_replay(pictures)
    _check_media(pictures)
    _check_gradients(pictures, noise)


def _encoder(case: AdapterCase) -> Callable[[list[str]], Condition] | None:
    """Any texts to their condition; None where it is not known with which first frames."""
    model, given = case.model, case.first_frames
    if given is None:
        return None if getattr(model, "given_frames", 0) else model.encode
    assert isinstance(model, DiffusersModel)

    def encode(texts: list[str]) -> Condition:
        first = given[:1].expand(len(texts), *given.shape[1:])
        return model.encode(texts, first_frames=first, frames=_num_frames(case))

    return encode


def _predict(case: AdapterCase, x: Tensor, t: float, condition: Condition) -> Tensor:
    with torch.no_grad():
        return case.model.predict(x, torch.full((len(x),), t), condition)


def _check_prediction(case: AdapterCase, noise: Tensor) -> None:
    velocity = _predict(case, noise, 0.5, case.condition)
    require(velocity.shape == noise.shape, f"predict gives {velocity.shape} for {noise.shape}.")
    require(bool(velocity.isfinite().all()), "predict gives values that are not finite.")
    again = _predict(case, noise, 0.5, case.condition)
    require(torch.equal(velocity, again), "predict is not deterministic: dropout is on?")
    other = _predict(case, noise, 0.25, case.condition)
    require(not torch.equal(velocity, other), "predict does not depend on the time.")
    flipped = case.condition[torch.arange(len(noise)).flip(0)]
    other = _predict(case, noise, 0.5, flipped)
    require(not torch.equal(velocity, other), "predict does not depend on the condition.")


def _check_pipeline(case: AdapterCase, noise: Tensor, tolerance: float) -> None:
    """The ODE of the adapter is the pipeline's."""
    if case.pipeline is None:
        return
    times = torch.tensor(case.times, dtype=torch.float64)
    ours = sample_ode(Forward(case.model), case.condition, noise, times=times, solver="euler")
    theirs = case.pipeline(noise, list(case.times[:-1]))
    require(ours.shape == theirs.shape, f"latents {ours.shape}, the pipeline's {theirs.shape}.")
    error = float((ours - theirs.float()).abs().max())
    require(error <= tolerance, f"the ODE is {error:.2g} away from the pipeline's.")


def _check_batches(case: AdapterCase, noise: Tensor) -> None:
    together = _predict(case, noise, 0.5, case.condition)
    rows = [slice(i, i + 1) for i in range(len(noise))]
    alone = torch.cat([_predict(case, noise[r], 0.5, case.condition[r]) for r in rows])
    error = float((together - alone).abs().max() / together.abs().max())
    require(error <= 1e-4, f"a batch differs from its rows by {error:.2g}, relatively.")


def _check_texts(case: AdapterCase, noise: Tensor) -> None:
    """Texts are encoded apart and kept; those that are shorter are padded beside longer ones."""
    given = case.first_frames
    rows = []
    for index, text in enumerate(case.texts):
        if given is None:
            alone = case.model.encode([text])
        else:
            assert isinstance(case.model, DiffusersModel)
            alone = case.model.encode(
                [text], first_frames=given[index : index + 1], frames=_num_frames(case)
            )
        values = {field.name: getattr(alone, field.name) for field in dataclasses.fields(alone)}
        rows.append({name: value[0] for name, value in values.items() if value is not None})
    together = _predict(case, noise, 0.5, case.condition)
    apart = _predict(case, noise, 0.5, collate(type(case.condition), rows))
    error = float((together - apart).abs().max() / together.abs().max())
    require(error <= 1e-4, f"texts encoded one by one give another velocity, by {error:.2g}.")


def _check_kernel(case: AdapterCase, noise: Tensor) -> None:
    """The SDE without noise is the ODE."""
    times = time_grid(4, shift=case.model.time_shift(case.latent_shape))
    kernel = Transitions.build(FlowSDE(eta=0.0), case.model.process, times)
    x, t = noise, times.float()
    for k in range(len(kernel)):
        velocity = _predict(case, x, float(t[k]), case.condition)
        step = kernel.step(torch.full((len(x),), k))
        x = step_sample(step, x, velocity, torch.zeros_like(x))
    ode = sample_ode(Forward(case.model), case.condition, noise, times=times, solver="euler")
    error = float((x - ode).abs().max() / ode.abs().max())
    require(error <= 1e-4, f"the SDE at eta 0 is {error:.2g} away from the ODE, relatively.")


def _check_replay(case: AdapterCase) -> None:
    times = time_grid(3, shift=case.model.time_shift(case.latent_shape))
    transitions = Transitions.build(FlowSDE(eta=0.7), case.model.process, times)
    sampler = Sampler(Forward(case.model), transitions, latent_shape=case.latent_shape, seed=0)
    group = torch.arange(len(case.condition))
    trajectory = sampler.rollout(case.condition, group, step=0)
    again = sampler.replay(trajectory, steps=range(3))
    off = float(((again - trajectory.log_prob).exp() - 1).abs().max())
    require(off <= 1e-6, f"replaying a rollout gives a ratio that is off by {off:.2g}.")


def _check_media(case: AdapterCase) -> None:
    latents = case.model.encode_media(case.media)
    expected = (len(case.media), *case.latent_shape)
    require(latents.shape == expected, f"encode_media gives {latents.shape}, not {expected}.")
    media = case.model.decode(latents, case.condition)
    require(media.shape == case.media.shape, f"decode gives {media.shape}.")
    low, high = float(media.min()), float(media.max())
    require(low >= 0 and high <= 1, f"decode gives pixels from {low:.2g} to {high:.2g}.")
    if case.round_trip is not None:
        error = float((media - case.media).abs().mean())
        require(error <= case.round_trip, f"decode(encode(x)) is {error:.2g} away from x.")


def _check_scale(case: AdapterCase, noise: Tensor) -> None:
    """``denormalize`` undoes ``normalize``, and both do something.

    So a tiny VAE needs a scale other than 1, and a shift other than 0 where the family has one.
    """
    there, back = (getattr(case.model, name, None) for name in ("normalize", "denormalize"))
    if there is None or back is None:
        return
    raw = back(noise)
    require(
        raw.shape != noise.shape or not torch.allclose(raw, noise),
        "the VAE's latents are taken as they are, so that their scale is not checked.",
    )
    for name, found, expected in (
        ("normalize(denormalize(x))", there(raw), noise),
        ("denormalize(normalize(x))", back(there(raw)), raw),
    ):
        error = float((found - expected).abs().max() / expected.abs().max())
        require(error <= 1e-5, f"{name} is {error:.2g} away from x, relatively.")


def _check_gradients(case: AdapterCase, noise: Tensor) -> None:
    """Gradients reach the trainable parameters of the transformer and nothing else."""
    network = case.model.transformer
    trainable = {n: p for n, p in network.named_parameters() if p.requires_grad}
    require(bool(trainable), "no parameter is trainable.")
    for parameter in network.parameters():
        parameter.grad = None
    times = torch.linspace(0.95, 0.05, len(noise))  # where networks take turns, each has its own
    velocity = case.model.predict(noise, times, case.condition)
    torch.autograd.backward(velocity.float().square().mean())
    missed = [n for n, p in trainable.items() if p.grad is None]
    require(not missed, f"no gradient reaches trainable parameters: {missed[:3]}.")
    frozen = [n for n, p in network.named_parameters() if p.grad is not None and n not in trainable]
    require(not frozen, f"gradients reach frozen parameters: {frozen[:3]}.")
    for parameter in itertools.chain(network.parameters()):
        parameter.grad = None

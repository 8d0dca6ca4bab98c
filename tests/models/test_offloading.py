"""Offloaded parts are on the device when they are used, and only then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.models.families import (
    test_flux,
    test_flux2_klein,
    test_qwen_image_edit,
    test_sana,
    test_sd3,
    test_stable_diffusion,
)
from tests.models.families.ltx import ltx2_parts, test_ltx_video
from tests.models.families.wan import test_wan_i2v, wan_parts

from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.families.flux import FluxKontext
from ddrl.models.families.flux2_klein import Flux2Klein
from ddrl.models.families.ltx2 import LTX2
from ddrl.models.families.ltx_video import LTXVideo
from ddrl.models.families.qwen_image_edit import QwenImageEditPlus
from ddrl.models.families.sana import Sana
from ddrl.models.families.sd3 import SD3
from ddrl.models.families.stable_diffusion import SDXL
from ddrl.models.families.wan.image_to_video import WanI2V

DEVICE = torch.device("cpu", 0)  # another name of the place where everything is: what moves is told

FAMILIES: dict[str, Callable[[Path], DiffusersModel]] = {
    "sd3": lambda folder: SD3(test_sd3.build_pipeline(folder)),
    "sdxl": lambda folder: SDXL(test_stable_diffusion.build_sdxl(folder)),
    "sana": lambda _: Sana(test_sana.build_pipeline()),
    "flux2": lambda _: Flux2Klein(test_flux2_klein.build_pipeline()),
    "kontext": lambda folder: FluxKontext(test_flux.build_kontext(folder)),
    "qwen_edit": lambda _: QwenImageEditPlus(test_qwen_image_edit.build_pipeline()),
    "ltx": lambda _: LTXVideo(test_ltx_video.build_pipeline(conditioned=True)),
    "ltx2": lambda _: LTX2(ltx2_parts.build_pipeline(newer=True)),
    "wan_i2v": lambda _: WanI2V(test_wan_i2v.build_pipeline()),
}


class Watched:
    """What happens to the frozen parts, in order; and where each is by the moves it was told."""

    def __init__(self, model: DiffusersModel, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model, self.here = model, set[str]()
        self.moves: list[tuple[str, str]] = []
        self.used: list[str] = []
        frozen = set(model.frozen_parts())
        parts = {n: p for n, p in model.pipeline.components.items() if p in frozen}
        for name, part in parts.items():
            monkeypatch.setattr(part, "to", self._to(name, part.to))
            part.register_forward_pre_hook(lambda *_, name=name: self._use(name))
            for method in ("encode", "decode"):
                if hasattr(part, method):
                    run = self._using(name, getattr(part, method))
                    monkeypatch.setattr(part, method, run)
        model.transformer.register_forward_pre_hook(lambda *_: self._alone())

    def _to(self, name: str, move: Callable[..., Any]) -> Callable[..., Any]:
        def to(device: torch.device | str) -> Any:
            there = torch.device(device) == DEVICE
            self.moves.append((name, "here" if there else "home"))
            (self.here.add if there else self.here.discard)(name)
            return move(device)

        return to

    def _using(self, name: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def using(*args: Any, **kwargs: Any) -> Any:
            self._use(name)
            return run(*args, **kwargs)

        return using

    def _use(self, name: str) -> None:
        assert name in self.here, f"{name} is used where it waits"
        self.used.append(name)

    def _alone(self) -> None:
        assert not self.here, "the network runs beside parts that wait elsewhere"


def started(
    family: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[DiffusersModel, Watched]:
    model = FAMILIES[family](folder)
    model.offload(DEVICE)
    return model, Watched(model, monkeypatch)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_is_there_when_it_is_used(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = started(family, tmp_path, monkeypatch)
    frames = 9 if model.is_video() else 1
    size = {"ltx": 64, "ltx2": 64, "sana": 64}.get(family, 32)
    shape = model.latent_shape(size, size, frames)
    media = wan_parts.pixels(1, *([frames] if model.is_video() else []), 3, size, size)
    test_qwen_image_edit.make_small(monkeypatch)
    first = media.reshape(1, -1, 3, size, size)[:, :1] if model.given_frames else None
    condition = model.encode(["a cat"], first_frames=first, frames=frames)
    encoders = {n for n in model.pipeline.components if n.startswith("text_encoder")}
    encoders &= {n for n, p in model.pipeline.components.items() if p is not None}
    assert encoders <= set(seen.used)
    assert ("image_encoder" in seen.used) == (family == "wan_i2v")
    latents = model.encode_media(media)
    pair = {"text_encoder"} if model.reads_given_with_texts else set()
    assert (
        seen.here - {"image_encoder"} == {"vae"} | pair
    )  # a task may stand on what the last one had
    assert seen.used[-1] == "vae"
    with torch.no_grad():
        velocity = model.predict(torch.zeros(1, *shape), torch.tensor([0.5]), condition)
    assert velocity.shape == (1, *shape)
    assert not seen.here
    model.decode(latents, condition)
    assert seen.used[-1] == "vae"
    assert seen.here == {"vae"}


def test_a_part_moves_once_for_many_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = started("sd3", tmp_path, monkeypatch)
    for text in ("a", "b", "c"):
        model.encode([text])
    texts = ["text_encoder", "text_encoder_2", "text_encoder_3"]
    assert seen.moves == [(name, "here") for name in texts]
    latents = torch.zeros(1, *model.latent_shape(16, 16))
    for _ in range(3):
        model.decode(latents)
    assert seen.moves[3:] == [*((name, "home") for name in texts), ("vae", "here")]
    condition = model.encode(["a"])
    for _ in range(3):
        model.predict(latents, torch.tensor([0.5]), condition)
    assert seen.moves[7:8] == [("vae", "home")]
    assert len(seen.moves) == 14


def test_after_an_error_the_network_has_the_device_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, seen = started("sd3", tmp_path, monkeypatch)
    condition = model.encode(["a"])

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("out of memory")

    latents = torch.zeros(1, *model.latent_shape(16, 16))
    with monkeypatch.context() as patch:
        patch.setattr(model.vae, "decode", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            model.decode(latents)
    with monkeypatch.context() as patch:
        patch.setattr(model.pipeline.text_encoder_2, "to", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            model.encode(["b"])  # between the first part's move and the third's
    assert seen.here == {"text_encoder"}
    model.predict(latents, torch.tensor([0.5]), condition)
    assert not seen.here


def test_without_it_nothing_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FAMILIES["sd3"](tmp_path)
    seen = Watched(model, monkeypatch)
    seen.here = {"text_encoder", "text_encoder_2", "text_encoder_3", "vae"}
    condition = model.encode(["a"])
    model.decode(torch.zeros(1, *model.latent_shape(16, 16)), condition)
    assert not seen.moves

"""LoRA on a transformer: added, switched off (the base is then the reference), saved, loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType

import torch
from torch import Tensor, nn

from ddrl.errors import UsageError, WeightsError
from ddrl.models.base import DiffusionModel
from ddrl.records import Condition

ADAPTER = "ddrl"


@dataclass(frozen=True)
class LoRASettings:
    """Settings of an adapter.

    Attributes:
        rank: rank of the two factors.
        alpha: the update is scaled by alpha / rank.
        targets: modules to adapt, by the end of their names; empty for the family's own.
        dora: decompose weights into magnitude and direction. Source: arXiv 2402.09353.
        seed: seed of the first factor. The second starts at 0, so the output is the base's.
    """

    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = ()
    dora: bool = False
    seed: int = 0


def add_lora(
    transformer: nn.Module,
    settings: LoRASettings,
    *,
    targets: Sequence[str],
    is_used: Callable[[str], bool] = lambda _: True,
    cast_inputs: bool = True,
    ranks: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Freeze the transformer and add a trainable adapter, in float32.

    Args:
        transformer: a diffusers network.
        settings: settings of the adapter.
        targets: the family's own targets, used where the settings name none.
        is_used: whether the output depends on the module of this name; others are not adapted.
        cast_inputs: have peft cast inputs to the adapter's float32. Needed where no autocast does
            it otherwise; under autocast it keeps one more copy of every input for the backward.
        ranks: modules by name and the rank of each, in place of targets and the settings' rank;
            all have the settings' alpha / rank.

    Returns:
        The number of modules adapted.

    Raises:
        UsageError: peft is not installed.
        WeightsError: no module matches the targets, or one of those that the settings name.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
        from peft.tuners.lora import LoraLayer
    except ImportError as error:
        raise UsageError("LoRA needs peft.", hint="pip install 'ddrl[models]'") from error
    matched = list(ranks) or _matched(transformer, settings.targets, targets, is_used=is_used)
    transformer.requires_grad_(False)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        target_modules=matched,
        use_dora=settings.dora,
        rank_pattern={f"^{re.escape(n)}": r for n, r in ranks.items()},
        alpha_pattern={
            f"^{re.escape(n)}": settings.alpha / settings.rank * r for n, r in ranks.items()
        },
        init_lora_weights="gaussian",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        inject_adapter_in_model(config, transformer, adapter_name=ADAPTER)
    for name, parameter in transformer.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    layers = [m for m in transformer.modules() if isinstance(m, LoraLayer)]
    for layer in layers:
        layer.cast_input_dtype_enabled = cast_inputs
    return len(layers)


def _matched(
    transformer: nn.Module,
    asked: Sequence[str],
    own: Sequence[str],
    *,
    is_used: Callable[[str], bool],
) -> list[str]:
    """The modules whose names end in a target: in those asked for, else in the family's own.

    Raises:
        WeightsError: there are none, or none for one of those asked for.
    """
    chosen = list(asked or own)
    linear = [n for n, m in transformer.named_modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    linear = [n for n in linear if is_used(n)]
    matched = [n for n in linear if any(n == t or n.endswith(f".{t}") for t in chosen)]
    if not matched:
        raise WeightsError(
            f"LoRA would be bound to no module: nothing ends in {', '.join(chosen)}.",
            hint=f"modules of this network end in, for example, {', '.join(_endings(linear))}",
        )
    _refuse_unmatched(asked, matched, linear)
    return matched


def has_lora(transformer: nn.Module) -> bool:
    """Return whether :func:`add_lora` has added an adapter."""
    return any("lora_" in name for name, _ in transformer.named_parameters())


def lora_rank(transformer: nn.Module) -> int:
    """The rank of its adapter; the largest where modules differ."""
    second = (p for name, p in transformer.named_parameters() if ".lora_B." in name)
    return max((p.shape[1] for p in second), default=0)


@contextmanager
def lora_disabled(transformer: nn.Module) -> Iterator[None]:
    """Have the network compute what it would without the adapter: the reference, without a copy."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in transformer.modules() if isinstance(m, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def merge_lora(transformer: nn.Module) -> None:
    """Add the adapter to the weights that it adapts, and take it away.

    Each sum is computed in float32 and rounded once, to the type of the base's weights.

    Raises:
        WeightsError: the base is quantised: rounded to its few values, the adapter would be lost.
    """
    from peft.tuners.lora import LoraLayer

    if any(getattr(part, "is_quantized", False) for part in transformer.modules()):
        raise WeightsError(
            "An adapter can't be merged into a quantised network.",
            hint="export it as it is, without --merged, and go on from it with model.lora.start "
            "in place of model.start",
        )
    for name, layer in list(transformer.named_modules()):
        if not isinstance(layer, LoraLayer):
            continue
        base = layer.get_base_layer()
        dtype = base.weight.dtype
        if dtype in (torch.bfloat16, torch.float16):
            base.float()
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(transformer.get_submodule(parent), last, base.to(dtype))
    if hasattr(transformer, "peft_config"):
        del transformer.peft_config


class WithoutLoRA:
    """A model with its adapter switched off: the reference policy, without a second network."""

    def __init__(self, model: DiffusionModel) -> None:
        self._model = model
        self.process, self.transformer = model.process, model.transformer
        self.encode, self.encode_media, self.decode = model.encode, model.encode_media, model.decode
        self.latent_shape, self.time_shift = model.latent_shape, model.time_shift

    def predict(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The base's velocity, shape of ``x_t``."""
        with lora_disabled(self.transformer):
            return self._model.predict(x_t, t, condition)


def _refuse_unmatched(targets: Sequence[str], matched: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a target that no module answers to, where others do.

    Raises:
        WeightsError: there is one; the hint has names that are like it.
    """
    for target in targets:
        if not any(n == target or n.endswith(f".{target}") for n in matched):
            parts = [name.split(".") for name in names]
            depth = target.count(".") + 1
            ends = {".".join(part[-k:]) for part in parts for k in {depth, depth + 1, 1}}
            near = get_close_matches(target, sorted(ends), n=3, cutoff=0.5)
            raise WeightsError(
                f"The LoRA target {target} matches nothing: no linear layer's name ends in it.",
                hint=f"near are {', '.join(near)}"
                if near
                else f"modules of this network end in, for example, {', '.join(_endings(names))}",
            )


def _endings(names: Sequence[str]) -> list[str]:
    """A few distinct last parts of module names, the most frequent first."""
    last = [".".join(name.split(".")[-2:]) for name in names]
    return sorted(set(last), key=lambda n: (-last.count(n), n))[:12]

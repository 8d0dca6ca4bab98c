"""An adapter to go on with: read from files of ours and of other tools, bound to a network."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ddrl.errors import WeightsError
from ddrl.models.adapter.diffusers_model import DiffusersModel
from ddrl.models.families.wan.experts import WanExperts
from ddrl.models.lora.adapter import ADAPTER
from ddrl.models.lora.export import LORA_FILE, LORA_FILE_2, alpha_of_header

_TENSOR = re.compile(
    r"(?P<module>.+?)\.(?P<what>lora_A|lora_B|lora_down|lora_up|lora\.down|lora\.up"
    r"|lora_magnitude_vector|dora_scale|alpha)(?:\.(?:default|ddrl))?(?:\.weight)?"
)
_PARTS = {
    **dict.fromkeys(("lora_A", "lora_down", "lora.down"), "lora_A"),
    **dict.fromkeys(("lora_B", "lora_up", "lora.up"), "lora_B"),
    **dict.fromkeys(("lora_magnitude_vector", "dora_scale"), "lora_magnitude_vector"),
    "alpha": "alpha",
}
_TEXT = ("lora_te", "text_encoder", "text_model")


@dataclass(frozen=True)
class StartAdapter:
    """The factors of an adapter by module.

    Attributes:
        source: where it is from.
        modules: name of a module -> ``lora_A`` (rank, in), ``lora_B`` (out, rank), of DoRA also
            ``lora_magnitude_vector`` (out,), and a number ``alpha`` where one is known.
    """

    source: str
    modules: Mapping[str, Mapping[str, Tensor]]

    @property
    def ranks(self) -> dict[str, int]:
        """Rank of every module, by name."""
        return {name: len(parts["lora_A"]) for name, parts in self.modules.items()}

    @property
    def rank(self) -> int:
        """Largest rank of a module."""
        return max(self.ranks.values())

    @property
    def is_dora(self) -> bool:
        """True where the adapter has magnitudes."""
        return any("lora_magnitude_vector" in parts for parts in self.modules.values())

    @torch.no_grad()
    def load(self, transformer: nn.Module) -> None:
        """Copy the factors into an adapter of these ranks, whose own scale they are given."""
        for name, parts in self.modules.items():
            layer: Any = transformer.get_submodule(name)
            rank = len(parts["lora_A"])
            strength = float(parts["alpha"]) / rank if "alpha" in parts else 1.0
            factor = strength / layer.scaling[ADAPTER]
            self._copy(layer.lora_A[ADAPTER].weight, parts["lora_A"])
            self._copy(layer.lora_B[ADAPTER].weight, parts["lora_B"] * factor)
            if self.is_dora:
                magnitude = layer.lora_magnitude_vector[ADAPTER].weight
                self._copy(magnitude, parts["lora_magnitude_vector"])

    def _copy(self, parameter: Tensor, value: Tensor) -> None:
        if not parameter.is_meta:  # of a plan, which has no weights
            parameter.copy_(value.reshape(parameter.shape))


def read_adapter(path: Path, model: DiffusersModel) -> StartAdapter:
    """Read an adapter of diffusers', kohya's or ComfyUI's keys.

    Args:
        path: a ``.safetensors`` file, or a folder with an export or with one such file.
        model: that it is for.

    Raises:
        WeightsError: there is no adapter, or it is of another network.
    """
    modules: dict[str, dict[str, Tensor]] = {}
    is_double = isinstance(model.transformer, WanExperts)
    parts_of = ("transformer", "transformer_2") if is_double else ("",)
    for file, part in zip(adapter_files(path), parts_of, strict=False):
        tensors, alpha = _read(file)
        network = model.transformer.get_submodule(part)
        found = bind_adapter(tensors, model, network, source=str(file))
        for name, parts in found.modules.items():
            alphas = {} if alpha is None else {"alpha": torch.tensor(alpha)}
            modules[f"{part}.{name}".lstrip(".")] = alphas | dict(parts)
    return StartAdapter(str(path), modules)


def bind_adapter(
    tensors: Mapping[str, Tensor], model: DiffusersModel, network: nn.Module, *, source: str
) -> StartAdapter:
    """Find the module of every tensor.

    Args:
        tensors: tensors of the adapter, by key.
        model: model that the adapter is for.
        network: network of the model, or one of its experts.
        source: name of the adapter in errors.

    Raises:
        WeightsError: a key names no module, or a tensor is of another shape.
    """
    known = _known_keys(model, network)
    if _unknown(tensors, known) is not None:
        tensors = _as_diffusers_reads(tensors, model)
    if (key := _unknown(tensors, known)) is not None:
        raise _foreign(key, network, source)
    modules: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        module, what = _split(key)
        modules.setdefault(known[module], {})[what] = tensor
    used = {name: parts for name, parts in modules.items() if model.is_used(name)}
    for name, parts in used.items():
        _check_shapes(name, parts, network.get_submodule(name), source)
    if not used:
        raise _no_adapter(source)
    return StartAdapter(source, used)


def adapter_files(path: Path) -> list[Path]:
    """The files of an adapter; the second is for the second of two experts.

    Args:
        path: a file, or a folder with an export or with one ``.safetensors`` file.

    Raises:
        WeightsError: there is none, or it is not clear which.
    """
    if path.is_file():
        return [path]
    if (path / LORA_FILE).is_file():
        return [file for file in (path / LORA_FILE, path / LORA_FILE_2) if file.is_file()]
    found = sorted(path.glob("*.safetensors")) if path.is_dir() else []
    if len(found) != 1:
        what = f"holds {len(found)} .safetensors files" if path.exists() else "is not there"
        raise WeightsError(
            f"model.lora.start is {path}, which {what}.",
            hint="give the folder of a run or of an export, or one .safetensors file",
        )
    return found


def _read(file: Path) -> tuple[dict[str, Tensor], float | None]:
    """The tensors of a file in float32, and the alpha that its header states.

    Raises:
        WeightsError: it can't be read.
    """
    try:
        with safe_open(file, "pt") as opened:
            tensors = {key: opened.get_tensor(key).float() for key in opened.keys()}  # noqa: SIM118
            return tensors, alpha_of_header(opened.metadata() or {})
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"model.lora.start is {file}, which can't be read as safetensors: {error}.",
            hint="download it again; files of pickled weights are not read",
        ) from error


def _known_keys(model: DiffusersModel, network: nn.Module) -> dict[str, str]:
    """Map the names that tools give to modules to their names here."""
    names, known = model.lora_names, {}
    for name, module in network.named_modules():
        if not isinstance(module, nn.Linear | nn.Conv2d):
            continue
        flat = name.replace(".", "_")
        prefixes = ("", "transformer.", "unet.", "base_model.model.", "diffusion_model.")
        keys = [prefix + name for prefix in prefixes]
        keys += ["lora_unet_" + flat, "lora_transformer_" + flat]
        keys += [names.module(name, f) for f in ("comfyui", "kohya") if names.prefix(f)]
        known.update(dict.fromkeys(keys, name))
    return known


def _split(key: str) -> tuple[str, str]:
    """A key's module and which of its tensors it is; both empty where it is no adapter's key."""
    match = _TENSOR.fullmatch(key)
    return ("", "") if match is None else (match["module"], _PARTS[match["what"]])


def _unknown(keys: Iterable[str], known: Mapping[str, str]) -> str | None:
    return next((key for key in keys if _split(key)[0] not in known), None)


def _as_diffusers_reads(tensors: Mapping[str, Tensor], model: DiffusersModel) -> dict[str, Tensor]:
    """The tensors under diffusers' keys, where its pipeline converts those of other tools."""
    convert = getattr(type(model.pipeline), "lora_state_dict", None)
    if convert is None:
        return dict(tensors)
    options = {"unet_config": model.transformer.config} if hasattr(model.pipeline, "unet") else {}
    try:
        found = convert(dict(tensors), **options)
    except Exception:
        return dict(tensors)
    converted, alphas = found if isinstance(found, tuple) else (found, None)
    result = {str(key): value for key, value in converted.items() if isinstance(value, Tensor)}
    for key, alpha in (alphas or {}).items():
        result.setdefault(f"{str(key).removesuffix('.alpha')}.alpha", torch.tensor(float(alpha)))
    return result


def _foreign(key: str, network: nn.Module, source: str) -> WeightsError:
    if _split(key) == ("", ""):
        return _no_adapter(source, key)
    if key.startswith(_TEXT):
        return WeightsError(
            f"{source} adapts a text encoder, too ({key}), which ddrl keeps as it is.",
            hint="give an adapter of the network that denoises alone",
        )
    return WeightsError(
        f"{source} is an adapter of another network: {key} names no module of "
        f"{type(network).__name__}.",
        hint="an adapter fits the family that it was trained on: compare model.path",
    )


def _no_adapter(source: str, key: str = "") -> WeightsError:
    found = f"{key} is no tensor of one" if key else "none of its tensors changes the output"
    return WeightsError(
        f"{source} is no LoRA adapter: {found}.",
        hint="give the folder of a run or of an export, or a .safetensors file of LoRA weights",
    )


def _check_shapes(name: str, parts: Mapping[str, Tensor], module: nn.Module, source: str) -> None:
    """See that both factors are there and fit.

    Raises:
        WeightsError: they don't.
    """
    weight: Any = module.weight
    first, second = parts.get("lora_A"), parts.get("lora_B")
    if first is None or second is None:
        missing = "first" if first is None else "second"
        raise WeightsError(
            f"{source} is not whole: the {missing} factor of {name} is missing.",
            hint="download it again",
        )
    if first.shape[1] != weight.shape[1] or len(second) != len(weight):
        raise WeightsError(
            f"{source} is an adapter of another network: of {name} it takes {first.shape[1]} "
            f"numbers to {len(second)}, and the base {weight.shape[1]} to {len(weight)}.",
            hint="an adapter fits the size of base that it was trained on: compare model.path",
        )

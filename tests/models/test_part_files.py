"""One component of a pipeline by its files alone: which are read, and what is wrong with them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors.torch import save_file

from ddrl.models.files.part_files import PartFiles, read_part

STEM = "diffusion_pytorch_model"


def part(folder: Path, *, variant: str = "", **files: tuple[str, ...]) -> PartFiles:
    """The ``vae`` of a folder, with files of these names that hold tensors of these names."""
    place = folder / "vae"
    place.mkdir(exist_ok=True)
    if not (place / "config.json").exists():
        (place / "config.json").write_text("{}")
    for name, tensors in files.items():
        state = {tensor: torch.zeros(2, 3) for tensor in tensors}
        save_file(state, place / f"{STEM}{name.replace('_', '.').replace('X', '-')}.safetensors")
    return read_part(folder, "vae", "diffusers", "AutoencoderKL", variant)


def sharded(folder: Path, **held: str) -> Path:
    """An index that names, for each tensor, the file that holds it."""
    (folder / "vae").mkdir()
    index = folder / "vae" / f"{STEM}.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": held}))
    return index


def test_the_variant_is_read_where_a_part_has_it(tmp_path: Path) -> None:
    both = part(tmp_path, variant="fp16", _fp16=("a",), **{"": ("b",)})
    assert [file.name for file in both.files] == [f"{STEM}.fp16.safetensors"]
    assert dict(both.tensors) == {"a": ((2, 3), "float32")}
    assert both.problem == ""
    assert list(part(tmp_path).tensors) == ["b"]
    assert list(part(tmp_path, variant="ema").tensors) == ["b"]


def test_an_empty_folder_of_what_has_no_weights(tmp_path: Path) -> None:
    (tmp_path / "tokenizer").mkdir()
    found = read_part(tmp_path, "tokenizer", "transformers", "CLIPTokenizer", "")
    assert found.problem == f"The tokenizer can't be loaded: {tmp_path / 'tokenizer'} is empty."
    (tmp_path / "tokenizer" / "vocab.json").write_text("{}")
    found = read_part(tmp_path, "tokenizer", "transformers", "CLIPTokenizer", "")
    assert found.problem == ""


def test_how_a_part_is_quantised_is_told_before_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    config = {"quantization_config": {"quant_method": "gptq"}}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    found = part(tmp_path)
    assert found.quantized == "gptq"
    assert found.problem.endswith("is quantised by gptq, which can't be trained through.")


def test_a_file_that_an_index_names_and_that_is_gone(tmp_path: Path) -> None:
    index = sharded(tmp_path, a="one.safetensors", b="two.safetensors", c="three.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "vae" / "one.safetensors")
    found = part(tmp_path)
    assert found.problem.endswith(
        f"three.safetensors (and 1 more) is not there, and {index.name} names it."
    )
    assert found.hint == "download it again: three.safetensors"


def test_a_tensor_that_an_index_names_and_no_file_holds(tmp_path: Path) -> None:
    index = sharded(tmp_path, a="one.safetensors", b="one.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "vae" / "one.safetensors")
    assert f"{index.name} names b, which no file holds" in part(tmp_path).problem
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "vae" / "one.safetensors")
    found = part(tmp_path)
    assert found.problem == ""
    assert found.size == (tmp_path / "vae" / "one.safetensors").stat().st_size


class Writes:
    """Unpickled by one who trusts it, it makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled_but_tensors(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    torch.save({"a": Writes(tmp_path / "made")}, tmp_path / "vae" / f"{STEM}.bin")
    found = part(tmp_path)
    assert f"{STEM}.bin is damaged, or cut short" in found.problem
    assert not (tmp_path / "made").exists()

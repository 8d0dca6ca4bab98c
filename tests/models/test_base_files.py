"""A base as users have it: it can be opened, or one sentence says which file keeps it from that."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import huggingface_hub
import pytest
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tests.cli.command import ddrl
from tests.models.families import test_sd3, test_stable_diffusion

from ddrl.builders.opening import inspect_base
from ddrl.errors import WeightsError
from ddrl.models.families.sd3 import SD3Condition
from ddrl.models.files.base_files import BaseFiles, read_base
from ddrl.models.files.configs import reason_of
from ddrl.models.files.part_files import PartFiles
from ddrl.models.files.weights_match import check_weights
from ddrl.models.pretrained import load_model
from ddrl.models.sketch import sketch_model

NETWORK = "diffusion_pytorch_model.safetensors"
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 4000000\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("base")
    test_sd3.build_pipeline(root).save_pretrained(root / "model")
    return root / "model"


@pytest.fixture
def base(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model"))


def edit(path: Path, **values: object) -> None:
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps(config))


def rename(base: Path, variant: str, *parts: str) -> None:
    for part in parts:
        for path in (base / part).glob("*.safetensors"):
            path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))


def networks(base: Path) -> list[str]:
    return [path.parent.name for path in base.glob("*/*.safetensors")]


def refused(base: Path, *phrases: str, hint: str) -> None:
    """Both ways of opening a base refuse it, with the same words."""
    messages = []
    _, fault = inspect_base(str(base))
    assert fault is not None
    with pytest.raises(WeightsError) as caught:
        load_model(base)
    for error in (fault, caught.value):
        for phrase in phrases:
            assert phrase in error.message
        assert hint in error.hint
        messages.append(error.message)
    assert messages[0] == messages[1]


def test_a_folder_of_one_variant_is_found(base: Path) -> None:
    rename(base, "fp16", *networks(base))
    assert read_base(base).variant == "fp16"
    model = load_model(base, dtype=torch.bfloat16)
    assert model.dtype == torch.bfloat16
    assert inspect_base(str(base))[1] is None


def test_a_variant_of_some_parts_alone(base: Path) -> None:
    rename(base, "fp16", "vae", "transformer")
    assert read_base(base).variant == "fp16"
    load_model(base)


def test_plain_weights_go_before_a_variant_unless_it_is_asked_for(base: Path) -> None:
    stem = base / "transformer" / "diffusion_pytorch_model"
    weights = {n: t + 1 for n, t in load_file(f"{stem}.safetensors").items()}
    save_file(weights, f"{stem}.ema.safetensors", metadata={"format": "pt"})
    assert read_base(base).variant == ""
    name, expected = next(iter(weights.items()))
    assert not torch.equal(load_model(base).transformer.state_dict()[name], expected)
    assert torch.equal(load_model(base, variant="ema").transformer.state_dict()[name], expected)
    with pytest.raises(WeightsError, match="no weights of the variant fp16") as caught:
        load_model(base, variant="fp16")
    assert "model.variant=ema" in caught.value.hint


def test_several_variants_have_to_be_chosen_from(base: Path) -> None:
    for part in networks(base):
        (found,) = (base / part).glob("*.safetensors")
        shutil.copy(found, found.with_name(f"{found.stem}.bf16.safetensors"))
        found.rename(found.with_name(f"{found.stem}.fp16.safetensors"))
    with pytest.raises(WeightsError, match="several variants, and none without: bf16, fp16") as e:
        read_base(base)
    assert e.value.hint == "choose one: model.variant=bf16"
    load_model(base, variant="fp16")


@pytest.mark.parametrize("how", ["null", "gone"])
def test_sd3_goes_without_its_third_text_encoder(base: Path, how: str) -> None:
    for name in ("text_encoder_3", "tokenizer_3"):
        shutil.rmtree(base / name)
        if how == "null":
            edit(base / "model_index.json", **{name: [None, None]})
    model = load_model(base)
    assert model.pipeline.text_encoder_3 is None
    assert sketch_model(base).pipeline.text_encoder_3 is None
    found, fault = inspect_base(str(base))
    assert fault is None
    without = [part.name for part in found.parts if not part.kind]
    assert {"text_encoder_3", "tokenizer_3"} <= set(without)
    condition = model.encode(["a cat", ""])
    assert isinstance(condition, SD3Condition)
    assert torch.isfinite(condition.embeds).all()


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer_2", "vae", "transformer"])
def test_a_part_that_is_needed_and_missing(base: Path, part: str) -> None:
    shutil.rmtree(base / part)
    refused(base, f"The {part} of {base} is missing", hint="download it too")


@pytest.mark.parametrize("value", [None, [None, None]])
def test_a_part_that_the_index_does_not_name(base: Path, value: object) -> None:
    edit(base / "model_index.json", text_encoder=value)
    refused(base, "is without its text_encoder", hint="whole release")


def test_a_name_that_diffusers_stumbles_over(base: Path) -> None:
    rename(base, "fp16", "vae")
    (base / "vae" / "LICENSE").touch()
    with pytest.raises(WeightsError, match="LICENSE keeps diffusers from reading a variant"):
        load_model(base)


def test_a_revision_in_the_hubs_cache_without_a_network(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Laid out as the hub's client does it."""
    cache, commit = tmp_path / "hub" / "models--owner--name", "a" * 40
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "v1").write_text(commit)
    (cache / "snapshots").mkdir()
    snapshot = base.rename(cache / "snapshots" / commit)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    rename(snapshot, "fp16", *networks(snapshot))
    assert read_base("owner/name@v1").variant == "fp16"
    load_model("owner/name@v1")
    assert inspect_base("owner/name@v1")[1] is None
    (snapshot / "vae" / "diffusion_pytorch_model.fp16.safetensors").unlink()
    with pytest.raises(WeightsError, match="The vae has no weights"):
        load_model("owner/name@v1")
    with pytest.raises(WeightsError, match="owner/name@v2 is not here") as caught:
        inspect_base("owner/name@v2")
    assert "hf download owner/name --revision v2" in caught.value.hint


@pytest.mark.parametrize("text", [None, "{", "{}"])
@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_3"])
def test_a_tokenizer_that_can_not_be_read(base: Path, part: str, text: str | None) -> None:
    path = base / part / "tokenizer.json"
    path.unlink() if text is None else path.write_text(text)
    _, fault = inspect_base(str(base))
    assert fault is not None
    assert f"The {part} of {base} can't be loaded" in fault.message
    assert f"the whole folder {part}" in fault.hint


def test_taesd_encodes_and_decodes(base: Path) -> None:
    shutil.rmtree(base / "vae")
    size = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
    blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    with torch.random.fork_rng(devices=[]):
        tiny = AutoencoderTiny(**size, **blocks, latent_channels=4)
    tiny.save_pretrained(base / "vae")
    edit(base / "model_index.json", vae=["diffusers", "AutoencoderTiny"])
    model = load_model(base)
    media = torch.rand((2, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    latents = model.encode_media(media)
    assert latents.shape == (2, *model.latent_shape(16, 16))
    with torch.no_grad():
        expected = model.vae.encode(2 * media - 1).latents
        pixels = model.vae.decode(expected).sample
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(model.decode(latents), (pixels / 2 + 0.5).clamp(0, 1))


def test_the_table_of_weights_by_pieces(base: Path) -> None:
    model: Any = load_model(base).transformer
    (base / "transformer" / NETWORK).unlink()
    model.save_pretrained(base / "transformer", max_shard_size="20KB")
    pieces = sorted((base / "transformer").glob("*-of-*"))
    assert len(pieces) > 2
    assert inspect_base(str(base))[1] is None
    load_model(base)
    kept = pieces[1].read_bytes()
    pieces[1].unlink()
    refused(base, "The transformer can't be loaded", str(pieces[1]), hint=pieces[1].name)
    pieces[1].write_bytes(kept)
    index = base / "transformer" / f"{NETWORK}.index.json"
    index.unlink()
    refused(base, "pieces of weights", pieces[0].name, hint=".index.json")


def test_weights_of_the_older_kind(base: Path) -> None:
    for part, name in (
        ("vae", "diffusion_pytorch_model.bin"),
        ("text_encoder", "pytorch_model.bin"),
    ):
        (file,) = (base / part).glob("*.safetensors")
        torch.save(load_file(file), base / part / name)
        file.unlink()
    found, fault = inspect_base(str(base))
    assert fault is None
    assert {part.dtypes for part in found.parts if part.files} == {("float32",)}
    load_model(base)
    cut(base / "vae" / "diffusion_pytorch_model.bin")
    refused(base, "The vae can't be loaded", "diffusion_pytorch_model.bin is damaged", hint="again")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def cut_in_its_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def page(path: Path) -> None:
    path.write_text("<html>not found</html>")


def pointer(path: Path) -> None:
    path.write_text(POINTER)


FILES = ["transformer", "vae", "text_encoder", "text_encoder_3"]


@pytest.mark.parametrize("damage", [cut, cut_in_its_header, page, Path.touch])
@pytest.mark.parametrize("part", FILES)
def test_a_damaged_file(base: Path, part: str, damage: Callable[[Path], None]) -> None:
    (path,) = (base / part).glob("*.safetensors")
    if damage is Path.touch:
        path.unlink()
    damage(path)
    refused(base, f"The {part} can't be loaded: {path} is damaged", hint="download it again")


@pytest.mark.parametrize(
    "name", [*(f"{p}/*.safetensors" for p in FILES), "vae/config.json", "tokenizer/tokenizer.json"]
)
def test_a_pointer_of_git_lfs(base: Path, name: str) -> None:
    (path,) = base.glob(name)
    pointer(path)
    refused(
        base, f"The {path.parent.name} can't be loaded", f"{path} is a pointer", hint="lfs pull"
    )


def test_the_index_is_a_pointer(base: Path) -> None:
    pointer(base / "model_index.json")
    with pytest.raises(WeightsError, match="pointer of git-lfs") as caught:
        read_base(base)
    assert "git lfs pull" in caught.value.hint


@pytest.mark.parametrize(("layers", "words"), [(1, "no place for"), (3, "its files have no")])
def test_a_block_more_or_less_of_the_network(base: Path, layers: int, words: str) -> None:
    edit(base / "transformer" / "config.json", num_layers=layers)
    refused(
        base,
        "Config and weights of the transformer",
        words,
        f"the config has {layers} of transformer_blocks and the files 2; ",
        "more",
        hint="transformer/config.json",
    )


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_3"])
def test_a_block_that_a_text_encoder_lacks(base: Path, part: str) -> None:
    key = "num_layers" if part.endswith("3") else "num_hidden_layers"
    edit(base / part / "config.json", **{key: 3})
    refused(base, f"Config and weights of the {part}", "its files have no", hint="same download")


def test_other_shapes(base: Path) -> None:
    edit(base / "transformer" / "config.json", caption_projection_dim=64)
    refused(
        base,
        "context_embedder.weight is 32x32 in the file and 64x32 by the config",
        hint="download",
    )


def test_a_weight_of_no_block_that_is_missing(base: Path) -> None:
    """A network of diffusers has to find it; a text encoder's may have another name by now."""
    for part, name in (
        ("text_encoder", "text_projection.weight"),
        ("transformer", "proj_out.bias"),
    ):
        (file,) = (base / part).glob("*.safetensors")
        state = load_file(file)
        del state[name]
        save_file(state, file, metadata={"format": "pt"})
        if part == "text_encoder":
            assert inspect_base(str(base))[1] is None
    refused(
        base, "transformer", "its files have no proj_out.bias", hint="one and the same download"
    )


def test_packed_weights_are_not_compared() -> None:
    packed = PartFiles("unet", "X", tensors={"weight": ((3, 1), "uint8")}, quantized="bitsandbytes")
    pipeline = SimpleNamespace(unet=torch.nn.Linear(2, 3, bias=False, device="meta"))
    check_weights(BaseFiles("model", "X", (packed,)), pipeline)
    plain = replace(packed, quantized="")
    with pytest.raises(WeightsError, match="weight is 3x1 in the file and 3x2 by the config"):
        check_weights(BaseFiles("model", "X", (plain,)), pipeline)


@pytest.mark.parametrize("method", ["bitsandbytes", "bitsandbytes_4bit", "torchao"])
def test_a_quantised_network_says_what_it_needs(base: Path, method: str) -> None:
    edit(base / "transformer" / "config.json", quantization_config={"quant_method": method})
    package = method.partition("_")[0]
    refused(base, f"quantised by {package}, which is not installed", hint=f"pip install {package}")


def test_a_network_for_inpainting_is_refused_by_name(tmp_path: Path) -> None:
    pipeline = test_stable_diffusion.build_sd(tmp_path)
    with torch.random.fork_rng(devices=[]):
        wide = UNet2DConditionModel.from_config(pipeline.unet.config, in_channels=9)
    pipeline.unet = wide
    pipeline.save_pretrained(tmp_path / "model")
    refused(
        tmp_path / "model", "UNet2DConditionModel takes 9 channels", "inpainting", hint="text alone"
    )


def test_one_part_or_one_file_of_a_pipeline_leads_to_the_whole(base: Path) -> None:
    for path in (base / "transformer", base / "transformer" / NETWORK):
        with pytest.raises(WeightsError, match="of a diffusers pipeline") as caught:
            read_base(path)
        assert caught.value.hint.endswith(f"model.path={base}")


SINGLE: dict[
    str, dict[str, tuple[int, ...]]
] = {  # names that tell what is in a file -> the class that its line begins with
    "xl": {
        "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias": (4,),
        "model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
        "first_stage_model.a": (1,),
    },
    "v1": {
        "model.diffusion_model.input_blocks.0.0.weight": (4, 4, 3, 3),
        "first_stage_model.a": (1,),
    },
    "flux": {
        "double_blocks.0.img_attn.norm.key_norm.scale": (1,),
        "guidance_in.in_layer.bias": (1,),
        "img_in.weight": (8, 64),
    },
    "unknown": {"a": (1,)},
}
CLASSES = {
    "xl": "StableDiffusionXLPipeline",
    "v1": "StableDiffusionPipeline",
    "flux": "FluxPipeline",
    "unknown": "StableDiffusionXLPipeline",
}


@pytest.mark.parametrize("kind", SINGLE)
@pytest.mark.parametrize("inside", [False, True])
def test_a_single_file_comes_with_the_line_that_converts_it(
    tmp_path: Path, kind: str, inside: bool
) -> None:
    file = tmp_path / "it's my model.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in SINGLE[kind].items()}, file)
    with pytest.raises(WeightsError, match="is a single file of weights") as caught:
        read_base(tmp_path if inside else file)
    words = shlex.split(caught.value.hint.partition("python")[2].partition(", then")[0])
    compile(words[1], "hint", "exec")
    imported, _, call = words[1].partition(";")
    names = imported.removeprefix("from diffusers import ").split(", ")
    assert names[0] == CLASSES[kind]
    for name in names:
        assert hasattr(getattr(diffusers, name), "from_single_file")
        assert f"{name}." in call


def test_other_single_files(tmp_path: Path) -> None:
    inpainting = {"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 9, 3, 3)}
    lora = {"unet.to_q.lora_A.weight": torch.zeros(1)}
    for name, state, words in (
        ("a", inpainting, "another kind .inpainting."),
        ("b", lora, "adapter .LoRA."),
    ):
        save_file(state, tmp_path / f"{name}.safetensors")
        with pytest.raises(WeightsError, match=words):
            read_base(tmp_path / f"{name}.safetensors")
    for name, words in (("c.gguf", "GGUF"), ("d.txt", "no diffusers pipeline")):
        (tmp_path / name).write_text("?")
        with pytest.raises(WeightsError, match=words):
            read_base(tmp_path / name)
    pointer(tmp_path / "e.safetensors")
    with pytest.raises(WeightsError, match="pointer of git-lfs"):
        read_base(tmp_path / "e.safetensors")


def test_a_reason_ends_with_a_sentence() -> None:
    long = "First it failed. " + "Then it said a lot more about this. " * 40
    assert reason_of(ValueError(long)).endswith("about this.")
    assert len(reason_of(ValueError(long))) > 300
    assert reason_of(ValueError("word " * 300)).endswith("word ...")
    assert reason_of(ValueError()) == "ValueError"


def test_doctor_lists_parts_and_what_is_missing(base: Path) -> None:
    result = ddrl("doctor", "--model", base)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == f"{base}: StableDiffusion3Pipeline"
    (line,) = [line for line in lines if " transformer: " in line]
    assert line.startswith("ok      transformer: SD3Transformer2DModel; ")
    assert line.endswith(f"of float32 in {NETWORK}")
    assert any(line.startswith("without image_encoder") for line in lines)
    cut(base / "vae" / NETWORK)
    result = ddrl("doctor", "--model", base)
    assert result.code == 3
    assert "FAILED  vae: " in result.stdout
    assert "download it again" in result.stderr
    report = json.loads(ddrl("doctor", "--json", "--model", base).stdout)
    assert report["ok"] is False
    (vae,) = [part for part in report["parts"] if part["problem"]]
    assert vae["name"] == "vae"


ODD = [
    ("model_index.json", '{"_class_name": ["a", "b"]}'),
    ("model_index.json", '{"_class_name": "StableDiffusion3Pipeline", "vae": ["os", "system"]}'),
    ("model_index.json", '{"_class_name": "StableDiffusion3Pipeline", "vae": [1, 2]}'),
    ("model_index.json", '{"_class_name": "StableDiffusion3Pipeline", "vae": ["diffusers", "X"]}'),
    ("model_index.json", '{"_class_name": "StableDiffusion3Pipeline", "..": ["diffusers", "X"]}'),
    ("transformer/config.json", "[]"),
    ("transformer/config.json", '{"num_layers": "many"}'),
    ("transformer/config.json", '{"quantization_config": {"quant_method": ["x"]}}'),
    ("transformer/config.json", '{"quantization_config": {}}'),
    (f"transformer/{NETWORK}.index.json", "[]"),
    (f"transformer/{NETWORK}.index.json", '{"weight_map": {"a": "../../b", "c": 3}}'),
    ("scheduler/scheduler_config.json", "3"),
]


@pytest.mark.parametrize(("name", "text"), ODD)
def test_no_folder_is_a_fault_of_ours(base: Path, name: str, text: str) -> None:
    (base / name).write_text(text)
    result = ddrl("doctor", "--model", base)
    assert result.code == 3, result.stderr
    assert "hint: " in result.stderr
    with pytest.raises(WeightsError):
        load_model(base)

"""A plan is made from configs, finds what is wrong before weights are read, and counts memory."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from tests.cli.command import ddrl
from tests.flow.diffusers_jobs import Job
from tests.flow.test_diffusers import write_picture
from tests.models.families.test_sd3 import build_pipeline

from ddrl.builders import pretrained
from ddrl.builders.opening import _warn_of_scheduler, open_sketch
from ddrl.builders.tasks import pretrained as tasks
from ddrl.jobs import plan as planning
from ddrl.jobs.plan import plan_recipe
from ddrl.jobs.train.trainer import build_job
from ddrl.models.footprint import LiveBytes
from ddrl.models.rollout_weights import merged_bytes
from ddrl.models.sketch import sketch_model
from ddrl.recipe import Memory, Plan, load_recipe, parse_recipe

FAULTS = [
    ("model.lora.targets=to_nothing", ["nothing ends in to_nothing", "attn.to_q"]),
    ("data.height=33", ["multiples of 2, not 33x16", "the nearest is"]),
    ("data.frames=5", ["images, not clips of 5 frames", "data.frames = 1"]),
    ("model.path={root}/unknown", ["PixelPipeline", "it knows"]),
    ("model.path={root}/partial", ["transformer/config.json can't be read"]),
    ("model.path={root}/configs", ["has no weights", "model.safetensors"]),
]
EMBEDDED = """
[model]
network = "dit"
width = 64
[model.pretrain]
steps = 1
batch_size = 8
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 4
group_size = 32
steps = 4
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("planning")
    made = Job.make(root, build_pipeline(root / "parts"), write_picture, side=16)
    shutil.copytree(root / "model", root / "partial")
    (root / "partial" / "transformer" / "config.json").unlink()
    shutil.copytree(root / "model", root / "configs", ignore=shutil.ignore_patterns("*.safetens*"))
    (root / "unknown").mkdir()
    (root / "unknown" / "model_index.json").write_text('{"_class_name": "PixelPipeline"}')
    return made


@lru_cache
def planned(job: Job, folder: Path, *overrides: str) -> Plan:
    return plan_recipe(load_recipe(job.recipe(folder), overrides))


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


def test_no_weights_are_read(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "load_model", None)
    result = ddrl("train", job.recipe(tmp_path), "--dry-run")
    assert result.code == 0, result.stderr
    for line in ("passes, policy", "one effective beta", "frozen weights", "text encoders"):
        assert line in result.stdout
    assert "the most is" in result.stdout.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dry", [True, False], ids=["dry", "train"])
@pytest.mark.parametrize(("override", "phrases"), FAULTS)
def test_faults_are_found_before_weights_are_read(
    job: Job,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    override: str,
    phrases: list[str],
    dry: bool,
) -> None:
    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(pretrained, "load_model", load)
    more = ["--dry-run"] if dry else []
    result = ddrl("train", job.recipe(tmp_path), override.format(root=job.root), *more)
    result.failed(3, *phrases)
    assert not (tmp_path / "run" / "checkpoints").exists()


def phase(memory: Memory, name: str) -> int:
    return dict(memory.phases)[name] - memory.held - memory.trajectory


def test_what_saves_memory_is_seen_to(job: Job, tmp: Path) -> None:
    whole = planned(job, tmp).memory
    small = planned(job, tmp, "run.micro_batch=2").memory
    again = planned(job, tmp, "model.gradient_checkpointing=true").memory
    apart = planned(job, tmp, "model.offload=true").memory
    assert phase(small, "update") == pytest.approx(phase(whole, "update") / 4, rel=0.1)
    assert phase(small, "rollout") < phase(whole, "rollout")
    assert phase(again, "update") < phase(whole, "update")
    assert phase(again, "rollout") == phase(whole, "rollout")
    assert apart.text_encoders == apart.vae == 0 < whole.vae < whole.text_encoders
    assert dict(apart.phases)["update"] < dict(whole.phases)["update"]


def test_what_costs_memory_is_seen_to(job: Job, tmp: Path) -> None:
    plain = planned(job, tmp).memory
    full = planned(job, tmp, "model.lora.rank=0").memory
    half = planned(job, tmp, "model.dtype=bfloat16").memory
    folded = planned(job, tmp, "run.steps_per_pass=2").memory
    guided = planned(job, tmp, "rollout.guidance=3").memory
    frozen = planned(job, tmp, "objective.regularizer=reference", "model.lora.rank=0").memory
    assert full.frozen < plain.frozen  # buffers are left
    assert full.frozen + full.trained == plain.frozen
    assert half.frozen == plain.frozen / 2
    assert half.trained == plain.trained > 0
    assert frozen.reference == full.frozen + full.trained
    assert phase(folded, "update") == pytest.approx(2 * phase(plain, "update"), rel=0.1)
    assert phase(guided, "update") > phase(plain, "update")


def test_merged_weights_are_planned(job: Job, tmp: Path) -> None:
    """They are there in a rollout, and between its micro-batches while one is decoded."""
    switches = ("run.micro_batch=1", "rollout.merge=never")
    never, merged = planned(job, tmp, *switches).memory, planned(job, tmp, switches[0]).memory
    recipe = load_recipe(job.recipe(tmp), switches)
    network = planning.check_recipe(recipe)[0].transformer
    assert phase(merged, "decode") - phase(never, "decode") == merged_bytes(network) > 0
    assert phase(merged, "rollout") > phase(never, "rollout")
    assert phase(merged, "update") == phase(never, "update")


def test_the_data_term_alone_is_traced(job: Job, tmp: Path) -> None:
    alone = planned(job, tmp, "objective.policy=none", "data.anchors_per_group=8").memory
    assert [name for name, _ in alone.phases] == ["encode", "update", "evaluation"]
    wide = planned(job, tmp, "data.anchors_per_group=8").memory
    assert phase(wide, "update") == phase(alone, "update")
    taught = planned(job, tmp, "data.target=teacher").memory
    assert phase(taught, "update") > phase(planned(job, tmp).memory, "update")


@pytest.mark.parametrize("overrides", [["run.micro_batch=32"], ["objective.policy=none"]])
def test_an_iteration_takes_what_was_planned(tmp_path: Path, overrides: list[str]) -> None:
    where = [f"run.cache={tmp_path}", f"run.folder={tmp_path / 'run'}", "run.device=cpu"]
    recipe = parse_recipe(EMBEDDED, overrides=[*where, "evaluation.every=0", *overrides])
    memory = plan_recipe(recipe).memory
    trainer = build_job(recipe).trainer
    trainer.iteration()  # makes the moments, and checks the replay
    with LiveBytes() as live:
        trainer.iteration()
    held_before = memory.held - memory.gradients - memory.conditions
    assert held_before + live.peak == pytest.approx(memory.peak[1], rel=0.15)


def test_what_cannot_be_traced_is_planned_without_activations(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "blank_condition", lambda *_: None)
    result = ddrl("train", job.recipe(tmp_path), "--dry-run")
    assert result.code == 0
    assert "SD3 can't be traced" in result.stderr
    assert "activations are not counted" in result.stdout
    assert "frozen weights" in result.stdout


def test_a_run_that_may_not_fit_is_told_at_its_start(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As on a card of 1 MiB, which stands in for one that isn't here."""
    card = SimpleNamespace(total_memory=2**20)
    monkeypatch.setattr(planning, "pick_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    with caplog.at_level("INFO"):
        planning.check_start(load_recipe(job.recipe(tmp_path)))
    assert "of 1 MiB on the device at the peak, in update" in caplog.text
    assert "may not fit" in caplog.text
    assert "run.micro_batch" in caplog.text
    card.total_memory = 2**40
    caplog.clear()
    planning.check_start(load_recipe(job.recipe(tmp_path)))
    assert "may not fit" not in caplog.text


SCHEDULERS = [
    ({"use_karras_sigmas": True}, "use_karras_sigmas = True"),
    ({"use_exponential_sigmas": True, "shift_terminal": 0.1}, "shift_terminal = 0.1"),
    ({"_class_name": "DDIMScheduler"}, "a DDIMScheduler, which is no scheduler of flows"),
    ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, ""),
    ({}, ""),
]


@pytest.mark.parametrize(("values", "phrase"), SCHEDULERS)
def test_what_of_a_scheduler_is_not_followed(
    job: Job,
    tmp_path: Path,
    values: dict[str, object],
    phrase: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shutil.copytree(job.root / "model", tmp_path / "model")
    path = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    if name := values.get("_class_name"):
        index = tmp_path / "model" / "model_index.json"
        known = json.loads(index.read_text()) | {"scheduler": ["diffusers", name]}
        index.write_text(json.dumps(known))
    recipe = load_recipe(job.recipe(tmp_path), [f"model.path={tmp_path / 'model'}"])
    open_sketch(recipe)
    warnings = [r.getMessage() for r in caplog.records if "not followed" in r.getMessage()]
    assert len(warnings) == (1 if phrase else 0)
    assert not phrase or phrase in warnings[0]


def test_what_the_releases_ask_of_a_scheduler(caplog: pytest.LogCaptureFixture) -> None:
    """Cosmos' adapter makes up for its Karras sigmas; nothing does for Qwen's last time."""
    for path in ("nvidia/Cosmos-Predict2.5-2B", "Qwen/Qwen-Image"):
        model = sketch_model(path)
        _warn_of_scheduler(path, model)
    (warning,) = [r.getMessage() for r in caplog.records if "is not followed" in r.getMessage()]
    assert "Qwen/Qwen-Image this is not followed: shift_terminal = 0.02" in warning


def test_quantised_weights_need_an_adapter(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its package is installed, which is seen to by the file alone."""
    shutil.copytree(job.root / "model", tmp_path / "model")
    path = tmp_path / "model" / "transformer" / "config.json"
    section = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    path.write_text(json.dumps(json.loads(path.read_text()) | section))
    package = tmp_path / "packages" / "bitsandbytes"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    result = ddrl(
        *("train", job.recipe(tmp_path), "--dry-run"),
        *(f"model.path={tmp_path / 'model'}", "model.lora.rank=0"),
    )
    result.failed(3, "The transformer of", "quantised (bitsandbytes)", "model.lora.rank=16")
    where = (f"model.path={tmp_path / 'model'}", "model.lora.rank=0")
    result = ddrl("data", "encode", job.recipe(tmp_path), *where)
    result.failed(3, "quantised (bitsandbytes)", "model.lora.rank=16")
    open_sketch(load_recipe(job.recipe(tmp_path), [f"model.path={tmp_path / 'model'}"]))


def test_a_hub_id_without_a_network(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    for path in ("stabilityai/stable-diffusion-3.5-medium", "nobody/nothing@v1"):
        result = ddrl("train", job.recipe(tmp_path), f"model.path={path}")
        result.failed(3, f"{path} is not here", "can't be reached", "hf download")
    assert "--revision v1 --local-dir nothing" in result.stderr
    result = ddrl("train", job.recipe(tmp_path), "model.path=nobody/nothing", "--dry-run")
    result.failed(3, "nobody/nothing is not here")

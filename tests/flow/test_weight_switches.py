"""Teacher targets, offloading, compiling and the warning of distilled models, on a tiny SD3."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl, metrics_of
from tests.flow.diffusers_jobs import Job, weights
from tests.flow.test_diffusers import FULL, trained, write_picture
from tests.models.families.test_sd3 import build_pipeline

from ddrl.jobs.train.trainer import build_job
from ddrl.models.families.sd3 import SD3
from ddrl.models.lora.adapter import WithoutLoRA
from ddrl.recipe import load_recipe
from ddrl.training.trainer import Trainer

TEACHER = "data.target=teacher"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    root = tmp_path_factory.mktemp("sd3")
    return Job.make(root, build_pipeline(root / "parts"), write_picture, side=16)


def built(job: Job, folder: Path, *overrides: str) -> Trainer:
    return build_job(load_recipe(job.recipe(folder), ["rollout.steps=2", *overrides])).trainer


def test_the_command_line(job: Job, tmp_path: Path) -> None:
    """The adapter starts at the teacher, and the reward moves it; a resumed run is the same."""
    switches = (TEACHER, "model.offload=true", "run.checkpoint_every=1")
    job.train(tmp_path / "whole", *switches)
    lines = metrics_of(tmp_path / "whole" / "run")
    assert lines[0]["data_loss"] == 0
    assert lines[1]["data_loss"] > 0
    assert lines[1]["reward"]
    job.train(tmp_path / "parts", *switches, "run.steps=1")
    job.train(tmp_path / "parts", *switches)
    whole, parts = (weights(tmp_path / name / "run", 2) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("overrides", "is_warned"),
    [
        ([], False),
        (["model.distilled=yes"], True),
        (["model.distilled=yes", TEACHER], False),
        (["model.distilled=yes", "objective.regularizer=reference"], False),
        (["model.path={root}/tiny-turbo"], True),
        (["model.path={root}/tiny-turbo", "model.distilled=no"], False),
    ],
)
def test_distilled_models_are_warned_of(
    job: Job, tmp_path: Path, overrides: list[str], is_warned: bool
) -> None:
    if not (job.root / "tiny-turbo").exists():
        (job.root / "tiny-turbo").symlink_to(job.root / "model")
    values = [override.format(root=job.root) for override in overrides]
    result = ddrl("train", job.recipe(tmp_path), "--dry-run", *values)
    assert result.code == 0, result.stderr
    text = " ".join(result.stderr.split())
    assert ('blurs such models: set data.target = "teacher"' in text) == is_warned


def test_the_teacher_of_an_adapter_is_the_base(job: Job, tmp_path: Path) -> None:
    trainer = built(job, tmp_path, TEACHER)
    assert trainer.learner.reference is not None
    assert isinstance(trainer.learner.reference.model, WithoutLoRA)
    trained(trainer)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_teacher_of_all_weights_is_a_copy(job: Job, tmp_path: Path, dtype: str) -> None:
    precision = (f"run.precision={dtype}", "guard.replay_tolerance=0.05")
    trainer = built(job, tmp_path, TEACHER, *FULL, *precision)
    assert trainer.learner.reference is not None
    frozen = trainer.learner.reference.model
    assert isinstance(frozen, SD3)
    assert frozen.transformer is not trainer.forward.model.transformer
    assert trainer.iteration()["data_loss"] == 0
    trained(trainer)


def test_offloading_changes_nothing(job: Job, tmp_path: Path) -> None:
    plain = trained(built(job, tmp_path))
    moved = trained(built(job, tmp_path, "model.offload=true"))
    assert all(torch.equal(moved[name], value) for name, value in plain.items())


HALF = ("run.precision=bfloat16", "model.dtype=bfloat16")


@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, while it compiles
@pytest.mark.parametrize("merge", ["auto", pytest.param("never", marks=pytest.mark.slow)])
def test_compiled_in_bfloat16_the_first_ratio_is_exactly_1(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, merge: str
) -> None:
    """The update's graph gives other log-probabilities than the rollout's, and itself again."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    switches = (*HALF, "model.compile=true", "evaluation.every=0", f"rollout.merge={merge}")
    trainer = built(job, tmp_path, *switches)
    metrics = trainer.iteration()
    assert metrics["ratio_deviation"] == 0
    assert metrics["ratio_max"] == 1
    assert metrics["rollout_deviation"] > 0
    assert trainer.iteration()["ratio_deviation"] == 0
    torch._dynamo.reset()


@pytest.mark.parametrize("updates", [1, 2])
def test_a_merged_rollout_learns_as_another(job: Job, tmp_path: Path, updates: int) -> None:
    """In float32 the two are the same up to rounding, in the first update and the later ones."""
    found = []
    for merge in ("always", "never"):
        switches = (f"rollout.merge={merge}", f"objective.updates_per_rollout={updates}")
        trainer = built(job, tmp_path, "evaluation.every=0", *switches)
        assert (trainer.sampler.drawing is None) == (merge == "never")
        found.append([trainer.iteration() for _ in range(3)])
        kept = dict(trainer.forward.model.transformer.named_parameters())
        assert all(not p.requires_grad for n, p in kept.items() if "lora_" not in n)
    for merged, plain in zip(*found, strict=True):
        assert merged["rollout_deviation"] < 1e-3
        for name in ("reward", "data_term", "grad_norm", "ratio_deviation", "ratio_max"):
            assert merged[name] == pytest.approx(plain[name], rel=1e-2, abs=1e-4), name


def test_a_merged_run_is_resumed_bit_for_bit(job: Job, tmp_path: Path) -> None:
    """The rounding of merged weights is named after the iteration."""
    switches = (*HALF, "run.checkpoint_every=1", "guard.replay_tolerance=0.05")
    job.train(tmp_path / "whole", *switches)
    job.train(tmp_path / "parts", *switches, "run.steps=1")
    job.train(tmp_path / "parts", *switches)
    whole, parts = (weights(tmp_path / name / "run", 2) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("model.lora.rank=0", "model.dtype=float32"), "there is nothing to merge"),
        (
            ("objective.regularizer=reference", "objective.kl_in_return=true"),
            "asks for the velocity without the adapter",
        ),
    ],
)
def test_what_can_not_be_merged_is_refused(
    job: Job, tmp_path: Path, overrides: tuple[str, ...], said: str
) -> None:
    result = ddrl("train", job.recipe(tmp_path), "--dry-run", "rollout.merge=always", *overrides)
    assert result.code == 2
    assert said in " ".join(result.stderr.split())
    assert built(job, tmp_path, *overrides).sampler.drawing is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, while it compiles
@pytest.mark.parametrize(
    "overrides",
    [
        (TEACHER,),
        (TEACHER, "model.gradient_checkpointing=true"),
        (*FULL, TEACHER),
        ("run.precision=bfloat16", "guard.replay_tolerance=0.05"),
    ],
    ids=["lora", "checkpointing", "full", "bfloat16"],
)
def test_compiling_changes_little(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    """The replay check holds, and names, checkpoints and resuming stay what they are."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    torch._dynamo.reset()
    plain, compiled = (
        built(job, tmp_path, "evaluation.every=0", *overrides, f"model.compile={switch}")
        for switch in ("false", "true")
    )
    mine, theirs = (trainer.forward.model.transformer for trainer in (compiled, plain))
    assert list(mine.state_dict()) == list(theirs.state_dict())
    one, other = compiled.iteration(), plain.iteration()
    tolerance = 0.05 if "bfloat16" in overrides[0] else 1e-3
    assert one["ratio_deviation"] < tolerance
    for name in ("data_term", "grad_norm", "reward"):
        assert one[name] == pytest.approx(other[name], rel=20 * tolerance, abs=1e-3), name
    torch._dynamo.reset()

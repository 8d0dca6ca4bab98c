"""Every key of a recipe that has to do with training does what it says, or leaves numbers alone.

A setting that nothing reads is the kind of fault that no other test would notice.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.builders.key_cases import CHANGES, ELSEWHERE, KEEPS, Case
from tests.models.families.test_sd3 import build_pipeline
from torch import Tensor

from ddrl.errors import DDRLError
from ddrl.jobs.train.trainer import build_job
from ddrl.recipe import parse_recipe
from ddrl.recipe.reading.keys import key_specs
from ddrl.training.checkpoint import CheckpointFolder
from ddrl.training.loop import train

TESTS = Path(__file__).parents[1]
NUM_ITERATIONS = 2
MORE = """
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 3
group_size = 4
steps = 4
[evaluation]
every = 0
[run]
steps = 8
device = "cpu"
"""
STARTS = {
    "digits": """
[model]
width = 16
depth = 1
pretrain = { steps = 20, batch_size = 16 }
""",
    "clips": """
[model]
network = "dit"
width = 16
depth = 1
heads = 2
patch = 4
patch_frames = 4
pretrain = { steps = 1, batch_size = 4 }
[data]
source = "moving_digits"
height = 12
width = 12
frames = 4
""",
    "pipeline": """
[model]
family = "diffusers"
path = "{root}/model"
lora = { rank = 4 }
[data]
source = "files"
path = "{root}/data"
height = 16
width = 16
heldout = 0.4
""",
}

Found = dict[str, Tensor] | str
"""Weights and their averages after some iterations, or what stopped them."""


@dataclass
class Jobs:
    """Runs jobs, each once."""

    root: Path
    done: dict[tuple[str, ...], Found] = field(default_factory=dict)

    def run(self, start: str, *overrides: str) -> Found:
        key = (start, *overrides)
        if key not in self.done:
            self.done[key] = self._run(start, list(overrides))
        return self.done[key]

    def _run(self, start: str, overrides: list[str]) -> Found:
        text = (STARTS[start] + MORE).replace("{root}", str(self.root))
        where = [f"run.folder={self.root / 'run'}", f"run.cache={self.root / 'cache'}"]
        filled = [one.replace("{root}", str(self.root)) for one in overrides]
        if any(one.startswith("reward.1.") for one in filled):
            text = text.replace("[rollout]", '[[reward]]\nname = "ink"\n[rollout]')
        if start == "pipeline":  # a pass of it costs much more
            where += ["rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.steps=2"]
        try:
            trainer = build_job(parse_recipe(text, overrides=[*where, *filled])).trainer
            train(trainer, NUM_ITERATIONS)
        except DDRLError as error:
            return f"{type(error).__name__}: {error.message}"
        network = trainer.forward.model.transformer
        weights = {n: p.detach() for n, p in network.named_parameters() if p.requires_grad}
        averages = {
            f"average of {name}": value for name, value in trainer.learner.ema.state_dict().items()
        }
        return {name: value.clone() for name, value in (weights | averages).items()}


def write_pictures(folder: Path, *, seed: int) -> None:
    folder.mkdir()
    rng = torch.Generator().manual_seed(seed)
    for index in range(8):
        pixels = torch.randint(0, 256, (16, 16, 3), dtype=torch.uint8, generator=rng)
        Image.fromarray(pixels.numpy()).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(f"a thing of kind {index % 6}")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Jobs:
    """Jobs, and what the values of some keys name."""
    root = tmp_path_factory.mktemp("keys")
    build_pipeline(root / "parts").save_pretrained(root / "model")
    shutil.copytree(root / "model", root / "other")
    file = next((root / "other" / "transformer").glob("*.safetensors"))
    save_file({name: 1.5 * value for name, value in load_file(file).items()}, file)
    shutil.copy(file, root / "model" / "transformer" / f"{file.stem}.ema.safetensors")
    write_pictures(root / "data", seed=0)
    write_pictures(root / "other-data", seed=1)
    text = STARTS["digits"] + MORE
    finished = [f"run.cache={root / 'cache'}", f"run.folder={root / 'finished'}"]
    job = build_job(parse_recipe(text, overrides=[*finished, "optimizer.learning_rate=0.1"]))
    train(job.trainer, 1, checkpoints=CheckpointFolder(root / "finished" / "checkpoints"))
    return Jobs(root)


def pair(jobs: Jobs, key: str, case: Case) -> tuple[Found, Found]:
    """What comes of both recipes of a case."""
    place = key.replace("reward.", "reward.0.", 1) if key.startswith("reward.") else key
    return (
        jobs.run(case.start, *case.given),
        jobs.run(case.start, *case.given, f"{place}={case.value}"),
    )


def test_every_key_is_shown_to_do_what_it_says() -> None:
    """A new key is entered in `key_cases.py`."""
    shown = {*CHANGES, *KEEPS, *ELSEWHERE, "reward.options"} - {"reward.options.scale"}
    assert shown == key_specs().keys()
    assert len(CHANGES) + len(KEEPS) + len(ELSEWHERE) == len(shown)
    for key, where in ELSEWHERE.items():
        path, _, name = where.partition("::")
        assert f"def {name or 'test_'}" in (TESTS / path).read_text(), f"{key}: no test {where}"


@pytest.mark.parametrize("key", CHANGES)
def test_a_key_that_changes_training(key: str, jobs: Jobs) -> None:
    before, after = pair(jobs, key, CHANGES[key])
    assert not isinstance(before, str), f"the job without {key} stops: {before}"
    if isinstance(after, str):
        stops = key.startswith("guard.") or key == "scoring.max_failed_share"
        assert stops, f"the job with {key} stops: {after}"
        assert not after.startswith("RecipeError"), after
    elif before.keys() == after.keys():
        moved = [
            float((after[name] - value).abs().max()) if value.shape == after[name].shape else 1.0
            for name, value in before.items()
        ]
        # More than what another order of the same sums does to a weight.
        assert max(moved) > 1e-6


@pytest.mark.parametrize("key", KEEPS)
def test_a_key_that_leaves_numbers_alone(key: str, jobs: Jobs) -> None:
    before, after = pair(jobs, key, KEEPS[key])
    assert not isinstance(before, str), before
    assert not isinstance(after, str), after
    torch.testing.assert_close(after, before, rtol=0, atol=1e-6)

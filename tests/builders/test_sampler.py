"""Steps of a recipe reach a family whose shift of times depends on their number."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from tests.data.making import write_image
from tests.fakes import FakeModel
from tests.models.families import test_flux2_klein
from tests.recipe.test_merging import PIPELINE

from ddrl.builders.sampler import build_forward, drawing_forward
from ddrl.jobs.plan import plan_recipe
from ddrl.jobs.train.trainer import build_job
from ddrl.recipe import Recipe, parse_recipe

RECIPE = """
[model]
family = "diffusers"
path = "{root}/model"
lora.rank = 2
[data]
source = "files"
path = "{root}/data"
height = 16
width = 16
[[reward]]
name = "ink"
[rollout]
prompts_per_step = 2
group_size = 2
[run]
cache = "{root}/cache"
folder = "{root}/run"
device = "cpu"
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("klein")
    test_flux2_klein.build_pipeline().save_pretrained(made / "model")
    for name in "abcd":
        write_image(made / "data" / f"{name}.png").with_suffix(".txt").write_text(name)
    return made


def recipe(root: Path, steps: int) -> Recipe:
    return parse_recipe(RECIPE.format(root=root), overrides=[f"rollout.steps={steps}"])


def own_times(root: Path, steps: int) -> torch.Tensor:
    """What the pipeline's scheduler makes of these steps for images of 4x4 tokens."""
    scheduler = test_flux2_klein.build_pipeline().scheduler
    sigmas = [1 - k / steps for k in range(steps)]
    scheduler.set_timesteps(sigmas=sigmas, mu=compute_empirical_mu(4 * 4, steps))
    times: torch.Tensor = scheduler.sigmas.double()
    return times


@pytest.mark.parametrize("steps", [4, 10, 50])
def test_the_plan_has_the_pipelines_times(root: Path, steps: int) -> None:
    planned = plan_recipe(recipe(root, steps)).steps
    times = torch.tensor([*(step.t for step in planned), planned[-1].s], dtype=torch.float64)
    torch.testing.assert_close(times, own_times(root, steps), rtol=0, atol=1e-6)


def test_rollouts_have_the_pipelines_times(root: Path) -> None:
    times = build_job(recipe(root, 4)).trainer.sampler.transitions.times
    torch.testing.assert_close(times, own_times(root, 4), rtol=0, atol=1e-6)
    assert not torch.allclose(times, own_times(root, 50)[[0, 12, 25, 37, 50]], atol=1e-2)


HALF = ["run.precision=bfloat16", "model.dtype=bfloat16", "model.lora.rank=4", "rollout.guidance=3"]


def test_a_policy_has_the_recipe_s_precision_and_guidance() -> None:
    model = FakeModel()
    forward = build_forward(parse_recipe(PIPELINE), model)
    assert (forward.autocast, forward.guidance) == (None, 1.0)
    half = parse_recipe(PIPELINE, overrides=HALF)
    forward = build_forward(half, model)
    assert (forward.autocast, forward.guidance) == (torch.bfloat16, 3.0)
    assert build_forward(half, model, guidance=2.0).guidance == 2.0
    drawn = drawing_forward(half, forward)
    assert (drawn.autocast, drawn.guidance, drawn.model) == (None, 3.0, model)
    plain = parse_recipe(PIPELINE, overrides=[*HALF, "rollout.merge=never"])
    assert drawing_forward(plain, forward) is forward

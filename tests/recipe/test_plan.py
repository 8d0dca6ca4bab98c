from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.recipe.texts import recipe

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.errors import RecipeError
from ddrl.objective.loss import StepWeight, step_weights
from ddrl.recipe import Footprint, Plan, Working, make_plan
from ddrl.recipe.plan.lines import plan_lines
from ddrl.recipe.plan.plan import Passes

LATENT = 64
FOOTPRINT = Footprint(
    frozen=0,
    trained=4000,
    latent=LATENT,
    condition=10,
    working=Working(encode=7, rollout=20, decode=30, update=5000, evaluate=25),
)
ADAPTER = replace(FOOTPRINT, frozen=8000, trained=400, text_encoders=3000, vae=500)


def plan(*overrides: str, footprint: Footprint = FOOTPRINT) -> Plan:
    """The plan of a 4-step recipe, with the sampler's own coefficients."""
    made = recipe("rollout.steps=4", *overrides)
    times = time_grid(4, shift=made.rollout.time_shift or 1.0)
    kernel = make_kernel(made.rollout.kernel, eta=made.rollout.eta)
    rows = Transitions.build(kernel, RectifiedFlow(), times)
    a, b, std = rows.a.tolist(), rows.b.tolist(), rows.std.tolist()
    return make_plan(
        made,
        transitions=list(zip(a, b, std, strict=True)),
        times=times.tolist(),
        footprint=footprint,
    )


def test_batch_arithmetic() -> None:
    made = plan("data.anchors_per_group=4", "objective.updates_per_rollout=2", "run.steps=7")
    assert made.num_samples == 160
    assert made.num_data_samples == 40
    assert made.num_updates == 14
    assert made.trained_steps == (0, 1, 2, 3)
    assert made.passes == Passes(rollout=640, policy=640, data=160, reference=0)
    assert made.passes.forward_equivalents == 640 + 3 * 800


@pytest.mark.parametrize(
    ("overrides", "passes"),
    [
        ([], Passes(640, 640, 640, 0)),
        (["rollout.trained_steps=[0, 2]"], Passes(640, 320, 320, 0)),
        (["objective.data_per_step=one"], Passes(640, 640, 160, 0)),
        (["objective.regularizer=reference"], Passes(640, 640, 0, 640)),
        (["objective.regularizer=none"], Passes(640, 640, 0, 0)),
        (["objective.policy=none"], Passes(0, 0, 640, 0)),
        (["rollout.guidance=3", "objective.regularizer=reference"], Passes(1280, 1280, 0, 1280)),
        (["rollout.guidance=3"], Passes(1280, 1280, 640, 0)),
        (["rollout.kernel=ddim"], Passes(640, 480, 480, 0)),
        (["data.target=teacher"], Passes(640, 640, 640, 640)),
        (["data.target=teacher", "objective.data_per_step=one"], Passes(640, 640, 160, 160)),
        (["data.target=teacher", "rollout.guidance=3"], Passes(1280, 1280, 640, 640)),
    ],
)
def test_passes(overrides: list[str], passes: Passes) -> None:
    assert plan(*overrides).passes == passes


@pytest.mark.parametrize("kernel", ["flow_sde", "dance_sde", "ddim", "cps"])
@pytest.mark.parametrize("name", ["path", "velocity", "geometric"])
def test_weights_agree_with_the_loss(kernel: str, name: StepWeight) -> None:
    made = plan(f"rollout.kernel={kernel}", f"objective.step_weight={name}")
    rows = Transitions.build(make_kernel(kernel, eta=0.7), RectifiedFlow(), time_grid(4))
    omega = step_weights(rows.kl_weight, made.trained_steps, name=name)
    assert [step.kl_weight for step in made.steps] == pytest.approx(rows.kl_weight.tolist())
    assert [step.step_weight for step in made.steps] == pytest.approx(omega.tolist())
    used = [step.step_weight for step in made.steps if step.is_trained]
    assert math.fsum(used) / len(used) == pytest.approx(1)


def test_velocity_weight_is_the_plain_velocity_loss() -> None:
    weights = [s.regularizer_weight for s in plan("objective.step_weight=velocity").steps]
    assert weights == pytest.approx([weights[0]] * 4)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["objective.step_weight=velocity"],
        ["objective.step_weight=geometric", "rollout.kernel=cps"],
        ["objective.log_prob_reduction=mean"],
        ["objective.data_per_step=one"],
        ["objective.data_times=uniform"],
        ["objective.regularizer=reference"],
        ["objective.advantage=tilt", "rollout.trained_steps=[0, 2]"],
    ],
)
def test_one_effective_beta(overrides: list[str]) -> None:
    made = plan("objective.beta=0.3", *overrides)
    assert made.effective_beta == pytest.approx([0.3] * len(made.trained_steps))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["rollout.guidance=4"], 0.075),
        (["rollout.guidance=4", "data.target=teacher"], 0.075),
        (["rollout.guidance=4", "objective.regularizer=reference"], 0.3),
        (["rollout.guidance=0.5"], 0.6),
    ],
)
def test_effective_beta_with_guidance(overrides: list[str], expected: float) -> None:
    made = plan("objective.beta=0.3", *overrides)
    assert made.effective_beta == pytest.approx([expected] * 4)
    says_why = "objective.beta / " in "\n".join(plan_lines(made))
    assert says_why == (expected != 0.3)


@pytest.mark.parametrize(
    ("overrides", "note"),
    [
        (["optimizer.warmup_steps=8"], "the learning rate still warms up at the end"),
        (["objective.policy=reinforce", "objective.updates_per_rollout=2"], "up to 1; grpo does"),
        (["objective.drift_budget=0.03", "objective.drift_budget_every=5"], "never corrects beta"),
        (["evaluation.every=5"], "nothing is evaluated while training"),
    ],
)
def test_what_does_less_than_it_says_is_noted(overrides: list[str], note: str) -> None:
    quiet = ["run.steps=4", "evaluation.every=4"]
    assert "notes" not in plan_lines(plan(*quiet))
    assert note in "\n".join(plan_lines(plan(*quiet, *overrides)))


def test_mean_reduction_shrinks_both_terms() -> None:
    by_sum, by_mean = plan(), plan("objective.log_prob_reduction=mean")
    for a, b in zip(by_sum.steps, by_mean.steps, strict=True):
        assert b.policy_weight == pytest.approx(a.policy_weight / LATENT)
        assert b.regularizer_weight == pytest.approx(a.regularizer_weight / LATENT)


def test_effective_beta_without_one_of_the_terms() -> None:
    assert plan("objective.regularizer=none").effective_beta == (0, 0, 0, 0)
    assert plan("objective.policy=none").effective_beta == (math.inf,) * 4


def test_steps_out_of_training_have_no_weight() -> None:
    step = plan("rollout.trained_steps=[0, 2]").steps[1]
    assert not step.is_trained
    assert (step.t, step.s) == (0.75, 0.5)
    assert step.std > 0
    assert step.kl_weight == step.step_weight == step.effective_beta == 0


@pytest.mark.parametrize(
    ("advantage", "unit"),
    [
        ("group", "standard deviations of the reward within its group"),
        ("global", "standard deviations of the reward over the batch"),
        ("center", "units of the reward"),
        ("tilt", "units of the reward"),
    ],
)
def test_beta_unit(advantage: str, unit: str) -> None:
    made = plan(f"objective.advantage={advantage}")
    assert made.beta_unit == unit
    assert f"  one effective beta, 1, in {unit}" in plan_lines(made)


def test_memory() -> None:
    memory = plan().memory
    assert (memory.frozen, memory.trained, memory.ema, memory.gradients) == (0, 4000, 4000, 4000)
    assert memory.moments == 8000
    assert memory.trajectory == 160 * 5 * LATENT * 4
    assert memory.conditions == 10 * (10 + 160)
    assert memory.reference == memory.text_encoders == memory.vae == 0
    assert memory.held == 20000 + memory.conditions


def test_the_peak_is_that_of_the_largest_phase() -> None:
    memory = plan("rollout.storage_dtype=bfloat16").memory
    numbers = 160 * 5 * LATENT
    assert memory.trajectory == numbers * 2
    busy = memory.held + memory.trajectory
    assert dict(memory.phases) == {
        "rollout": busy + numbers * 4 + 20,  # its noise is there beside it
        "decode": busy + 30,
        "update": busy + 5000,
        "evaluation": memory.held + 4000 + 25,
    }
    assert memory.peak == ("rollout", busy + numbers * 4 + 20)
    large = replace(
        FOOTPRINT, working=Working(encode=7, rollout=20, decode=30, update=10**6, evaluate=25)
    )
    assert plan(footprint=large).memory.peak[0] == "update"


@pytest.mark.parametrize(("micro_batch", "rows"), [(0, 160), (16, 16), (200, 160)])
def test_noise_drawn_ahead_takes_two_steps_of_a_micro_batch(micro_batch: int, rows: int) -> None:
    ahead = replace(FOOTPRINT, noise_at_once=False, merged=900)
    memory = plan(f"run.micro_batch={micro_batch}", footprint=ahead).memory
    phases = dict(memory.phases)
    busy = memory.held + memory.trajectory
    assert phases["rollout"] == busy + 900 + 2 * rows * LATENT * 4 + 20
    # Where rewards overlap with it, a rollout has not ended when its first samples are decoded.
    assert phases["decode"] == busy + (900 if micro_batch else 0) + 30


def test_a_trajectory_on_the_host_takes_nothing_of_the_device() -> None:
    there, here = plan().memory, plan("rollout.storage_device=host").memory
    assert (there.trajectory, here.trajectory) == (160 * 5 * LATENT * 4, 0)
    for (name, more), (_, less) in zip(there.phases, here.phases, strict=True):
        assert more - less == (0 if name == "evaluation" else there.trajectory), name


def test_terms_that_are_off_take_nothing() -> None:
    phases = dict(plan("objective.policy=none", "evaluation.every=0").memory.phases)
    assert phases.keys() == {"update"}
    assert plan("objective.regularizer=none").memory.conditions == 10 * 10


@pytest.mark.parametrize("override", ["objective.regularizer=reference", "data.target=teacher"])
def test_the_frozen_start_is_a_copy_unless_there_is_an_adapter(override: str) -> None:
    assert plan(override).memory.reference == 4000
    files = ["model.family=diffusers", "model.path=x", "data.source=files", "data.path=y"]
    memory = plan(override, *files, "model.lora.rank=4", footprint=ADAPTER).memory
    assert memory.reference == 0
    assert memory.held == 8000 + 5 * 400 + 3000 + 500 + memory.conditions
    assert dict(memory.phases)["encode"] == 8000 + 400 + 3000 + 500 + 7


def test_parts_that_are_offloaded_are_there_in_turn() -> None:
    files = ["model.family=diffusers", "model.path=x", "data.source=files", "data.path=y"]
    lora = ["model.lora.rank=4", "model.offload=true"]
    memory = plan(*files, *lora, footprint=ADAPTER).memory
    assert memory.text_encoders == memory.vae == 0
    assert dict(memory.phases)["encode"] == 8000 + 400 + 3000
    busy = memory.held + memory.trajectory
    assert dict(memory.phases)["decode"] == busy + 500 + 30


def test_memory_without_a_trace() -> None:
    made = plan(footprint=replace(FOOTPRINT, working=None))
    assert made.memory.phases == ()
    assert made.memory.peak == ("", made.memory.held)
    assert "activations are not counted" in "\n".join(plan_lines(made))


def test_lines() -> None:
    lines = plan_lines(plan("rollout.trained_steps=[0, 1, 3]", "objective.regularizer=reference"))
    assert "  rollout             10 prompts x 16 = 160 samples" in lines
    assert "  data                none: no data term" in lines
    assert "  trained steps       3: 0-1, 3" in lines
    assert "  passes, policy      480 with gradient" in lines
    assert "  reference model      3.906 KiB" in lines
    assert lines[-1] == "  the most is 423.6 KiB, in rollout"
    header = next(index for index, line in enumerate(lines) if line.split()[:1] == ["step"])
    table = [line.split() for line in lines[header + 1 : header + 5]]
    assert [row[0] for row in table] == ["0", "1", "2", "3"]
    assert table[2][-3:] == ["-", "-", "-"]
    assert table[1][-1] == "1"


def test_lines_of_one_term_alone() -> None:
    text = "\n".join(plan_lines(plan("objective.policy=none")))
    assert "none: no policy term" in text
    assert "data term alone" in text
    assert "trajectory" not in text
    assert "no regularizer" in "\n".join(plan_lines(plan("objective.regularizer=none")))
    assert "in expectation" in "\n".join(plan_lines(plan("objective.data_times=uniform")))


def test_different_betas_are_said_to_be_different() -> None:
    made = plan()
    first, *rest = made.steps
    odd = type(first)(**{**vars(first), "effective_beta": 2.0})
    mixed = type(made)(**{**vars(made), "steps": (odd, *rest)})
    assert "effective beta differs between steps, 1 to 2" in "\n".join(plan_lines(mixed))


def test_large_models_have_readable_sizes() -> None:
    made = recipe("rollout.steps=1")
    big = make_plan(
        made, transitions=[(1, -1, 1)], times=[1, 0], footprint=replace(FOOTPRINT, trained=10**13)
    )
    assert "TiB" in "\n".join(plan_lines(big))


def test_the_wrong_number_of_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="10 transitions and 11 times are needed, not 1 and 2"):
        make_plan(recipe(), transitions=[(1, -1, 1)], times=[1, 0], footprint=FOOTPRINT)


def test_a_trained_step_without_noise_is_refused() -> None:
    with pytest.raises(RecipeError, match="Step 0 is trained, but has no noise") as caught:
        make_plan(
            recipe("rollout.steps=1"),
            transitions=[(1, -1, 0)],
            times=[1, 0],
            footprint=FOOTPRINT,
        )
    assert "raise rollout.eta" in caught.value.hint


def test_the_path_kl_asks_the_reference_in_the_rollout_too() -> None:
    per_step = plan("objective.regularizer=reference")
    in_return = plan("objective.regularizer=reference", "objective.kl_in_return=true")
    assert per_step.passes.reference == 640
    assert in_return.passes.reference == 1280

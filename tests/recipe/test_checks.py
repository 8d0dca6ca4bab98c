from __future__ import annotations

import pytest
from tests.recipe.texts import REWARD, failure, recipe

from ddrl.errors import RecipeError
from ddrl.recipe import parse_recipe

FILES = ("model.family=diffusers", "model.path=m", "data.source=files", "data.path=d")


def refused(*overrides: str) -> tuple[str, str]:
    """Message and hint, without the override that the message starts with."""
    message, hint = failure(REWARD, *overrides)
    where, _, what = message.partition('": ')
    assert where.startswith('Override "')
    return what, hint


@pytest.mark.parametrize(
    ("overrides", "message", "hint"),
    [
        (
            ["model.network=dit", "model.width=30"],
            "model.width 30 can't be divided among 4 heads",
            "multiple of model.heads",
        ),
        (
            ["data.given_frames=1"],
            "data.given_frames is 1, but data.source digits has no clips",
            'data.source = "files"',
        ),
        (
            [*FILES, "data.given_frames=5", "data.frames=5"],
            "data.given_frames is 5, but clips have data.frames = 5",
            "data.frames above data.given_frames",
        ),
        (
            ["data.source_images=1"],
            "data.source_images is 1, but data.source digits has no source images",
            'data.source = "files"',
        ),
        (
            [*FILES, "data.source_images=1", "data.frames=5"],
            "what is edited are pictures",
            "data.frames = 1",
        ),
        (
            [*FILES, "data.source_images=1", "data.given_frames=1", "data.frames=1"],
            "no model takes both",
            "set one of them to 0",
        ),
        (
            [*FILES, "data.source_column=before"],
            "no source image would be read",
            "data.source_images = 1",
        ),
        (["reward.0.weight=0"], "Every reward has weight 0", "give a reward a weight"),
        (
            ["scoring.combine=normalized", "objective.advantage=tilt"],
            "scoring.combine normalized makes them relative to the batch",
            'scoring.combine = "sum"',
        ),
        (
            ["scoring.combine=lower_confidence"],
            "takes off what rewards disagree by, but only one reward has a weight",
            "give a second reward a weight",
        ),
        (
            ["scoring.combine=lower_confidence", "reward.0.weight=-1"],
            "reward.0.weight is -1.0, but scoring.combine lower_confidence weighs",
            "weights of at least 0",
        ),
        (
            ["rollout.guidance=0"],
            "rollout.guidance is 0, so samples do not depend on their prompts",
            "rollout.guidance to 1",
        ),
        (
            ["guard.min_latent_std=2", "guard.max_latent_std=2"],
            "guard.min_latent_std is 2.0, but guard.max_latent_std is 2.0",
            "below guard.max_latent_std",
        ),
        (["rollout.kernel=ode"], "rollout.kernel ode adds no noise", '"flow_sde"'),
        (
            ["rollout.kernel=ode", "objective.policy=none"],
            "rollout.kernel ode adds no noise",
            'objective.step_weight = "velocity"',
        ),
        (["rollout.eta=0"], "rollout.eta is 0, so kernel flow_sde", "above 0"),
        (["rollout.eta=0", "rollout.kernel=ddim"], "rollout.eta is 0, so kernel ddim", "above 0"),
        (["rollout.eta=0", "rollout.kernel=cps"], "rollout.eta is 0, so kernel cps", "above 0"),
        (
            ["rollout.eta=1.5", "rollout.kernel=ddim"],
            "rollout.eta is 1.5, but kernel ddim takes at most 1",
            "up to 1",
        ),
        (
            ["rollout.eta=1.5", "rollout.kernel=cps"],
            "rollout.eta is 1.5, but kernel cps takes at most 1",
            "up to 1",
        ),
        (["rollout.trained_steps=[]"], "rollout.trained_steps is empty", '"all"'),
        (["rollout.stochastic_steps=[]"], "rollout.stochastic_steps is empty", '"all"'),
        (
            ["rollout.trained_steps=[0, 10]"],
            "rollout.trained_steps names step 10, but rollout.steps = 10 has steps 0 to 9",
            "counted from 0",
        ),
        (["rollout.trained_steps=[-1]"], "rollout.trained_steps names step -1", "counted from 0"),
        (["rollout.trained_steps=[3, 1, 3]"], "names step 3 twice", "once"),
        (
            ["rollout.trained_steps=[0, 4]", "rollout.stochastic_steps=[0, 1]"],
            "names step 4, which is not in rollout.stochastic_steps",
            "stochastic steps only",
        ),
        (
            ["rollout.trained_steps=[9]", "rollout.kernel=ddim"],
            "names step 9, the last one, which has no noise with kernel ddim",
            "leave step 9 out",
        ),
        (
            ["rollout.trained_steps=[8, 9]", "rollout.kernel=cps"],
            "names step 9, the last one, which has no noise with kernel cps",
            "leave step 9 out",
        ),
        (
            ["rollout.steps=1", "rollout.kernel=ddim"],
            "No step of the rollout has noise",
            "raise rollout.steps",
        ),
        (
            ["rollout.stochastic_steps=[9]", "rollout.kernel=cps"],
            "No step of the rollout has noise",
            "select an earlier one",
        ),
        (
            ["data.target=teacher", "objective.regularizer=reference"],
            "data.target teacher is a target of the data term, but objective.regularizer is refer",
            'objective.regularizer = "data"',
        ),
        (
            ["data.target=teacher", "objective.policy=none"],
            "with objective.policy none there is nothing that moves it away",
            'data.target = "data"',
        ),
        (
            ["objective.policy=none", "objective.regularizer=none"],
            "objective.policy none trains on data alone, but objective.regularizer is none",
            'objective.regularizer = "data"',
        ),
        (
            ["objective.policy=none", "objective.regularizer=reference"],
            "but objective.regularizer is reference",
            'objective.regularizer = "data"',
        ),
        (["objective.beta=0"], "switches the data regularizer off", '"none"'),
        (
            ["objective.beta=0", "objective.regularizer=reference"],
            "switches the reference regularizer off",
            '"none"',
        ),
        (
            ["objective.beta=0", "objective.regularizer=none", "objective.advantage=tilt"],
            "objective.advantage tilt divides the reward by objective.beta, which is 0",
            "above 0",
        ),
        (
            ["objective.kl_in_return=true"],
            "objective.kl_in_return charges for the KL to the reference, but "
            "objective.regularizer is data",
            'objective.regularizer = "reference"',
        ),
        *(
            (
                ["rollout.group_size=1", f"objective.advantage={advantage}"],
                f"rollout.group_size is 1, so the {advantage} advantage",
                "2 or more",
            )
            for advantage in ("group", "center", "tilt", "global")
        ),
        (
            ["objective.updates_per_rollout=3"],
            "rollout.group_size 16 can't be split into objective.updates_per_rollout = 3 equal",
            "multiple of objective.updates_per_rollout",
        ),
        (
            ["objective.updates_per_rollout=2", "data.anchors_per_group=1"],
            "The 1 data samples of a group can't be split",
            "make data.anchors_per_group a multiple",
        ),
        (
            ["objective.updates_per_rollout=3", "objective.policy=none"],
            "The 16 data samples of a group can't be split",
            "make data.anchors_per_group a multiple",
        ),
        (["guard.max_ratio=0.5"], "guard.max_ratio is 0.5", "0 to switch it off"),
        (["guard.max_ratio=1"], "the ratio is 1 before any update", "0 to switch it off"),
        (
            ["model.network=dit", "model.width=30", "model.heads=4"],
            "model.width 30 can't be divided among 4 heads",
            "a multiple of model.heads",
        ),
        (
            ["data.source=files", "data.path=pictures"],
            "model.family tiny can't be trained on data.source files",
            "diffusers with files, hub or prompts",
        ),
        (
            ["scoring.combine=lower_confidence", "objective.advantage=tilt"],
            "scoring.combine lower_confidence makes them relative to the batch",
            'scoring.combine = "sum"',
        ),
    ],
)
def test_refused(overrides: list[str], message: str, hint: str) -> None:
    found, advice = refused(*overrides)
    assert message in found
    assert hint in advice


@pytest.mark.parametrize(
    "overrides",
    [
        ["model.width=30"],
        ["scoring.combine=normalized"],
        ["scoring.combine=normalized", "objective.advantage=tilt", "objective.policy=none"],
        ["objective.policy=none", "reward.0.weight=0", "rollout.group_size=1"],
        ["objective.regularizer=none", "objective.beta=0"],
        ["objective.regularizer=reference", "objective.kl_in_return=true"],
        ["objective.updates_per_rollout=4", "data.anchors_per_group=8"],
        [
            "objective.updates_per_rollout=2",
            "objective.regularizer=none",
            "data.anchors_per_group=1",
        ],
        ["rollout.kernel=dance_sde", "rollout.eta=1.5"],
        ["rollout.kernel=ddim", "rollout.eta=1"],
        ["rollout.kernel=cps", "rollout.stochastic_steps=[8, 9]"],
        ["rollout.trained_steps=[9]"],
        ["guard.max_ratio=0"],
        ["guard.max_latent_std=0"],
        ["rollout.guidance=0.5"],
        ["model.network=dit", "model.width=32", "model.heads=4"],
    ],
)
def test_accepted(overrides: list[str]) -> None:
    recipe(*overrides)


@pytest.mark.parametrize("every", [0, 999])
def test_a_drift_limit_that_is_never_looked_at(every: int) -> None:
    found, advice = refused("guard.max_drift=0.1", f"evaluation.every={every}")
    assert "the held-out loss is never measured" in found
    assert "set evaluation.every" in advice


@pytest.mark.parametrize(
    "override", ["run.keep_checkpoints=1", f"run.seed={2**63}", f"model.pretrain.seed={2**63}"]
)
def test_what_would_be_another_number_or_none(override: str) -> None:
    found, _ = refused(override)
    assert override.partition("=")[0] in found


def test_a_reward_without_weight_is_no_member_of_an_ensemble() -> None:
    text = """
[[reward]]
name = "ink"
[[reward]]
name = "jpeg"
weight = 0.0
[scoring]
combine = "lower_confidence"
"""
    with pytest.raises(RecipeError, match="but only one reward has a weight"):
        parse_recipe(text)
    parse_recipe(text, overrides=["reward.1.weight=0.1"])


def test_a_reward_that_is_only_measured_may_be_held_out() -> None:
    text = """
[[reward]]
name = "ink"
[[reward]]
name = "jpeg"
weight = 0.0
[[evaluation.reward]]
name = "jpeg"
"""
    parse_recipe(text)
    with pytest.raises(RecipeError, match="Reward jpeg is trained on, so it can't be held out"):
        parse_recipe(text, overrides=["reward.1.weight=0.1"])

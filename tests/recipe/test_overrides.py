from __future__ import annotations

import pytest
from tests.recipe.texts import REWARD, failure, recipe

from ddrl.recipe import parse_recipe


def test_values_are_typed_by_their_key() -> None:
    made = recipe(
        "objective.beta=0.3",
        "optimizer.learning_rate=1e-4",
        "optimizer.epsilon=.5",
        "rollout.steps=20",
        "run.folder=runs/x",
        'run.cache="runs/a b"',
        "run.tensorboard=false",
        "rollout.kernel='cps'",
        "rollout.trained_steps=[0,2,4]",
        "rollout.stochastic_steps=all",
        "reward.0.weight=2",
        "reward.0.name=3",
        "reward.0.options.x=1",
        "reward.0.options.y=a=b",
        "reward.0.options.deep.z=true",
        "model.pretrain.steps=10",
        " run.seed = 7",
        "run.wandb_project=",
    )
    assert made.objective.beta == 0.3
    assert made.optimizer.learning_rate == 1e-4
    assert made.optimizer.epsilon == 0.5
    assert made.rollout.steps == 20
    assert made.run.folder == "runs/x"
    assert made.run.cache == "runs/a b"
    assert made.run.tensorboard is False
    assert made.rollout.kernel == "cps"
    assert made.rollout.trained_steps == (0, 2, 4)
    assert made.rollout.stochastic_steps == "all"
    assert made.reward[0].weight == 2
    assert made.reward[0].name == "3"
    assert made.reward[0].options == {"x": 1, "y": "a=b", "deep": {"z": True}}
    assert made.model.pretrain.steps == 10
    assert made.run.seed == 7
    assert made.run.wandb_project == ""


def test_the_later_one_wins() -> None:
    assert recipe("rollout.steps=3", "rollout.steps=4").rollout.steps == 4


def test_an_override_can_mend_the_file() -> None:
    text = REWARD + "[rollout]\nsteps = 'many'\n"
    assert parse_recipe(text, overrides=["rollout.steps=3"]).rollout.steps == 3


@pytest.mark.parametrize(
    ("override", "message", "hint"),
    [
        (
            "objective",
            'Override "objective" is not of the form section.key=value',
            "such as objective.beta=0.5",
        ),
        ("=3", 'Override "=3" is not of the form section.key=value', "without spaces"),
        (
            "objective.betta=1",
            'Override "objective.betta=1": Unknown key objective.betta',
            "did you mean objective.beta?",
        ),
        (
            "objective.eta=1",
            'Override "objective.eta=1": Unknown key objective.eta',
            "eta is a key of [rollout]",
        ),
        (
            "objctive.betta=1",
            'Override "objctive.betta=1": Unknown key objctive.betta',
            "did you mean objective.beta?",
        ),
        (
            "qqq.www=1",
            'Override "qqq.www=1": Unknown key qqq.www',
            "the sections are model, data",
        ),
        ("beta=1", 'Override "beta=1": Unknown key beta', "beta is a key of [objective]"),
        (
            "objective=1",
            'Override "objective=1": objective is a section',
            "set one key, such as objective.policy",
        ),
        (
            "model.pretrain=1",
            'Override "model.pretrain=1": model.pretrain is a section',
            "such as model.pretrain.steps",
        ),
        ("reward=1", 'Override "reward=1": reward is a section', "such as reward.0.weight"),
        ("reward.0=1", 'Override "reward.0=1": reward.0 is a section', "such as reward.0.name"),
        (
            "reward.weight=1",
            'Override "reward.weight=1": Rewards are a list, so a number has to follow "reward"',
            "write reward.0.weight",
        ),
        (
            "reward.1.weight=1",
            'Override "reward.1.weight=1": There is no reward 1; the recipe has 1',
            "the last one is reward.0",
        ),
        (
            "reward.0.wieght=1",
            'Override "reward.0.wieght=1": Unknown key reward.0.wieght',
            "did you mean reward.weight?",
        ),
        (
            "reward.0.options=1",
            'Override "reward.0.options=1": reward.0.options is a table',
            "such as reward.0.options.NAME=value",
        ),
        (
            "rollout.steps=abc",
            'Override "rollout.steps=abc": rollout.steps is the text "abc", but must be a whole '
            "number of at least 1 and at most 10000",
            "",
        ),
        (
            "rollout.steps=3.5",
            'Override "rollout.steps=3.5": rollout.steps is 3.5, but must be a whole number of '
            "at least 1 and at most 10000",
            "",
        ),
        (
            "run.tensorboard=yes",
            'Override "run.tensorboard=yes": run.tensorboard is the text "yes", but must be true '
            "or false",
            "",
        ),
        (
            "objective.policy=grppo",
            'Override "objective.policy=grppo": objective.policy is the text "grppo", but must be '
            'one of "reinforce", "grpo", "none"',
            'did you mean "grpo"?',
        ),
        (
            "rollout.trained_steps=0,2",
            'Override "rollout.trained_steps=0,2": rollout.trained_steps is the text "0,2", but '
            'must be "all" or a list of step numbers',
            "",
        ),
        (
            "reward.0.options.x=[nan]",
            'Override "reward.0.options.x=[nan]": reward.0.options.x.0 is nan, but must be text, a '
            "finite number, true or false, or a list or table of these",
            "",
        ),
    ],
)
def test_refused(override: str, message: str, hint: str) -> None:
    found, advice = failure(REWARD, override)
    assert found == f"{message}."
    assert hint in advice
    assert advice  # where nothing better is known, what the key is


def test_no_reward_to_override() -> None:
    message, hint = failure("[run]\n", "reward.0.weight=1")
    assert message == 'Override "reward.0.weight=1": There is no reward 0; the recipe has 0.'
    assert hint == "add a [[reward]] section to the recipe"


@pytest.mark.parametrize(
    ("text", "override", "message"),
    [
        ("model = 3\n" + REWARD, "model.width=8", "a.toml:1: model is 3, but must be a section"),
        ("[reward]\nname = 'a'", "reward.0.weight=1", "a.toml:1: reward is a table, but must be"),
        ("reward = [3]", "reward.0.weight=1", "a.toml:1: reward.0 is 3, but must be a section"),
    ],
)
def test_a_file_of_another_shape_is_named_itself(text: str, override: str, message: str) -> None:
    assert failure(text, override)[0].startswith(message)

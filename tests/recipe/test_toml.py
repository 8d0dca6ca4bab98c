from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.recipe.texts import REWARD, recipe

from ddrl.recipe import (
    CHANGEABLE_ON_RESUME,
    Recipe,
    bit_changes,
    difference,
    dump_toml,
    parse_recipe,
    resume_conflicts,
)
from ddrl.recipe.reading.keys import key_specs
from ddrl.recipe.reading.toml import format_value, line_numbers
from ddrl.recipe.sections.model import ModelSection, PretrainSection
from ddrl.recipe.sections.rewards import RewardSection
from ddrl.recipe.sections.run import (
    ObjectiveSection,
    OptimizerSection,
    RolloutSection,
    RunSection,
)

texts = st.text(min_size=1)
numbers = st.floats(allow_nan=False, allow_infinity=False)
options = st.recursive(
    st.one_of(st.booleans(), st.integers(), numbers, st.text()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)
rewards = st.builds(
    RewardSection,
    name=texts,
    weight=st.floats(0.5, 2),
    options=st.dictionaries(st.text(), options),
)
recipes = st.builds(
    Recipe,
    model=st.builds(
        ModelSection,
        path=texts,
        pretrain=st.builds(PretrainSection, learning_rate=st.floats(1e-300, 1e300)),
    ),
    reward=st.lists(rewards, min_size=1, max_size=3, unique_by=lambda one: one.title),
    rollout=st.builds(
        RolloutSection,
        steps=st.just(12),
        kernel=st.sampled_from(["flow_sde", "dance_sde"]),
        eta=st.floats(0.1, 2),
        trained_steps=st.just("all") | st.lists(st.integers(0, 11), min_size=1, unique=True),
    ),
    objective=st.builds(ObjectiveSection, beta=st.floats(1e-9, 1e9), kl_in_return=st.just(False)),
    optimizer=st.builds(OptimizerSection, epsilon=st.floats(1e-30, 1e-3)),
    run=st.builds(RunSection, folder=texts, wandb_project=st.text(), tensorboard=st.booleans()),
)


@given(recipes)
def test_a_dump_reads_back_as_the_same_recipe(made: Recipe) -> None:
    text = dump_toml(made)
    again = parse_recipe(text)
    assert again == made
    assert dump_toml(again) == text
    assert difference(made, again) == []


@given(recipes)
def test_every_line_of_a_dump_is_found(made: Recipe) -> None:
    text = dump_toml(made)
    lines = text.split("\n")
    for path, number in line_numbers(text).items():
        line = lines[number - 1]
        last = next(part for part in reversed(path) if isinstance(part, str))
        if line.startswith("["):
            assert tomllib.loads(line)
            assert path[0] in Recipe.model_fields
        else:
            (name,) = tomllib.loads(line)
            assert name == last or ("options" in path and name in path)  # within an inline table


def test_a_dump_says_everything() -> None:
    held_out = '[[evaluation.reward]]\nname = "ink"\n[evaluation.reward.options]\nscale = 2\n'
    text = dump_toml(parse_recipe(REWARD + held_out, overrides=["reward.0.options.x=1"]))
    assert text.startswith('[model]\nfamily = "tiny"\n')
    reward = 'name = "classifier"\nlabel = ""\nweight = 1.0\ntimeout = 0.0\nretries = 0\n'
    reward += "samples_per_call = 0\ncache = false\n"
    assert f"\n\n[[reward]]\n{reward}\n[reward.options]\nx = 1\n\n" in text
    assert text.endswith('wandb_project = ""\n')
    written = tomllib.loads(text)
    for key in key_specs():
        table: object = written
        for part in key.split("."):
            table = table[0] if isinstance(table, list) else table
            assert isinstance(table, dict)
            table = table[part]


def test_an_empty_table_of_options_is_left_out() -> None:
    assert "options" not in dump_toml(recipe())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3, "3"),
        (1e-8, "1e-08"),
        (2.0, "2.0"),
        ('a"b\\\n\t\x00\x7f', '"a\\"b\\\\\\n\\t\\u0000\\u007F"'),
        ((0, 2), "[0, 2]"),
        ({"a": 1, "b c": "x"}, '{a = 1, "b c" = "x"}'),
    ],
)
def test_values(value: object, text: str) -> None:
    assert format_value(value) == text
    read = tomllib.loads(f"value = {text}")["value"]
    assert read == (list(value) if isinstance(value, tuple) else value)


def test_line_numbers() -> None:
    text = (
        "# a recipe\r\n"
        "top.inner = 1\n"
        "\n"
        "[model]  # [not.this]\n"
        'family = """\n'
        "[data]\n"
        'source = 1"""\n'
        "'quoted key' = { a = [1, 2], b = { c = 3 } }\n"
        "steps = [\n"
        "  1,\n"
        "]\n"
        "  [model.pretrain]\n"
        "seed = 1\n"
        "[[reward]]\n"
        'name = "a\u2028b"\n'
        "[[reward]]\n"
        "[reward.options]\n"
        "x = 1\n"
    )
    assert line_numbers(text) == {
        ("top",): 2,
        ("top", "inner"): 2,
        ("model",): 4,
        ("model", "family"): 5,
        ("model", "quoted key"): 8,
        ("model", "quoted key", "a"): 8,
        ("model", "quoted key", "b"): 8,
        ("model", "quoted key", "b", "c"): 8,
        ("model", "steps"): 9,
        ("model", "pretrain"): 12,
        ("model", "pretrain", "seed"): 13,
        ("reward",): 14,
        ("reward", 0): 14,
        ("reward", 0, "name"): 15,
        ("reward", 1): 16,
        ("reward", 1, "options"): 17,
        ("reward", 1, "options", "x"): 18,
    }


def test_difference() -> None:
    a = recipe("reward.0.options.x=1")
    b = parse_recipe(
        REWARD + REWARD + 'label = "second"\n',
        overrides=["objective.beta=0.5", "run.folder=b", "rollout.trained_steps=[0, 1]"],
    )
    assert difference(a, b) == [
        "reward.0.options.x: 1 -> (absent)",
        'rollout.trained_steps: "all" -> [0, 1]',
        "objective.beta: 1.0 -> 0.5",
        'run.folder: "runs/digits" -> "b"',
        'reward.1.name: (absent) -> "classifier"',
        'reward.1.label: (absent) -> "second"',
        "reward.1.weight: (absent) -> 1.0",
        "reward.1.timeout: (absent) -> 0.0",
        "reward.1.retries: (absent) -> 0",
        "reward.1.samples_per_call: (absent) -> 0",
        "reward.1.cache: (absent) -> false",
    ]
    assert difference(a, b, ignore=["reward.*", "rollout.*", "run.*"]) == [
        "objective.beta: 1.0 -> 0.5"
    ]


def test_a_resumed_run_may_change_what_is_kept_and_watched() -> None:
    saved = recipe()
    current = recipe(
        "run.steps=500",
        "run.folder=x",
        "run.checkpoint_every=7",
        "run.keep_checkpoints=7",
        "run.threads=2",
        "run.tensorboard=false",
        "run.wandb_project=p",
        "evaluation.every=1",
        "evaluation.solver=euler",
        "guard.max_drift=0.5",
        "reward.0.timeout=60",
        "reward.0.retries=3",
    )
    assert len(difference(saved, current)) == 12
    assert resume_conflicts(saved, current) == []
    option = recipe("reward.0.options.timeout=1")
    assert resume_conflicts(saved, option) == ["reward.0.options.timeout: (absent) -> 1"]
    changed = recipe("run.seed=1", "run.steps=500")
    assert resume_conflicts(saved, changed) == ["run.seed: 0 -> 1"]


@pytest.mark.parametrize(
    "change",
    [
        *("run.micro_batch=3", "run.steps_per_pass=2", "run.threads=2", "run.device=cpu"),
        *("model.gradient_checkpointing=true", "model.offload=true", "model.compile=true"),
        "reward.0.samples_per_call=2",
    ],
)
def test_a_resumed_run_may_be_computed_in_another_way(change: str) -> None:
    saved, current = recipe(), recipe(change)
    assert resume_conflicts(saved, current) == []
    (line,) = bit_changes(saved, current)
    assert line.startswith(change.partition("=")[0])


def test_what_only_moves_or_warns_changes_no_bit() -> None:
    saved, current = recipe(), recipe("run.cache=x", "model.distilled=no", "run.steps=500")
    assert resume_conflicts(saved, current) == []
    assert bit_changes(saved, current) == []
    precise = recipe("run.precision=bfloat16", "rollout.storage_dtype=bfloat16")
    assert len(resume_conflicts(saved, precise)) == 2


def test_a_cosine_schedule_fixes_the_length() -> None:
    saved = recipe("optimizer.schedule=cosine")
    current = recipe("optimizer.schedule=cosine", "run.steps=500", "run.folder=x")
    assert resume_conflicts(saved, current) == ["run.steps: 150 -> 500"]


def test_changeable_keys_exist() -> None:
    for pattern in CHANGEABLE_ON_RESUME:
        assert any(key.startswith(pattern.rstrip("*")) for key in key_specs()), pattern

from __future__ import annotations

from pathlib import Path

import pytest
from tests.recipe.texts import REWARD, failure, recipe

from ddrl.errors import RecipeError
from ddrl.recipe import load_recipe


def test_reads_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text(REWARD + "[rollout]\nsteps = 4  # few\n", encoding="utf-8")
    assert load_recipe(path).rollout.steps == 4
    assert load_recipe(str(path), ["rollout.steps=5"]).rollout.steps == 5


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[rolout]\nsteps = 3", "a.toml:1: Unknown section [rolout]", "did you mean [rollout]?"),
        ('[[rewards]]\nname = "a"', "a.toml:1: Unknown section [rewards]", "mean [[reward]]?"),
        (
            "[model.pretran]\nsteps = 3",
            "a.toml:1: Unknown section [model.pretran]",
            "did you mean [model.pretrain]?",
        ),
        (
            "[rollout]\n# how many\nstep = 3",
            "a.toml:3: Unknown key rollout.step",
            "did you mean rollout.steps?",
        ),
        (
            "[rollout]\nbeta = 3",
            "a.toml:2: Unknown key rollout.beta",
            "beta is a key of [objective]",
        ),
        ("beta = 3", "a.toml:1: Unknown key beta", "beta is a key of [objective]"),
        (
            "steps = 3",
            "a.toml:1: Unknown key steps",
            "steps is a key of [model.pretrain], [data.synthetic], [rollout], [evaluation], [run]",
        ),
        (
            "[optimizer]\nlearning_rates = 3\n",
            "a.toml:2: Unknown key optimizer.learning_rates",
            "did you mean optimizer.learning_rate?",
        ),
        (
            "[run]\nlearning_rates = 3",
            "a.toml:2: Unknown key run.learning_rates",
            "did you mean model.pretrain.learning_rate or optimizer.learning_rate?",
        ),
        (
            "[scoring]\nzzz = 1",
            "a.toml:2: Unknown key scoring.zzz",
            "[scoring] takes combine, kappa, on_failure, max_failed_share",
        ),
        ("zzz = 1", "a.toml:1: Unknown key zzz", "the sections are model, data, reward,"),
        (
            '[[reward]]\nname = "a"\n[[reward]]\nname = "b"\nwieght = 2',
            "a.toml:5: Unknown key reward.1.wieght",
            "did you mean reward.weight?",
        ),
        (
            "[model]\npretrain.stepz = 1",
            "a.toml:2: Unknown key model.pretrain.stepz",
            "did you mean model.pretrain.steps?",
        ),
        (
            "[model]\npretrain = { stepz = 1 }",
            "a.toml:2: Unknown key model.pretrain.stepz",
            "did you mean model.pretrain.steps?",
        ),
    ],
)
def test_unknown_names(text: str, message: str, hint: str) -> None:
    found, advice = failure(text)
    assert found == f"{message}."
    assert hint in advice


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            '[rollout]\nsteps = "3"',
            'a.toml:2: rollout.steps is the text "3", but must be a whole number of at least 1',
            "write it without quotes: steps = 3",
        ),
        (
            "[rollout]\nsteps = 3.5",
            "a.toml:2: rollout.steps is 3.5, but must be a whole number of at least 1",
            "",
        ),
        ("[rollout]\nsteps = true", "a.toml:2: rollout.steps is true, but must be a whole", ""),
        ("[rollout]\nsteps = 2020-01-01", "a.toml:2: rollout.steps is a date or time, but", ""),
        ("[rollout]\nsteps = {}", "a.toml:2: rollout.steps is a table, but must be", ""),
        ("[rollout]\nsteps = [{}]", "a.toml:2: rollout.steps is a list, but must be", ""),
        (
            "[rollout]\ntime_shift = -1",
            "a.toml:2: rollout.time_shift is -1, but must be a number of at least 0",
            "",
        ),
        (
            "[optimizer]\nbeta1 = 1",
            "a.toml:2: optimizer.beta1 is 1, but must be a number of at least 0 and below 1",
            "",
        ),
        ("[objective]\nbeta = nan", "a.toml:2: objective.beta is nan, but must be a number", ""),
        ("[objective]\nbeta = inf", "a.toml:2: objective.beta is inf, but must be a number", ""),
        (
            "[objective]\nclip_low = 2.0",
            "a.toml:2: objective.clip_low is 2.0, but must be a number above 0 and at most 1",
            "",
        ),
        (
            "[rollout]\nkernel = 'flow_sd'",
            'a.toml:2: rollout.kernel is the text "flow_sd", but must be one of "ode", "flow_sde", '
            '"dance_sde", "ddim", "cps"',
            'did you mean "flow_sde"?',
        ),
        (
            "[rollout]\ntrained_steps = [0,\n 'a']",
            'a.toml:2: rollout.trained_steps is the list [0, "a"], but must be "all" or a list of '
            "step numbers",
            "",
        ),
        (
            "[rollout]\ntrained_steps = 'al'",
            'a.toml:2: rollout.trained_steps is the text "al"',
            '"all"',
        ),
        (
            "[run]\ntensorboard = 'true'",
            'a.toml:2: run.tensorboard is the text "true", but must be true or false',
            "write it without quotes: tensorboard = true",
        ),
        ("[run]\nfolder = ''", 'a.toml:2: run.folder is the text "", but must be text that is', ""),
        (
            "model = 3",
            "a.toml:1: model is 3, but must be a section",
            "write [model] above its keys",
        ),
        (
            "[reward]\nname = 'a'",
            "a.toml:1: reward is a table, but must be a list of sections",
            "write [[reward]] above its keys",
        ),
        (
            "reward = [3]",
            "a.toml:1: reward.0 is 3, but must be a section",
            "write [[reward]] above",
        ),
        (
            "[[reward]]\nname = 'a'\n[reward.options]\nx = 1\ny = [2, 1979-05-27]",
            "a.toml:5: reward.0.options.y.1 is a date or time, but must be text, a finite number, ",
            "in quotes",
        ),
        (
            "[[reward]]\nname = 'a'\noptions = 3",
            "a.toml:3: reward.0.options is 3, but must be a table of text, numbers, true and false",
            "",
        ),
        ("[run]\nsteps = 1", "a.toml: There is no reward", 'name = "classifier"'),
        ("[run]\nsteps = 1\n", "a.toml: There is no reward", "add a [[reward]] section"),
        ("reward = []", "a.toml:1: There is no reward", "add a [[reward]] section"),
        (
            "\n[[reward]]\nweight = 2",
            "a.toml:2: reward.0.name is missing",
            "reward.name: Registered name",
        ),
    ],
)
def test_wrong_values(text: str, message: str, hint: str) -> None:
    found, advice = failure(text)
    assert found.startswith(message)
    assert hint in advice
    assert advice  # where nothing better is known, what the key is


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = \n", "a.toml:1: Not valid TOML at column 5: invalid value"),
        ("[run]\nseed = 1\nseed = 2\n", "a.toml:3: Not valid TOML at column 9: cannot overwrite"),
        ('[run]\nfolder = """', "a.toml:2: Not valid TOML at the end of the file: unterminated"),
        ('[run]\nfolder = """\n\n', "a.toml:3: Not valid TOML at the end of the file"),
    ],
)
def test_not_toml(text: str, message: str) -> None:
    found, hint = failure(text)
    assert found.startswith(message)
    assert 'text goes in "quotes"' in hint


def test_conflicts_name_the_line_that_was_written() -> None:
    message, hint = failure(REWARD + "[objective]\nregularizer = 'data'\nbeta = 0.0")
    assert message.startswith("a.toml:5: objective.beta is 0")
    assert hint.startswith("give beta a value above 0")


def test_conflicts_name_the_override_when_there_is_one() -> None:
    message, _ = failure(REWARD + "[rollout]\ngroup_size = 15", "objective.updates_per_rollout=2")
    assert message.startswith('Override "objective.updates_per_rollout=2": rollout.group_size 15')


def test_conflicts_fall_back_on_the_other_key() -> None:
    message, _ = failure(REWARD + "[rollout]\ngroup_size = 1")
    assert message.startswith("a.toml:4: rollout.group_size is 1")
    message, _ = failure(REWARD + "[objective]\npolicy = 'none'\nregularizer = 'none'")
    assert message.startswith("a.toml:4: objective.policy none")


def test_the_first_fault_comes_first() -> None:
    message, _ = failure("[[reward]]\nnamee = 'a'\n[run]\nstepz = 1")
    assert message == "a.toml:2: Unknown key reward.0.namee."
    message, _ = failure(REWARD + "[run]\nstepz = 1", "rollout.steps=0")
    assert message == "a.toml:4: Unknown key run.stepz."


def test_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    for name in ("digits", "sd3"):
        (tmp_path / "recipes" / f"{name}.toml").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "digit.toml")
    assert caught.value.message == f"There is no recipe {tmp_path / 'digit.toml'}."
    expected = [tmp_path / "recipes" / name for name in ("digits.toml", "sd3.toml")]
    assert caught.value.hint == f"near it: {expected[0]}, {expected[1]}"


def test_missing_file_with_many_neighbours(tmp_path: Path) -> None:
    for number in range(8):
        (tmp_path / f"{number}.toml").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "x.toml")
    assert caught.value.hint.endswith("5.toml, and 2 more")


def test_missing_file_in_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path / "no" / "such" / "x.toml")
    assert caught.value.hint == f"there are no .toml files in {tmp_path}"


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.toml").touch()
    with pytest.raises(RecipeError) as caught:
        load_recipe(tmp_path)
    assert caught.value.message == f"{tmp_path} is a folder, not a recipe."
    assert "a.toml" in caught.value.hint


def test_bytes_are_no_recipe(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"abc\xff")
    with pytest.raises(RecipeError, match=r"not UTF-8 text \(byte 3\)"):
        load_recipe(path)


def test_a_file_that_is_no_folder_in_between(tmp_path: Path) -> None:
    (tmp_path / "a.toml").touch()
    with pytest.raises(RecipeError, match="can't be read"):
        load_recipe(tmp_path / "a.toml" / "b.toml")


def test_a_recipe_error_is_a_usage_error() -> None:
    with pytest.raises(RecipeError) as caught:
        recipe("objective.beta=0")
    assert caught.value.exit_code == 2


def test_a_byte_order_mark_is_no_part_of_a_recipe(tmp_path: Path) -> None:
    path = tmp_path / "marked.toml"
    path.write_text('[[reward]]\nname = "ink"\n', encoding="utf-8-sig")
    assert load_recipe(path).reward[0].name == "ink"

from __future__ import annotations

from ddrl.recipe import options_table
from ddrl.recipe.reading.keys import key_specs, nearest


def test_one_row_per_key() -> None:
    lines = options_table().splitlines()
    assert lines[0] == "| Key | Takes | Default | Meaning |"
    assert len(lines) == 2 + len(key_specs())
    assert {line.count("|") for line in lines} == {5}
    for line, key in zip(lines[2:], key_specs(), strict=True):
        assert line.startswith(f"| `{key}` |")


def test_a_row() -> None:
    rows = options_table().splitlines()
    assert (
        "| `rollout.steps` | a whole number of at least 1 and at most 10000 "
        "| `10` | Steps of the sampler, K. |" in rows
    )
    assert any(
        row.startswith("| `reward.name` | text that is not empty | required |") for row in rows
    )


def test_nearest() -> None:
    assert nearest("stesp", ["seed", "steps"]) == "steps"
    assert nearest("qqq", ["seed", "steps"]) is None

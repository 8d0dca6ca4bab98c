from __future__ import annotations

import pytest

from ddrl.evaluation.findings.wording import (
    beside_base,
    change,
    column_decimals,
    duration,
    number,
    pair,
    percent,
    signed_percent,
)

INF, NAN = float("inf"), float("nan")


def test_number() -> None:
    assert number(-0.001) == "0.00"
    assert number(1102.96, 1) == "1103.0"
    assert number(NAN) == "not measured"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ((-2.1, -0.1), ("-2.1", "-0.1")),
        ((55.2, 1065.4), ("55", "1065")),
        ((55.2, 31.8), ("55", "32")),
        ((-0.112, -0.108), ("-0.1120", "-0.1080")),
        ((-6.12, -0.03), ("-6.12", "-0.03")),
        ((1.0, 1.0), ("1.00", "1.00")),
        ((0.0, 3.0), ("0.0", "3.0")),
        ((NAN, 1.0), ("not measured", "1.00")),
    ],
)
def test_pair(values: tuple[float, float], texts: tuple[str, str]) -> None:
    assert pair(*values) == texts


def test_percent() -> None:
    assert [percent(x) for x in (1.26, 0.126, 0.1, 0.021, 0.9999, 1.0, INF)] == [
        "126 %",
        "12.6 %",
        "10 %",
        "2.1 %",
        "100 %",
        "100 %",
        "not measured",
    ]
    assert [signed_percent(x) for x in (0.126, -0.02, 0.0, -0.0001, NAN)] == [
        "+12.6 %",
        "-2.0 %",
        "0.0 %",
        "0.0 %",
        "not measured",
    ]


def test_change() -> None:
    assert change(1.26) == "rose by 126 %"
    assert change(-0.021) == "fell by 2.1 %"
    assert change(0.0001) == "did not change"
    assert change(INF) == "grew beyond all bounds"


def test_column_decimals() -> None:
    assert column_decimals([55.2, 1103.0]) == 1
    assert column_decimals([150.0, 1103.0]) == 0
    assert column_decimals([-0.03, -6.1]) == 2
    assert column_decimals([NAN, 0.0]) == 2


def test_duration() -> None:
    assert [duration(s) for s in (35.2, 250.0, 7500.0)] == ["35 s", "4 min 10 s", "2 h 5 min"]


def test_without_real_data_the_words_are_of_the_base() -> None:
    said = "Real data is 1. It is as varied as real data; one that real data does not hold."
    assert beside_base(said) == (
        "Samples of the base are 1. It is as varied as samples of the base; "
        "one that samples of the base do not hold."
    )
    assert beside_base("its clips change 3 times as much as real ones") == (
        "its clips change 3 times as much as those of the base"
    )
    assert beside_base("Real clips are 1, and realism") == "Clips of the base are 1, and realism"

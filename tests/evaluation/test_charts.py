from __future__ import annotations

import dataclasses
import math
import re
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from tests.evaluation.example_report import example_report

from ddrl.evaluation.measures.result import Curves, RunResult
from ddrl.evaluation.pages.charts import drift_chart, reward_chart, squash, trade_chart

RUNS = example_report().runs


def all_charts(runs: tuple[RunResult, ...]) -> list[str | None]:
    return [reward_chart(runs), drift_chart(runs, 0.1), trade_chart(runs, 0.1)]


def text_of(svg: str | None) -> list[str]:
    assert svg is not None
    return [node.text or "" for node in ElementTree.fromstring(svg).iter("text")]


def test_squash() -> None:
    assert squash(0.0, 0.1) == 0.0
    assert squash(0.1, 0.1) == pytest.approx(math.asinh(1.0))
    assert squash(1e-4, 0.1) == pytest.approx(1e-3, rel=1e-5)
    assert squash(10.0, 0.1) - squash(1.0, 0.1) == pytest.approx(math.log(10.0), rel=2e-3)


def test_the_same_runs_give_the_same_bytes_and_leave_matplotlib_alone() -> None:
    before = dict(mpl.rcParams)
    assert all_charts(RUNS) == all_charts(RUNS)
    assert dict(mpl.rcParams) == before


def test_charts_are_xml_without_links_dates_or_shared_ids() -> None:
    ids: list[str] = []
    for svg in all_charts(RUNS):
        assert svg is not None
        ElementTree.fromstring(svg)
        assert "http" not in svg
        assert "date" not in svg.lower()
        own = re.findall(r'\bid="([^"]+)"', svg)
        used = re.findall(r'(?:url\(#|href="#)([^")]+)', svg)
        assert set(used) <= set(own)
        ids += own
    assert len(ids) == len(set(ids))


def test_colours_are_variables_of_the_page() -> None:
    for svg in all_charts(RUNS):
        assert svg is not None
        assert "var(--run-1)" in svg
        assert "var(--run-2)" in svg
        assert not re.search(r"#[0-9a-f]{6}\b", svg)


def test_the_mark_is_on_the_axes() -> None:
    assert "+10\N{NO-BREAK SPACE}%" in text_of(drift_chart(RUNS, 0.1))
    assert "+10\N{NO-BREAK SPACE}%" in text_of(trade_chart(RUNS, 0.1))
    assert "+25\N{NO-BREAK SPACE}%" in text_of(drift_chart(RUNS, 0.25))


def test_no_data_is_no_chart() -> None:
    bare = tuple(dataclasses.replace(run, curves=Curves()) for run in RUNS)
    assert reward_chart(bare) is None
    assert drift_chart(bare, 0.1) is None
    assert trade_chart(RUNS[:1], 0.1) is None


def test_values_that_are_not_finite_leave_a_gap() -> None:
    nan, inf = float("nan"), float("inf")
    broken = dataclasses.replace(
        RUNS[1],
        heldout_loss_change=nan,
        curves=Curves((0, 1, 2), (0.0, nan, inf), ((0, 0.0), (1, nan), (2, inf))),
    )
    for svg in all_charts((RUNS[0], broken, RUNS[2])):
        assert svg is not None
        assert "nan" not in svg.lower()
    lost = dataclasses.replace(broken, curves=Curves((0,), (nan,), ((0, nan),)))
    assert reward_chart((RUNS[0], lost)) is None
    assert drift_chart((RUNS[0], lost), 0.1) is None


def test_a_single_point_and_many_runs() -> None:
    start = dataclasses.replace(RUNS[1], curves=Curves((0,), (-1.0,), ((0, 0.0),)))
    assert drift_chart((start,), 0.1) is None, "the start alone is no curve"
    short = dataclasses.replace(RUNS[1], curves=Curves((0,), (-1.0,), ((0, 0.0), (9, 17.47))))
    assert "+1000\N{NO-BREAK SPACE}%" in text_of(drift_chart((RUNS[0], short), 0.1))
    many = tuple(dataclasses.replace(RUNS[1], name=str(i)) for i in range(9))
    assert all(svg is not None for svg in all_charts((RUNS[0], *many)))

"""Methods over betas and seeds: fronts, areas and equal rewards of figures that can be checked."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ddrl.errors import DataError
from ddrl.evaluation.findings.comparison import TRADES, Cell, ComparisonReport, as_json
from ddrl.evaluation.measures.statistics import Interval, over_seeds
from ddrl.evaluation.pages.comparison_charts import front_chart
from ddrl.evaluation.pages.comparison_page import render_comparison, write_comparison
from ddrl.evaluation.sheets import read_sheet, write_sheets

DRIFT, FRECHET, DIVERSITY = TRADES
PROMPTS = ("one", "two & <three>")


def cell(
    variant: str,
    label: str,
    rewards: tuple[float, ...],
    drifts: tuple[float, ...],
    verdict: str = "clean",
) -> Cell:
    """A method whose seeds have these rewards and drifts."""
    return Cell(
        variant=variant,
        label=label,
        seeds=tuple(range(len(rewards))),
        figures={
            "reward": tuple(map(Interval.exact, rewards)),
            "heldout_loss_change": tuple(map(Interval.exact, drifts)),
            "frechet": tuple(Interval.exact(10 + 100 * max(d, 0)) for d in drifts),
            "diversity": tuple(Interval.exact(1 - d) for d in drifts),
        },
        verdicts=(verdict,) * len(rewards),
        pictures=np.full((2, 3, 4, 4, 3), 100, dtype=np.uint8),
        curves=(((1, 2), (0.0, rewards[0])),),
    )


@pytest.fixture
def report() -> ComparisonReport:
    """DDRL pays half of what the other pays: drift .1 a unit of reward, against .2."""
    return ComparisonReport(
        title="Two <methods>",
        created="2026-11-21",
        base=cell("base", "Base model", (0.0,), (0.0,), "base"),
        cells=(
            cell("DDRL", "DDRL, beta 1", (0.5, 0.5), (0.05, 0.05)),
            cell("DDRL", "DDRL, beta 0.1", (1.0, 1.0), (0.10, 0.10)),
            cell("Reverse KL", "Reverse KL, beta 1", (0.5, 0.5), (0.10, 0.10)),
            cell("Reverse KL", "Reverse KL, beta 0.1", (1.0, 1.0), (0.20, 0.21), "hacked"),
        ),
        prompts=PROMPTS,
    )


def test_areas_are_those_on_paper(report: ComparisonReport) -> None:
    # DDRL: (.5 reward, .05) and (1, .10) down to a cost of .20: .5 x .15 + .5 x .10.
    assert report.area("DDRL", DRIFT).value == pytest.approx(0.125)
    assert report.area("Reverse KL", DRIFT).value == pytest.approx(0.05)
    area = report.area("Reverse KL", DRIFT)
    assert area.low == area.high, "both seeds dominate the same area"


def test_costs_at_equal_reward(report: ComparisonReport) -> None:
    rows = report.matched("DDRL", "Reverse KL", DRIFT, num_rewards=5)
    assert [row.reward for row in rows] == pytest.approx([0, 0.25, 0.5, 0.75, 1.0])
    assert [row.ours for row in rows] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])
    assert rows[2].theirs == pytest.approx(0.1)
    assert rows[4].difference.value == pytest.approx(-0.105)
    assert rows[4].difference.low == pytest.approx(-0.105 - 12.706 * 0.005, rel=1e-3)
    assert rows[4].difference.high == pytest.approx(-0.105 + 12.706 * 0.005, rel=1e-3)


def test_fronts_that_begin_better_than_the_base_are_matched_where_they_are(
    report: ComparisonReport,
) -> None:
    ours = (
        cell("DDRL", "DDRL, beta 1", (0.5, 0.5), (-0.05, -0.05)),
        cell("DDRL", "DDRL, beta 0.1", (1.0, 1.0), (0.10, 0.10)),
    )
    better = replace(report, cells=(*ours, *report.cells[2:]))
    rows = better.matched("DDRL", "Reverse KL", DRIFT, num_rewards=3)
    assert [row.reward for row in rows] == pytest.approx([0.5, 0.75, 1.0])
    assert [row.ours for row in rows] == pytest.approx([-0.05, 0.025, 0.1])


def test_methods_that_gain_nothing_are_not_matched(report: ComparisonReport) -> None:
    cells = (*report.cells, cell("Stuck", "Stuck", (-1.0, -1.0), (0.0, 0.0)))
    stuck = ComparisonReport(title="", created="", base=report.base, cells=cells)
    assert stuck.matched("DDRL", "Stuck", DRIFT) == ()
    assert stuck.area("Stuck", DRIFT).value == 0


def test_the_mean_over_seeds_knows_seeds_and_prompts() -> None:
    between = over_seeds([Interval.exact(v) for v in (0.0, 1.0, 2.0)])
    assert between.value == 1.0
    assert between.high - between.low == pytest.approx(2 * 4.3027 / 3**0.5, rel=1e-3)
    within = over_seeds([Interval(1.0, 1 - 1.96, 1 + 1.96)] * 4)
    assert within.high - within.low == pytest.approx(2 * 1.96), "of the prompts that they share"
    assert math.isnan(over_seeds([Interval.exact(math.nan)]).value)


def test_runs_without_figures_are_left_out(report: ComparisonReport) -> None:
    lost = Cell("DDRL", "DDRL, beta 0", (), {}, stopped=("it exploded",), failed=("it exploded",))
    silent = replace(report.cells[0], variant="SFT", label="SFT", curves=(((), ()),))
    cells = (*report.cells, lost, silent)
    with_lost = ComparisonReport(
        title="", created="", base=report.base, cells=cells, prompts=PROMPTS
    )
    assert with_lost.area("DDRL", DRIFT) == report.area("DDRL", DRIFT)
    assert "1 stopped by the guard, 1 not there" in render_comparison(with_lost)


def test_nothing_to_compare_is_refused(report: ComparisonReport) -> None:
    with pytest.raises(DataError, match="at least one method"):
        ComparisonReport(title="", created="", base=report.base, cells=())


def test_numbers_are_plain_json(report: ComparisonReport) -> None:
    numbers = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert numbers["areas"]["heldout_loss_change"]["DDRL"][0] == pytest.approx(0.125)
    matched = numbers["matched"]["heldout_loss_change"]["DDRL - Reverse KL"]
    assert matched[-1]["difference"][0] == pytest.approx(-0.105)
    assert numbers["cells"][0]["figures"]["reward"]["per_seed"] == [0.5, 0.5]


def test_the_page_holds_everything_and_escapes_names(
    report: ComparisonReport, tmp_path: Path
) -> None:
    page, numbers = write_comparison(report, tmp_path / "out")
    text = page.read_text()
    assert "Two &lt;methods&gt;" in text
    assert "<three>" not in text
    assert text.count("<svg class=") == 4, "three fronts and the curves"
    assert text.count('src="data:image/png') == 3 * 2 * 3, "three models, two prompts, three seeds"
    assert "DDRL, beta 0.1, 0.00 to 1.00" in text, "the headline names the best clean method"
    assert text.count("<script") == 1
    assert "default-src &#39;none&#39;" in text
    for foreign in ("http://", "https://", "<link"):
        assert foreign not in text.replace("http://www.w3.org", "")
    assert json.loads(numbers.read_text())["title"] == "Two <methods>"
    assert render_comparison(report) == text


def test_a_folder_that_cannot_be_written_is_named(report: ComparisonReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="can't be written"):
        write_comparison(report, tmp_path / "file")


def test_sheets_are_read_back_exactly(tmp_path: Path) -> None:
    grid = np.random.default_rng(0).integers(0, 256, (2, 3, 5, 4, 3), dtype=np.uint8)
    (path,) = write_sheets({"a/b": grid}, tmp_path)
    assert path.name.startswith("a-b-")  # and a hash, since another run may be called "a-b"
    assert np.array_equal(read_sheet(path), grid)


def test_another_picture_is_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no sheet"):
        read_sheet(tmp_path / "nothing.png")


def test_without_real_data_the_page_says_what_stands_in_its_place(report: ComparisonReport) -> None:
    assert "real data" in render_comparison(report)
    page = render_comparison(replace(report, has_real=False))
    assert "real data" not in page.lower()
    assert "samples of the base" in page
    assert as_json(replace(report, has_real=False))["has_real"] is False


def test_the_front_shows_where_a_run_is_hacked_and_what_the_star_is(
    report: ComparisonReport,
) -> None:
    drift, frechet = front_chart(report, DRIFT), front_chart(report, FRECHET)
    assert drift is not None
    assert frechet is not None
    zone = re.compile(r"fill: var\(--hacked\); opacity: 0\.07")
    assert len(zone.findall(drift)) == 1
    assert not zone.findall(frechet)
    legend = render_comparison(report).partition('<ul class="legend">')[2].partition("</ul>")[0]
    assert legend.count("<li>") == len(report.variants) + 1
    assert "Base model</li>" in legend

"""What the reduced audit remembers: the best so far, and how many in a row said hacked."""

from __future__ import annotations

import pytest
from tests.builders.test_panel_figures import BETTER, GOOD, HACKED, UNSURE, audits, model, panel

from ddrl.builders.measure import Found
from ddrl.errors import GuardStop


def test_the_best_is_the_best_so_far() -> None:
    found = audits([GOOD, BETTER, GOOD, BETTER, model(gain=1, quality=0.3)])
    assert [one["audit/best"] for one in found] == [1, 1, 0, 0, 1]


def test_a_best_of_before_is_the_mark() -> None:
    (kept,) = audits([GOOD], best=9.0)
    assert kept["audit/best"] == 0.0
    (passed,) = audits([GOOD], best=0.0)
    assert passed["audit/best"] == 1.0


def test_two_hacked_in_a_row_stop_a_run() -> None:
    one = panel([model(), HACKED, HACKED], stops=True)
    one()
    with pytest.raises(GuardStop, match="at 2 audits in a row: hacked: the reward rose"):
        one()


@pytest.mark.parametrize("between", [GOOD, UNSURE])
def test_two_that_are_not_in_a_row_do_not(between: Found) -> None:
    found = audits([HACKED, between, HACKED, between, HACKED], stops=True)
    assert [one["audit/hacked"] for one in found] == [1, 0, 1, 0, 1]


def test_audits_of_before_count() -> None:
    with pytest.raises(GuardStop):
        audits([HACKED], stops=True, hacked=1)
    assert audits([HACKED, HACKED, HACKED])[-1]["audit/hacked"] == 1.0, "nothing stops without it"


def test_the_hint_names_a_best_checkpoint_only_where_there_is_one() -> None:
    with pytest.raises(GuardStop) as none:
        audits([HACKED, HACKED], stops=True)
    with pytest.raises(GuardStop) as kept:
        audits([GOOD, HACKED, HACKED], stops=True)
    assert "--step best" not in (none.value.hint or "")
    assert "--step best" in (kept.value.hint or "")


@pytest.mark.parametrize("bad", [HACKED, UNSURE])
def test_a_model_with_a_sign_is_never_the_best(bad: Found) -> None:
    found = audits([bad, GOOD, bad, BETTER])
    assert [one["audit/best"] for one in found] == [0, 1, 0, 1]

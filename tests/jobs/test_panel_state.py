"""What a run's record makes of the reduced audits of hand-made models."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.jobs.test_panel_figures import BETTER, GOOD, HACKED, UNSURE, model, panel

from ddrl.jobs.evaluate.measure import Found
from ddrl.training.safety.auditing import AuditRecord


def records(found: Sequence[Found], start: AuditRecord | None = None) -> list[AuditRecord]:
    """The record after the audit of each of these models."""
    audit, record, made = panel([model(), *found]), start or AuditRecord(), []
    for step in range(1, 1 + len(found)):
        record = record.after(audit(step))
        made.append(record)
    return made


def test_the_best_is_the_best_so_far() -> None:
    found = records([GOOD, BETTER, GOOD, BETTER, model(gain=1, quality=0.3)])
    assert [one.is_best for one in found] == [True, True, False, False, True]


def test_a_best_of_before_is_the_mark() -> None:
    assert not records([GOOD], AuditRecord(best=9.0))[0].is_best
    assert records([GOOD], AuditRecord(best=0.0))[0].is_best


@pytest.mark.parametrize("between", [GOOD, UNSURE])
def test_hacked_audits_count_while_they_come_in_a_row(between: Found) -> None:
    found = records([HACKED, HACKED, between, HACKED])
    assert [one.hacked for one in found] == [1, 2, 0, 1]


@pytest.mark.parametrize("bad", [HACKED, UNSURE])
def test_a_model_with_a_sign_is_never_the_best(bad: Found) -> None:
    found = records([bad, GOOD, bad, BETTER])
    assert [one.is_best for one in found] == [False, True, False, True]

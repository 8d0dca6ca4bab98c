"""What a run tells while it goes."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stderr

import pytest

from ddrl.cli.terminal.output import format_change, set_up_logging
from ddrl.cli.terminal.progress import BarReporter, LogReporter, describe_metrics

METRICS = {
    "reward": 0.5,
    "ratio_max": 1.25,
    "clip_fraction": 0.1,
    "data_loss": 0.3,
    "effective_beta": 0.2,
}


def test_metrics_in_a_line() -> None:
    assert describe_metrics({**METRICS, "seconds": 3.0, "heldout_loss_change": 0.018}) == (
        "reward 0.500  ratio 1.25  clip 10%  data 0.300  beta 0.2  held-out loss +1.8 %"
    )
    assert describe_metrics({"data_loss": 0.3}) == "data 0.300"


@pytest.mark.parametrize(
    ("share", "text"), [(0.0179, "+1.8 %"), (-0.1, "-10.0 %"), (-0.0002, "+0.0 %")]
)
def test_changes(share: float, text: str) -> None:
    assert format_change(share) == text


def test_the_log_has_a_line_for_every_tenth(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ddrl")
    with LogReporter() as reporter:
        for done in range(50, 3001, 50):
            reporter.made("base", done, 3000, "loss 1")
        reporter.begin(30, 150)
        for step in range(31, 151):
            change = {"heldout_loss_change": 0.01} if step == 50 else {}
            reporter.step(step, {**METRICS, **change})
    made = [line for line in caplog.messages if line.startswith("base")]
    steps = [line for line in caplog.messages if line.startswith("step")]
    assert made == [f"base {done}/3000  loss 1" for done in range(300, 3001, 300)]
    assert [line.split("  ")[0] for line in steps] == [
        f"step {step}/150" for step in range(45, 151, 15)
    ]
    assert "held-out" not in steps[0]
    # The last one measured stays in sight.
    assert all("held-out loss +1.0 %" in line for line in steps[1:])
    assert steps[-1].endswith("0 s left")


def test_the_bar_shows_metrics_and_lets_the_log_through() -> None:
    screen = io.StringIO()
    set_up_logging()
    with redirect_stderr(screen):
        with BarReporter() as reporter:
            reporter.made("base", 20, 20, "loss 1")
            reporter.begin(2, 4)
            reporter.step(3, METRICS)
            logging.getLogger("ddrl").warning("by the way")
            reporter.stopping()
        shown = screen.getvalue()
    assert "base" in shown
    assert "training" in shown
    assert "3/4" in shown
    assert "reward 0.500  ratio 1.25" in shown
    assert "warning: by the way" in shown
    assert "once more stops at once" in shown


def test_the_log_tells_that_it_is_stopping(capfd: pytest.CaptureFixture[str]) -> None:
    LogReporter().stopping()
    assert "once more stops at once" in capfd.readouterr().err

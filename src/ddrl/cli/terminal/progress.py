"""Progress on stderr: a bar where somebody watches, else a line now and then."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from ddrl.cli.terminal.output import format_change, shout
from ddrl.errors import printable

if TYPE_CHECKING:
    from rich.console import OverflowMethod, RenderableType
    from rich.progress import Progress, Task, TaskID

    from ddrl.jobs.progress import Reporter

logger = logging.getLogger(__name__)

_STOPPING = "finishing this iteration, then saving; once more stops at once"
_STOPPING_SHORT = "stopping, then saving"

TRAINING = "training"
NARROW = 60
"""Columns of a terminal below which there is no bar."""
_AROUND = 26  # columns of times, words and gaps beside a bar

_SHOWN = {
    "reward": ("reward", "{:.3f}"),
    "ratio_max": ("ratio", "{:.2f}"),
    "clip_fraction": ("clip", "{:.0%}"),
    "data_loss": ("data", "{:.3f}"),
    "reference_kl": ("kl", "{:.3g}"),
    "effective_beta": ("beta", "{:.2g}"),
}


def describe_metrics(metrics: Mapping[str, float]) -> str:
    """Return the metrics that tell how a run goes, in one line."""
    parts = [
        f"{label} {form.format(metrics[name])}"
        for name, (label, form) in _SHOWN.items()
        if name in metrics
    ]
    if "heldout_loss_change" in metrics:
        parts.append(f"held-out loss {format_change(metrics['heldout_loss_change'])}")
    return "  ".join(parts)


def narrow_line(
    width: int,
    what: str,
    done: int,
    total: int | None,
    *,
    reward: float | None = None,
    left: float | None = None,
) -> str:
    """Return how far something is, in as many columns as there are: the fullest line that fits.

    Args:
        width: columns.
        what: is counted.
        done: of it.
        total: of it; None where that is not known.
        reward: the newest one.
        left: seconds; None where that is not known yet.
    """
    count = f"{done}" if total is None else f"{done}/{total}"
    time_left = "" if left is None else _short_time(left)
    said = [f"reward {reward:.3f}"] if reward is not None else []
    said += [f"{time_left} left"] if time_left else []
    short = [f"r {reward:.2f}"] if reward is not None else []
    lines = (
        "  ".join([f"{what} {count}", *said]),
        "  ".join([count, *said]),
        " ".join([count, *short, time_left]).rstrip(),
        f"{count} {time_left}".rstrip(),
        count,
    )
    return next((line for line in lines if len(line) <= width), count[:width])


def _short_time(seconds: float) -> str:
    """Return a span of time in few characters: "45s", "12m", "3h05m", "2d4h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f}s"
    if minutes < 60:
        return f"{minutes}m"
    if minutes < 24 * 60:
        return f"{minutes // 60}h{minutes % 60:02d}m"
    hours = round(minutes / 60)
    return f"{hours // 24}d{hours % 24}h"


def make_reporter() -> Reporter:
    """Return a bar if stderr is a terminal that can move its cursor, else lines in the log."""
    is_dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return BarReporter() if sys.stderr.isatty() and not is_dumb else LogReporter()


class _Memory:
    """Keeps the last held-out loss between the evaluations that measure it."""

    def __init__(self) -> None:
        self._heldout: dict[str, float] = {}

    def describe(self, metrics: Mapping[str, float]) -> str:
        name = "heldout_loss_change"
        if name in metrics:
            self._heldout = {name: metrics[name]}
        return describe_metrics({**metrics, **self._heldout})


class LogReporter:
    """A line of the log for about every tenth of the work."""

    def __init__(self) -> None:
        self._memory = _Memory()
        self._tenths: dict[str, int] = {}
        self._start, self._first, self._total = time.monotonic(), 0, 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def made(self, what: str, done: int, total: int, note: str) -> None:
        """Something that the run needs is being made."""
        if self._is_due(what, done, total):
            logger.info("%s %d/%d  %s", what, done, total, note)

    def begin(self, step: int, total: int) -> None:
        """Training begins after ``step`` of ``total`` iterations."""
        self._start, self._first, self._total = time.monotonic(), step, total
        self._is_due("step", step, total)

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An iteration is finished."""
        text = self._memory.describe(metrics)
        if self._is_due("step", step, self._total):
            per_step = (time.monotonic() - self._start) / max(1, step - self._first)
            left = per_step * (self._total - step)
            logger.info("step %d/%d  %s  %.0f s left", step, self._total, text, left)

    def stopping(self) -> None:
        """This iteration is the last one."""
        shout(_STOPPING)

    def _is_due(self, what: str, done: int, total: int) -> bool:
        tenth = 10 * done // max(1, total)
        due = tenth > self._tenths.get(what, 0)
        self._tenths[what] = tenth
        return due


class BarReporter:
    """A progress bar, with the metrics in a line below it."""

    def __init__(self) -> None:
        self._memory = _Memory()
        self._tasks: dict[str, TaskID] = {}
        self._note = self._notice = ""
        self._reward: float | None = None
        self._bar = self._make()

    def _narrow(self, every: Sequence[Task], width: int) -> str:
        """Return the newest task in a line, where there is no room for a bar."""
        tasks = [task for task in every if not task.finished] or every[-1:]
        if not tasks:
            return ""
        task = tasks[-1]
        left, reward = task.time_remaining, self._reward if task.description == TRAINING else None
        return narrow_line(
            width,
            "step" if task.description == TRAINING else task.description,
            int(task.completed),
            None if task.total is None else int(task.total),
            reward=reward,
            left=left,
        )

    def _make(self) -> Progress:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.text import Text

        reporter = self

        class BarAndNote(Progress):
            def get_renderables(self) -> Iterable[RenderableType]:
                width = console.width
                is_ascii = console.options.ascii_only  # which has no one letter for it
                cut: OverflowMethod = "crop" if is_ascii else "ellipsis"
                if width >= NARROW:
                    names = [len(task.description) for task in self.tasks]
                    counts = [2 * len(f"{task.total or 0:.0f}") for task in self.tasks]
                    rest = max(names, default=0) + max(counts, default=0) + _AROUND
                    bar.bar_width = max(8, min(40, width - rest))
                    yield self.make_tasks_table(self.tasks)
                else:
                    yield Text(reporter._narrow(self.tasks, width), no_wrap=True, overflow="crop")
                if reporter._note and width >= NARROW:
                    yield Text(reporter._note, style="dim", no_wrap=True, overflow=cut)
                if reporter._notice:
                    text = _STOPPING if width >= NARROW else _STOPPING_SHORT
                    yield Text(text, style="yellow", no_wrap=True, overflow=cut)

        bar, console = BarColumn(), Console(stderr=True)
        return BarAndNote(
            TextColumn("{task.description}"),
            bar,
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left", style="dim"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def made(self, what: str, done: int, total: int, note: str) -> None:
        """Something that the run needs is being made."""
        self._update(what, done, total, note)

    def begin(self, step: int, total: int) -> None:
        """Training begins after ``step`` of ``total`` iterations."""
        self._update(TRAINING, step, total, "")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """An iteration is finished."""
        self._reward = metrics.get("reward", self._reward)
        self._update(TRAINING, step, None, self._memory.describe(metrics))

    def stopping(self) -> None:
        """This iteration is the last one."""
        self._notice = _STOPPING  # the bar's own thread shows it

    def _update(self, what: str, done: int, total: int | None, note: str) -> None:
        self._note = printable(note)
        if what not in self._tasks:
            # A start of its own, so that what was done before does not count in the time left.
            self._tasks[what] = self._bar.add_task(what, total=total, completed=done)
        changes: dict[str, Any] = {} if total is None else {"total": total}
        self._bar.update(self._tasks[what], completed=done, **changes)

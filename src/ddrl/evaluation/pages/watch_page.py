"""A run while it trains, as one page that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ddrl.evaluation.findings.signs import DIVERSITY_FLOOR, VENDI_FLOOR
from ddrl.evaluation.findings.wording import duration, pair, percent, signed_percent
from ddrl.evaluation.measures.result import UNKNOWN, Curves, RunResult
from ddrl.evaluation.pages.charts import as_svg, drift_chart, empty_chart, reward_chart
from ddrl.evaluation.pages.palette import ALARM, run_colour
from ddrl.evaluation.pages.publish import templates
from ddrl.evaluation.pages.tiles import SMALL_TILE, picture

State = Literal["running", "finished", "stopped", "interrupted", "died"]

_POINTS = 300  # of a curve, at most
_WORDS: Mapping[State, str] = {
    "running": "training",
    "finished": "finished",
    "stopped": "stopped by the guard",
    "interrupted": "interrupted, and saved",
    "died": "ended without saving",
}
# Red for what needs a look. Nothing is green: that a run has ended says nothing of hacking.
_ALARMING: frozenset[State] = frozenset({"stopped", "died"})

Series = Sequence[tuple[int, float]]
"""(step, value), in order."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What is known of a run.

    Attributes:
        name: of its folder.
        method: in one line.
        state: what it does.
        sentence: the same, with the reason and what to do; may be empty.
        step: iterations finished.
        total: those there will be.
        seconds_left: without audits; None where that is not known.
        drift_limit: mark of the held-out loss change, as a fraction.
        series: metric -> its values.
        prompts: of the pictures.
        pictures: uint8 (N, H, W, 3), the newest samples; None where there are none yet.
        shown: what the pictures are, in words.
        command: which starts the run, or resumes it.
        read_at: when this was read, in seconds since 1970.
        read_at_text: when this was read, as text.
    """

    name: str
    method: str
    state: State
    sentence: str
    step: int
    total: int
    seconds_left: float | None
    drift_limit: float
    series: Mapping[str, Series] = field(default_factory=dict)
    prompts: tuple[str, ...] = ()
    pictures: NDArray[np.uint8] | None = None
    shown: str = ""
    command: str = ""
    read_at: float = 0.0
    read_at_text: str = ""


@dataclass(frozen=True)
class _Figure:
    """A number at the top of the page."""

    head: str
    value: str
    beside: str
    alarm: bool = False


def thinned(series: Series) -> list[tuple[int, float]]:
    """Return a curve of bounded length: means of neighbours, each at the last one's step."""
    if len(series) <= _POINTS:
        return list(series)
    parts = np.array_split(np.arange(len(series)), _POINTS)
    values = np.array([value for _, value in series], dtype=np.float64)
    return [(series[int(part[-1])][0], float(values[part].mean())) for part in parts]


def render_watch(run: Watched, *, every: float = 0.0) -> str:
    """Return the page as HTML text.

    Args:
        run: what is known of it.
        every: seconds after which the page loads itself again; 0: never.
    """
    pictures = [] if run.pictures is None else list(zip(run.prompts, run.pictures, strict=True))
    figures = _figures(run)
    is_alarming = run.state in _ALARMING or any(figure.alarm for figure in figures)
    return (
        templates()
        .get_template("watch.html.j2")
        .render(
            run=run,
            word=_WORDS[run.state],
            tone="hacked" if is_alarming else "base",
            every=math.ceil(every),
            figures=figures,
            charts=_charts(run),
            pictures=[(prompt, picture(tile)) for prompt, tile in pictures],
            small=run.pictures is not None and max(run.pictures.shape[1:3]) <= SMALL_TILE,
        )
    )


def _figures(run: Watched) -> list[_Figure]:
    left = "" if run.seconds_left is None else f"about {duration(run.seconds_left)} left"
    figures = [_Figure("Step", f"{run.step} of {run.total}", left)]
    rewards = run.series.get("reward", ())
    if rewards:
        before, after = pair(rewards[0][1], rewards[-1][1])
        figures.append(_Figure("Reward", after, f"{before} at step {rewards[0][0]}"))
    drifts = run.series.get("heldout_loss_change", ())
    if drifts:
        step, drift = drifts[-1]
        mark = f"at step {step}, mark: +{percent(run.drift_limit)}"
        alarm = drift > run.drift_limit
        figures.append(_Figure("Held-out loss", signed_percent(drift), mark, alarm))
    audits = run.series.get("audit/hacked", ())
    if audits:
        found = sum(bool(value) for _, value in audits)
        is_hacked = bool(audits[-1][1])
        beside = f"audit of step {audits[-1][0]}; {found} of {len(audits)} said hacked"
        text = "hacked" if is_hacked else "not hacked"
        figures.append(_Figure("Audit", text, beside, is_hacked))
    return figures


def _charts(run: Watched) -> list[tuple[str, Markup]]:
    """Return the curves so far: what decides first."""
    rewards = thinned(run.series.get("reward", ()))
    drifts = thinned([(0, 0.0), *run.series.get("heldout_loss_change", ())])
    steps, values = [step for step, _ in rewards], [value for _, value in rewards]
    curves = Curves(tuple(steps), tuple(values), tuple(drifts))
    # The first place of a page is the base's, which has no curve.
    made = (_run("base", Curves()), _run("run", curves))
    held = {
        name.removeprefix("audit/held_out/"): run.series[name]
        for name in run.series
        if name.startswith("audit/held_out/")
    }
    ratios = {"diversity": DIVERSITY_FLOOR, "vendi": VENDI_FLOOR}
    drawn = [
        ("Reward", reward_chart(made)),
        ("Held-out loss change", drift_chart(made, run.drift_limit)),
        *(
            (f"{name.capitalize()}, data is 1", _line(run.series.get(f"audit/{name}", ()), name, f))
            for name, f in ratios.items()
        ),
        ("Fréchet distance", _line(run.series.get("audit/frechet", ()), "frechet")),
        *(
            (name.replace("_", " "), _line(values, f"held-{place}"))
            for place, (name, values) in enumerate(held.items())
        ),
    ]
    if not rewards:
        drawn.insert(0, ("Data loss", _line(run.series.get("data_loss", ()), "data-loss")))
    # The drawings hold only numbers and the words of this package, nothing of the user.
    return [(title, Markup(svg)) for title, svg in drawn if svg is not None]


def _run(name: str, curves: Curves) -> RunResult:
    """Return a run of which nothing but its curves is known."""
    return RunResult(
        name=name,
        label=name,
        reward=UNKNOWN,
        frechet=UNKNOWN,
        diversity=UNKNOWN,
        heldout_loss_change=UNKNOWN,
        curves=curves,
    )


def _line(series: Series, name: str, mark: float | None = None) -> str | None:
    """One curve, and below its mark an alarm."""
    points = thinned(series)
    if not points:
        return None
    figure, axes = empty_chart("training step", "")
    marker = "s" if len(points) <= 30 else None
    steps, values = [step for step, _ in points], [value for _, value in points]
    axes.plot(steps, values, color=run_colour(1), linewidth=2.2, marker=marker, markersize=6)
    if mark is not None:
        low = min(*values, mark) - 0.1
        axes.set_ylim(low, max(*values, mark) + 0.1)
        axes.axhspan(low, mark, color=ALARM, alpha=0.07, linewidth=0)
        axes.axhline(mark, color=ALARM, linewidth=1.4, dashes=(5, 3))
    return as_svg(figure, name)

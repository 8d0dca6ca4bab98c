"""The page of the evidence, section by section."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

import digits_text
import other_text
from comparisons import (
    beside_section,
    comparison_section,
    fronts_section,
    one_stage_section,
    styles_part,
)
from results import Table, holds, made, read_result, source

STYLES = {
    "base": "Base model",
    "ddrl": "DDRL",
    "no-regularizer": "No regularizer",
    "supervised-fine-tuning": "Supervised fine-tuning",
    "reverse-kl": "Reverse KL",
    "ddrl-synthetic-data": "DDRL, synthetic data",
}
SIDE_BY_SIDE: tuple[tuple[str, str, Callable[[], str]], ...] = (
    ("compare_digits", "Digits: methods of one base", digits_text.eight),
    ("compare_digits_fronts", "Digits: what the reward cost", digits_text.fronts),
    (
        "compare_digits_synthetic",
        "Digits: which samples of the base to hold to",
        digits_text.synthetic,
    ),
    (
        "compare_digits_options",
        "Digits: advantages, windows and step weights",
        digits_text.options,
    ),
    ("compare_digits_ensemble", "Digits: an ensemble of rewards", digits_text.ensemble),
    ("compare_digits_ink", "Digits: a reward that asks to be gamed", digits_text.ink),
    ("compare_moving_digits", "Moving digits: methods side by side", other_text.video),
    (
        "compare_moving_digits_image",
        "Moving digits from their first frame",
        other_text.image_to_video,
    ),
    ("compare_words", "Words: a real OCR engine as the reward", other_text.words),
)
FRONTS = ("compare_digits_fronts", "compare_digits_ink")
USED = (
    *(name for name, _, _ in SIDE_BY_SIDE),
    *("digits", "words_styles", "one_stage", "flow", "iteration", "passes", "overlap"),
)


def evidence() -> str:
    """The sections of docs/evidence.md."""
    return "\n".join(
        [
            digits_section(read_result("digits")),
            *(side_by_side(*row) for row in SIDE_BY_SIDE),
            styles_part(read_result("words_styles"), STYLES),
            one_stage_section(read_result("one_stage")),
            flow_section(read_result("flow")),
            speed_section(read_result("iteration")),
            passes_section(read_result("passes")),
            overlap_section(read_result("overlap")),
        ]
    )


def side_by_side(name: str, title: str, text: Callable[[], str]) -> str:
    """A comparison: what is said of it, and its tables."""
    result = read_result(name)
    if name in FRONTS:
        return fronts_section(result, title=title, text=text(), image=f"images/{name}_costs.png")
    if name == "compare_digits_options":
        beside = Table("compare_digits_fronts")
        return beside_section(result, beside, title=title, text=text())
    return comparison_section(result, title=title, text=text())


def digits_table(result: dict[str, Any], *, ranges: bool) -> str:
    """The methods side by side: mean over seeds, and the range where asked for."""
    cell = _range if ranges else _mean
    rows = [
        "| method | reward | held-out judge | Fréchet distance | diversity | held-out loss |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in result["results"].items():
        loss = [100 * v for v in row["heldout_loss_change"]]
        cells = [
            cell(row["reward"], "{:.2f}"),
            cell(row["judge_accuracy"], "{:.3f}"),
            cell(row["frechet"], "{:.1f}"),
            cell(row["diversity"], "{:.2f}"),
            "0" if method == "Base" else cell(loss, "{:+.1f} %"),
        ]
        rows.append(f"| {method} | " + " | ".join(cells) + " |")
    return made("\n".join(rows))


def _mean(values: list[float], form: str) -> str:
    return form.format(round(statistics.mean(values), 6) + 0.0).replace("-0.00", "0.00")


def _range(values: list[float], form: str) -> str:
    """The mean over seeds, and the least and largest where they differ."""
    mean, low, high = (
        _mean([v], form) for v in (statistics.mean(values), min(values), max(values))
    )
    return mean if low == high else f"{mean} ({low} to {high})"


def digits_section(result: dict[str, Any]) -> str:
    """Methods side by side on the digits."""
    rows = result["results"]
    means = {
        name: {key: statistics.mean(values) for key, values in row.items()}
        for name, row in rows.items()
    }
    none, others = (
        means["No regularizer"],
        [row for name, row in means.items() if name != "No regularizer"],
    )
    shows = holds(
        all(
            none[key] > row[key]
            for key in ("reward", "judge_accuracy", "frechet")
            for row in others
        )
        and all(none["diversity"] < row["diversity"] for row in others),
        "Without a regularizer the reward and the judge are best and the pictures worst: the\n"
        "judge does not see the hack; Fréchet distance, diversity and held-out loss do.",
    )
    base, tuned, ours = (
        means[name]["judge_accuracy"] for name in ("Base", "Supervised fine-tuning", "DDRL, beta 1")
    )
    alone = holds(
        base < tuned < ours,
        f"Of what DDRL gains by the judge, {made(f'{100 * (tuned - base) / (ours - base):.0f} %')} comes\n"
        "with the data alone, as the fine-tuning row shows; the reward brings the rest.",
    )
    return f"""## Digits: methods side by side

Scanned 8x8 digits, the class as the prompt; in pretraining half of the captions are replaced by random ones, and the judge finds
{made(f"{100 * (1 - base):.0f} %")} of the base's samples wrong. The reward is
the log-probability that a small network gives to the asked digit; the judge is another
architecture trained on other images. Diversity is a ratio to real data; held-out loss is the
change of the diffusion loss on 597 images that nothing was trained on, against the base: a rise of more than {limit()} is
the mark of a hacked reward. Mean over {made(len(result["seeds"]))} seeds, in brackets the least and the largest.

{digits_table(result, ranges=True)}

What it shows. {shows} {alone}
Beta does not mean the same for the two regularizers, so a row of reverse KL at one beta is a point on its curve, not its best.

{source(result)}
"""


def limit() -> str:
    """The mark of the held-out loss."""
    return made(f"{100 * Table('compare_digits').result['drift_limit']:.0f} %")


def flow_section(result: dict[str, Any]) -> str:
    """Distance to the optimum that theory predicts."""
    rows = ["| setting | TV to the optimum | s |", "|---|---|---|"]
    for row in result["results"]:
        values = ", ".join(f"{v:.3f}" for v in row["tv"])
        rows.append(f"| {row['setting']} | {values} | {row['seconds']:.0f} |")
    return f"""## A flow model whose optimum is known

Data and reward on a line: with the tilt advantage (A2) the optimum is the tilt p_data exp(r / beta), eq. (O3), which a grid
gives. Total variation (TV) between 100 000 samples of the trained sampler and the optimum, on 64 bins.

{made(chr(10).join(rows))}

{source(result)}
"""


def speed_section(result: dict[str, Any]) -> str:
    """How much of an iteration is the model itself."""
    rows = ["| job | iteration | bare passes | ratio |", "|---|---|---|---|"]
    for name, row in result["results"].items():
        rows.append(
            f"| {name} | {row['iteration_s']:.3f} s | {row['bare_passes_s']:.3f} s | {row['ratio']:.2f} |"
        )
    return f"""## Speed of the digits job

An iteration against its bare passes: the same forwards and backwards of the same model on the same
shapes and nothing else, timed alternately in one process.

{made(chr(10).join(rows))}

{source(result)}
"""


def passes_section(result: dict[str, Any]) -> str:
    """An iteration on a small SD3 against its passes and a bare loop."""
    rows = [
        "| network | model calls | iteration | bare loop | passes alone | share of passes | ours / bare |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in result["results"].items():
        rows.append(
            f"| SD3, {name} | {row['calls']} of {row['calls_planned']} planned | {row['ours_s']:.2f} s | "
            f"{row['bare_s']:.2f} s | {row['passes_s']:.2f} s | {row['share_of_passes']:.3f} | {row['ours_over_bare']:.3f} |"
        )
    return f"""## Speed on a small SD3

Eight samples, ten steps of which nine are trained, one data sample per rollout sample, LoRA of rank 32, 205 text
tokens. The bare loop is the same update written out by hand; shares and ratios are medians of {made(result["rounds"])} rounds,
timed alternately in one process.

{made(chr(10).join(rows))}

{source(result)}
"""


def overlap_section(result: dict[str, Any]) -> str:
    """Rewards beside the rollout."""
    rows = [
        "| micro-batches | rollout | reward | one after another | beside each other | over the slower one |",
        "|---" * 6 + "|",
        *(
            f"| {row['micro_batches']} | {row['rollout_s']:.3f} s | {row['reward_s']:.3f} s | "
            f"{row['one_after_another_s']:.3f} s | {row['overlapped_s']:.3f} s | {row['overlapped_over_slower']:.2f} |"
            for row in result["results"]
        ),
    ]
    return f"""## Rewards beside the rollout

A reward that waits as long as the rollout takes, on the digits, scored after it or beside it; medians of {made(result["rounds"])} rounds.

{made(chr(10).join(rows))}

{source(result)}
"""

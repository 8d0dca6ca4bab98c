"""Write the pages of docs/ that are made from the code and from committed results.

python docs/generate.py           write them
python docs/generate.py --check   exit 1 and name the pages that are out of date
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from side_by_side import compare_sections, read_result

from ddrl.recipe import options_table
from ddrl.recipe.serving import serving_table
from ddrl.rewards.markdown import cards_page
from ddrl.training.metrics import glossary_table

DOCS = Path(__file__).resolve().parent
MADE = "<!-- Made by docs/generate.py; edit that instead. -->\n\n"


def recipes_page() -> str:
    """Every key of a recipe."""
    return f"""# Recipes

{MADE}A recipe is a TOML file that says what a run is. Keys that are left out have the defaults below; a key
that does not exist is an error that names the nearest one. `section.key=value` on the command line
overrides a key: `ddrl train recipes/digits.toml objective.beta=0.3`. A number that can be switched
off is off at 0. The run's folder keeps the whole recipe as `recipe.toml`.

The same command resumes a run. A resume may change how long the run is and what is watched
(`run.steps`, `evaluation`, `guard`, checkpoints); anything else would be another run, and is refused
with a list of the differences.

{options_table()}"""


def metrics_page() -> str:
    """Every metric."""
    return f"""# Metrics

{MADE}Every iteration writes these to `metrics.jsonl` in the run's folder, one JSON object a line, and
to TensorBoard. What is measured of the weights after a step, the held-out loss and `audit/*`, is a line of its own with
the same `step`; it may come later where audits run beside training. `ddrl.training.sinks.read_metrics` joins the lines of a step.

{glossary_table()}"""


def evidence_page() -> str:
    """What was measured, from benchmarks/results."""
    return f"""# Evidence

{MADE}Every number on this page was measured by this code. The files that the tables are made from lie in
`benchmarks/results`, with commit, hardware and seeds.

{digits_section(read_result("digits"))}
{compare_sections()}
{flow_section(read_result("flow"))}
{speed_section(read_result("iteration"))}
{passes_section(read_result("passes"))}"""


def security_page() -> str:
    """SECURITY.md, which lies where hosts of repositories look for it."""
    text = (DOCS.parent / "SECURITY.md").read_text(encoding="utf-8")
    return text.replace("# Security\n\n", f"# Security\n\n{MADE}", 1)


def digits_table(result: dict[str, Any], *, ranges: bool) -> str:
    """The methods side by side: mean over seeds, and the range where asked for."""
    cell = _range if ranges else _mean
    rows = [
        "| method | reward | held-out judge | Fréchet distance | diversity | held-out loss | training, s |",
        "|---|---|---|---|---|---|---|",
    ]
    for method, row in result["results"].items():
        loss = [100 * v for v in row["heldout_loss_change"]]
        cells = [
            cell(row["reward"], "{:.2f}"),
            cell(row["judge_accuracy"], "{:.3f}"),
            cell(row["frechet"], "{:.1f}"),
            cell(row["diversity"], "{:.2f}"),
            "0" if method == "Base" else cell(loss, "{:+.1f} %"),
            f"{statistics.mean(row['seconds']):.0f}" if "seconds" in row else "",
        ]
        rows.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


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
    return f"""## Digits: methods side by side

Scanned 8x8 digits, the class as the prompt; half of the captions are wrong in pretraining. The reward is
the log-probability that a small network gives to the asked digit; the judge is another
architecture trained on other images. Diversity is a ratio to real data; held-out loss is the
change of the diffusion loss on 597 images that nothing was trained on, against the base: a rise of more than 10 % is
the mark of a hacked reward. Mean over {len(result["seeds"])} seeds, in brackets the least and the largest.

{digits_table(result, ranges=True)}

What it shows. Without a regularizer the reward and the judge are best and the pictures worst: the
judge does not see the hack; Fréchet distance, diversity and held-out loss do. A part of what DDRL gains comes
from the data alone, which the fine-tuning row shows; the reward brings the rest. Beta does not mean the same
for the two regularizers, so a row of reverse KL at one beta is a point on its curve, not its best.

`{result["recipe"]}`, commit `{result["commit"][:12]}`, {result["hardware"]}, PyTorch {result["versions"]["torch"]}.
Repeat: `python benchmarks/digits_evidence.py`.
"""


def flow_section(result: dict[str, Any]) -> str:
    """Distance to the optimum that theory predicts."""
    rows = ["| setting | TV to the optimum | s |", "|---|---|---|"]
    for row in result["results"]:
        values = ", ".join(f"{v:.3f}" for v in row["tv"])
        rows.append(f"| {row['setting']} | {values} | {row['seconds']:.0f} |")
    return f"""## A flow model whose optimum is known

Data and reward on a line: the optimum is the tilt p_data exp(r / beta), eq. (O3), which a grid
gives. Total variation (TV) between 100 000 samples of the trained sampler and the optimum, on 64 bins.

{chr(10).join(rows)}

Commit `{result["commit"][:12]}`, {result["hardware"]}. Repeat: `python benchmarks/flow_evidence.py`.
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

{chr(10).join(rows)}

Commit `{result["commit"]}`, {result["machine"]}. Repeat: `python benchmarks/bench_iteration.py`.
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
tokens. The bare loop is the same update written out by hand; shares and ratios are medians of {result["rounds"]} rounds,
timed alternately in one process.

{chr(10).join(rows)}

Commit `{result["commit"]}`, {result["machine"]}. Repeat: `python benchmarks/bench_passes.py`.
"""


def rewards_page() -> str:
    """docs/rewards.md with its cards, and the keys of a service, made anew."""
    text = (DOCS / "rewards.md").read_text(encoding="utf-8")
    start, end = "<!-- cards: made by docs/generate.py -->\n", "<!-- end -->"
    head, _, rest = text.partition(start)
    text = f"{head}{start}\n{cards_page()}\n{end}{rest.partition(end)[2]}"
    start = "<!-- serving: made by docs/generate.py -->\n"
    head, _, rest = text.partition(start)
    return f"{head}{start}\n{serving_table()}\n{end}{rest.partition(end)[2]}"


def readme() -> str:
    """README.md with its table made anew."""
    text = (DOCS.parent / "README.md").read_text(encoding="utf-8")
    start, end = "<!-- digits: made by docs/generate.py -->\n", "<!-- end -->"
    head, _, rest = text.partition(start)
    result = read_result("digits")
    note = (
        f"Scanned digits, {result['recipe']}, mean over {len(result['seeds'])} seeds. The judge is a network that no "
        "training saw; diversity is a ratio to real data; held-out loss is the change of the diffusion loss on data "
        "that nothing was trained on, and +10 % is the mark of a hacked reward."
    )
    return f"{head}{start}{digits_table(result, ranges=False)}\n\n{note}\n{end}{rest.partition(end)[2]}"


PAGES = {
    "recipes.md": recipes_page,
    "metrics.md": metrics_page,
    "evidence.md": evidence_page,
    "rewards.md": rewards_page,
    "security.md": security_page,
    "../README.md": readme,
}


def main() -> int:
    """Write or check every page."""
    stale = []
    for name, make in PAGES.items():
        path, text = DOCS / name, make()
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    raise SystemExit(main())

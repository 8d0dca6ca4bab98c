"""Write the pages of docs/ that are made from the code and from committed results.

python docs/generate.py           write them
python docs/generate.py --check   exit 1 and name the pages that are out of date
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from comparisons import (
    beside_section,
    comparison_section,
    fronts_section,
    one_stage_section,
)

from ddrl.recipe import options_table
from ddrl.recipe.serving import serving_table
from ddrl.rewards.markdown import cards_page
from ddrl.training.metrics import glossary_table

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
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
to TensorBoard.

{glossary_table()}"""


def evidence_page() -> str:
    """What was measured, from benchmarks/results."""
    return f"""# Evidence

{MADE}Every number on this page was measured by this code. The files that the tables are made from lie in
`benchmarks/results`, with commit, hardware and seeds.

{digits_section(_result("digits"))}
{compare_sections()}
{flow_section(_result("flow"))}
{speed_section(_result("iteration"))}
{passes_section(_result("passes"))}"""


EIGHT = """Eight methods from one base. Beta is in standard deviations of the reward for all but supervised
fine-tuning; `drift budget` steers it so that the held-out loss comes to rest 3 % above the base's. Synthetic data are
samples of the base, of whose captions half are wrong."""

FRONTS = """Each method at several strengths: what each bit of reward cost. Up is more reward; a held-out loss past +10 % is the mark of
a hacked reward.

At equal reward DDRL's held-out loss changes by less than half of what reverse KL's does at four of the five rewards compared, and
at three of them it falls. At the highest reward (-0.04) both are far past the mark, and close to each other: neither is
hack-proof at a small beta. The Fréchet distance is lower, too, up to a reward of -0.08, and not past it. Reverse KL keeps more variety, of
which the base has more than real data. A drift budget of 3 % (the table above) ends within the budget with every seed, at the reward and judge of the best
fixed beta that does (0.3).

Samples of this base are worse anchors than a reverse KL to it: half of its captions are wrong, and each sample says so as if it were data.
Half real, half synthetic lies between."""

SYNTHETIC = """`data.synthetic.keep` leaves of each prompt's samples the best by the run's own reward. All of them (the table above, beta
0.3) hold the policy to the base's mistakes: reward -0.76 at a held-out loss of +3.6 %. Of the best half reward is -0.24 at +5.7 %, of the
best quarter -0.09 at +8.5 %. Reverse KL at these rewards, between its strengths above, costs about +9 % and +23 %; DDRL on real data +8.4 %
at -0.08. In Fréchet distance the half is behind reverse KL (14.7 against about 13), and the quarter before it (13.2 against
about 18). At beta 0.1 all of them are hacked."""

OPTIONS = """Other choices inside the method, each beside DDRL itself (group advantage, all steps trained, step weight `path`) at the
same reward, read between its strengths in the table of fronts above. One seed, or two, as the table says.

The **tilt advantage** (A2), with Z per prompt from data and its exponent cut at 3.5, is the safer one at the same beta: at 0.1 the loss ends at
+9.5 %, where the group advantage's is past +30 %. At equal reward it pays a little more by the loss, so that it moves along the front and not
past it.
**Windows** of five of the ten steps cost more at equal reward wherever they lie. Trained on the steps near noise alone the reward is
reached, and the loss is hacked; on those near data little is learned beyond what fine-tuning brings. Every other step is the least bad. **Step
weights**: `geometric` pays less than `path` at equal reward with both seeds, and `velocity` more by the loss and less by the distance. One beta and
two seeds do not make a default."""

INK = """The reward is mean ink, which a white page earns: nothing of it is about digits. Both regularizers leave little of it to
take, and DDRL pays less for what it takes: at equal reward (0.34 to 0.36) its Fréchet distance is about three quarters of reverse KL's, and
the held-out loss falls instead of rising. The aim was 0.6 of the distance, which is not met: between rewards of 0.335 and 0.356, all
that both fronts cover, the ratio is 0.75 to 0.79 throughout. The base's own distance, 21.8, is in both figures; of what is paid beyond it,
DDRL pays 0.4 to 0.5 of what reverse KL does at 0.35 and 0.36, and next to nothing at 0.34. Farther out there is no fair place to compare:
at 0.36 reverse KL is hacked (+11 % of the held-out loss) and DDRL's audit not conclusive, at 0.39 DDRL is hacked, too. The judge, whom
this reward tells nothing, rises from .37 to .78 with DDRL by the data alone."""

VIDEO = """Clips of 8 frames of 12x12: a scanned digit that moves as the caption says. The rewards are the log-probability of the digit and the
motion of the centre; the judges are another network, and registration of pixels, each as a share of 320 clips. Change from frame to
frame is 1 for real clips, and more is flicker. Without a regularizer the proxy is highest, the digit judge stays behind
all others', clips flicker, and the held-out loss doubles; its judges are still better than the base's, so that a judge alone
would not have found it out. DDRL takes 69 % of that gain in reward, with the held-out loss where it was, and has the best digit judge with every
seed. Reverse KL at the same beta gains as much reward as fine-tuning alone, and less by the digit judge."""


WORDS = """Pictures of 32x96 in which a word stands in a colour, and a transformer that spells it; font, size, place and background are free. The
reward is what RapidOCR reads, by edit similarity; it reads real pictures of these words at 0.99. The judges are a network of ours that
reads letter by letter (the share of 256 pictures whose word it reads without a mistake; of real ones 0.96), and tells the colour.

DDRL takes 82 % of the gain in OCR that no regularizer takes (0.087 of 0.106; by seed 98, 103 and 49 %), with the held-out loss 2.9 % above the base's instead
of 9.5 %, and the Fréchet distance where it was; without a regularizer letters grow fat and get halos, and the distance rises by 9 %. Reverse KL at the same
beta takes 75 %, at the same loss and a distance 1 % above the base's: three seeds do not tell the two apart. Samples of this base are
bad anchors, as they are on the digits.

Read frankly: the audit calls one of three runs without a regularizer hacked, since they are stopped after 40 iterations, at the mark. The base is far
from data (its Fréchet distance is 428, that of real pictures 6), since it has ten minutes of pretraining: it draws hardly any stripes, speckles or
gradients. So every method's diversity is 0.4 of data's, the base's own; the aim of 0.85 is not met by any, and diversity tells nothing
here. A longer pretraining would be the remedy.

![Data, and samples of the base, DDRL and no regularizer from the same noise](images/words.png)"""


def compare_sections() -> str:
    """Methods side by side, and over their strengths."""
    folder = "recipes/compare"
    return "\n".join(
        [
            comparison_section(
                _result("compare_digits"),
                title="Digits: eight methods",
                text=EIGHT,
                recipe=f"{folder}/digits.toml",
            ),
            fronts_section(
                _result("compare_digits_fronts"),
                title="Digits: what the reward cost",
                text=FRONTS,
                recipe=f"{folder}/digits_fronts.toml",
                image="images/compare_digits_fronts.png",
            ),
            comparison_section(
                _result("compare_digits_synthetic"),
                title="Digits: which samples of the base to hold to",
                text=SYNTHETIC,
                recipe=f"{folder}/digits_synthetic.toml",
            ),
            beside_section(
                _result("compare_digits_options"),
                _result("compare_digits_fronts"),
                title="Digits: advantages, windows and step weights",
                text=OPTIONS,
                recipe=f"{folder}/digits_options.toml",
            ),
            fronts_section(
                _result("compare_digits_ink"),
                title="Digits: a reward that asks to be gamed",
                text=INK,
                recipe=f"{folder}/digits_ink.toml",
                image="images/compare_digits_ink.png",
            ),
            comparison_section(
                _result("compare_moving_digits"),
                title="Moving digits: methods side by side",
                text=VIDEO,
                recipe=f"{folder}/moving_digits.toml",
            ),
            comparison_section(
                _result("compare_words"),
                title="Words: a real OCR engine as the reward",
                text=WORDS,
                recipe=f"{folder}/words.toml",
            ),
            one_stage_section(_result("one_stage")),
        ]
    )


def _result(name: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result


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
    result = _result("digits")
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

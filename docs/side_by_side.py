"""The sections of the evidence that set methods side by side, and what is said of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comparisons import (
    beside_section,
    comparison_section,
    fronts_section,
    one_stage_section,
    styles_part,
)

RESULTS = Path(__file__).resolve().parents[1] / "benchmarks" / "results"

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

ENSEMBLE = """Four classifiers, each trained on a half of the reward's digits of its own, and `scoring.combine = "lower_confidence"`: the mean less kappa standard
deviations between them. Trusting the ensemble less where its members disagree softens the hack at the same reward and does not prevent it; at a small beta it takes
29 % of the Fréchet distance and 18 % of the rise in loss off, for a little reward. `python benchmarks/digits_ensemble.py` makes the classifiers and the recipe."""

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


IMAGE_TO_VIDEO = """The same clips and rewards, with the first frame given (`data.given_frames = 1`); in the audit those of held-out clips. There is less to gain, since the
frame shows the digit already. Without a regularizer the reward ends highest, and the judge of digits below the base's: digits swell and tear as the clip goes
on. DDRL takes 47 % of that gain in reward at a loss 2.4 % above the base's; reverse KL takes 52 % at +2.9 %, and one seed does not tell the two
apart.

![Three clips from their first frame: real, the base, and four methods](images/moving_digits_image.png)"""

WORDS = """Pictures of 32x96 in which a word stands in a colour, and a transformer that spells it; font, size, place and background are free. The
reward is what RapidOCR reads, by edit similarity; it reads real pictures of these words at 0.996. The judges are a network of ours that
reads letter by letter (the share of 512 pictures whose word it reads without a mistake; of real ones 0.98), and tells the colour.

DDRL takes 95 % of the gain in OCR that no regularizer takes (0.114 of 0.120; by seed 102, 112 and 77 %), with the held-out loss 2.3 % above the base's
instead of 15.0 %, and the Fréchet distance where it was. Without a regularizer two of three runs are hacked: letters grow fat, backgrounds rough, the
distance rises from 178 to 353 and 338, and styles are lost: fonts differ .76 as often as in data and backgrounds .71 (DDRL: .85 and .93; the second
table). The third ends at +8.4 %, with less reward than DDRL has.
Reverse KL at the same beta takes 67 %, at a loss of +2.5 %: less than DDRL with every seed. Data alone take 35 %. Samples of this base are bad
anchors, as they are on the digits: the judge reads one in six of them, and the model is held to that.

Read frankly: the aim was a diversity of 0.85 of data's. Counted styles reach it; by the distance between the judge's features it is 0.56, the
base's own. The base has 12 minutes of pretraining: letters of one word come in different fonts, backgrounds mix kinds, and features that tell
kinds apart call that uniform. 14000 steps of pretraining in place of 4000 take the base to 0.63 and leave OCR little to gain; a
larger network would do more.

![Data, and samples of the base, DDRL and no regularizer from the same noise](images/words.png)"""

WORDS_STYLES = {
    "base": "Base model",
    "ddrl": "DDRL",
    "no-regularizer": "No regularizer",
    "supervised-fine-tuning": "Supervised fine-tuning",
    "reverse-kl": "Reverse KL",
    "ddrl-synthetic-data": "DDRL, synthetic data",
}


def compare_sections() -> str:
    """Methods side by side, and over their strengths."""
    folder = "recipes/compare"
    return "\n".join(
        [
            comparison_section(
                read_result("compare_digits"),
                title="Digits: eight methods",
                text=EIGHT,
                recipe=f"{folder}/digits.toml",
            ),
            fronts_section(
                read_result("compare_digits_fronts"),
                title="Digits: what the reward cost",
                text=FRONTS,
                recipe=f"{folder}/digits_fronts.toml",
                image="images/compare_digits_fronts.png",
            ),
            comparison_section(
                read_result("compare_digits_synthetic"),
                title="Digits: which samples of the base to hold to",
                text=SYNTHETIC,
                recipe=f"{folder}/digits_synthetic.toml",
            ),
            beside_section(
                read_result("compare_digits_options"),
                read_result("compare_digits_fronts"),
                title="Digits: advantages, windows and step weights",
                text=OPTIONS,
                recipe=f"{folder}/digits_options.toml",
            ),
            comparison_section(
                read_result("compare_digits_ensemble"),
                title="Digits: an ensemble of rewards",
                text=ENSEMBLE,
                recipe="runs/ensemble/compare.toml",
            ),
            fronts_section(
                read_result("compare_digits_ink"),
                title="Digits: a reward that asks to be gamed",
                text=INK,
                recipe=f"{folder}/digits_ink.toml",
                image="images/compare_digits_ink.png",
            ),
            comparison_section(
                read_result("compare_moving_digits"),
                title="Moving digits: methods side by side",
                text=VIDEO,
                recipe=f"{folder}/moving_digits.toml",
            ),
            comparison_section(
                read_result("compare_moving_digits_image"),
                title="Moving digits from their first frame",
                text=IMAGE_TO_VIDEO,
                recipe=f"{folder}/moving_digits_image.toml",
            ),
            comparison_section(
                read_result("compare_words"),
                title="Words: a real OCR engine as the reward",
                text=WORDS,
                recipe=f"{folder}/words.toml",
            ),
            styles_part(read_result("words_styles"), WORDS_STYLES),
            one_stage_section(read_result("one_stage")),
        ]
    )


def read_result(name: str) -> dict[str, Any]:
    """What a run of this code has left in benchmarks/results."""
    result: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return result

"""What is said of the comparisons on digits, with every figure taken from their results."""

from __future__ import annotations

from results import (
    WORDS,
    StaleError,
    Table,
    holds,
    listed,
    made,
    num,
    part,
    pct,
    percents,
    some,
    span,
    word,
)

LOSS = "heldout_loss_change"
BUDGET = "DDRL, drift budget 3 %"
PLAIN = "Supervised fine-tuning"


def eight() -> str:
    """Methods of recipes/compare/digits.toml."""
    table = Table("compare_digits")
    count = WORDS[len(table.rows)].capitalize()
    return f"""{made(count)} methods start from one base. Beta is in standard deviations of the reward for all but supervised
fine-tuning; `drift budget` steers beta until the held-out loss comes to rest 3 % above the base's. Synthetic data are
samples of the base, of which the judge finds {part(1 - table.mean("", "judge_accuracy"))} wrong.

{budget()}"""


def budget() -> str:
    """Where a drift budget ends, and what that is worth."""
    table, fronts = Table("compare_digits"), Table("compare_digits_fronts")
    ends = table.seeds(BUDGET, LOSS)
    limit = 0.03
    past = [end - limit for end in ends if end > limit]
    where = "every seed ends within it"
    if past:
        where = (
            f"{some(len(past), len(ends))} seeds end past it, the farthest by "
            f"{num(100 * max(past), 1)} percentage points"
        )
    within = [label for label in fronts.of("DDRL") if fronts.mean(label, LOSS) <= limit]
    best = max(within, key=lambda label: fronts.mean(label, "reward"))
    ours, fixed = (
        f"{num(t.mean(row, 'reward'))} and {num(t.mean(row, 'judge_accuracy'), 3)}"
        for t, row in ((table, BUDGET), (fronts, best))
    )
    return f"""The budget is steered on the same held-out images that the audit measures the loss on. Its loss is therefore chosen, and not
a finding. It comes to rest at {percents(ends)}: {where}. Reward and judge are {ours}; those of the
best fixed beta that ends within the budget ({made(best.rpartition(" ")[2])}) are {fixed}."""


def fronts() -> str:
    """Strengths of recipes/compare/digits_fronts.toml."""
    table = Table("compare_digits_fronts")
    limit, areas = table.result["drift_limit"], table.result["areas"]
    loss, distance = (
        table.result["matched"][key]["DDRL - Reverse KL"] for key in (LOSS, "frechet")
    )
    lower = [row for row in loss if row["ours"] < row["theirs"]]
    gaps = [100 * (row["theirs"] - row["ours"]) for row in lower]
    falls = sum(row["ours"] < 0 for row in loss)
    both = holds(
        min(loss[-1]["ours"], loss[-1]["theirs"]) > limit,
        f"At the highest reward ({num(loss[-1]['reward'])}) both are past the mark",
        found=loss[-1],
    )
    small = holds(
        set(table.verdicts("DDRL, beta 0.1", "Reverse KL, beta 0.1")) == {"hacked"},
        "neither is hack-proof at a small beta",
    )
    variety = holds(
        areas["diversity"]["Reverse KL"][0] > areas["diversity"]["DDRL"][0]
        and table.mean("", "diversity") > 1,
        "Reverse KL keeps more variety; the base itself has more than real data.",
        found=areas["diversity"],
    )
    synthetic, mixed, real, reference = (
        areas[LOSS][name][0]
        for name in ("DDRL, synthetic data", "DDRL, mixed data", "DDRL", "Reverse KL")
    )
    anchors = holds(
        synthetic < reference and synthetic < mixed < real,
        "Samples of this base hold the model worse than a reverse KL to it: many show another digit than the prompt asks for, and the data "
        "term teaches that digit.\nA mix of half real and half synthetic data lies between.",
        found=(synthetic, mixed, real, reference),
    )
    return f"""Each method was trained at several betas. Up is more reward; a held-out loss past {pct(limit, 0)} is the mark of
a hacked reward.

At equal reward DDRL's held-out loss ends below reverse KL's at {some(len(lower), len(loss))} rewards compared, by {span(gaps, 1)}
percentage points, and at {word(falls)} of them below the base's. {both}: {small}.
{_distance(distance)} {variety}

{anchors}"""


def _distance(rows: list[dict[str, float]]) -> str:
    """At which of the rewards compared DDRL's Fréchet distance is the lower one."""
    is_lower = [row["ours"] < row["theirs"] for row in rows]
    count = sum(is_lower)
    if is_lower != sorted(is_lower, reverse=True) or not 0 < count < len(rows):
        where = f"at {some(count, len(rows))} rewards compared"
    else:
        where = f"up to a reward of {num(rows[count - 1]['reward'])}, and not past it"
    return f"The Fréchet distance is lower {where}."


def synthetic() -> str:
    """Selected samples of the base as anchors."""
    table, beside = Table("compare_digits_synthetic"), Table("compare_digits_fronts")
    every = "DDRL, synthetic data, beta 0.3"
    half, quarter = (f"DDRL, synthetic, best {name}, beta 0.3" for name in ("half", "quarter"))
    rows = []
    for name, label in (("half", half), ("quarter", quarter)):
        reward, distance = table.mean(label, "reward"), table.mean(label, "frechet")
        other = beside.at("Reverse KL", reward, "frechet")
        rows.append(
            f"With the best {name} the reward is {num(reward)} at {pct(table.mean(label, LOSS))}. At that reward reverse KL, between its betas above, "
            f"is at {pct(beside.at('Reverse KL', reward, LOSS), 0)}\nand DDRL on real data at {pct(beside.at('DDRL', reward, LOSS))}; "
            f"the Fréchet distance is {num(distance, 1)} against reverse KL's {num(other, 1)}."
        )
    hacked = holds(
        set(table.verdicts(*(row.replace("0.3", "0.1") for row in (half, quarter)))) == {"hacked"}
        and set(beside.verdicts(every.replace("0.3", "0.1"))) == {"hacked"},
        "At beta 0.1 all of them are hacked.",
    )
    return f"""`data.synthetic.keep` keeps the best of each prompt's samples by the run's own reward. If all are kept (the table above, beta
0.3), they hold the policy to the base's mistakes: reward {num(beside.mean(every, "reward"))} at a held-out loss of {pct(beside.mean(every, LOSS))}.
{chr(10).join(rows)}
{hacked}"""


def options() -> str:
    """Other choices inside the method."""
    table, beside = Table("compare_digits_options"), Table("compare_digits_fronts")
    counts = sorted({len(cell["seeds"]) for cell in table.rows.values()})
    tilt, group = "Tilt advantage, beta 0.1", "DDRL, beta 0.1"
    gaps = {label: _gap(table, beside, label) for label in table.rows}
    windows = [label for label in table.rows if "step" in label and "weight" not in label]
    compared = {label: gaps[label] for label in windows if gaps[label] is not None}
    dearer = holds(
        min(compared.values()) > 0,
        "cost more at equal reward wherever they lie",
        found=compared,
    )
    near_noise = holds(
        set(table.verdicts("First half of the steps, beta 0.3")) == {"hacked"},
        "Trained on the steps near noise alone the reward is\nreached, and the loss is hacked",
    )
    last = num(table.mean("Last half of the steps, beta 0.3", "reward"))
    weights = " and ".join(
        f"`{name}` pays {_paid(gaps[f'Step weight {name}, beta 0.3'])} than `path`"
        for name in ("geometric", "velocity")
    )
    return f"""Other choices inside the method, each compared with DDRL itself (group advantage, all steps trained, step weight `path`) at the
same reward, read between the betas of the table of fronts above. Seeds of a row: {listed([str(c) for c in counts])}.

The **tilt advantage** (A2), with Z per prompt from data and its exponent cut off, counts beta in units of the reward; the group advantage counts
it in standard deviations. The same number is therefore another strength: at beta 0.1 the loss ends at {pct(table.mean(tilt, LOSS))} and at {pct(beside.mean(group, LOSS))}. At
equal reward the tilt pays {_paid(gaps[tilt])} by the loss at beta 0.1, and {_paid(gaps["Tilt advantage, beta 0.3"])} at beta 0.3.
**Windows** of five of the ten steps {dearer}. {near_noise}; on those near data little is learned beyond what fine-tuning
brings (reward {last}; data alone {num(beside.mean(PLAIN, "reward"))}). The least bad is "{made(min(compared, key=lambda k: compared[k] or 0).partition(",")[0].lower())}".
**Step weights**: at equal reward {weights}. One beta and few seeds do not make a default."""


def _gap(table: Table, beside: Table, label: str) -> float | None:
    """The loss of a row less DDRL's at the same reward; None where DDRL has no such reward."""
    try:
        there = beside.at("DDRL", table.mean(label, "reward"), LOSS)
    except StaleError:
        return None
    return table.mean(label, LOSS) - there


def _paid(gap: float | None) -> str:
    """More or less, by how much."""
    if gap is None:
        raise StaleError("a row of compare_digits_options lies outside of DDRL's rewards")
    return f"{made(f'{100 * abs(gap):.1f}')} percentage points {'more' if gap > 0 else 'less'}"


def ensemble() -> str:
    """Rewards that are trusted less where they disagree."""
    table = Table("compare_digits_ensemble")
    mean, careful = "DDRL, mean of the ensemble", "DDRL, kappa 3"
    saved = [1 - table.mean(careful, key) / table.mean(mean, key) for key in ("frechet", LOSS)]
    softer = holds(
        min(saved) > 0 and set(table.verdicts(*table.rows)) == {"hacked"},
        "softens the hack and does not prevent it",
        found=saved,
    )
    return f"""Four classifiers, each trained on its own half of the reward's digits, and `scoring.combine = "lower_confidence"`: the mean less kappa standard
deviations between them. Trusting the ensemble less where its members disagree {softer}; at DDRL's small beta it lowers
the Fréchet distance by {part(saved[0])} and the rise in loss by {part(saved[1])}, and the reward goes from {num(table.mean(mean, "reward"), 3)} to
{num(table.mean(careful, "reward"), 3)}. `python benchmarks/digits_ensemble.py` makes the classifiers and the recipe."""


def ink() -> str:
    """A reward that asks to be gamed."""
    table = Table("compare_digits_ink")
    start = table.mean("", "frechet")
    loss, distance = (
        table.result["matched"][key]["DDRL - Reverse KL"] for key in (LOSS, "frechet")
    )
    ratios = [row["ours"] / row["theirs"] for row in distance]
    beyond = [(row["ours"] - start) / (row["theirs"] - start) for row in distance]
    falls = holds(
        max(row["ours"] for row in loss) < 0 < min(row["theirs"] for row in loss),
        "the held-out loss falls instead of rising",
        found=loss,
    )
    unmet = holds(
        min(ratios) > 0.6, "The aim was 0.6 of the distance, which is not met.", found=ratios
    )
    ends = []
    for method in ("DDRL", "Reverse KL"):
        fine = [row for row in table.of(method) if set(table.verdicts(row)) == {"clean"}]
        best = max(fine, key=lambda row: table.mean(row, "reward"))
        ends.append(f"{num(table.mean(best, 'reward'))} for {made(best)}")
    judge = table.mean("DDRL, beta 1", "judge_accuracy")
    rises = holds(
        judge > table.mean("", "judge_accuracy") + 0.1,
        f"rises from {num(table.mean('', 'judge_accuracy'))} to {num(judge)} with DDRL at beta 1 by the data alone",
    )
    return f"""The reward is mean ink. A white page maximises it, and nothing in it asks for digits. Both regularizers leave little of it to
gain, and DDRL pays less for its gain: at equal reward ({span([row["reward"] for row in distance])}) its Fréchet distance is {span(ratios)} of
reverse KL's, and {falls}. {unmet} Both figures include the base's own distance, {num(start, 1)};
beyond that, DDRL pays {span(beyond)} of what reverse KL pays. At higher rewards a fair comparison is not possible: the
highest rewards at which no seed shows a sign of hacking are {" and ".join(ends)}. The judge's share, which
this reward does not ask for, {rises}."""

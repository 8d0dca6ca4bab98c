"""What the how-to pages say of results: betas and what they cost, and pictures of hacked models."""

from __future__ import annotations

from results import StaleError, Table, holds, made, num, part, pct, percents, read_result, source

__all__ = ["betas_block", "budget_figure", "hacking_block", "verdicts_block"]

LOSS = "heldout_loss_change"
BUDGET = "DDRL, drift budget 3 %"


def betas_block(_: str) -> str:
    """DDRL and reverse KL over betas, on the digits."""
    table = Table("compare_digits_fronts")
    lines = [
        "| method | reward | judge | diversity | held-out loss | audit of each seed |",
        "|---|---|---|---|---|---|",
        _row(table, "", "Base model"),
    ]
    names = [*table.of("DDRL"), *table.of("Reverse KL"), "No regularizer"]
    lines += [_row(table, name, name) for name in names]
    strong = [name for name in table.of("DDRL") if set(table.verdicts(name)) == {"clean"}]
    best = max(strong, key=lambda name: table.mean(name, "reward"))
    order = [table.mean(name, "reward") for name in table.of("DDRL")]
    holds(order == sorted(order, reverse=True), "A smaller beta gives more reward", found=order)
    beta, default = made(best.rpartition(" ")[2]), table.mean("DDRL, beta 1", LOSS)
    share = table.share("DDRL, beta 1", "No regularizer")
    holds(
        default < 0 and share > 0.5,
        "At the default the model fits held-out data better and has most of the gain",
        found=(default, share),
    )
    return f"""
{chr(10).join(lines)}

At the default, 1, the model fits held-out data better than the base does ({pct(default)}) and has most of the gain. The smallest beta
whose runs are all clean is {beta}. Below it the reward hardly grows, and the model leaves the data. Means of
{made(len(table.rows[best]["seeds"]))} seeds, as in the picture; three costs are drawn in [Evidence](../evidence.md#digits-what-the-reward-cost).

![Reward against the change of the held-out loss, for seven methods over betas; past the mark a run is hacked](../images/compare_digits_fronts.png)

{source(table.result)}
"""


def _row(table: Table, label: str, name: str) -> str:
    words = table.verdicts(label) if label else []
    one = set(words)
    audit = (
        f"{words[0]}" if len(one) == 1 else ", ".join(f"{words.count(w)} {w}" for w in sorted(one))
    )
    return (
        f"| {name} | {num(table.mean(label, 'reward'))} | {part(table.mean(label, 'judge_accuracy'))} | "
        f"{num(table.mean(label, 'diversity'))} | {pct(table.mean(label, LOSS)) if label else '0'} | {audit} |"
    )


def budget_figure(_: str) -> str:
    """Where a budget of 3 % ended."""
    table = Table("compare_digits")
    ends = percents(table.seeds(BUDGET, LOSS))
    return f"On the digits a budget of 3 % ended at {ends}, with the judge at {part(table.mean(BUDGET, 'judge_accuracy'))}."


def hacking_block(reward: str) -> str:
    """What was measured of one reward's runs, as a table.

    Args:
        reward: a key of the result.
    """
    found = read_result("hacking")[reward]["audits"]
    verdicts = {name: row["verdict"]["status"] for name, row in found.items()}
    wanted = {"Base": "base", "DDRL": "clean", "No regularizer": "hacked"}
    holds(
        verdicts == wanted, "the audit finds the run without a regularizer hacked", found=verdicts
    )
    if found["No regularizer"]["reward"] <= found["DDRL"]["reward"]:
        raise StaleError("docs/hacking.md says that the hacked run has the higher reward")
    lines = [
        "| model | reward | judge | Fréchet distance | diversity | held-out loss | audit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in found.items():
        loss = "0" if name == "Base" else pct(row[LOSS])
        audit = {"base": "", "clean": "no sign of hacking"}.get(verdicts[name], verdicts[name])
        lines.append(
            f"| {name} | {num(row['reward'])} | {part(row['judge_accuracy'])} | {num(row['frechet'], 1)} | "
            f"{num(row['diversity'])} | {loss} | {audit} |"
        )
    return "\n" + "\n".join(lines) + "\n"


def verdicts_block(_: str) -> str:
    """What the audit says of the hacked runs, and where all of it is from."""
    result = read_result("hacking")
    lines = []
    for reward in ("classifier", "ink"):
        said = result[reward]["audits"]["No regularizer"]["verdict"]["sentence"]
        lines.append(
            f"> **Reward `{reward}`, no regularizer.** {made(said[0].upper() + said[1:])}\n"
        )
    return "\n" + "\n".join(lines) + f"\n{source(result)}\n"

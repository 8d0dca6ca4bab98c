"""The README's table of four rows, and what it does not show."""

from __future__ import annotations

from evidence import digits_table, limit
from results import Table, holds, made, num, pct, read_result, word

__all__ = ["cost_sentences", "digits_block"]

LOSS = "heldout_loss_change"
ROWS = ("Base", "DDRL, beta 1", "No regularizer", "Reverse KL, beta 1")


def digits_block(_: str) -> str:
    """Four of the methods of recipes/digits.toml."""
    result = read_result("digits")
    rows = {name: result["results"][name] for name in ROWS}
    return f"""{digits_table({**result, "results": rows}, ranges=False)}

Scanned digits, {made(f"`{result['recipe']}`")}, mean over {word(len(result["seeds"]))} seeds. Higher is better for reward and judge, lower for
distance and loss. The judge is a classifier that no training saw. Diversity is a ratio to real data: above 1, samples of one
prompt differ more than data do. A held-out loss above +{limit()} marks a hacked reward.
"""


def cost_sentences(_: str) -> str:
    """What the table of four rows does not show."""
    result = read_result("digits")["results"]
    table = Table("compare_digits_fronts")
    areas = table.result["areas"]
    small = {key: sum(v) / len(v) for key, v in result["Reverse KL, beta 0.1"].items()}
    ahead = holds(
        areas[LOSS]["DDRL"][1] > areas[LOSS]["Reverse KL"][2]
        and areas["diversity"]["DDRL"][0] < areas["diversity"]["Reverse KL"][0],
        "Over many betas DDRL has more\n  reward at the same held-out loss, and not at the same diversity.",
        found=areas,
    )
    hacked = holds(
        set(table.verdicts("DDRL, beta 0.1", "Reverse KL, beta 0.1")) == {"hacked"},
        "At beta 0.1 both are hacked.",
    )
    judge = holds(
        min(result["No regularizer"]["judge_accuracy"]) > 0.999,
        "**A judge is not enough.** It accepts every sample of the hacked run; the other three show the hack.",
    )
    return f"""- **One beta is one point.** Reverse KL at beta 0.1 has reward {num(small["reward"])} at {pct(small[LOSS])} loss. {ahead} {hacked}
- {judge}
- **Digits are small.** It says nothing about large models. [All tables](docs/evidence.md) name commit, hardware and limits.
"""

"""Parts of hand-written pages and of recipes' comments that are made from results or from the code.

In Markdown a part stands between `<!-- name: made by docs/generate.py -->` and `<!-- end -->`, a
figure in a line between `<!-- =name -->` and `<!-- / -->`; in a recipe's comment a part stands between
`# [name: made by docs/generate.py]` and `# [end]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import fmean
from typing import Any

from evidence import limit
from howto_text import betas_block, budget_figure, hacking_block, verdicts_block
from layers import layers_block
from readme_text import cost_sentences, digits_block
from results import (
    ROOT,
    StaleError,
    Table,
    holds,
    made,
    num,
    part,
    pct,
    read_result,
    source,
)
from tutorial_text import time_block, tutorial_block
from where import where_block

from ddrl.diffusion.kernels import make_kernel
from ddrl.diffusion.process import RectifiedFlow
from ddrl.diffusion.schedule import time_grid
from ddrl.diffusion.transition import Transitions
from ddrl.evaluation.findings import signs
from ddrl.recipe import options_table
from ddrl.recipe.serving import Serving
from ddrl.rewards.markdown import cards_page

__all__ = ["BLOCKS", "FIGURES", "filled"]

BLOCK = re.compile(
    r"(?P<open><!-- (?P<name>[\w -]+): made by docs/generate\.py -->\n)(?P<body>.*?)(?P<close><!-- end -->)",
    re.DOTALL,
)
COMMENT = re.compile(
    r"(?P<open># \[(?P<name>[\w -]+): made by docs/generate\.py\]\n)(?P<body>.*?)(?P<close># \[end\]\n)",
    re.DOTALL,
)
INLINE = re.compile(r"(<!-- =(?P<name>[\w. -]+) -->)(?P<body>.*?)(<!-- / -->)", re.DOTALL)
MIB = 1e6
LOSS = "heldout_loss_change"


def filled(text: str, *, lenient: bool = False) -> str:
    """A hand-written text with all its parts and figures made anew, in marks.

    Args:
        text: of the file.
        lenient: say of a result that is missing that it is, instead of stopping.
    """

    def block(found: re.Match[str]) -> str:
        name, _, argument = found["name"].partition(" ")
        if name not in BLOCKS:
            raise StaleError(f"no part is called {found['name']!r}; docs/blocks.py lists them")
        try:
            body = BLOCKS[name](argument)
        except StaleError as error:
            if not lenient or "is not there" not in str(error):
                raise
            body = "Not measured yet.\n"
        if found["open"].startswith("#"):
            body = "".join(f"# {line}".rstrip() + "\n" for line in body.splitlines())
        return f"{found['open']}{body}{found['close']}"

    def inline(found: re.Match[str]) -> str:
        name, _, argument = found["name"].partition(" ")
        if name not in FIGURES:
            raise StaleError(f"no figure is called {found['name']!r}; docs/blocks.py lists them")
        return f"{found[1]}{made(FIGURES[name](argument))}{found[4]}"

    return INLINE.sub(inline, COMMENT.sub(block, BLOCK.sub(block, text)))


def blind_block(_: str) -> str:
    """Verdicts on runs that set no mark."""
    result = read_result("blind_verdicts")
    rows = result["rows"]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["comparison"], row["run"]), []).append(row)
    table = [
        "| run | held-out loss | Vendi | Fréchet distance | judge | signs beside drift | labelled | verdict |"
    ]
    table.append("|---" * 8 + "|")
    for (comparison, name), found in groups.items():
        reward = "`ink`, " if comparison == "digits_ink" else ""
        kinds = sorted({kind for row in found for kind in row["kinds"]} - {"drift"})
        words = sorted({row["verdict"] for row in found})
        cells = [
            f"{reward}{name}",
            _span([100 * row[LOSS] for row in found], "+.1f") + " %",
            _span([row["vendi"] for row in found], ".2f"),
            _span([row["frechet"] for row in found], ".1f"),
            _span([100 * row["judge_accuracy"] for row in found], ".0f") + " %",
            ", ".join(kinds) or "none",
            found[0]["label"],
            ", ".join(words),
        ]
        table.append("| " + " | ".join(cells) + " |")
    hacked = [row for row in rows if row["label"] == "hacked"]
    mark = Table("compare_digits").result["drift_limit"]
    by_loss = sum(row[LOSS] > mark for row in hacked)
    without = sum(len(set(row["kinds"]) - {"drift"}) >= 2 for row in hacked)
    return f"""The marks were set on runs of seed {made("0")} of the embedded digits. They were then tried on {made(len(rows))} runs of seeds {made(" and ".join(map(str, result["provenance"]["seeds"])))}, with the
classifier's reward and with `ink`, mean brightness, which is easily gamed. The labels were fixed before: hacked without a regularizer and with a
regularizer at beta 0.1, clean otherwise. **{made(result["right"])} of {made(len(rows))} verdicts are as labelled.**

{made(chr(10).join(table))}

What it does not show: the loss alone decides {made(by_loss)} of the {made(len(hacked))} runs that are labelled as hacked. Without it the other signs would have found {made(without)}
of them, and {made(len(hacked) - without)} would have been "not conclusive" or passed.

{source(result)}
"""


def _span(values: list[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"


def coverage_block(_: str) -> str:
    """How often intervals hold the truth, and how often nothing gives a sign."""
    result = read_result("interval_coverage")
    rows = {row["figure"]: row for row in result["intervals"]}
    wrong = rows.pop("mean, 10 prompts x 16 samples, over samples")
    right = rows["mean, 10 prompts x 16 samples, over prompts"]
    holds(
        right["covered"] >= 0.92 and right["all_below"] <= 0.04,
        "intervals over ten prompts hold what they promise",
        found=right,
    )
    holds(
        all(row["signs"] <= 0.05 for row in result["nothing_changed"]),
        "a base and a run of one law give a sign in at most 5 % of all cases",
        found=result["nothing_changed"],
    )
    table = ["| figure | hold the truth | lie below it |", "|---|---|---|"]
    table += [
        f"| {name} | {100 * row['covered']:.1f} % | {100 * row['all_below']:.1f} % |"
        for name, row in rows.items()
    ]
    verdicts = ["| prompts, samples, data | runs with a sign |", "|---|---|"]
    verdicts += [
        f"| {row['setting']} | {100 * row['signs']:.1f} % |" for row in result["nothing_changed"]
    ]
    return f"""{made(chr(10).join(table))}

If prompts are drawn, an interval over samples holds the truth in only {part(wrong["covered"])} of all cases: the parts that are left out must be
the parts that were drawn. To see how often nothing gives a sign, a base and a run of one law, each measured with its own noise, go through the
whole verdict. A run gives any sign in

{made(chr(10).join(verdicts))}

{source(result)}
"""


def stops_block(_: str) -> str:
    """Where audits stopped a run."""
    result = read_result("stop_on_hack")
    lines = []
    for method, row in result["results"].items():
        where, best = row["stopped_at"], row["best"]
        what = "ran to its end"
        if where is not None:
            what = f"was stopped at step {made(where)}; the last audit on record, of step {made(row['last']['step'])}, has the loss at {pct(row['last'][LOSS])}"
        if best is not None:
            what += f"; its marked checkpoint, of step {made(best['step'])}, has the judge at {part(best['judge_accuracy'])} and a diversity of {num(best['diversity'])}"
        lines.append(f"- {made(method)}: {what}.")
    return f"""On the digits (seed {made(result["seed"])}, {made(result["samples"])} samples every {made(result["every"])} steps):

{chr(10).join(lines)}

{source(result)}
"""


def memory_block(_: str) -> str:
    """How far a plan's memory is from the measured one."""
    result = read_result("memory")
    short: dict[str, list[float]] = {}
    for case in result["cases"]:
        short.setdefault(case["precision"], []).append((case["measured"] - case["estimate"]) / MIB)
    ratios = [case["ratio"] for case in result["cases"]]
    by_type = " and ".join(
        f"{made(_span(found, '.0f'))} MB in {name}" for name, found in short.items()
    )
    return f"""Measured ({made(result["measured_by"])}, a network of 28 million parameters), an iteration took more than planned by {by_type}. That amount
hardly depends on what is trained and kept. The estimate is {num(min(ratios))} to {num(max(ratios))} of the measured peak there, and closer for larger
models. {source(result)}
"""


def audit_block(_: str) -> str:
    """What an audit of a reward prints."""
    result = read_result("reward_audit_ink")
    lines = "\n".join(line.rstrip() for line in result["lines"])
    return made(f"```\n$ {result['typed']}\n{lines}\n```\n")


def methods_table(argument: str) -> str:
    """A recipe's header: its comparison as a table of plain text."""
    table = Table(argument)
    columns: dict[str, tuple[str, Callable[[float], str]]] = {
        "reward": ("reward", lambda v: f"{v:.3f}"),
        "judge_accuracy": ("judge", lambda v: f"{100 * v:.0f} %"),
        "motion_accuracy": ("motion", lambda v: f"{100 * v:.0f} %"),
        "frechet": ("Frechet", lambda v: f"{v:.1f}"),
        "temporal_frechet": ("in time", lambda v: f"{v:.1f}"),
        "temporal_change": ("flicker", lambda v: f"{v:.2f}"),
        "diversity": ("diversity", lambda v: f"{v:.2f}"),
        LOSS: ("held-out loss", lambda v: f"{100 * v:+.1f} %"),
    }
    base = table.result["base"]["figures"]
    shown = {k: v for k, v in columns.items() if k in base and base[k]["per_seed"][0] is not None}
    lines = [["", *(head for head, _ in shown.values())]]
    for label in ("", *table.rows):
        cells = [form(table.mean(label, key)) for key, (_, form) in shown.items()]
        lines.append([label or "Base", *cells])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(
            [
                line[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for line in lines
    )
    seeds = len(table.rows["DDRL"]["seeds"])
    head = f"Means of {seeds} seeds, by `{table.result['reproduce']}`:"
    return f"{made(head)}\n\n{made(text)}\n\n{cost_block(argument)}"


def cost_block(argument: str) -> str:
    """What a comparison took."""
    cells = Table(argument).result["cells"]
    runs = sum(len(cell["seeds"]) for cell in cells)
    seconds = [cell["seconds"] for cell in cells for _ in cell["seeds"]]
    return (
        made(
            f"{runs} runs of {fmean(seconds):.0f} s of training each, {sum(seconds) / 60:.0f} minutes in all, audits not counted."
        )
        + "\n"
    )


def velocity_loss(_: str) -> str:
    """How many times the strength at the noisiest trained step is that at the last, by a plain velocity loss."""
    weight = Transitions.build(
        make_kernel("flow_sde", eta=0.7), RectifiedFlow(), time_grid(20)
    ).kl_weight
    trained = weight[(weight > 0) & (weight < float("inf"))]
    return f"{float(trained.max() / trained.min()):.0f} times"


BLOCKS: dict[str, Callable[[str], str]] = {
    "digits": digits_block,
    "costs": cost_sentences,
    "where": where_block,
    "layers": layers_block,
    "blind": blind_block,
    "coverage": coverage_block,
    "stops": stops_block,
    "memory": memory_block,
    "audit": audit_block,
    "methods": methods_table,
    "cost": cost_block,
    "cards": lambda _: made(f"\n{cards_page()}\n"),
    "tutorial": tutorial_block,
    "tutorial-time": time_block,
    "betas": betas_block,
    "hacking": hacking_block,
    "hacking-verdicts": verdicts_block,
    "serving": lambda _: made(f"\n{options_table(Serving)}\n"),
}
FIGURES: dict[str, Callable[[str], str]] = {
    "budget": budget_figure,
    "limit": lambda _: limit(),
    "mark": lambda name: f"{getattr(signs, name):g}",
    "velocity-loss": velocity_loss,
}
"""What a name in a page stands for; the argument is what follows it."""


def pages() -> list[str]:
    """All files that hold parts, from the repository's root."""
    patterns = (
        "README.md",
        "CONTRIBUTING.md",
        "docs/**/*.md",
        "recipes/*.toml",
        "recipes/compare/*.toml",
    )
    found = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    return [
        path.relative_to(ROOT).as_posix() for path in found if _has_parts(path.read_text("utf-8"))
    ]


def _has_parts(text: str) -> bool:
    return any(pattern.search(text) for pattern in (BLOCK, COMMENT, INLINE))

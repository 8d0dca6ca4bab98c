"""The sections of docs/evidence.md that are made from committed comparisons."""

from __future__ import annotations

from typing import Any

from results import Table, made, source

__all__ = [
    "area_table",
    "beside_section",
    "comparison_section",
    "fronts_section",
    "one_stage_section",
]

MORE_COLUMNS = {
    "colour_accuracy": ("colour judge", "{:.3f}"),
    "motion_accuracy": ("motion judge", "{:.3f}"),
    "temporal_frechet": ("temporal Fréchet", "{:.1f}"),
    "temporal_change": ("change from frame to frame", "{:.2f}"),
}


def comparison_table(result: dict[str, Any]) -> str:
    """A row per method and beta: means over seeds, and the audits' words."""
    base = result["base"]["figures"]
    more = {
        key: column
        for key, column in MORE_COLUMNS.items()
        if key in base and base[key]["mean"][0] is not None
    }
    heads = ["method", "reward", "judge", *(head for head, _ in more.values())]
    heads += ["Fréchet distance", "diversity", "held-out loss", "audit"]
    rows = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for cell in (result["base"], *result["cells"]):
        figures = cell["figures"]
        loss = figures["heldout_loss_change"]["per_seed"]
        audit = _words(cell["verdicts"])
        cells = [
            _number(figures["reward"], "{:.2f}"),
            _number(figures["judge_accuracy"], "{:.3f}"),
            *(_number(figures[key], form) for key, (_, form) in more.items()),
            _number(figures["frechet"], "{:.1f}"),
            _number(figures["diversity"], "{:.2f}"),
            "0" if cell is result["base"] else _percents(loss),
            audit,
        ]
        rows.append(f"| {cell['label']} | " + " | ".join(cells) + " |")
    return made("\n".join(rows))


def _words(verdicts: list[str]) -> str:
    """The audits' words over seeds."""
    words = sorted(set(verdicts), key=verdicts.count, reverse=True)
    return ", ".join(
        word if len(words) == 1 else f"{verdicts.count(word)} {word}" for word in words
    )


def _number(figure: dict[str, Any], form: str) -> str:
    mean = figure["mean"][0]
    return "" if mean is None else form.format(mean).replace("-0.00", "0.00")


def _percents(values: list[float]) -> str:
    mean = f"{100 * sum(values) / len(values):+.1f} %"
    ends = [f"{100 * v:+.1f}" for v in (min(values), max(values))]
    return mean if ends[0] == ends[1] else f"{mean} ({ends[0]} to {ends[1]})"


def area_table(result: dict[str, Any]) -> str:
    """Area under each method's fronts, with intervals over seeds."""
    heads = {"heldout_loss_change": "held-out loss", "frechet": "Fréchet", "diversity": "diversity"}
    rows = [
        "| method | " + " | ".join(f"reward against {head}" for head in heads.values()) + " |",
        "|---|---|---|---|",
    ]
    for variant in dict.fromkeys(cell["variant"] for cell in result["cells"]):
        cells = []
        for key in heads:
            mean, low, high = result["areas"][key][variant]
            cells.append(f"{mean:.3g} ({low:.3g} to {high:.3g})")
        rows.append(f"| {variant} | " + " | ".join(cells) + " |")
    return made("\n".join(rows))


def matched_table(result: dict[str, Any], ours: str, theirs: str) -> str:
    """Two methods' costs at equal reward."""
    rows = [
        f"| at reward | cost | {ours} | {theirs} | difference, over seeds |",
        "|---|---|---|---|---|",
    ]
    names = {"heldout_loss_change": "held-out loss", "frechet": "Fréchet distance"}
    for key, name in names.items():
        for row in result["matched"][key].get(f"{ours} - {theirs}", []):
            show = "{:+.1%}" if key == "heldout_loss_change" else "{:.1f}"
            values = [row["ours"], row["theirs"], *row["difference"]]
            a, b, gap, low, high = (show.format(value).replace("%", " %") for value in values)
            rows.append(f"| {row['reward']:.2f} | {name} | {a} | {b} | {gap} ({low} to {high}) |")
    return made("\n".join(rows))


def comparison_section(result: dict[str, Any], *, title: str, text: str) -> str:
    """One comparison: its table, words, and where it is from."""
    return f"""## {title}

{text}

{comparison_table(result)}

{source(result)}
"""


def fronts_section(result: dict[str, Any], *, title: str, text: str, image: str) -> str:
    """A comparison over betas: picture, areas, equal rewards, table."""
    return f"""## {title}

{text}

![Reward against what it cost, for each method and beta]({image})

Area under the fronts, which is reward gained times cost spared, up to a held-out loss change of {made(f"{2 * result['drift_limit']:.0%}")}, four times the
base's Fréchet distance, half of the diversity. Means over seeds, in brackets 95 % intervals.

{area_table(result)}

Costs at equal reward, read off the fronts seed by seed:

{matched_table(result, "DDRL", "Reverse KL")}

All runs:

{comparison_table(result)}

{source(result)}
"""


def beside_table(result: dict[str, Any], fronts: Table, ours: str) -> str:
    """Each row beside a method of another comparison at the same reward, between its strengths."""
    rows = [
        f"| option | seeds | reward | held-out loss | {ours} there | Fréchet distance | {ours} there | audit |",
        "|---" * 8 + "|",
    ]
    rewards = [fronts.mean(label, "reward") for label in fronts.of(ours)]
    for cell in result["cells"]:
        figures = cell["figures"]
        reward = figures["reward"]["mean"][0]
        there = ["", ""]
        if min(rewards) <= reward <= max(rewards):
            loss = fronts.at(ours, reward, "heldout_loss_change")
            there = [f"{100 * loss:+.1f} %", f"{fronts.at(ours, reward, 'frechet'):.1f}"]
        cells = [
            cell["label"],
            str(len(cell["seeds"])),
            _number(figures["reward"], "{:.3f}"),
            _percents(figures["heldout_loss_change"]["per_seed"]),
            there[0],
            _number(figures["frechet"], "{:.1f}"),
            there[1],
            _words(cell["verdicts"]),
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return made("\n".join(rows))


def beside_section(
    result: dict[str, Any],
    fronts: Table,
    *,
    title: str,
    text: str,
    ours: str = "DDRL",
) -> str:
    """Options of a method beside the method itself at equal reward."""
    return f"""## {title}

{text}

{beside_table(result, fronts, ours)}

{source(result)}
"""


def one_stage_section(result: dict[str, Any]) -> str:
    """DDRL alone against fine-tuning and then DDRL."""
    keys = {
        "heldout_loss": ("held-out diffusion loss", "{:.4f}"),
        "reward": ("reward", "{:.3f}"),
        "judge_accuracy": ("judge", "{:.3f}"),
        "frechet": ("Fréchet distance", "{:.1f}"),
        "diversity": ("diversity", "{:.2f}"),
    }
    rows = ["| | " + " | ".join(name for name, _ in keys.values()) + " |", "|---" * 6 + "|"]
    for name, figures in result["results"].items():
        cells = [_seeds(figures[key], form) for key, (_, form) in keys.items()]
        rows.append(f"| {name} | " + " | ".join(cells) + " |")
    one, two = result["steps"]["one stage"], result["steps"]["two stages"]
    return f"""## One stage or two

The paper claims that fine-tuning on data first is not needed. Compared here: DDRL for {made(one[0])} steps from the pretrained model, against
{made(two[0])} steps of supervised fine-tuning and then {made(two[1])} of DDRL. Both see as many data samples. Mean over seeds, in brackets
the least and the largest.

{made(chr(10).join(rows))}

{source(result)}
"""


def styles_part(result: dict[str, Any], labels: dict[str, str]) -> str:
    """How often two samples of a prompt differ in style, as a ratio to data."""
    rows = ["| method | fonts | backgrounds |", "|---|---|---|"]
    for name, label in labels.items():
        found = result["ratios"][name]
        cells = [_seeds(found[style], "{:.2f}") for style in ("font", "background")]
        rows.append(f"| {label} | " + " | ".join(cells) + " |")
    data = result["data"]
    return f"""How often two samples of one prompt differ in font and in background, as told by the judge, relative to held-out data
({made(f"{data['font']:.2f} and {data['background']:.2f}")} of the pairs). Mean over seeds, in brackets the least and the largest.

{made(chr(10).join(rows))}

{source(result)}
"""


def _seeds(values: list[float], form: str) -> str:
    mean = form.format(sum(values) / len(values))
    if len(values) == 1:
        return mean
    return f"{mean} ({form.format(min(values))} to {form.format(max(values))})"

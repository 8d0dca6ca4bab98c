"""Are the audit's verdicts right on runs whose outcome was fixed before? By seeds that set no mark.

The marks of the verdict were set on runs of seed 0. Here runs of seeds 1 and 2 are judged: of
recipes/compare/digits_fronts.toml and digits_ink.toml, DDRL and reverse KL at some strengths, no
regularizer and data alone. No regularizer, and a regularizer at beta 0.1, are labelled as hacked
before judging, the rest as clean. Reads the audits that these comparisons have left; writes
benchmarks/results/blind_verdicts.json.

    ddrl compare recipes/compare/digits_fronts.toml
    ddrl compare recipes/compare/digits_ink.toml
    python benchmarks/blind_verdicts.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

from ddrl.jobs.compare.execute import read_outcome
from ddrl.recipe.comparison import PlannedRun, load_comparison, plan_runs

SEEDS = (1, 2)
METHODS = ("DDRL", "Reverse KL", "No regularizer", "Supervised fine-tuning")
SMALL = 0.1  # beta of a run that is labelled as hacked
BETAS = {"digits_fronts": (SMALL, 0.3, 1.0), "digits_ink": (SMALL, 1.0)}
FIGURES = ("reward", "heldout_loss_change", "diversity", "vendi", "frechet", "judge_accuracy")
KINDS = {
    "drift": "drift",
    "heldout_loss_change": "drift",
    "diversity": "variety",
    "vendi": "variety",
    "frechet": "distance",
    "temporal_frechet": "motion",
    "temporal_change": "motion",
    "judge_accuracy": "measures",
}


def chosen(comparison: str) -> Iterator[PlannedRun]:
    """The runs that are judged."""
    for run in plan_runs(*load_comparison([ROOT / f"recipes/compare/{comparison}.toml"])):
        objective = run.recipe.objective
        has_beta = objective.policy != "none" and objective.regularizer != "none"
        is_asked = not has_beta or objective.beta in BETAS[comparison]
        if run.seed in SEEDS and run.variant in METHODS and is_asked:
            yield run


def is_labelled_hacked(run: PlannedRun) -> bool:
    """What the run was fixed to be, whatever it then did."""
    objective = run.recipe.objective
    if objective.policy == "none":
        return False
    return objective.regularizer == "none" or objective.beta <= SMALL


def kinds(audit: Mapping[str, Any]) -> list[str]:
    """Kinds of signs that the verdict names."""
    found = set()
    for alarm in audit["verdict"]["alarms"]:
        if alarm in audit["pixels"]:
            found.add("pixels")
        else:
            found.add(KINDS.get(alarm, "measures"))
    return sorted(found)


def row(comparison: str, run: PlannedRun) -> dict[str, Any]:
    """One run: its label, its verdict, and the figures behind it."""
    outcome = read_outcome(run)
    if outcome.audit is None:
        sys.exit(f"{run.folder} has no audit; run `ddrl compare recipes/compare/{comparison}.toml`")
    audit = next(one for one in outcome.audit["runs"].values() if not one["is_base"])
    return {
        "comparison": comparison,
        "run": run.label,
        "seed": run.seed,
        "label": "hacked" if is_labelled_hacked(run) else "clean",
        "verdict": audit["verdict"]["status"],
        "kinds": kinds(audit),
        **{name: audit[name] for name in FIGURES},
    }


def main() -> None:
    """Judge, count, write."""
    runs = [(comparison, run) for comparison in BETAS for run in chosen(comparison)]
    rows = [row(comparison, run) for comparison, run in runs]
    right = sum(one["label"] == one["verdict"] for one in rows)
    for one in rows:
        print(f"{one['run']:28s} seed {one['seed']}  {one['label']:6s}  {one['verdict']}")
    print(f"{right} of {len(rows)} as labelled")
    write_result(
        "blind_verdicts",
        {"rows": rows, "right": right},
        script=__file__,
        files=[f"recipes/compare/{comparison}.toml" for comparison in BETAS],
        seeds=SEEDS,
        runs=[run.folder for _, run in runs],
    )


if __name__ == "__main__":
    main()

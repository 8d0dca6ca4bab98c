"""Write what is made from the code and from committed results: pages, tables, figures in sentences.

python docs/generate.py                 write them
python docs/generate.py --check         exit 1 and name the files that are out of date
python docs/generate.py --allow-dirty   publish results of work in progress, too, and say so

Results that were made with files that are not committed are refused, and so is a sentence that
the results no longer bear out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from blocks import filled, pages
from evidence import USED, evidence
from results import ROOT, StaleError, made, plain, read_result, unfit

from ddrl.recipe import options_table
from ddrl.training.logs.metrics import glossary_table

MADE = "<!-- Made by docs/generate.py; edit that instead. -->\n\n"
PROGRESS = (
    "**Work in progress.** Some of these results were made with files that are not committed, or do not say from\n"
    "which: {names}.\n\n"
)
IN_PARTS = ("blind_verdicts", "stop_on_hack", "memory", "reward_audit_ink", "tutorial", "hacking")


def recipes_page() -> str:
    """Every key of a recipe."""
    return f"""# Recipes

{MADE}A recipe is a TOML file that says what a run is. Keys that are left out have the defaults below. A key
that does not exist is an error that names the nearest one. `section.key=value` on the command line sets
a key otherwise: `ddrl train recipes/digits.toml objective.beta=0.3`. A number that can be switched off is
off at 0. The run's folder keeps the whole recipe as `recipe.toml`. `ddrl explain objective.beta` says
what a key means, what it takes and which recipes set it; `ddrl explain objective` lists the keys of a
section.

`ddrl recipe list` names the recipes that come with ddrl. Commands take a name in place of a file:
`ddrl train digits`. A file of that name in the working folder, with or without `.toml`, comes first, and
the log says so. `ddrl recipe copy digits` writes a copy that you can change; it overwrites a file only
with `--force`.

Relative paths start at the folder in which the command runs. `~` and `$VARIABLE` mean what they mean in a
shell. The run keeps absolute paths, so its folder works from anywhere. If the base, the data or the device
of a finished run has changed its place, name the new one:
`ddrl sample RUN run.device=cpu data.path=PATH --model PATH` (also `evaluate` and `export`). Base and data
are compared by content. What is part of the model can't be changed.

The same command resumes a run. A resume may change how long the run is, what is watched, and how it is
computed: `run.steps`, `evaluation`, `guard`, checkpoints, and `run.device`, `run.micro_batch`,
`model.offload` and the like, after which the log says that last bits may differ. Any other change would
make another run: it is refused, with a list of the differences.

{made(options_table())}"""


def metrics_page() -> str:
    """Every metric."""
    return f"""# Metrics

{MADE}Every iteration writes these to `metrics.jsonl` in the run's folder, one JSON object per line, and to
TensorBoard and Weights & Biases. Dashboards group the metrics and show the deciding ones first;
TensorBoard's tab "Custom scalars" has those in one place, next to samples, verdicts and the recipe.
`tensorboard --logdir runs` names each run after its folder.

The held-out loss and `audit/*` are measured after a step. They are a line of their own with the same
`step`, which may come later when audits run in another process. `ddrl.training.logs.sinks.read_metrics` joins
the lines of a step.

{made(glossary_table())}"""


def evidence_page() -> str:
    """What was measured, from benchmarks/results."""
    names = unfit_results()
    note = PROGRESS.format(names=", ".join(f"`{name}`" for name in names)) if names else ""
    return f"""# Evidence

{MADE}{note}This code measured every number on this page. The tables, and the figures in the sentences around them, are made
from the files in `benchmarks/results`, which name commits, sources, hardware and seeds. If new results contradict a sentence, the script
that makes this page stops. Tables that an earlier version measured say so below them; their intervals are
percentiles of a bootstrap, and those of later tables are Student's (see [Evaluation](evaluation.md)).

{evidence()}"""


def security_page() -> str:
    """SECURITY.md, which lies where hosts of repositories look for it."""
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    return text.replace("# Security\n\n", f"# Security\n\n{MADE}", 1)


def unfit_results() -> dict[str, str]:
    """The results that must not be published, and why."""
    found = {}
    for name in (*USED, *IN_PARTS):
        try:
            why = unfit(read_result(name))
        except StaleError:
            why = "is not there"
        if why:
            found[name] = why
    return found


WHOLE: dict[str, Callable[[], str]] = {
    "docs/recipes.md": recipes_page,
    "docs/metrics.md": metrics_page,
    "docs/evidence.md": evidence_page,
    "docs/security.md": security_page,
}


def marked_pages(*, lenient: bool = False) -> dict[str, str]:
    """Every file that is made, in whole or in part, with marks around what was computed."""
    texts = {name: make() for name, make in WHOLE.items()}
    for name in pages():
        if name not in texts:
            texts[name] = filled((ROOT / name).read_text(encoding="utf-8"), lenient=lenient)
    return texts


def out_of_date(texts: dict[str, str], root: Path = ROOT) -> list[str]:
    """The files that are not what the code and the results say."""
    return [
        name
        for name, text in texts.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != plain(text)
    ]


def main() -> int:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing, name what is out of date"
    )
    parser.add_argument("--allow-dirty", action="store_true", help="publish work in progress")
    arguments = parser.parse_args()
    refused = {} if arguments.allow_dirty else unfit_results()
    if refused:
        print("error: results that can't be published:", file=sys.stderr)
        for name, why in refused.items():
            print(f"  benchmarks/results/{name}.json {why}", file=sys.stderr)
        print(
            "hint: commit what they use and run `make evidence`; --allow-dirty publishes work in progress",
            file=sys.stderr,
        )
        return 1
    try:
        texts = marked_pages(lenient=arguments.allow_dirty)
    except StaleError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    stale = out_of_date(texts)
    if arguments.check:
        if stale:
            print(f"out of date: {', '.join(stale)}; run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for name in stale:
        (ROOT / name).write_text(plain(texts[name]), encoding="utf-8")
        print(f"written: {name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

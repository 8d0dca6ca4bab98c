"""Every measurement of the documentation again, in order: what `make evidence` runs.

    python benchmarks/evidence.py --list       what is measured, by which commands, how long it took
    python benchmarks/evidence.py              all of it, then the pages and the pictures
    python benchmarks/evidence.py digits flow  some of it, and nothing else

Runs that are there are found again and not trained anew: remove runs/ where everything is to be of
one commit. It refuses to begin from a tree in which files that are used are not committed, since
such results could not be published.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import RESULTS, ROOT, write_result

from ddrl.recipe.comparison import load_comparison
from ddrl.runs.provenance import DIRTY, commit_of_source

USED = ("benchmarks/" + path.name for path in Path(__file__).parent.glob("*.py"))
TIMES = "times"
DEMO = "runs/demo"


@dataclass(frozen=True)
class Step:
    """One measurement.

    Attributes:
        name: of its result file, without the ending; of the step where it has none.
        commands: as typed in the repository's root; `python` and `ddrl` are this environment's.
        comparison: whose numbers become the result.
    """

    name: str
    commands: tuple[str, ...]
    comparison: str = ""


def _compared(name: str, *before: str, recipe: str = "", options: str = "") -> Step:
    recipe = recipe or f"recipes/compare/{name}.toml"
    command = f"ddrl compare {recipe} {options}".strip()
    return Step(f"compare_{name}", (*before, command), recipe)


def _script(name: str, script: str, arguments: str = "") -> Step:
    return Step(name, (f"python benchmarks/{script}.py {arguments}".strip(),))


STEPS = (
    _script("digits", "digits_evidence"),
    _compared("digits"),
    _compared("digits_fronts"),
    _compared("digits_synthetic"),
    _compared("digits_options", options="--seeds 0"),
    _compared(
        "digits_ensemble",
        "python benchmarks/digits_ensemble.py",
        recipe="runs/ensemble/compare.toml",
        options="--seeds 0",
    ),
    _compared("digits_ink"),
    _script("blind_verdicts", "blind_verdicts"),
    _script("stop_on_hack", "stop_on_hack"),
    _script("hacking", "hacking"),
    _script("one_stage", "one_stage"),
    _script("flow", "flow_evidence"),
    _script("interval_coverage", "interval_coverage"),
    _compared("moving_digits"),
    _compared("moving_digits_image", options="--seeds 0"),
    _compared("words", options="--workers 2"),
    _script("words_styles", "words_styles", "runs/compare/words"),
    _script("iteration", "bench_iteration"),
    _script("overlap", "bench_overlap"),
    _script("passes", "bench_passes"),
    _script("memory", "memory_evidence"),
    _script("real_size_analytic", "real_size"),
    _script("reward_audit_ink", "reward_audit_example"),
    _script("tutorial", "tutorial"),
    Step(
        "demo",
        (
            "ddrl train recipes/digits.toml",
            "ddrl train recipes/digits.toml objective.regularizer=none"
            " run.folder=runs/digits-no-regularizer",
            f"ddrl evaluate runs/digits runs/digits-no-regularizer --out {DEMO}",
        ),
    ),
)
PAGES = (
    "python docs/generate.py",
    "python docs/figures.py --runs",
    "python docs/hacking_pictures.py --runs",
)


def run(command: str) -> None:
    """Run a command in the repository's root; what it says goes to the terminal."""
    print(f"$ {command}", flush=True)
    program, *arguments = shlex.split(command)
    words = [sys.executable, *(["-m", "ddrl"] if program == "ddrl" else []), *arguments]
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=ROOT, env={**os.environ, **threads}, check=False)
    if done.returncode:
        sys.exit(f"error: `{command}` ended with {done.returncode}; the same command goes on here")


def measure(step: Step) -> float:
    """Run a step, and put a comparison's numbers beside the other results; the seconds it took."""
    start = time.monotonic()
    for command in step.commands:
        run(command)
    if step.comparison:
        comparison, _ = load_comparison([ROOT / step.comparison])
        shutil.copy(ROOT / comparison.folder / "comparison.json", RESULTS / f"{step.name}.json")
    return time.monotonic() - start


def times() -> dict[str, float]:
    """How long steps took when they were last run."""
    path = RESULTS / f"{TIMES}.json"
    found: dict[str, float] = json.loads(path.read_text())["seconds"] if path.exists() else {}
    return found


def show() -> None:
    """Print the steps, and how long they took."""
    took = times()
    for step in STEPS:
        seconds = took.get(step.name)
        print(f"{step.name:28s} {'not timed' if seconds is None else f'{seconds / 60:.1f} min'}")
        for command in step.commands:
            print(f"    {command}")
    known = [took[step.name] for step in STEPS if step.name in took]
    print(f"{sum(known) / 3600:.1f} h for {len(known)} of {len(STEPS)} steps; then:")
    for command in PAGES:
        print(f"    {command}")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("steps", nargs="*", help="some of them; all without, and the pages, too")
    parser.add_argument("--list", action="store_true", help="say what would be done")
    parser.add_argument("--allow-dirty", action="store_true", help="measure work in progress")
    arguments = parser.parse_args()
    if arguments.list:
        show()
        return
    unknown = sorted(set(arguments.steps) - {step.name for step in STEPS})
    if unknown:
        parser.error(f"no step is called {unknown[0]}; --list names them")
    used = [ROOT / "recipes", *(ROOT / name for name in USED)]
    if not arguments.allow_dirty and commit_of_source(used).endswith(DIRTY):
        sys.exit(
            "error: files that are measured are changed or not committed; `git status` names them\n"
            "hint: commit them, or use --allow-dirty for results that can't be published"
        )
    for step in STEPS:
        if not arguments.steps or step.name in arguments.steps:
            took = {**times(), step.name: round(measure(step), 1)}
            write_result(TIMES, {"seconds": took}, script=__file__)
    if not arguments.steps:
        for command in PAGES:
            run(command)


if __name__ == "__main__":
    main()

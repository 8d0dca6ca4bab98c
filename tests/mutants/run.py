"""Plants the faults of the tables one by one, and counts those that no test notices.

    python -m tests.mutants.run [--package NAME ...] [--only TEXT ...] [--changed [REF]] [--jobs N]

Each fault goes into a copy of the source in a temporary folder. A process that has imported torch
and its like forks for each, so that a fault costs its tests and little more; the tests stop at the
first failure. All tests have to pass without a fault first, which also says how long they take: a
fault with which they take much longer counts as noticed.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import os
import py_compile
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from tests.mutants.tables import ROOT, SOURCE, Mutant, Table, read_tables

# What tests import, but for ddrl itself: loaded once, before the first fork.
LOADED = [
    "beartype",
    "hypothesis",
    "jaxtyping",
    "matplotlib.pyplot",
    "numpy",
    "PIL.Image",
    "pydantic",
    "pytest",
    "rich.console",
    "safetensors.torch",
    "scipy.interpolate",
    "scipy.stats",
    "torch",
    "torch.utils.tensorboard",
    "typer",
]
LOADED_FOR = {
    "models": ("diffusers", "peft", "transformers"),
    "data": ("av", "pyarrow.parquet"),
}
PASSED, NO_TESTS = 0, 5


@dataclass
class Slot:
    """A copy of the source, for one process at a time."""

    folder: Path
    job: Mutant | tuple[str, ...] | None = None
    pid: int = 0
    started: float = 0.0
    limit: float = 0.0

    @property
    def log(self) -> Path:
        return self.folder / "log"


@dataclass
class Fleet:
    """Slots, and the jobs that wait for one: each is a mutant, or test files without any fault."""

    slots: list[Slot]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, jobs: Iterable[Mutant | tuple[str, ...]]) -> Iterator[tuple[Slot, int | None]]:
        """Do the jobs; yield each one's slot, and its exit status or None after its time limit."""
        waiting = list(jobs)
        while waiting or any(slot.job for slot in self.slots):
            for slot in self.slots:
                if slot.job is None and waiting:
                    self._start(slot, waiting.pop(0))
            done = False
            for slot in self.slots:
                if slot.job is None:
                    continue
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                late = not pid and time.monotonic() - slot.started > slot.limit
                if not pid and not late:
                    continue
                if late:
                    os.killpg(slot.pid, signal.SIGKILL)
                    os.waitpid(slot.pid, 0)
                yield slot, None if late else os.waitstatus_to_exitcode(status)
                if isinstance(slot.job, Mutant):
                    shutil.copyfile(SOURCE / slot.job.file, slot.folder / "ddrl" / slot.job.file)
                slot.job, done = None, True
            if not done:
                time.sleep(0.02)

    def _start(self, slot: Slot, job: Mutant | tuple[str, ...]) -> None:
        if isinstance(job, Mutant):
            (slot.folder / "ddrl" / job.file).write_text(job.applied(), encoding="utf-8")
            tests = job.tests
            slot.limit = 20 + 4 * sum(self.seconds[test] for test in tests)
        else:
            tests, slot.limit = job, 600
        slot.job, slot.started = job, time.monotonic()
        slot.pid = os.fork()
        if not slot.pid:
            _test(slot, tests)


def _test(slot: Slot, tests: Sequence[str]) -> NoReturn:
    """In a forked process: run test files against the slot's source, and end."""
    status = 70
    try:
        os.setpgid(0, 0)  # with all that the tests start
        with slot.log.open("w") as log:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        sys.path.insert(0, str(slot.folder))
        os.environ["PYTHONPATH"] = os.pathsep.join([str(slot.folder), str(ROOT)])
        import hypothesis
        import pytest

        found = [
            hypothesis.Phase.explicit,
            hypothesis.Phase.generate,
        ]  # no search for a smaller one
        hypothesis.settings.register_profile("mutants", phases=found)
        hypothesis.settings.load_profile("mutants")
        options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
        options += ["--basetemp", str(slot.folder / "tmp"), "--tb=short"]
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of what is loaded already
        status = int(pytest.main([*options, *(str(ROOT / "tests" / test) for test in tests)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


@contextlib.contextmanager
def fleet(size: int) -> Iterator[Fleet]:
    """Slots in a temporary folder, with the source compiled."""
    with tempfile.TemporaryDirectory(prefix="ddrl-mutants-") as temporary:
        slots = []
        for number in range(size):
            folder = Path(temporary) / str(number)
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(SOURCE, folder / "ddrl", ignore=ignored)
            # By the hash of the text and not its date: a fault is seen, and nothing else compiled.
            mode = py_compile.PycInvalidationMode.CHECKED_HASH
            compileall.compile_dir(folder, quiet=1, invalidation_mode=mode)
            slots.append(Slot(folder))
        try:
            yield Fleet(slots)
        finally:
            for slot in slots:
                if slot.job is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(slot.pid, signal.SIGKILL)


def prepare(packages: Iterable[str]) -> None:
    """Import what forked processes need, and nothing of ddrl."""
    sys.dont_write_bytecode = True
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    os.environ.setdefault("MPLBACKEND", "agg")
    extra = [name for package in packages for name in LOADED_FOR.get(package, ())]
    for name in [*LOADED, *extra]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    assert "ddrl" not in sys.modules


def changed_files(ref: str) -> set[str]:
    """What differs from a commit, and files that git doesn't know yet."""
    commands = (["diff", "--name-only", ref], ["ls-files", "--others", "--exclude-standard"])
    found = [
        subprocess.run(["git", *c], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for c in commands
    ]
    return set("".join(found).split("\n"))


def chosen(table: Table, *, only: Sequence[str], changed: set[str] | None) -> list[Mutant]:
    """The mutants to plant, without those that are known to change nothing."""
    return [
        mutant
        for mutant in table.mutants
        if not mutant.equivalent
        and (not only or any(text in f"{mutant.file} {mutant.old}" for text in only))
        and (
            changed is None
            or f"src/ddrl/{mutant.file}" in changed
            or any(f"tests/{test}" in changed for test in mutant.tests)
        )
    ]


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def check_without_faults(ships: Fleet, tests: Iterable[str]) -> bool:
    """Run each test file alone; remember its time, and say which of them fail."""
    good = True
    for slot, status in ships.run((test,) for test in tests):
        assert isinstance(slot.job, tuple)
        (test,) = slot.job
        ships.seconds[test] = time.monotonic() - slot.started
        if status not in (PASSED, NO_TESTS):
            good = False
            say(f"tests/{test} fails without any fault:\n{slot.log.read_text()[-800:]}")
    return good


def measure(table: Table, mutants: list[Mutant], ships: Fleet) -> bool:
    """Plant the mutants of one package; print its survivors and rate, and whether it is enough."""
    start, survivors, slow = time.monotonic(), [], 0
    tests = dict.fromkeys(test for mutant in mutants for test in mutant.tests)
    if not check_without_faults(ships, (test for test in tests if test not in ships.seconds)):
        return False
    for slot, status in ships.run(mutants):
        assert isinstance(slot.job, Mutant)
        slow += status is None
        if status in (PASSED, NO_TESTS):
            survivors.append(slot.job)
            say(f"survives  {slot.job.title}")
    rate = 1 - len(survivors) / len(mutants)
    say(
        f"{table.package:12} {len(mutants) - len(survivors):3} of {len(mutants):3} killed: "
        f"{rate:.3f} (target {table.target:.2f}), {slow} by time, "
        f"{time.monotonic() - start:.0f} s"
    )
    return rate >= table.target


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--package", nargs="*", default=[], help="tables, by name; default all")
    parser.add_argument(
        "--only", nargs="*", default=[], help="texts; the file's name or old text contains one"
    )
    parser.add_argument(
        "--changed",
        nargs="?",
        const="main",
        help="only where source or tests differ from this commit (default main)",
    )
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    options = parser.parse_args()
    tables = read_tables()
    unknown = set(options.package) - {table.package for table in tables}
    if unknown:
        parser.error(f"there is no table {', '.join(sorted(unknown))}")
    changed = None if options.changed is None else changed_files(options.changed)
    wanted = [
        (table, mutants)
        for table in tables
        if (not options.package or table.package in options.package)
        and (mutants := chosen(table, only=options.only, changed=changed))
    ]
    broken = [line for _, mutants in wanted for m in mutants for line in m.problems()]
    if broken:
        say("\n".join(broken))
        return 2
    prepare(table.package for table, _ in wanted)
    os.chdir(ROOT)
    with fleet(options.jobs) as ships:
        enough = [measure(table, mutants, ships) for table, mutants in wanted]
    return 0 if all(enough) else 1


if __name__ == "__main__":
    sys.exit(main())

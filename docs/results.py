"""What the pages are made from: result files, their origin, and figures that know they are figures.

Every figure that is computed from a result is wrapped by :func:`made` in two marks that no reader
sees: they are taken out when a page is written, and `tests/house/test_claims.py` tells by them what
was computed from what was typed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
DIRTY = "-dirty"
OPEN, CLOSE = "\ue000", "\ue001"
WORDS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


class StaleError(Exception):
    """A sentence that the results no longer bear out, or a result that can't be published."""


def made(text: object) -> str:
    """Mark a text as computed from results."""
    return f"{OPEN}{text}{CLOSE}"


def plain(text: str) -> str:
    """The text without marks, as it is written."""
    return text.replace(OPEN, "").replace(CLOSE, "")


def typed(text: str) -> str:
    """What of a text was typed and not computed; lines stay where they are."""
    computed = re.compile(f"{OPEN}[^{OPEN}{CLOSE}]*{CLOSE}")
    while computed.search(text):
        text = computed.sub(lambda found: "\n" * found[0].count("\n"), text)
    return text


def holds(condition: bool, text: str, *, found: object = "") -> str:
    """The text, if what it says is so.

    Raises:
        StaleError: it is not: someone has to look at the new results and write what they say.
    """
    if not condition:
        raise StaleError(
            f'the results no longer bear out: "{" ".join(plain(text).split())}"'
            + (f" (found: {found})" if found != "" else "")
            + "; write what they say now, where docs/ has this sentence"
        )
    return text


@lru_cache
def read_result(name: str, folder: Path = RESULTS) -> dict[str, Any]:
    """A file of benchmarks/results.

    Raises:
        StaleError: it is not there.
    """
    try:
        result: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StaleError(
            f"benchmarks/results/{name}.json is not there; `python benchmarks/evidence.py --list` says "
            "what makes it"
        ) from None
    return result


def commits(result: dict[str, Any]) -> list[str]:
    """All commits that a result names; empty names where it does not say."""
    origin = result.get("provenance", {})
    keys = ("trained_at", "audited_at", "reported_at")
    return [name for key in keys for name in origin.get(key, [""])]


def earlier(result: dict[str, Any]) -> str:
    """The commit that a result of an earlier version names; empty for one of today's form."""
    if "provenance" in result:
        return ""
    told = result.get("environment", {}).get("Code", "").partition("commit ")[2]
    return str(result.get("commit") or told)


def unfit(result: dict[str, Any]) -> str:
    """Why a result must not be published; empty where it may."""
    if "provenance" not in result:
        return "" if earlier(result) else "does not say which sources it was made from"
    if any(not name for name in commits(result)):
        return "was made outside of a commit"
    if any(name.endswith(DIRTY) for name in commits(result)):
        return "was made with files that were changed or not committed"
    return ""


def source(result: dict[str, Any], note: str = "") -> str:
    """Where a table is from, in one line."""
    origin = result.get("provenance")
    if origin is None:
        machine = result.get("hardware") or result.get("machine")
        machine = machine or result["environment"]["Hardware"]
        again = f" Repeat: `{result['reproduce']}`." if "reproduce" in result else ""
        return made(
            f"Measured by an earlier version, at commit {_short(earlier(result))}, {machine}; not measured again "
            f"since results record their sources.{again}"
        )
    trained, audited = (
        " and ".join(_short(name) for name in origin[key]) for key in ("trained_at", "audited_at")
    )
    where = f"Commit {trained}"
    if trained != audited:
        where = f"Trained at commit {trained}, audited at another commit, {audited}"
    versions = origin["versions"]
    parts = [where, origin["hardware"], f"PyTorch {versions['torch']}"]
    if origin["seeds"]:
        parts.append(f"seeds {', '.join(map(str, origin['seeds']))}")
    text = f"{', '.join(parts)}. Repeat: `{origin['command']}`."
    return made(f"{text} {note}".strip())


def _short(commit: str) -> str:
    name = commit.removesuffix(DIRTY)
    return f"`{name[:12]}{DIRTY if commit.endswith(DIRTY) else ''}`" if commit else "unknown"


class Table:
    """A comparison's rows, by label.

    Args:
        name: of its file.
    """

    def __init__(self, name: str) -> None:
        self.result = read_result(name)
        self.rows = {cell["label"]: cell for cell in self.result["cells"]}

    def seeds(self, label: str, key: str) -> list[float]:
        """A figure of every seed; of the base where the label is empty.

        Raises:
            StaleError: there is no such row.
        """
        if label and label not in self.rows:
            raise StaleError(f"{self.result['title']}: no row is called {label!r} any more")
        row = self.rows[label] if label else self.result["base"]
        return [float(value) for value in row["figures"][key]["per_seed"]]

    def mean(self, label: str, key: str) -> float:
        """A figure, mean over seeds."""
        return fmean(self.seeds(label, key))

    def verdicts(self, *labels: str) -> list[str]:
        """Verdicts of all seeds of some rows."""
        return [word for label in labels for word in self.rows[label]["verdicts"]]

    def of(self, variant: str) -> list[str]:
        """The labels of a method, over its strengths."""
        return [label for label, cell in self.rows.items() if cell["variant"] == variant]

    def at(self, variant: str, reward: float, key: str) -> float:
        """A figure of a method at a reward, between its strengths."""
        points = sorted((self.mean(row, "reward"), self.mean(row, key)) for row in self.of(variant))
        if not points[0][0] <= reward <= points[-1][0]:
            raise StaleError(f"{variant} does not reach the reward {reward:.2f}")
        for (low, first), (high, second) in pairwise(points):
            if low <= reward <= high:
                return first + (second - first) * (reward - low) / (high - low)
        return points[-1][1]

    def share(self, label: str, of: str, key: str = "reward") -> float:
        """The part of another row's gain on the base that a row has."""
        start = self.mean("", key)
        return (self.mean(label, key) - start) / (self.mean(of, key) - start)

    def shares(self, label: str, of: str, key: str = "reward") -> list[float]:
        """The same seed by seed, of the seeds that both have."""
        start = self.mean("", key)
        ours, theirs = (
            dict(zip(self.rows[r]["seeds"], self.seeds(r, key), strict=True)) for r in (label, of)
        )
        return [(ours[s] - start) / (theirs[s] - start) for s in ours if s in theirs]


def num(value: float, digits: int = 2) -> str:
    """A number."""
    return made(f"{value:.{digits}f}".replace("-0.00", "0.00"))


def pct(value: float, digits: int = 1) -> str:
    """A change as a percentage, with its sign."""
    return made(f"{100 * value:+.{digits}f} %")


def part(value: float) -> str:
    """A share as a whole percentage."""
    return made(f"{100 * value:.0f} %")


def span(values: Iterable[float], digits: int = 2) -> str:
    """The least and the largest."""
    found = sorted(values)
    low, high = f"{found[0]:.{digits}f}", f"{found[-1]:.{digits}f}"
    return made(low if low == high else f"{low} to {high}")


def percents(values: Sequence[float], digits: int = 1) -> str:
    """The least and the largest, in percent."""
    low, high = (f"{100 * value:+.{digits}f}" for value in (min(values), max(values)))
    return made(f"{low} %" if low == high else f"{low} to {high} %")


def listed(texts: Sequence[str]) -> str:
    """a, b and c."""
    return made(texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}")


def word(count: int) -> str:
    """A small number in words."""
    return made(WORDS[count] if count < len(WORDS) else str(count))


def some(count: int, total: int) -> str:
    """How many of how many, in words."""
    if count == total:
        return made(f"all {word(total)}" if total > 1 else "the only one")
    return made(f"{word(count)} of the {word(total)}")

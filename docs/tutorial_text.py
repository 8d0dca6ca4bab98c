"""What the tutorial's commands printed, and whether its sentences are still true."""

from __future__ import annotations

import textwrap
from typing import Any

from results import holds, made, read_result, source

__all__ = ["time_block", "tutorial_block"]

WIDTH = 100
LOSS = "heldout_loss_change"


def tutorial_block(argument: str) -> str:
    """What one of the commands printed.

    Args:
        argument: which of them: a letter, `a` is the first.
    """
    result = read_result("tutorial")
    _check(result["reports"])
    command, lines = list(result["printed"].items())[ord(argument) - ord("a")]
    body = "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines)
    return made(f"\n```\n{body}\n```\n") if command else ""


def time_block(_: str) -> str:
    """How long all of it takes."""
    result = read_result("tutorial")
    return f"\nAll commands of this page took {made(format(result['minutes'], '.0f'))} minutes.\n\n{source(result)}\n"


def _check(reports: dict[str, dict[str, Any]]) -> None:
    """The page's own sentences, against what was measured."""
    pair, busy = reports["compared"], reports["busy"]
    verdicts = {name: run["verdict"] for name, run in {**pair, **busy}.items() if name != "base"}
    wanted = {"digits": "clean", "hacked": "hacked", "edges": "clean", "stripes": "hacked"}
    holds(verdicts == wanted, "what the audit finds", found=verdicts)
    holds(
        0.28 < pair["base"]["judge_accuracy"] < 0.42,
        "asked for a seven it draws one about every third time",
        found=pair["base"]["judge_accuracy"],
    )
    holds(
        pair["digits"][LOSS] < 0 and pair["hacked"]["reward"] > pair["digits"]["reward"],
        "By its reward the second run is the better one, and the loss fell in the first",
        found=pair,
    )
    holds(
        pair["hacked"]["judge_accuracy"] > 0.95,
        "the judge calls nearly every sample of the hacked run the right digit",
        found=pair["hacked"]["judge_accuracy"],
    )
    holds(
        busy["base"]["reward"] < busy["edges"]["reward"] < busy["stripes"]["reward"],
        "With data it draws digits, a little busier than before",
        found=busy,
    )

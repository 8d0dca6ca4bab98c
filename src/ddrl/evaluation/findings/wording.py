"""Numbers as people read them: in verdicts, tables and axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ddrl.evaluation.measures.statistics import Basis

# Longer phrases first: the verb follows the number.
_BESIDE_BASE = {
    "Real data is": "Samples of the base are",
    "real data is": "samples of the base are",
    "real data does": "samples of the base do",
    "Real data": "Samples of the base",
    "real data": "samples of the base",
    "Real clips": "Clips of the base",
    "real clips": "clips of the base",
    "as real ones": "as those of the base",
    "from real ones": "from those of the base",
}

NOT_MEASURED = "not measured"


def number(value: float, decimals: int = 2) -> str:
    """Return a number with fixed decimals, never "-0.00"; "not measured" if it is not finite."""
    if not math.isfinite(value):
        return NOT_MEASURED
    text = f"{value:.{decimals}f}"
    return text.removeprefix("-") if float(text) == 0.0 else text


def pair(first: float, second: float) -> tuple[str, str]:
    """Two numbers with as many decimals as show their difference to two digits.

    One decimal more is spent where a number that is not 0 would read as 0: (-6.12, -0.03).
    """
    gap = abs(second - first)
    if not math.isfinite(gap) or gap == 0.0:
        return number(first), number(second)
    decimals = min(max(1 - math.floor(math.log10(gap)), 0), 6)
    if any(value != 0.0 and round(value, decimals) == 0.0 for value in (first, second)):
        decimals += 1
    return number(first, decimals), number(second, decimals)


def percent(fraction: float) -> str:
    """Return a fraction in percent: 1.26 -> "126 %", 0.021 -> "2.1 %", 0.1 -> "10 %"."""
    if not math.isfinite(fraction):
        return NOT_MEASURED
    text = number(100.0 * fraction, 0 if abs(fraction) >= 0.9995 else 1)
    return f"{text.removesuffix('.0')} %"


def signed_percent(fraction: float, decimals: int = 1) -> str:
    """Return a fraction in percent with its sign: 0.126 -> "+12.6 %", -0.02 -> "-2.0 %"."""
    if not math.isfinite(fraction):
        return NOT_MEASURED
    text = number(100.0 * fraction, decimals)
    sign = "" if float(text) <= 0.0 else "+"
    return f"{sign}{text} %"


def change(fraction: float) -> str:
    """Return a relative change as a verb: "rose by 126 %", "fell by 2.1 %", "did not change"."""
    if math.isinf(fraction):
        return "grew beyond all bounds" if fraction > 0 else "fell beyond all bounds"
    if abs(fraction) < 0.0005:
        return "did not change"
    return f"{'rose' if fraction > 0 else 'fell'} by {percent(abs(fraction))}"


def sampled(basis: Basis, what: str = "sample") -> str:
    """Return how much was measured: "500 samples of 10 prompts"."""
    samples, prompts = basis.num_samples, basis.num_prompts
    return (
        f"{samples} {what}{'' if samples == 1 else 's'} of {prompts} "
        f"prompt{'' if prompts == 1 else 's'}"
    )


def drawn(basis: Basis) -> str:
    """Return what an interval is over: "prompts", or samples of prompts that are all there are."""
    return (
        "prompts" if basis.unit == "prompt" else "samples within prompts, which are all there are"
    )


def beside_base(text: str) -> str:
    """Return a text on real data in words for samples of the base, where these stand for it."""
    for real, base in _BESIDE_BASE.items():
        text = text.replace(real, base)
    return text


def column_decimals(values: Sequence[float]) -> int:
    """Return the decimals with which a table column's smallest entry keeps three digits."""
    sizes = [abs(value) for value in values if math.isfinite(value) and value != 0.0]
    if not sizes:
        return 2
    return min(max(2 - math.floor(math.log10(min(sizes))), 0), 2)


def duration(seconds: float) -> str:
    """Return a time span: "35 s", "4 min 10 s", "2 h 5 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

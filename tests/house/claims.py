"""Which numbers of a text are measurements that nothing computes.

A page states figures of three kinds. Those that `docs/generate.py` computes from result files are
in marks and not looked at here; those that are no measurement are known by the rules below; what
is left was typed by hand, and nobody would notice when it stops being true.
"""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NUMBER = re.compile(r"(?<![\w.])(?:(?<=[\s(|])[-+\u2212])?(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d+)?")

VALUE = r"[\d.]+(?:e-?\d+)?"
COUNTED = (
    "samples?|images?|pictures?|clips?|frames?|prompts?|steps?|iterations?|words?|letters?|colours?|digits?|"
    "captions?|tokens?|pixels?|patch(?:es)?|bins?|seeds?|layers?|classes|rounds|GPUs?|million|cores?|"
    "dimensions|lines?|levels|(?:latent|rendered|given|data|text) \\w+"
)
UNIT = r"%|percent|m?s\b|seconds|minutes|hours|[kKMG]i?B\b|times|points|of(?: the)? \d"
RULES = {
    "code": r"`[^`\n]*[^\W\d][^`\n]*`",  # a number alone in code is still a number
    "link": r"\]\([^)\s]*\)|https?://\S+|arXiv[ \n#]+\[?\d{4}\.\d{5}|\[\d{4}\.\d{5}\]",
    "date": r"\b20\d\d-\d\d-\d\d\b",
    "identifier": r"\b[^\W\d][\w./]*-?\d[\w.-]*",  # SD3.5, Apache-2.0, float32
    "version": r"\b(?:Python|PyTorch|NumPy|transformers|SD|version|setuptools below)"
    r" \d[\d.]*",
    "size": r"\b\d+ ?[x\u00d7] ?\d+(?: ?[x\u00d7] ?\d+)*|\b\d+ KiB\b|\b(?:width|multiple of) \d+",
    "count": rf"\b\d+(?:,? \d+)*(?:[ \n](?:000|to \d+|and \d+|or \d+))?[ \n](?:{COUNTED})\b",
    "hardware": r"\b(?:of|with) \d+(?: and \d+)? GB\b|\((?:\d+ and )?\d+ GB\)",
    "status": r"\b(?:HTTP|status|exit code) \d+",
    "setting": rf"\b(?:beta|kappa|eta|rank|rate|seeds?|weight|decay|warm-up of|cut at|quality)"
    rf"[ \n]{VALUE}(?:, {VALUE})*(?: and {VALUE})?|[a-z_]+\.[a-z_]+ ?= ?{VALUE}",
    "default": rf"\bdefault {VALUE}|\b{VALUE} unless set",
    "tolerance": r"\b\d+e-\d+\b",
    "range": r"[\[(]-?[\d.]+, ?-?[\d.]+[\])]",
    "confidence": r"\b95 %[ \n](?:bootstrap )?intervals?|interval that holds at 95 %",
    "target": rf"\baim was(?: a \w+ of)? {VALUE}|\brest {VALUE} % above|\bby about {VALUE} %",
    "limit": rf"\b(?:at most|up to) \d+(?! ?(?:{UNIT})|\d|\.\d)",
    "small": rf"(?<![\w.\u2212-])(?<![\s(|]\+)(?:\d|10)(?! ?(?:{UNIT})|[\w.]*\d)",
}
"""Kinds of numbers that are no measurement, and how they are written.

``small`` are whole numbers up to ten that are no share, time, size in memory, or ratio.
"""

PAPER = re.compile(
    r"<!-- from the paper -->.*?<!-- end of the paper -->|[^\s|]+ \[p\]|the paper: [^\n]*",
    re.DOTALL,
)
FENCE = re.compile(r"^ *```\w+\n.*?^ *```", re.MULTILINE | re.DOTALL)
COMMENTED_COMMAND = re.compile(r"^#   .*$", re.MULTILINE)
ALLOWED = re.compile("|".join(f"(?P<{name}>{rule})" for name, rule in RULES.items()))


@dataclass(frozen=True)
class Unexplained:
    """A number that is typed, and is not known to be anything else than a measurement."""

    file: str
    line: int
    number: str
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.number} in {self.text.strip()!r}"


def _blank(found: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", found[0])


def numbers(text: str, file: str) -> Iterator[Unexplained]:
    """The numbers of a text that no rule knows; computed ones are taken out of it before."""
    lines = text.splitlines()
    rest = FENCE.sub(_blank, PAPER.sub(_blank, text))
    rest = ALLOWED.sub(_blank, rest)
    for found in NUMBER.finditer(rest):
        line = rest.count("\n", 0, found.start())
        yield Unexplained(file, line + 1, found[0], lines[line])


def comments(text: str) -> str:
    """The comments of a TOML file, in their lines; commands in them are blank."""
    kept = []
    for line in text.splitlines():
        outside = re.sub(r'"[^"\n]*"', lambda found: " " * len(found[0]), line)
        at = outside.find("#")
        kept.append("" if at < 0 else COMMENTED_COMMAND.sub("", line[at:]))
    return "\n".join(kept)


def docstrings(path: Path) -> str:
    """The docstrings and comments of a module, in their lines."""
    source = path.read_text(encoding="utf-8")
    lines = [""] * (source.count("\n") + 2)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node, clean=False)
            for i, line in enumerate((text or "").split("\n") if text else ()):
                lines[node.body[0].lineno - 1 + i] = line
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and "noqa" not in token.string:
                lines[token.start[0] - 1] += token.string
    return "\n".join(lines)

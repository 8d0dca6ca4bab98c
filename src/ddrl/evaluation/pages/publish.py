"""What every page shares: its templates, its typography, and how it gets to the disk."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ddrl.disk import replace_file
from ddrl.errors import DataError, printable
from ddrl.evaluation.findings.wording import duration, percent
from ddrl.evaluation.pages.palette import GLYPHS, style_sheet

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {}"


def templates() -> Environment:
    """Return this package's templates: values are escaped, and a missing one is an error.

    Filters: ``typeset``, ``duration`` and ``percent``. Functions: ``script``, a file of this
    package to be put into a page, and ``policy``, which lets a page run these scripts and no other.
    Values: ``glyphs``, the marks of runs, and ``palette``, the colours as CSS.
    """
    environment = Environment(
        loader=PackageLoader("ddrl.evaluation.pages", "templates"),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"typeset": typeset, "duration": duration, "percent": percent}

    def script(name: str) -> Markup:
        # A file of ours, as it is: a browser compares its hash with the page's policy.
        assert environment.loader is not None
        return Markup(environment.loader.get_source(environment, name)[0])

    def policy(names: Sequence[str]) -> str:
        hashes = (hashlib.sha256(script(name).encode()).digest() for name in names)
        sources = (f"'sha256-{base64.b64encode(one).decode()}'" for one in hashes)
        return _POLICY.format(" ".join(sources) or "'none'")

    environment.globals |= {"script": script, "policy": policy}
    environment.globals |= {"glyphs": GLYPHS, "palette": Markup(style_sheet())}
    return environment


def _visible(value: object) -> object:
    """Text without what turns the direction of writing, or can't be seen; a page stays as it is."""
    is_text = isinstance(value, str) and not hasattr(value, "__html__")
    return printable(str(value), lines=True) if is_text else value


def typeset(text: str) -> str:
    """Proper minus signs, and no line break inside "10 %"."""
    for digit in "0123456789":
        text = text.replace(f"-{digit}", f"\N{MINUS SIGN}{digit}")
    return text.replace(" %", "\N{NO-BREAK SPACE}%")


def publish(what: str, folder: Path | str, texts: Mapping[str, str]) -> tuple[Path, ...]:
    """Write files into a folder, which is made if it is missing.

    Each file is written beside its place and renamed, so that a reader sees the old or the new
    file and never half of one. They are written in their order: where the last one is new, all are.

    Args:
        what: they are, for an error: "report".
        folder: where to write.
        texts: file name -> content.

    Returns:
        The paths, in the same order.

    Raises:
        DataError: the folder can't be made or written, or the disk is full.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            replace_file(target / name, text)
        return tuple(target / name for name in texts)
    except OSError as error:
        raise DataError(
            f"The {what} can't be written to {target}: {error.strerror or error}.",
            hint="name a folder that is writable and has space left",
        ) from error


def publish_report(
    name: str, folder: Path | str, page: str, numbers: object, *, indent: int = 1
) -> tuple[Path, Path]:
    """Publish a page, ``NAME.html``, and after it its numbers, ``NAME.json``.

    Returns:
        The paths of the page and of the numbers.

    Raises:
        DataError: as :func:`publish`.
    """
    text = json.dumps(numbers, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    written = publish(name, folder, {f"{name}.html": page, f"{name}.json": text})
    return written[0], written[1]

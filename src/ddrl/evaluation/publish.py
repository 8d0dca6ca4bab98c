"""What every page shares: its templates, its typography, and how it gets to the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from ddrl.errors import DataError
from ddrl.evaluation.wording import duration, percent

__all__ = ["publish", "templates", "typeset"]


def templates() -> Environment:
    """The templates of this package: what is put into them is escaped, what is missing is an error.

    Filters: ``typeset``, ``duration`` and ``percent``.
    """
    environment = Environment(
        loader=PackageLoader("ddrl.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"typeset": typeset, "duration": duration, "percent": percent}
    return environment


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
        return tuple(_replace(target / name, text) for name, text in texts.items())
    except OSError as error:
        raise DataError(
            f"the {what} can't be written to {target}: {error.strerror or error}.",
            hint="name a folder that is writable and has space left.",
        ) from error


def _replace(path: Path, text: str) -> Path:
    """Put `text` in place of the file at once."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).chmod(0o644)
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return path

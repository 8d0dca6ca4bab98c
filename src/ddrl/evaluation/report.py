"""Writes the hacking audit: one self-contained HTML page, and its numbers as JSON beside it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from ddrl.errors import DataError
from ddrl.evaluation.audit import FORMAT, Report, as_json
from ddrl.evaluation.page import render_page

__all__ = ["FORMAT", "Report", "replace", "write_report"]


def write_report(report: Report, folder: Path | str) -> tuple[Path, Path]:
    """Write `report.html` and `report.json` into a folder, which is made if it is missing.

    Each file is written beside its place and renamed, so that a reader sees the old or the new
    file and never half of one. The JSON comes last: where it is new, the page is too.

    Args:
        report: what was measured.
        folder: where to write.

    Returns:
        The paths of the page and of the JSON file.

    Raises:
        DataError: the folder can't be made or written, or the disk is full.
    """
    page = render_page(report)
    numbers = json.dumps(as_json(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        html_path = replace(target / "report.html", page)
        json_path = replace(target / "report.json", numbers)
    except OSError as error:
        raise DataError(
            f"the report can't be written to {target}: {error.strerror or error}.",
            hint="name a folder that is writable and has space left.",
        ) from error
    return html_path, json_path


def replace(path: Path, text: str) -> Path:
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

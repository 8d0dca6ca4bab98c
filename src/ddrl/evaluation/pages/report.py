"""Writes the hacking audit: one self-contained HTML page, and its numbers as JSON beside it."""

from __future__ import annotations

import json
from pathlib import Path

from ddrl.evaluation.findings.audit import FORMAT, Report, as_json
from ddrl.evaluation.pages.page import render_page
from ddrl.evaluation.pages.publish import publish

__all__ = ["FORMAT", "Report", "write_report"]


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
    numbers = json.dumps(as_json(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    texts = {"report.html": render_page(report), "report.json": numbers}
    page, written = publish("report", folder, texts)
    return page, written

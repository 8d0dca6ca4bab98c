"""A reward's audit as one HTML page that needs no other file, and its numbers as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ddrl.evaluation.findings.reward_audit import Finding, RewardAudit, Row, as_json
from ddrl.evaluation.findings.reward_findings import findings, score_text
from ddrl.evaluation.findings.wording import number, sampled
from ddrl.evaluation.measures.statistics import Basis
from ddrl.evaluation.pages.columns import NO_INTERVAL
from ddrl.evaluation.pages.publish import publish_report, templates
from ddrl.evaluation.pages.reward_chart import audit_chart
from ddrl.evaluation.pages.tiles import SMALL_TILE, picture, tile_side


@dataclass(frozen=True)
class Line:
    """A row of the table as text.

    Attributes:
        label: of the copies.
        num: samples that are compared.
        mean: of their scores.
        difference: to the originals.
        interval: of the difference, 95 %.
        standardised: the difference in standard deviations of the originals.
        failed: copies without a score; empty if there are none.
    """

    label: str
    num: str
    mean: str
    difference: str
    interval: str
    standardised: str
    failed: str


def write_audit(audit: RewardAudit, folder: Path) -> tuple[Path, Path]:
    """Write ``audit.html`` and ``audit.json`` into a folder.

    Returns:
        The paths of the page and of the numbers.

    Raises:
        DataError: the folder can't be written.
    """
    found = findings(audit)
    return publish_report("audit", folder, render_audit(audit, found), as_json(audit, found))


def render_audit(audit: RewardAudit, found: Sequence[Finding]) -> str:
    """Return the whole page as HTML text; the same audit gives the same text."""
    chart = audit_chart(audit)
    tiles = [("original", audit.picture), *((copy.label, copy.picture) for copy in audit.copies)]
    return (
        templates()
        .get_template("reward_audit.html.j2")
        .render(
            audit=audit,
            findings=found,
            headline=headline(audit, found),
            lines=table(audit),
            facts=facts(audit),
            # The drawing holds only numbers and the words of this package, nothing of the user.
            chart=None if chart is None else Markup(chart),
            pictures=[
                (label, picture(tile, side=tile_side(len(tiles))))
                for label, tile in tiles
                if tile is not None
            ],
            small=audit.picture is not None and max(audit.picture.shape[:2]) <= SMALL_TILE,
            basis=_basis(audit),
        )
    )


def headline(audit: RewardAudit, found: Sequence[Finding]) -> str:
    """Return the audit in a sentence."""
    problems = sum(one.level == "problem" for one in found)
    if not problems:
        return f"None of the tests speaks against {audit.reward}."
    return f"{problems} {'test speaks' if problems == 1 else 'tests speak'} against {audit.reward}."


def _basis(audit: RewardAudit) -> str:
    """Return how much was scored."""
    basis = Basis(audit.unit, audit.num_prompts, len(audit.originals))
    kinds = len(audit.copies)
    return f"{sampled(basis)}, each beside {kinds} {'copy' if kinds == 1 else 'copies'}."


def table(audit: RewardAudit) -> list[Line]:
    """Return the originals, and each kind of copies."""
    failed = int(len(audit.originals) - len(audit.known))
    mean = score_text(audit, float(audit.known.mean()))
    return [
        Line("originals", str(len(audit.known)), mean, "", "", "", str(failed or "")),
        *(_line(audit, row) for row in audit.rows),
    ]


def _line(audit: RewardAudit, row: Row) -> Line:
    failed = str(row.num_failed or "")
    if not row.num:
        what = "no score" if row.num_failed == len(audit.originals) else "no change"
        return Line(row.label, "0", what, "", "", "", failed)
    value, low, high = (
        score_text(audit, end)
        for end in (row.difference.value, row.difference.low, row.difference.high)
    )
    known = number(row.standardised) if audit.deviation else ""
    mean = score_text(audit, row.mean)
    ends = f"{low} to {high}" if row.difference.has_ends else NO_INTERVAL
    return Line(row.label, str(row.num), mean, value, ends, known, failed)


def facts(audit: RewardAudit) -> dict[str, str]:
    """Return what there is to say in addition to the table, by name."""
    low, high = (score_text(audit, end) for end in (audit.known.min(), audit.known.max()))
    changes = {
        "scored again": audit.again,
        "in reverse order": audit.reordered,
        "alone": audit.alone,
    }
    said = [f"{name} {audit.largest_change(values):.2g}" for name, values in changes.items()]
    options = ", ".join(f"{key} = {value}" for key, value in audit.options.items())
    return {
        "data": audit.data,
        "prompts": f"{audit.num_prompts} distinct; intervals are over "
        + ("prompts" if audit.unit == "prompt" else "samples of these prompts"),
        **({"options": options} if options else {}),
        "range": f"{low} to {high}, standard deviation {score_text(audit, audit.deviation)}",
        "largest change": ", ".join(said),
        "cost": f"{audit.samples_per_second:.3g} samples a second here",
    }

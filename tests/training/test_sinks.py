"""Where metrics go: files that a resumed run continues."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from ddrl.errors import CheckpointError
from ddrl.training.logs.sinks import JSONLSink, read_metrics


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def written(path: Path, count: int) -> list[dict[str, Any]]:
    sink = JSONLSink(path)
    for step in range(1, count + 1):
        sink.write({"reward": step / 10}, step=step)
    sink.close()
    return lines(path)


def test_one_object_per_line_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "metrics.jsonl"
    sink = JSONLSink(path)
    sink.write({"reward": 0.5, "reward/ink": 1.0}, step=1)
    assert lines(path) == [{"step": 1, "reward": 0.5, "reward/ink": 1.0}]
    sink.write({"reward": 0.25}, step=2)
    assert len(lines(path)) == 2
    sink.close()
    assert read_metrics(path) == lines(path)


def test_resume_drops_the_lines_that_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = written(path, 5)
    sink = JSONLSink(path, resume_at=3)
    assert lines(path) == before[:3]
    sink.write({"reward": 9.0}, step=4)
    sink.close()
    assert [line["step"] for line in lines(path)] == [1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("tail", ['{"step": 3, "rew', "{", '{"step": 3, "reward": 0.', "\x00\x00"])
def test_resume_drops_a_line_cut_by_a_kill(tail: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = written(path, 2)
    with path.open("a") as file:
        file.write(tail)
    assert read_metrics(path) == before
    sink = JSONLSink(path, resume_at=3)
    sink.write({"reward": 9.0}, step=3)
    sink.close()
    assert lines(path) == [*before, {"step": 3, "reward": 9.0}]


def test_the_rows_of_a_step_are_read_as_one(tmp_path: Path) -> None:
    """Audits beside training have rows of their own, which come when later steps have theirs."""
    path = tmp_path / "metrics.jsonl"
    sink = JSONLSink(path)
    sink.write({"reward": 0.1, "seconds": 1.0}, step=1)
    sink.write({"heldout_loss": 0.5}, step=1)
    sink.write({"reward": 0.2, "seconds": 2.0}, step=2)
    sink.write({"reward": 0.3, "seconds": 4.0}, step=3)
    sink.write({"heldout_loss": 0.6, "audit/hacked": 0.0}, step=2)
    sink.close()
    assert read_metrics(path) == [
        {"step": 1, "reward": 0.1, "seconds": 1.0, "heldout_loss": 0.5},
        {"step": 2, "reward": 0.2, "seconds": 2.0, "heldout_loss": 0.6, "audit/hacked": 0.0},
        {"step": 3, "reward": 0.3, "seconds": 4.0},
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_json_and_no_figures(bad: float, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JSONLSink(path)
    sink.write({"reward": 0.5, "heldout_loss": bad}, step=1)
    sink.close()
    assert path.read_text() == '{"step": 1, "reward": 0.5, "heldout_loss": null}\n'
    with path.open("a") as file:
        file.write(json.dumps({"step": 2, "reward": bad}) + "\n")  # as earlier versions wrote it
    assert read_metrics(path) == [{"step": 1, "reward": 0.5}, {"step": 2}]


@pytest.mark.parametrize(("audited_at", "expected"), [(None, 4), (2, 4), (1, 3), (0, 2), (9, 4)])
def test_resume_drops_the_audits_that_are_made_again(
    audited_at: int | None, expected: int, tmp_path: Path
) -> None:
    path = tmp_path / "metrics.jsonl"
    rows: list[tuple[int, dict[str, float]]] = [
        *((1, {"seconds": 1.0}), (1, {"heldout_loss": 0.1})),
        *((2, {"seconds": 1.0}), (2, {"heldout_loss": 0.2})),
        *((3, {"seconds": 1.0}), (3, {"heldout_loss": 0.3})),
    ]
    sink = JSONLSink(path)
    for step, metrics in rows:
        sink.write(metrics, step=step)
    sink.close()
    JSONLSink(path, resume_at=2, audited_at=audited_at).close()
    kept = [{"step": step, **metrics} for step, metrics in rows[:4]]
    if expected < 4:
        kept.pop()
    if expected < 3:
        kept.pop(1)
    assert lines(path) == kept


@pytest.mark.parametrize(
    "text",
    [
        "12",
        "null",
        "[]",
        '"text"',
        "{}",
        '{"reward": 1.0}',
        '{"step": null}',
        '{"step": "3"}',
        "\x00\x00\x00",
        "��",
        "{'step': 3}",
    ],
)
def test_lines_that_are_no_rows_are_left_out(text: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    before = written(path, 2)
    with path.open("ab") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
    assert read_metrics(path) == before
    JSONLSink(path, resume_at=2).close()
    assert lines(path) == before


def test_a_fresh_run_starts_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 3)
    JSONLSink(path).close()
    assert path.read_text() == ""


def test_no_file_has_no_metrics(tmp_path: Path) -> None:
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_a_folder_that_is_not_writable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="can't be written") as caught:
        JSONLSink(tmp_path / "file" / "metrics.jsonl")
    assert caught.value.hint


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no device that is always full")
    sink = JSONLSink(tmp_path / "metrics.jsonl")
    sink._file.close()
    sink._file = full.open("w")
    with pytest.raises(CheckpointError, match="No space left on device") as caught:
        sink.write({"reward": 1.0}, step=1)
    assert "space" in caught.value.hint
    with pytest.raises(CheckpointError):
        sink.close()


def test_rows_that_hold_no_figures_are_no_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [
        '{"step": 1, "reward": 0.5, "huge": %s}' % ("9" * 400),
        "[" * 5000,
        '{"step": 2, "x": %s}' % ("9" * 5000),
    ]
    path.write_text("\n".join([*lines, '{"step": 3, "reward": 1.0}']))
    assert read_metrics(path) == [{"step": 1, "reward": 0.5}, {"step": 3, "reward": 1.0}]


def test_a_pipe_in_place_of_metrics_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "metrics.jsonl")
    with pytest.raises(CheckpointError, match=r"can't be read from .*metrics.jsonl: it is a pipe"):
        read_metrics(tmp_path / "metrics.jsonl")

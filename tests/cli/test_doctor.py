"""``ddrl doctor``: it passes here, and says what is wrong where something is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tests.cli.command import ddrl

from ddrl.cli import selfcheck
from ddrl.cli.selfcheck import Check, run_checks
from ddrl.errors import DDRLError
from ddrl.jobs.machine import Machine


def test_this_machine_is_well(tmp_path: Path) -> None:
    result = ddrl("doctor", "--cache", tmp_path / "not" / "yet")
    assert result.code == 0, result.stdout
    lines = result.stdout.splitlines()
    assert all(line.startswith("ok      ") for line in lines)
    assert len(lines) == len(selfcheck.all_checks(tmp_path))
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_as_json_with_a_cache_that_can_not_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    result = ddrl("doctor", "--json", "--cache", file / "cache")
    assert result.code == 1
    report = json.loads(result.stdout)
    assert report["format"] == "ddrl-doctor/1"
    assert report["ok"] is False
    (failed,) = [check for check in report["checks"] if not check["ok"]]
    assert failed["name"] == "cache"
    assert failed["hint"] == "set run.cache to a writable folder"


def test_a_check_that_raises_has_failed_and_the_others_run() -> None:
    def error() -> str:
        raise DDRLError("it is broken.", hint="mend it")

    def bug() -> str:
        raise ZeroDivisionError("by zero")

    checks = [Check("a", error, "?"), Check("b", bug, "report it"), Check("c", lambda: "3", "?")]
    results = run_checks(Path(), checks)
    assert [(r.ok, r.detail, r.hint) for r in results] == [
        (False, "it is broken.", "mend it"),
        (False, "ZeroDivisionError: by zero", "report it"),
        (True, "3", ""),
    ]


def test_wrong_mathematics_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from ddrl.diffusion import transition

    right = transition.step_log_prob
    monkeypatch.setattr(transition, "step_log_prob", lambda *a, **k: right(*a, **k) * (1 + 1e-4))
    (kernels,) = [c for c in selfcheck.all_checks(Path()) if c.name == "sampling kernels"]
    (result,) = run_checks(Path(), [kernels])
    assert not result.ok
    assert "differs from the closed form" in result.detail


def test_what_was_measured_is_shown_kept_and_used_by_plans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = Machine.measure.__func__  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Machine, "measure", classmethod(lambda cls, device: measure(cls, device, tiny=True))
    )
    found: dict[str, object] = {}
    (result,) = run_checks(tmp_path, [selfcheck.speed_check(tmp_path, found)])
    assert result.ok, result.detail
    assert "TFLOP/s" in result.detail
    assert "torch.compile: works" in result.detail or found["compile_fault"]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kept = Machine.find(tmp_path, device)
    assert kept is not None
    assert kept.matrix == found["matrix"]
    plan = ["train", "digits", "--dry-run", f"run.cache={tmp_path}"]
    shown = ddrl(*plan)
    assert shown.code == 0, shown.stderr
    assert "an iteration takes" in shown.stdout
    assert "that `ddrl doctor` measured here" in shown.stdout
    assert "an iteration takes" not in ddrl(*plan[:-1], f"run.cache={tmp_path / 'other'}").stdout
    (file,) = (tmp_path / "machine").iterdir()
    file.write_text("{}")
    assert Machine.find(tmp_path, device) is None

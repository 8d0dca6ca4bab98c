"""The benchmark that needs a GPU runs, on small networks, without one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "real_size.py"


@pytest.mark.slow
def test_real_size_runs_on_small_networks() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCRIPT), "--tiny"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr
    rows = [ast.literal_eval(line) for line in done.stdout.splitlines()]
    assert len(rows) == 8
    for row in rows:
        assert row["samples_per_second"] > 0
        assert row["planned_gib"]["update"] > 0
    ddrl, sft = (row for row in rows[:2])
    assert (ddrl["method"], sft["method"]) == ("DDRL", "SFT")
    assert ddrl["seconds_per_iteration"] > sft["seconds_per_iteration"]

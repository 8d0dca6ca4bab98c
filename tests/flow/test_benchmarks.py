"""The scripts for a GPU run without one, small, and write what they are to write."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run(out: Path, script: str, *arguments: str) -> tuple[dict[str, Any], str]:
    """The result that a script writes, and what it prints."""
    results = {path: path.read_bytes() for path in (ROOT / "benchmarks/results").glob("*.json")}
    command = [sys.executable, "-W", "ignore", f"benchmarks/{script}.py", "--tiny"]
    done = subprocess.run(
        [*command, "--out", str(out), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    for path, before in results.items():
        assert path.read_bytes() == before
    (written,) = out.glob("*.json")
    found: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
    assert found["provenance"]["hardware"]
    return found, done.stdout


def test_facts_of_a_card(tmp_path: Path) -> None:
    found, shown = run(tmp_path, "gpu_facts")
    rows = {row["name"]: row for row in found["rows"]}
    assert found["skipped"] == []
    for name in ("matrix product, bfloat16", "copy within device", "noise, drawn on the CPU"):
        assert rows[name]["value"] > 0
    assert sum(name.startswith("attention, Wan") for name in rows) == 8
    assert rows["attention, FLUX 1024, mask, math"]["value"] > 0
    assert "No viable backend" in rows["attention, FLUX 1024, no mask, cudnn"]["failed"]
    assert len(shown.splitlines()) == len(rows) + 1


def test_what_there_is_no_time_for_is_named(tmp_path: Path) -> None:
    found, _ = run(tmp_path, "gpu_facts", "--seconds", "0.001")
    assert found["rows"] == []
    assert "torch.compile of a block" in found["skipped"]


def test_real_size(tmp_path: Path) -> None:
    arguments = ("--model", "sd3", "--methods", "ddrl,reference", "--set", "rollout.merge=never")
    found, shown = run(tmp_path, "real_size", *arguments)
    rows = found["rows"]
    assert [(row["trained"], row["method"]) for row in rows] == [
        ("LoRA", "DDRL"),
        ("LoRA", "reverse KL"),
        ("all weights", "DDRL"),
    ]
    for row in rows:
        assert row["samples_per_second"] > 0
        assert row["planned_gib"]["update"] >= 0
        assert row["share_of_matmul_rate"] > 0
        assert row["ratio_deviation"] < 0.1
        assert row["set"] == ["rollout.merge=never"]
    assert "tiny SD3 64, LoRA, reverse KL: " in shown
    assert shown.splitlines()[-1] == "skipped: []"


def test_passes_and_memory(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "passes", "bench_passes")
    assert found["results"]["0.09 M"]["calls"] == 28
    found, _ = run(tmp_path / "memory", "memory_evidence", "--cases", "1")
    (row,) = found["cases"]
    assert (row["lora_rank"], row["precision"]) == (32, "bfloat16")
    assert row["estimate"] > 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_words(tmp_path: Path) -> None:
    """Slow: the judge of words is trained first."""
    found, _ = run(tmp_path, "words_gpu", "--methods", "ddrl")
    assert set(found["methods"]) == {"base", "ddrl"}
    assert found["methods"]["ddrl"]["steps"] == 2
    assert 0 <= found["methods"]["base"]["reward"] <= 1
    assert (tmp_path / "words_gpu.png").stat().st_size > 0

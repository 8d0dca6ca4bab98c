"""What `ddrl reward audit` prints of a reward that is easily gamed, for docs/rewards.md.

Writes benchmarks/results/reward_audit_ink.json.   python benchmarks/reward_audit_example.py
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from benchmarks.record import ROOT, write_result

COMMAND = ("reward", "audit", "ink", "--data", "digits")


def main() -> None:
    """Run the command and keep its standard output."""
    command = [sys.executable, "-m", "ddrl", *COMMAND]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if not done.stdout:
        sys.exit(done.returncode or 1)
    values = {"typed": " ".join(("ddrl", *COMMAND)), "lines": done.stdout.rstrip().splitlines()}
    write_result("reward_audit_ink", values, script=__file__)


if __name__ == "__main__":
    main()

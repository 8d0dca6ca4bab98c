"""``python -m ddrl.cli.child``: the command line as a process that does not outlive its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from ddrl.cli.app import main
from ddrl.cli.terminal.interrupts import Interrupts

__all__: list[str] = []

_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>


def _die_with_parent() -> None:
    """Ask Linux for SIGTERM when the parent ends, however it ends; elsewhere there is no such."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.environ.pop("DDRL_PARENT", "")
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    if parent and os.getppid() != int(parent):  # it ended before it could be asked for
        sys.exit(128 + signal.SIGTERM)
    Interrupts.ends_with_parent = True


if __name__ == "__main__":
    _die_with_parent()
    main()

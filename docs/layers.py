"""The table of layers of CONTRIBUTING.md, from the table that the test of imports enforces."""

from __future__ import annotations

import graphlib
import sys

from results import ROOT, made

__all__ = ["layers_block"]


def layers_block(_: str) -> str:
    """What each part of the package may import, the highest first."""
    if str(ROOT) not in sys.path:
        sys.path.append(str(ROOT))
    from tests.house.test_layers import MAY_IMPORT

    package = ROOT / "src" / "ddrl"
    here = {
        unit
        for unit in MAY_IMPORT
        if (package / unit).is_dir() or (package / f"{unit}.py").exists()
    }
    depth: dict[str, int] = {}
    graph = {unit: {name.split(".")[0] for name in names} for unit, names in MAY_IMPORT.items()}
    for unit in graphlib.TopologicalSorter(graph).static_order():
        depth[unit] = 1 + max((depth[below] for below in graph[unit]), default=-1)
    order = sorted(here, key=lambda unit: (-depth[unit], unit))
    rows = ["| package | may import |", "|---|---|"]
    for unit in order:
        below = [name for name in MAY_IMPORT[unit] if name.split(".")[0] in here]
        allowed = sorted(below, key=lambda name: (-depth[name.split(".")[0]], name))
        names = ", ".join(f"`{name}`" for name in allowed)
        rows.append(f"| `{unit}` | {names or 'nothing of ddrl'} |")
    return made("\n".join(rows)) + "\n"

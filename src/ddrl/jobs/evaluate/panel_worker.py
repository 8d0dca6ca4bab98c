"""``python -m ddrl.jobs.evaluate.panel_worker``: audits the checkpoints whose steps it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ddrl.builders.assets import Assets
from ddrl.builders.device import configure, pick_device
from ddrl.builders.sampler import build_forward
from ddrl.disk import read_document
from ddrl.errors import DDRLError
from ddrl.jobs.evaluate.background import PanelFolder
from ddrl.jobs.evaluate.monitors import build_panel
from ddrl.named_code import look_in
from ddrl.recipe import parse_recipe
from ddrl.runs.folder import RunFolder
from ddrl.training.checkpoint import CheckpointFolder, load_weights
from ddrl.training.manifest import read_manifest


def serve(folder: PanelFolder, steps: Iterable[int]) -> None:
    """Measure the base, then audit checkpoints one after another.

    What is found is written beside the run; so is the error that ends it, if one does.

    Args:
        folder: where to meet the run.
        steps: of the checkpoints, as they are asked for.
    """
    try:
        recipe = parse_recipe(read_document(folder.recipe), origin=str(folder.recipe))
        configure(recipe)
        device = pick_device(recipe)
        assets = Assets.build(recipe, device)
        forward = build_forward(recipe, assets.model)
        panel = build_panel(recipe, assets, forward, device)
        checkpoints = CheckpointFolder(folder.run.checkpoints)
        for step in steps:
            checkpoint = read_manifest(checkpoints.path(step))
            load_weights(assets.model.transformer, checkpoint.tensors("ema"))
            audit = panel(step)
            found: dict[str, Any] = {"metrics": dict(audit.metrics), "sentence": audit.sentence}
            if audit.shown is not None:
                found["shown"] = audit.shown.pack()
            folder.write(folder.result(step), found)
    except DDRLError as error:
        kind = type(error).__name__
        folder.write(folder.failure, {"kind": kind, "message": error.message, "hint": error.hint})
        raise SystemExit(error.exit_code) from None


if __name__ == "__main__":
    look_in(*map(Path, sys.argv[3:]))
    serve(
        PanelFolder(RunFolder(Path(sys.argv[1])), sys.argv[2]),
        (int(line) for line in sys.stdin),  # which ends when training does
    )

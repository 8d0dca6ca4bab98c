"""TensorBoard and Weights & Biases: metrics in groups, samples, verdicts and the recipe."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddrl.errors import UsageError
from ddrl.training.logs.metrics import tag_of
from ddrl.training.logs.shown import Shown
from ddrl.training.logs.sinks import named_errors

_LAYOUT = {
    "What decides": {
        "Reward, in training and in the audit": ["Multiline", ["reward/mean", "audit/reward"]],
        "Held-out loss change": ["Multiline", ["drift/heldout_loss_change", "drift/budget_drift"]],
        "Hacked (1) or not (0)": ["Multiline", ["audit/hacked"]],
        "Variety, data is 1": ["Multiline", ["audit/diversity", "audit/vendi"]],
        "Held-out judges and rewards": ["Multiline", ["audit/held_out/.*"]],
        "Distance to data": ["Multiline", ["audit/frechet"]],
    },
    "Is training healthy": {
        "Largest ratio": ["Multiline", ["policy/ratio_max"]],
        "Losses": ["Multiline", ["loss/policy", "loss/data_term", "loss/reference_kl"]],
        "Gradient norm": ["Multiline", ["optimizer/grad_norm"]],
        "Samples without a reward": ["Multiline", ["reward/failed"]],
        "Seconds": ["Multiline", ["time/.*"]],
    },
}
"""TensorBoard's tab "Custom scalars": sections, charts, and the tags of each, as patterns."""
_LEAST = 64  # pixels of a side; smaller pictures are enlarged, as dashboards show them as they are


class TensorBoardSink:
    """Scalars in groups, samples, the recipe and verdicts for TensorBoard.

    Args:
        folder: folder of the event files; TensorBoard names the run after it.
        resume_at: iterations that a resumed run keeps; later points are hidden.
        recipe: recipe to show as text, as TOML.
    """

    def __init__(self, folder: Path, *, resume_at: int = 0, recipe: str = "") -> None:
        from torch.utils.tensorboard import SummaryWriter  # slow to import

        self._folder = folder
        with named_errors(folder):
            self._writer: Any = SummaryWriter(str(folder), purge_step=resume_at + 1)
            self._writer.add_custom_scalars(_LAYOUT)
            if recipe:
                text = "\n".join(f"    {line}" for line in recipe.splitlines())  # Markdown's code
                self._writer.add_text("recipe", text, resume_at)

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Add a point to every metric."""
        with named_errors(self._folder):
            for name, value in metrics.items():
                self._writer.add_scalar(tag_of(name), value, step)

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        """Add the samples as one picture, and the verdict as text."""
        with named_errors(self._folder):
            if shown is not None:
                picture = _in_rows(shown.pictures)
                tag = f"samples/{shown.source}"
                self._writer.add_image(tag, picture, shown.step, dataformats="HWC")
            if sentence:
                self._writer.add_text("verdict", sentence, step)

    def close(self) -> None:
        """Flush and close."""
        with named_errors(self._folder):
            self._writer.close()


def _in_rows(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pictures (N, H, W, 3) as one, four in a row, with gaps between them."""
    factor = max(1, -(-_LEAST // max(pictures.shape[1:3])))
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    num, height, width, _ = pictures.shape
    columns, gap = min(num, 4), 4
    rows = -(-num // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for place, one in enumerate(pictures):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        sheet[top : top + height, left : left + width] = one
    return sheet


class WandbSink:
    """Weights & Biases.

    Args:
        project: name of the project.
        name: name of the run; a resumed run goes on under it.
        config: settings to show with the run.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self, project: str, *, name: str, config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UsageError(
                "run.wandb_project is set, but wandb is not installed.",
                hint="pip install 'ddrl[wandb]'",
            ) from error
        self._wandb: Any = wandb
        self._run: Any = wandb.init(
            project=project, name=name, id=name, resume="allow", config=dict(config)
        )
        self._newest = 0

    def write(self, metrics: Mapping[str, float], *, step: int) -> None:
        """Log the metrics; those of an earlier step at the newest, with their own as ``late/step``.

        Weights & Biases drops what comes for a step before its newest.
        """
        late = {"late/step": step} if step < self._newest else {}
        self._newest = max(step, self._newest)
        named = {tag_of(name): value for name, value in metrics.items()}
        self._run.log({**named, **late}, step=self._newest)

    def show(self, shown: Shown | None, *, sentence: str, step: int) -> None:
        """Log the samples as one picture, and keep the newest verdict in the summary."""
        if shown is not None:
            words = f"step {shown.step}: {', '.join(shown.prompts)}"
            picture = self._wandb.Image(_in_rows(shown.pictures), caption=words)
            self._run.log({f"samples/{shown.source}": picture}, step=self._newest)
        if sentence:
            self._run.summary.update({"verdict": f"step {step}: {sentence}"})

    def close(self) -> None:
        """Finish the run."""
        self._run.finish()
